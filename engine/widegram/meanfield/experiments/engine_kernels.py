"""Theta from the engine's depth sweeps, and rows of a trainability map from it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from widegram.computing.choosing import make_evaluator
from widegram.computing.devices import device_for
from widegram.computing.job import make_job
from widegram.errors import OutOfRange, WidegramError
from widegram.machine.budgets import budget
from widegram.meanfield.experiments.grid import Grid, Work
from widegram.meanfield.experiments.problem import Problem
from widegram.meanfield.theory.one_layer import Array
from widegram.network import Network, build


@dataclass(frozen=True)
class EngineOptions:
    """What the engine may use, and the error of a series that it accepts, as in
    :func:`widegram.gram`."""

    threads: int | None = None
    memory: str | int | None = None
    accept_series_error: float | None = None


def ntk_sweep(
    network: Network,
    x: Array,
    x2: Array | None,
    depths: Sequence[int],
    options: EngineOptions = EngineOptions(),
) -> Array:
    """Theta (depths, n1, n2) in float64 from one sweep of the engine.

    Raises WidegramError where it leaves the range of float64.
    """
    job = make_job(
        network, x, x2, "ntk", "float64", depths,
        options.threads, options.memory, options.accept_series_error,
    )  # fmt: skip
    columns = range(len(x if x2 is None else x2))
    try:
        with make_evaluator(device_for("auto", job.network), job) as evaluator:
            tiles = evaluator.tile(range(len(x)), columns, x2 is None)
    except OutOfRange as error:
        raise WidegramError(
            f"Theta leaves the range of float64 ({error}); or read out fewer layers"
        ) from error
    return np.stack([tiles[f"depth/{depth}/ntk"] for depth in depths])


class EngineRows:
    """One w_var of a convolutional network; float64 Theta, so D is good to its rounding."""

    def __init__(self, problem: Problem, grid: Grid, w: float, options: EngineOptions) -> None:
        self._problem, self._depths = problem, grid.depths
        depth = max(grid.depths)
        self._network = build(
            grid.net, problem.input_shape, grid.act, depth=depth, w_var=w, b_var=grid.b_var
        )
        self._memory = budget(options.memory)
        self._options = replace(options, memory=self._memory)
        self._levels = np.empty(0)

    def train(self) -> tuple[Array, Array]:
        """Levels (mean diagonals) and deviations of the training set."""
        theta = self._sweep(self._problem.x, None)
        self._levels = np.trace(theta, axis1=1, axis2=2) / theta.shape[1]
        return self._levels, self._levels[:, None, None] - theta

    def test(self, work: Work) -> Iterator[Array]:
        """Blocks of test images within a quarter of the budget."""
        row = 8 * len(self._depths) * len(self._problem.x)
        step = max(1, self._memory // (4 * row))
        n = len(self._problem.x_test)
        for lo in range(0, n, step):
            rows = slice(lo, min(lo + step, n))
            theta = self._sweep(self._problem.x_test[rows], self._problem.x)
            yield work(rows, self._levels[:, None, None] - theta)

    def _sweep(self, x: Array, x2: Array | None) -> Array:
        return ntk_sweep(self._network, x, x2, self._depths, self._options)
