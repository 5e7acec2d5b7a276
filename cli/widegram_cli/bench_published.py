"""``widegram bench published``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from widegram.errors import WidegramError
from widegram_cli.bench_output import about, emit, print_table, say
from widegram_cli.files import FileCommand, InputFile
from widegram_cli.options import json_option, out_option


@click.command("published", cls=FileCommand)
@click.option(
    "--data",
    type=InputFile(),
    required=True,
    multiple=True,
    metavar="DIR",
    help="Where mnist.npz, cifar-10-batches-bin or cifar10_jpeg.npz, uci90.npz, fashion-mnist "
    "lie; may be given again.",
)
@click.option(
    "--suite",
    type=click.Choice(["quick", "full"]),
    default="quick",
    show_default=True,
    help="Minutes, or hours.",
)
@click.option("--rows", "only", default="*", metavar="PATTERN", help="Only these: 'mnist-*'.")
@out_option(
    "R.json",
    "Keep finished rows in this file; run again, the same command goes on.",
    required=False,
)
@json_option
def published(data: tuple[str, ...], suite: str, only: str, out: str | None, as_json: bool) -> None:
    """Published accuracies computed again: theirs, ours, the difference, the commands.

    A difference is judged by the binomial error of the test set. What data or packages are missing
    for is skipped by name. Work under way lies in R.json.work.
    """
    from widegram_bench.published.rowtable import rows
    from widegram_bench.published.runner import Task, run

    folders = [Path(folder) for folder in data]
    for folder in folders:
        if not folder.is_dir():
            raise WidegramError(f"--data {folder}: is no directory; give one that holds the data")
    task = Task(
        rows(suite, only),
        folders,
        None if out is None else Path(out),
        about("published", suite=suite),
    )
    found = run(task, say)
    emit(found, as_json, lambda: _table(found))
    failed = [row for row in found["skipped"] if row["failed"]]
    if failed:
        raise WidegramError(
            f"failed: {', '.join(row['name'] for row in failed)}: {failed[0]['reason']}"
        )


def _table(found: dict[str, Any]) -> None:
    header = ["row", "published", "ours", "difference", "error"]
    names = ("published", "ours", "difference", "error")
    print_table(
        header,
        [[row["name"], *(_number(row[name]) for name in names)] for row in found["rows"]],
    )
    for row in found["rows"]:
        if row["within"] is False:
            click.echo(f"{row['name']}: {row['why']}")
    for row in found["skipped"]:
        click.echo(f"{row['name']}: {'failed' if row['failed'] else 'skipped'}: {row['reason']}")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
