"""Where the time of a run went, as a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from widegram.machine.budgets import format_size
from widegram_cli.output import human_rate, human_time

if TYPE_CHECKING:
    from widegram.machine.clock import Spent


def print_profile(parts: Sequence[Spent]) -> None:
    """Print a line for each part: thread, part, seconds, share of the run, rate."""
    rows = [(one.thread, one.part, human_time(one.seconds), f"{one.share:.0%}", _rate(one))
            for one in parts]  # fmt: skip
    widths = [max(len(row[n]) for row in rows) for n in range(4)]
    for thread, part, seconds, share, rate in rows:
        line = (
            f"{thread:<{widths[0]}}  {part:<{widths[1]}}  "
            f"{seconds:>{widths[2]}}  {share:>{widths[3]}}  {rate}"
        )
        click.echo(line.rstrip())


def _rate(part: Spent) -> str:
    if not part.rate:
        return ""
    if part.unit == "bytes":
        return f"{format_size(part.rate)}/s"
    return f"{human_rate(part.rate)} {part.unit}/s"
