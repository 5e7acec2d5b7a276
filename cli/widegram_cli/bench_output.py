"""What every benchmark prints and keeps: the machine beside the numbers, aligned tables."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import click

from widegram_cli.output import emit_json


def about(name: str, **more: Any) -> dict[str, Any]:
    """Which benchmark this is, on which machine, when; and ``more``."""
    from widegram_cli import machine

    return {
        "benchmark": name,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine.cpu(),
        "versions": machine.libraries(),
        **more,
    }


def title(results: dict[str, Any]) -> str:
    """The machine, the version and the day, on one line."""
    cpu, version = results["machine"], results["versions"]["widegram"]
    return f"{cpu['model']}, {cpu['threads']} threads, widegram {version}, {results['date'][:10]}"


def finish(results: dict[str, Any], options: dict[str, Any], table: Callable[[], None]) -> None:
    """Write ``--out``, then print the results."""
    if options["out"]:
        from widegram.durable import write_bytes

        text = json.dumps(results, indent=1) + "\n"
        write_bytes(options["out"], text.encode(), overwrite=options["overwrite"])
    emit(results, options["as_json"], table)


def emit(results: dict[str, Any], as_json: bool, table: Callable[[], None]) -> None:
    """Print one JSON object, or the machine and the table."""
    if as_json:
        emit_json(results)
        return
    click.echo(title(results))
    table()


def say(line: str) -> None:
    """A line of progress, on stderr."""
    click.echo(line, err=True)


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Aligned columns, the first to the left."""
    widths = [max(len(row[n]) for row in [header, *rows]) for n in range(len(header))]
    for row in [header, *rows]:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        click.echo("  ".join(cells).rstrip())
