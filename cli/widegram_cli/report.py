"""``widegram report``: one HTML page on a Gram file and what was made of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from widegram.errors import WidegramError
from widegram_cli.files import FileCommand, InputFile
from widegram_cli.options import json_option, out_option, overwrite_option
from widegram_cli.output import emit_json, emit_table

_LOG_BYTES = 1 << 26


@click.command("report", cls=FileCommand)
@click.argument("files", type=InputFile(), nargs=-1, required=True, metavar="K.h5 [A.h5 P.h5 E.h5]")
@click.option("--y", type=InputFile(), metavar="DATA", help="Labels of the test points of P.h5.")
@click.option(
    "--times",
    type=InputFile(),
    metavar="LOG",
    help="What the commands printed with --json, an object a line: the report takes their times.",
)
@out_option("R.html", "The page to write.")
@overwrite_option
@json_option
def command(
    files: tuple[str, ...],
    y: str | None,
    times: str | None,
    out: str,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Write a page on one run: a Gram file, and what solve, predict and eig made of it.

    Network, cost, spectrum, the path of regularisers, accuracy, confusion and calibration, with
    pictures, in one HTML file that needs no network. All checksums are compared first.
    """
    from widegram import __version__
    from widegram.durable import write_bytes
    from widegram.durable.outputs import check_target
    from widegram.durable.pictures import require_matplotlib
    from widegram.report.belonging import open_run
    from widegram.report.drawings import drawings
    from widegram.report.findings import findings, own_times
    from widegram.report.page import page

    check_target(Path(out), overwrite)
    require_matplotlib("report")
    with open_run(files) as run:
        known = None if times is None else own_times(_records(times), run, times)
        found = findings(run, y, known)
        text = page(run.gram.path.name, __version__, found, drawings(run.spectrum, found))
    write_bytes(out, text.encode(errors="replace"), overwrite=overwrite)
    if as_json:
        emit_json({"file": out, **found})
        return
    emit_table(
        [
            *((one["kind"], f"{one['file']}: no damage") for one in found["files"]),
            *_figures(found["predictions"]),
            ("written", out),
        ]
    )


def _figures(predictions: dict[str, Any] | None) -> list[tuple[str, str]]:
    test = (predictions or {}).get("test") or {}
    named = (("accuracy", test.get("accuracy")), ("mse", test.get("mse")))
    return [(name, f"{value:.6g}") for name, value in named if value is not None]


def _records(path: str) -> list[dict[str, Any]]:
    """The JSON objects of a file, one a line."""
    from widegram.validation.reading import read_text

    found = []
    for number, line in enumerate(read_text(Path(path), "log", _LOG_BYTES).splitlines(), 1):
        try:
            record = json.loads(line) if line.strip() else {}
        except (ValueError, RecursionError) as error:  # nested too deeply
            raise WidegramError(f"{path}: line {number} is no JSON: {error}") from None
        if not isinstance(record, dict):
            raise WidegramError(f"{path}: line {number} is no JSON object, as --json prints")
        found.append(record)
    return found
