"""Accuracy of gradient flow over a grid of (w_var, depth), row by row, resumable."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import inf
from pathlib import Path
from time import perf_counter

from widegram.errors import Interrupted, WidegramError
from widegram.machine import interrupts
from widegram.machine.budgets import require_memory
from widegram.machine.cores import usable_cores
from widegram.machine.progress import Progress, StopRequest
from widegram.meanfield.experiments.engine_kernels import EngineOptions
from widegram.meanfield.experiments.grid import Grid, Rows
from widegram.meanfield.experiments.problem import Problem
from widegram.meanfield.experiments.rows import row_maker, solve_row
from widegram.meanfield.experiments.trainfile import MapHeader, TrainFile
from widegram.meanfield.theory.fixedpoint import fixed_points
from widegram.meanfield.theory.one_layer import LayerMaps
from widegram.workers.session import SchedulerGone


def trainability(
    problem: Problem,
    grid: Grid,
    out: str | Path,
    *,
    overwrite: bool = False,
    threads: int | None = None,
    memory: str | int | None = None,
    progress: Callable[[Progress], None] | None = None,
    accept_series_error: float | None = None,
    dask: str | None = None,
    mixed_workers: bool = False,
) -> int:
    """Fill or resume ``out``; returns the number of rows that an earlier run had finished.

    For fcn every grid point shares one matrix of input products. For cnn-f and cnn-p the depths of
    a row do; the next row forms them again in the cache, which takes 0.1 ns per pair of pixels and
    channel beside 1 to 3 ns per layer, and less than reading stored ones from memory would.
    ``accept_series_error`` as in :func:`widegram.gram`, for cnn-f and cnn-p. With ``dask`` and
    ``mixed_workers``, as there, workers compute rows, this process writes them.

    Raises WidegramError for bad variances, depths or times, or an ``out`` of another run (naming
    what differs); Interrupted after a signal, with every finished row stored.
    """
    _check(problem, grid, memory)
    options = EngineOptions(threads, memory, accept_series_error)
    rows = _rows(problem, grid, options, dask, mixed_workers)
    scales = fixed_points(LayerMaps.of(grid.act), grid.w_var, grid.b_var)
    header = MapHeader(
        grid=grid,
        data_fingerprint=problem.fingerprint,
        n_train=len(problem.x),
        n_test=len(problem.x_test),
    )
    with TrainFile(Path(out), header, scales, overwrite) as file:
        before = len(grid.w_var) - len(file.pending())
        meter = _Meter(len(grid.w_var), before, len(grid.depths), progress)
        _fill(file, rows, meter)
        file.finish()
    return before


def _fill(file: TrainFile, rows: Callable[[list[int]], Rows], meter: _Meter) -> None:
    """Store the rows that are missing; raises Interrupted where they do not all come."""

    def kept(why: str = "interrupted") -> str:
        return (
            f"{file.path}: {why}, {meter.done} of {meter.rows} rows are saved; run the same "
            "command again to resume"
        )

    with (
        StopRequest(),
        interrupts.keeping(kept),
        interrupts.finishing("the row in work", lambda: meter.row_seconds),
    ):
        try:
            for index, row, workers in rows(file.pending()):
                with interrupts.saving():
                    file.write(index, row)
                meter.row(workers)
        except SchedulerGone as gone:
            raise Interrupted(kept(str(gone))) from gone
        if file.pending():
            raise Interrupted(kept())


def _rows(
    problem: Problem, grid: Grid, options: EngineOptions, dask: str | None, mixed_workers: bool
) -> Callable[[list[int]], Rows]:
    """What computes the rows of some numbers: this process, or workers."""
    if dask is not None:
        from widegram.meanfield.experiments.remote_rows import remote_rows

        return remote_rows(dask, mixed_workers, problem, grid, options)
    if mixed_workers:
        raise WidegramError("mixed workers are workers of --dask, which is not given")
    make = row_maker(problem, grid, replace(options, threads=options.threads or usable_cores()))

    def rows(numbers: list[int]) -> Rows:
        for index in numbers:
            if interrupts.requested():
                return
            yield index, solve_row(problem, grid, make(float(grid.w_var[index]))), 0

    return rows


def _check(problem: Problem, grid: Grid, memory: str | int | None) -> None:
    grid.check()
    if len(problem.x_test) == 0:
        raise WidegramError("the test set is empty")
    m, n = problem.x.shape[0], problem.x_test.shape[0]
    needed = 8 * (m * n + len(grid.depths) * m * (2 * m + problem.y.shape[1] * len(grid.times)))
    what = f"a row of {m} training and {n} test images at {len(grid.depths)} depths"
    require_memory(needed, memory, what, "take fewer images or depths")


class _Meter:
    """Reports grid points; each of the ``rows`` is ``depths`` of them."""

    def __init__(
        self, rows: int, done: int, depths: int, progress: Callable[[Progress], None] | None
    ) -> None:
        self._start = perf_counter()
        self.rows, self._done, self._before, self._depths = rows, done, done, depths
        self._progress = progress
        self._begun, self._slowest = self._start, 0.0

    @property
    def done(self) -> int:
        """Rows stored, by earlier runs too."""
        return self._done

    @property
    def row_seconds(self) -> float:
        """Estimate of the time that the row in work still takes; infinite before one is done."""
        return max(self._slowest - (perf_counter() - self._begun), 0.0) if self._slowest else inf

    def row(self, workers: int) -> None:
        """One row more is stored; that many ``workers`` share the work."""
        self._done += 1
        self._slowest = max(self._slowest, perf_counter() - self._begun)
        self._begun = perf_counter()
        if self._progress is not None:
            seconds = perf_counter() - self._start
            rate = (self._done - self._before) * self._depths / seconds
            self._progress(
                Progress(
                    self._done * self._depths,
                    self.rows * self._depths,
                    rate=rate,
                    seconds=seconds,
                    workers=workers,
                )
            )


__all__ = ["Grid", "trainability"]
