"""Accuracy of gradient flow over a grid of (w_var, depth), row by row, resumable."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Protocol

import numpy as np

from widegram.errors import Interrupted, WidegramError
from widegram.machine import interrupts
from widegram.machine.cores import usable_cores
from widegram.machine.memory import require_memory
from widegram.machine.progress import Progress, StopRequest
from widegram.meanfield.experiments.gradient_flow import Flow, predictions
from widegram.meanfield.experiments.problem import Problem
from widegram.meanfield.experiments.trainfile import Header, TrainFile
from widegram.meanfield.recursion.elementwise import Program, compile_program, run_program
from widegram.meanfield.recursion.one_norm import input_deviations
from widegram.meanfield.theory.fixedpoint import check_variances, fixed_points
from widegram.meanfield.theory.maps import Array, LayerMaps
from widegram.validation.choices import FAMILIES

# Test images whose deviations at all depths are in memory at once, per thread.
_CHUNK = 64


@dataclass(frozen=True)
class Row:
    """One w_var: arrays (depths, times), and per depth lambda_max and kappa."""

    train_accuracy: Array
    test_accuracy: Array
    train_mse: Array
    test_mse: Array
    lambda_max: Array
    kappa: Array


Work = Callable[[slice, Array], Array]


class Kernels(Protocol):
    """Where the deviations of a row come from; ``test`` yields blocks of test images."""

    def train(self) -> tuple[Array, Array]:
        """levels (depths,) and D = level - Theta of the training set, (depths, m, m)."""
        ...

    def test(self, work: Work) -> Iterator[Array]:
        """Yield ``work(rows, D)``, D (depths, len(rows), m), for blocks of all test images."""
        ...


@dataclass(frozen=True)
class Grid:
    """What is computed: ``net`` is one of FAMILIES, times are in units of eta = 2 / lambda_max."""

    net: str
    act: str
    w_var: Array
    b_var: float
    depths: tuple[int, ...]
    times: tuple[float, ...]


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
    make = _row_maker(problem, grid, threads or usable_cores(), memory, accept_series_error)
    scales = fixed_points(LayerMaps.of(grid.act), grid.w_var, grid.b_var)
    header = Header(
        grid.net,
        grid.act,
        grid.w_var,
        grid.b_var,
        grid.depths,
        grid.times,
        problem.fingerprint,
        len(problem.x),
        len(problem.x_test),
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
    check_variances(grid.w_var, np.array([grid.b_var]))
    if grid.net not in FAMILIES:
        raise WidegramError(f"net {grid.net!r} is unknown; choose from {', '.join(FAMILIES)}")
    if not grid.depths or min(grid.depths) < 1:
        raise WidegramError("depths: give at least one, each 1 or more")
    if not grid.times or not all(time > 0 for time in grid.times):
        raise WidegramError("times: give at least one, each positive")
    if len(problem.x_test) == 0:
        raise WidegramError("the test set is empty")
    m, n = problem.x.shape[0], problem.x_test.shape[0]
    needed = 8 * (m * n + len(grid.depths) * m * (2 * m + problem.y.shape[1] * len(grid.times)))
    what = f"a row of {m} training and {n} test images at {len(grid.depths)} depths"
    require_memory(needed, memory, what, "take fewer images or depths")


def _solve_row(problem: Problem, grid: Grid, kernels: Kernels) -> Row:
    shape = (len(grid.depths), len(grid.times))
    classes = problem.y.shape[1]
    levels, drops = kernels.train()
    flows = [Flow.of(float(level), drop) for level, drop in zip(levels, drops, strict=True)]
    solved = [flow.solve(problem.y, grid.times) for flow in flows]

    def score(drop: Array, labels: np.ndarray) -> Array:
        """Sums over the rows of ``drop`` (depths, rows, m): hits and squared errors."""
        found = np.empty((2, *shape))
        wanted = np.eye(classes)[labels] - 1 / classes
        for depth, (alpha, totals) in enumerate(solved):
            f = predictions(flows[depth].level, drop[depth], alpha, totals)
            f = f.reshape(len(labels), -1, classes)
            found[0, depth] = (f.argmax(axis=2) == labels[:, None]).sum(axis=0)
            found[1, depth] = ((f - wanted[:, None]) ** 2).mean(axis=2).sum(axis=0)
        return found

    train = score(drops, problem.labels) / len(problem.x)
    blocks = kernels.test(lambda rows, drop: score(drop, problem.labels_test[rows]))
    test = sum(blocks, np.zeros((2, *shape))) / len(problem.x_test)
    return Row(
        train[0],
        test[0],
        train[1],
        test[1],
        np.array([flow.lambda_max for flow in flows]),
        np.array([flow.kappa for flow in flows]),
    )


def _row_maker(
    problem: Problem, grid: Grid, threads: int, memory: str | int | None, accept: float | None
) -> Callable[[float], Kernels]:
    if grid.net != "fcn":
        from widegram.meanfield.experiments.engine_kernels import EngineRows

        return lambda w: EngineRows(problem, grid, w, threads, memory, accept)
    maps = LayerMaps.of(grid.act)
    maps.require_slope()
    flat, flat_test = (x.reshape(len(x), -1) for x in (problem.x, problem.x_test))
    # The products that every grid point shares; the diagonal of the first is exactly 0.
    start = input_deviations(flat, flat)
    test = input_deviations(flat_test, flat)
    inputs = _Inputs(start.q, start.delta.value, test.delta.value)

    def make(w: float) -> Kernels:
        reach = max(inputs.train.max(), inputs.test.max())
        program = compile_program(maps, w, grid.b_var, inputs.q, float(reach), max(grid.depths))
        return _FcnRows(inputs, program, grid.depths, threads)

    return make


@dataclass(frozen=True)
class _Inputs:
    """delta of the training set with itself (m, m) and of the test set with it (n, m)."""

    q: float
    train: Array
    test: Array


@dataclass(frozen=True)
class _FcnRows:
    inputs: _Inputs
    program: Program
    depths: tuple[int, ...]
    threads: int

    def train(self) -> tuple[Array, Array]:
        drops = self._run(self.inputs.train)
        # Symmetric to the last bit, whatever the rounding of the products.
        drops = (drops + drops.transpose(0, 2, 1)) / 2
        return self.program.levels[list(self.depths)], drops

    def test(self, work: Work) -> Iterator[Array]:
        n = len(self.inputs.test)
        blocks = [slice(lo, min(lo + _CHUNK, n)) for lo in range(0, n, _CHUNK)]
        with ThreadPoolExecutor(self.threads) as pool:
            # In order: sums do not depend on the number of threads.
            yield from pool.map(lambda rows: work(rows, self._run(self.inputs.test[rows])), blocks)

    def _run(self, delta: Array) -> Array:
        out = np.empty((len(self.depths), delta.size))
        run_program(self.program, delta.reshape(-1), self.depths, out)
        return out.reshape(len(self.depths), *delta.shape)


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


__all__ = ["Grid", "Row", "trainability"]
