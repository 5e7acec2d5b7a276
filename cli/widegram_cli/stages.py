"""Progress of solvers, which go through named stages: a bar on a terminal, else lines."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any

import click

LINE_SECONDS = 30.0
_REDRAW_SECONDS = 0.1


class StageReporter:
    """A callback ``(stage, done, total)`` for stderr; a context manager around the work."""

    def __init__(self) -> None:
        self._told = time.monotonic()
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> StageReporter:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

            columns = (BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
            self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
            self._bar.start()
            self._task = self._bar.add_task("starting", total=None)
        return self

    def __call__(self, stage: str, done: float, total: float) -> None:
        """Report; does nothing while the last report is recent."""
        now = time.monotonic()
        if self._bar is not None:
            if now - self._told >= _REDRAW_SECONDS:
                self._told = now
                self._bar.update(self._task, total=total, completed=done, description=stage)
        elif now - self._told >= LINE_SECONDS:
            self._told = now
            click.echo(f"widegram: {stage}: {100 * done / max(total, 1):.0f} %", err=True)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
