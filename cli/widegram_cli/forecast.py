"""What ``gram --plan`` and ``solve --plan`` print."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from widegram.machine.budgets import format_size
from widegram_cli.output import emit_json, emit_table, human_rate, human_time

if TYPE_CHECKING:
    from widegram.computing.forecast import GramForecast
    from widegram.linalg.solvejob import SolveJob

_UNUSED = ("overwrite", "check", "dask", "mixed_workers", "append", "profile")


def print_forecast(
    net: str,
    rows: Any,
    out: str,
    columns: Any,
    how: Any,
    pattern: Any,
    deadline: float | None,
    as_json: bool,
) -> None:
    """Say what a run would take, as a table or one JSON object."""
    from widegram import gram_forecast

    given = {name: value for name, value in vars(how).items() if name not in _UNUSED}
    found = gram_forecast(net, rows, out, columns, pattern=pattern, deadline=deadline, **given)
    if as_json:
        emit_json({**found._asdict(), "file": out})
        return
    emit_table(
        [
            ("entries", f"{found.entries:,} of each matrix"),
            ("tiles", f"{found.tiles:,} of side {found.tile}"),
            ("disk", f"{format_size(found.disk)}, {format_size(found.free_disk)} are free"),
            ("memory", f"{format_size(found.memory)} at the peak"),
            ("start", f"{human_time(found.compile_seconds)} until the first entry, once"),
            (
                "time",
                f"{human_time(found.seconds)} at {human_rate(found.entries_per_second)} entries/s "
                f"({found.device}; a trial of {human_time(found.trial_seconds)})",
            ),
            *_deadline(found),
        ]
    )
    if found.disk > found.free_disk:
        click.echo("too little disk: free some, choose another place, or fewer kernels")


def _deadline(found: GramForecast) -> list[tuple[str, str]]:
    if found.deadline is None:
        return []
    within = f"within {human_time(found.deadline)}"
    if found.workers is None:
        return [("workers", f"no number ends {within}: give a smaller --tile or more time")]
    return [("workers", f"{found.workers:,} like this machine end {within}")]


def print_solve_forecast(job: SolveJob, as_json: bool) -> None:
    """Say what solving would take, as a table or one JSON object."""
    from widegram.linalg.forecast import solve_forecast

    found = solve_forecast(job)
    if as_json:
        emit_json({**found._asdict(), "file": str(job.out)})
        return
    each = "in all" if found.factorisations else "an iteration; their number is not known before"
    emit_table(
        [
            ("method", f"{found.method}: {found.why}"),
            ("n, right-hand sides", f"{found.n}, {found.k}"),
            ("disk", f"{format_size(found.disk)}, {format_size(found.free_disk)} are free"),
            ("memory", f"{format_size(found.memory)} at the peak"),
            ("factorisations", found.factorisations),
            (
                "time",
                f"{human_time(found.seconds)} {each} (a trial of "
                f"{human_time(found.trial_seconds)}: {found.flops / 1e9:.3g} GFLOP/s, "
                f"{format_size(found.read)}/s read)",
            ),
        ]
    )
    if found.disk > found.free_disk:
        click.echo("too little disk: free some, or choose another place for --out")
