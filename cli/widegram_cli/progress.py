"""Progress on stderr: a live bar on a terminal, a line now and then anywhere else."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

import click

from widegram.machine.progress import Progress
from widegram_cli.output import human_rate, human_time

LINE_SECONDS = 30.0


def describe(progress: Progress, unit: str = "entries") -> str:
    """``12,000 of 36,000 entries (33 %), 1,234 entries/s, 19 s left``."""
    share = 100 * progress.done // max(progress.total, 1)
    text = f"{progress.done:,} of {progress.total:,} {unit} ({share} %)"
    if progress.rate > 0:
        text += f", {human_rate(progress.rate)} {unit}/s"
    if math.isfinite(progress.seconds_left) and progress.done < progress.total:
        text += f", {human_time(progress.seconds_left)} left"
    return text


class ProgressLines:
    """A progress callback that writes a line every ``LINE_SECONDS``, the first after that time."""

    def __init__(self, unit: str = "entries") -> None:
        self._unit = unit
        self._told = time.monotonic()

    def __enter__(self) -> ProgressLines:
        return self

    def __call__(self, progress: Progress) -> None:
        """Report; does nothing while the last line is recent."""
        now = time.monotonic()
        if now - self._told >= LINE_SECONDS:
            self._told = now
            click.echo(f"widegram: {describe(progress, self._unit)}", err=True)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Nothing to clear."""


class ProgressBar:
    """A progress callback that draws a bar with rate and time left; gone when the work ends."""

    def __init__(self, unit: str = "entries") -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as Bar

        self._bar = Bar(
            BarColumn(),
            TextColumn("{task.description}"),
            console=Console(stderr=True),
            transient=True,
        )
        self._unit = unit
        self._task: Any = None

    def __enter__(self) -> ProgressBar:
        self._bar.start()
        self._task = self._bar.add_task("starting", total=None)
        return self

    def __call__(self, progress: Progress) -> None:
        """Redraw."""
        self._bar.update(
            self._task,
            total=progress.total,
            completed=progress.done,
            description=describe(progress, self._unit),
        )

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()


def reporter(unit: str = "entries") -> ProgressBar | ProgressLines:
    """The progress callback that suits stderr, counting ``unit``; a context manager around work."""
    return ProgressBar(unit) if sys.stderr.isatty() else ProgressLines(unit)


def counting(report: Callable[[Progress], None]) -> Callable[[int, int], None]:
    """``report`` as a callback of (done, total) for work that measures no rate itself."""
    start = time.monotonic()

    def tell(done: int, total: int) -> None:
        seconds = time.monotonic() - start
        report(Progress(done, total, done / seconds if seconds > 0 else 0.0, seconds))

    return tell
