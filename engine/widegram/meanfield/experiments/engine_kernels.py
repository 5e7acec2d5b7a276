"""Rows of a trainability map from the engine's depth sweeps: convolutional networks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from widegram.computing.choosing import make_evaluator
from widegram.computing.devices import resolve_device
from widegram.computing.job import make_job
from widegram.errors import OutOfRange, WidegramError
from widegram.machine.memory import budget
from widegram.meanfield.experiments.problem import Problem
from widegram.meanfield.theory.maps import Array

if TYPE_CHECKING:
    from widegram.meanfield.experiments.training import Grid


def preset_text(net: str, act: str, w: float, b: float, depth: int) -> str:
    """A preset of the engine; ``act`` may carry parameters, ``leakyrelu:alpha=0.1``."""
    name, _, parameters = act.partition(":")
    options = [f"depth={depth}", f"act={name}", f"w_var={w!r}", f"b_var={b!r}"]
    return f"{net}:" + ",".join([*options, *filter(None, [parameters])])


def ntk_sweep(
    network: object, x: Array, x2: Array | None, depths: tuple[int, ...], **options: object
) -> Array:
    """Theta (depths, n1, n2) in float64 from one sweep of the engine."""
    job = make_job(network, x, x2, "ntk", "float64", depths,  # type: ignore[arg-type]
                   options.get("threads"), options.get("memory"),  # type: ignore[arg-type]
                   options.get("accept_series_error"))  # type: ignore[arg-type]
    columns = range(len(x if x2 is None else x2))
    try:
        with make_evaluator(resolve_device("auto"), job) as evaluator:
            tiles = evaluator.tile(range(len(x)), columns, x2 is None)
    except OutOfRange as error:
        raise WidegramError(
            f"Theta leaves the range of float64 ({error}); or read out fewer layers"
        ) from error
    return np.stack([tiles[f"depth/{depth}/ntk"] for depth in depths])


class EngineRows:
    """One w_var of a convolutional network; float64 Theta, so D is good to its rounding."""

    def __init__(
        self, problem: Problem, grid: Grid, w: float, threads: int, memory: str | int | None,
        accept: float | None = None,
    ) -> None:  # fmt: skip
        self._problem, self._depths = problem, grid.depths
        depth = max(grid.depths)
        self._network = preset_text(grid.net, grid.act, w, grid.b_var, depth)
        self._memory = budget(memory)
        self._options = {
            "threads": threads, "memory": self._memory, "accept_series_error": accept
        }  # fmt: skip
        self._levels = np.empty(0)

    def train(self) -> tuple[Array, Array]:
        """Levels (mean diagonals) and deviations of the training set."""
        theta = self._sweep(self._problem.x, None)
        self._levels = np.trace(theta, axis1=1, axis2=2) / theta.shape[1]
        return self._levels, self._levels[:, None, None] - theta

    def test(self, work: Callable[[slice, Array], Array]) -> Iterator[Array]:
        """Blocks of test images within a quarter of the budget."""
        row = 8 * len(self._depths) * len(self._problem.x)
        step = max(1, self._memory // (4 * row))
        n = len(self._problem.x_test)
        for lo in range(0, n, step):
            rows = slice(lo, min(lo + step, n))
            theta = self._sweep(self._problem.x_test[rows], self._problem.x)
            yield work(rows, self._levels[:, None, None] - theta)

    def _sweep(self, x: Array, x2: Array | None) -> Array:
        return ntk_sweep(self._network, x, x2, self._depths, **self._options)
