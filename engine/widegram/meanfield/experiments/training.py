"""Accuracy of gradient flow over a grid of (w_var, depth), row by row, resumable."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from pathlib import Path

import numpy as np

from widegram.errors import Interrupted, WidegramError
from widegram.machine import interrupts
from widegram.machine.budgets import require_memory
from widegram.machine.cores import usable_cores
from widegram.machine.progress import Progress, StopRequest
from widegram.meanfield.experiments.engine_kernels import EngineOptions, EngineRows
from widegram.meanfield.experiments.fcn_kernels import FcnKernels
from widegram.meanfield.experiments.gradient_flow import Flow, outputs
from widegram.meanfield.experiments.grid import Grid, MapRow, RowKernels
from widegram.meanfield.experiments.problem import Problem
from widegram.meanfield.experiments.trainfile import MapHeader, TrainFile
from widegram.meanfield.theory.fixedpoint import fixed_points
from widegram.meanfield.theory.one_layer import Array, LayerMaps

# Beyond these diagonals products of Theta's entries leave the range of float64.
_SMALLEST, _LARGEST = 1e-150, 1e150


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
) -> int:
    """Fill or resume ``out``; returns the number of rows that an earlier run had finished.

    For fcn every grid point shares one matrix of input products. For cnn-f and cnn-p the depths of
    a row do; the next row forms them again in the cache, which takes 0.1 ns per pair of pixels and
    channel beside 1 to 3 ns per layer, and less than reading stored ones from memory would.
    ``accept_series_error`` as in :func:`widegram.gram`, for cnn-f and cnn-p.

    Raises WidegramError for bad variances, depths or times, or an ``out`` of another run (naming
    what differs); Interrupted after a signal, with every finished row stored.
    """
    _check(problem, grid, memory)
    options = EngineOptions(threads or usable_cores(), memory, accept_series_error)
    make = _row_maker(problem, grid, options)
    scales = fixed_points(LayerMaps.of(grid.act), grid.w_var, grid.b_var)
    header = MapHeader(
        net=grid.net,
        act=grid.act,
        w_var=grid.w_var,
        b_var=grid.b_var,
        depths=grid.depths,
        times=grid.times,
        data_fingerprint=problem.fingerprint,
        n_train=len(problem.x),
        n_test=len(problem.x_test),
    )
    with TrainFile(Path(out), header, scales, overwrite) as file:
        pending = file.pending()
        before = len(grid.w_var) - len(pending)
        meter = _Meter(len(grid.w_var), before, len(grid.depths), progress)

        def kept() -> str:
            return (
                f"{out}: interrupted, {meter.done} of {len(grid.w_var)} rows are saved; run the "
                "same command again to resume"
            )

        with (
            StopRequest() as stop,
            interrupts.keeping(kept),
            interrupts.finishing("the row in work", lambda: meter.row_seconds),
        ):
            for index in pending:
                if stop.requested:
                    raise Interrupted(kept())
                row = _solve_row(problem, grid, make(float(grid.w_var[index])))
                with interrupts.saving():
                    file.write(index, row)
                meter.row()
        file.finish()
    return before


def _check(problem: Problem, grid: Grid, memory: str | int | None) -> None:
    grid.check()
    if len(problem.x_test) == 0:
        raise WidegramError("the test set is empty")
    m, n = problem.x.shape[0], problem.x_test.shape[0]
    needed = 8 * (m * n + len(grid.depths) * m * (2 * m + problem.y.shape[1] * len(grid.times)))
    what = f"a row of {m} training and {n} test images at {len(grid.depths)} depths"
    require_memory(needed, memory, what, "take fewer images or depths")


def _solve_row(problem: Problem, grid: Grid, kernels: RowKernels) -> MapRow:
    shape = (len(grid.depths), len(grid.times))
    classes = problem.y.shape[1]
    with np.errstate(over="ignore", invalid="ignore"):
        levels, drops = kernels.train()
    _require_range(grid.depths, levels, drops)
    flows = [Flow.of(float(level), drop) for level, drop in zip(levels, drops, strict=True)]
    solved = [flow.solve(problem.y, grid.times) for flow in flows]

    def score(drop: Array, labels: np.ndarray) -> Array:
        """Sums over the rows of ``drop`` (depths, rows, m): hits and squared errors."""
        found = np.empty((2, *shape))
        wanted = np.eye(classes)[labels] - 1 / classes
        for depth, (alpha, totals) in enumerate(solved):
            f = outputs(flows[depth].level, drop[depth], alpha, totals)
            f = f.reshape(len(labels), -1, classes)
            found[0, depth] = (f.argmax(axis=2) == labels[:, None]).sum(axis=0)
            found[1, depth] = ((f - wanted[:, None]) ** 2).mean(axis=2).sum(axis=0)
        return found

    train = score(drops, problem.labels) / len(problem.x)
    blocks = kernels.test(lambda rows, drop: score(drop, problem.labels_test[rows]))
    test = sum(blocks, np.zeros((2, *shape))) / len(problem.x_test)
    return MapRow(
        train_accuracy=train[0],
        test_accuracy=test[0],
        train_mse=train[1],
        test_mse=test[1],
        lambda_max=np.array([flow.lambda_max for flow in flows]),
        kappa=np.array([flow.kappa for flow in flows]),
    )


def _require_range(depths: tuple[int, ...], levels: Array, drops: Array) -> None:
    for depth, level, drop in zip(depths, levels, drops, strict=True):
        if not (_SMALLEST < level < _LARGEST and np.isfinite(drop).all()):
            raise WidegramError(
                f"depth {depth}: Theta leaves the range of float64, its diagonal is {level:.3g}; "
                "read out fewer layers, or take w_var nearer to the critical one"
            )


def _row_maker(
    problem: Problem, grid: Grid, options: EngineOptions
) -> Callable[[float], RowKernels]:
    if grid.net == "fcn":
        return FcnKernels(problem, grid, options.threads or usable_cores()).row
    return lambda w: EngineRows(problem, grid, w, options)


class _Meter:
    """Reports grid points; a row is ``depths`` of them."""

    def __init__(
        self, rows: int, done: int, depths: int, progress: Callable[[Progress], None] | None
    ) -> None:
        from time import perf_counter

        self._clock, self._start = perf_counter, perf_counter()
        self._rows, self._done, self._before, self._depths = rows, done, done, depths
        self._progress = progress
        self._begun, self._slowest = self._start, 0.0

    @property
    def done(self) -> int:
        """Rows stored, by earlier runs too."""
        return self._done

    @property
    def row_seconds(self) -> float:
        """Estimate of the time that the row in work still takes; infinite before one is done."""
        return max(self._slowest - (self._clock() - self._begun), 0.0) if self._slowest else inf

    def row(self) -> None:
        """One row more is stored."""
        self._done += 1
        self._slowest = max(self._slowest, self._clock() - self._begun)
        self._begun = self._clock()
        if self._progress is not None:
            seconds = self._clock() - self._start
            rate = (self._done - self._before) * self._depths / seconds
            self._progress(
                Progress(
                    self._done * self._depths,
                    self._rows * self._depths,
                    rate=rate,
                    seconds=seconds,
                )
            )


__all__ = ["Grid", "trainability"]
