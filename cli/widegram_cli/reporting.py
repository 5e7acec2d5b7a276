"""Progress on stderr: a live bar on a terminal, a line now and then anywhere else."""

from __future__ import annotations

import logging
import math
import sys
import time

import click

from widegram.closing import Closing
from widegram.machine.log import logger
from widegram.machine.progress import Progress
from widegram_cli.output import human_rate, human_time, line

LINE_SECONDS = 30.0
_REDRAW_SECONDS = 0.1
_BAR = 6  # columns that the bar itself has at least


def describe(progress: Progress) -> str:
    """``12,000 of 36,000 entries (33 %), 1,234 entries/s, 19 s left``, or ``factoring: 33 %``."""
    if progress.what:
        return f"{progress.what}: {100 * progress.done / max(progress.total, 1):.0f} %"
    unit, share = progress.unit, 100 * progress.done // max(progress.total, 1)
    text = f"{progress.done:,} of {progress.total:,} {unit} ({share} %)"
    if progress.rate > 0:
        text += f", {human_rate(progress.rate)} {unit}/s"
    if progress.workers:
        text += f", {progress.workers} worker{'s'[: progress.workers != 1]}"
    if math.isfinite(progress.seconds_left) and progress.done < progress.total:
        text += f", {human_time(progress.seconds_left)} left"
    return text


def described_within(progress: Progress, columns: int) -> str:
    """As :func:`describe`; where that is too long the share that is done and the time left."""
    text = describe(progress)
    if len(text) <= columns:
        return text
    left = progress.seconds_left
    more = f", {human_time(left)} left" if math.isfinite(left) else ""
    return f"{100 * progress.done // max(progress.total, 1):.0f} %{more}"


class ProgressLines(Closing):
    """A progress callback that writes a line every ``LINE_SECONDS``, the first after that time."""

    def __init__(self) -> None:
        self._told = time.monotonic()

    def __call__(self, progress: Progress) -> None:
        """Report; does nothing while the last line is recent."""
        now = time.monotonic()
        if now - self._told >= LINE_SECONDS:
            self._told = now
            click.echo(line(describe(progress)), err=True)


class ProgressBar(Closing):
    """A progress callback that draws a bar, beside it how far the work is; gone at its end.

    Work of several ``parts`` shows the name of the one that it is at, and the time elapsed.
    """

    def __init__(self, parts: bool) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bar

        elapsed = [TimeElapsedColumn()] if parts else []
        self._bar = Bar(
            BarColumn(),
            TextColumn("{task.description}"),
            *elapsed,
            console=Console(stderr=True),
            transient=True,
        )
        self._bar.start()
        self._task = self._bar.add_task("starting", total=None)
        self._drawn = -math.inf

    def __call__(self, progress: Progress) -> None:
        """Redraw; does nothing while that is recent."""
        now = time.monotonic()
        if now - self._drawn >= _REDRAW_SECONDS:
            self._drawn = now
            self._bar.update(
                self._task,
                total=progress.total,
                completed=progress.done,
                description=progress.what
                or described_within(progress, self._bar.console.width - _BAR),
            )

    def close(self) -> None:
        """Take the bar away."""
        self._bar.stop()


class Silence(Closing):
    """A progress callback that says nothing."""

    def __call__(self, progress: Progress) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


def reporter(parts: bool = False) -> ProgressBar | ProgressLines | Silence:
    """The progress callback that suits stderr; a context manager around the work.

    ``parts``: whether the work goes through several, such as a solver's.
    """
    if logger.level > logging.INFO:
        return Silence()
    return ProgressBar(parts) if sys.stderr.isatty() else ProgressLines()
