"""A row of a trainability map: kernels of one w_var, and gradient flow with them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from widegram.errors import WidegramError
from widegram.machine.cores import usable_cores
from widegram.meanfield.experiments.engine_kernels import EngineOptions, EngineRows
from widegram.meanfield.experiments.fcn_kernels import FcnKernels
from widegram.meanfield.experiments.gradient_flow import Flow, outputs
from widegram.meanfield.experiments.grid import Grid, MapRow, RowKernels
from widegram.meanfield.experiments.problem import Problem
from widegram.meanfield.theory.one_layer import Array

# Beyond these diagonals products of Theta's entries leave the range of float64.
_SMALLEST, _LARGEST = 1e-150, 1e150
RowMaker = Callable[[float], RowKernels]


def solve_row(problem: Problem, grid: Grid, kernels: RowKernels) -> MapRow:
    """Gradient flow at every depth and time, of the kernels of one w_var.

    Raises :class:`WidegramError` where Theta leaves the range of float64.
    """
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


def row_maker(problem: Problem, grid: Grid, options: EngineOptions) -> RowMaker:
    """What makes the kernels of a row from its w_var."""
    if grid.net == "fcn":
        return FcnKernels(problem, grid, options.threads or usable_cores()).row
    return lambda w: EngineRows(problem, grid, w, options)
