"""Leave-one-out errors, for one regulariser or a whole path of them.

Leaving out row i changes its prediction to y_i - alpha_i / [(K + r I)^-1]_ii (Rasmussen and
Williams, "Gaussian Processes for Machine Learning", equation 5.12), so that one decomposition
gives all n of them; with an eigendecomposition, for every r.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from widegram.linalg.definite import NotPositiveDefinite
from widegram.linalg.eigen import full_eigen
from widegram.linalg.operator import GramOperator
from widegram.linalg.solving import SolveOptions, factored
from widegram.linalg.targets import accuracy

Array = NDArray[Any]
_BLOCK = 256


@dataclass(frozen=True)
class PathPoint:
    """One regulariser (absolute) of a path: alpha (n, k), leave-one-out error and accuracy."""

    shift: float
    alpha: Array
    mse: float
    accuracy: float | None
    residual: float

    @property
    def resolved(self) -> bool:
        """Whether the numbers mean anything: finite, with a small residual."""
        return bool(np.isfinite(self.mse) and self.residual < 1e-3)


def leave_one_out(alpha: Array, inverse_diagonal: Array, y: Array) -> tuple[float, float | None]:
    """(mean squared error, accuracy) of leave-one-out predictions; alpha and y of shape (n, k)."""
    errors = alpha / inverse_diagonal[:, None]
    return float(np.mean(errors**2)), accuracy(y - errors, y)


def regulariser_path(
    operator: GramOperator, y: Array, shifts: Sequence[float], options: SolveOptions
) -> list[PathPoint]:
    """Leave-one-out results for every shift in ``shifts`` (absolute), in that order.

    From one eigendecomposition where eigenvectors fit in ``options.memory`` and there is more
    than one shift, else from one factorisation for each. ``operator`` is K without a shift.
    """
    n, k = y.shape
    if len(shifts) > 1 and eigen_fits(n, k, options.memory):
        return _path_by_eigen(operator, y, shifts, options)
    if len(shifts) == 1:
        return [_point_by_factor(operator, y, shifts[0], options)]
    return [_point_or_failure(operator, y, shift, options) for shift in shifts]


def eigen_fits(n: int, k: int, memory: int) -> bool:
    """Whether eigenvectors of n rows, and what a path of k right-hand sides holds, fit."""
    return 8 * (2 * n * n + n * (8 * k + 2 * _BLOCK)) + memory // 16 <= memory


def best_point(points: Sequence[PathPoint]) -> PathPoint:
    """The point with the lowest leave-one-out mean squared error among the resolved ones."""
    usable = [point for point in points if point.resolved] or list(points)
    return min(usable, key=lambda point: point.mse if np.isfinite(point.mse) else np.inf)


def _path_by_eigen(
    operator: GramOperator, y: Array, shifts: Sequence[float], options: SolveOptions
) -> list[PathPoint]:
    pairs = full_eigen(
        replace(operator, memory=options.memory // 16),
        vectors=True,
        memory=options.memory - options.memory // 16,
        progress=options.progress,
    )
    assert pairs.vectors is not None
    rotated = pairs.vectors.T @ y
    floor = np.finfo(np.float64).eps * float(pairs.values[-1])
    damped = np.add.outer(pairs.values, np.asarray(shifts))
    sound = damped.min(axis=0) > floor
    weights = 1.0 / np.maximum(damped, floor)
    diagonals = np.empty((y.shape[0], len(shifts)))
    for lo in range(0, y.shape[0], _BLOCK):
        diagonals[lo : lo + _BLOCK] = pairs.vectors[lo : lo + _BLOCK] ** 2 @ weights
    points = []
    for index, shift in enumerate(shifts):
        alpha = pairs.vectors @ (weights[:, index, None] * rotated)
        image = pairs.vectors @ ((pairs.values + shift)[:, None] * (pairs.vectors.T @ alpha))
        residual = float(np.linalg.norm(y - image) / np.linalg.norm(y))
        mse, share = leave_one_out(alpha, diagonals[:, index], y)
        if not sound[index]:
            mse, share, residual = np.inf, None, np.inf
        points.append(PathPoint(shift, alpha, mse, share, residual))
    return points


def _point_or_failure(
    operator: GramOperator, y: Array, shift: float, options: SolveOptions
) -> PathPoint:
    try:
        return _point_by_factor(operator, y, shift, options)
    except NotPositiveDefinite:
        return PathPoint(shift, np.zeros_like(y), np.inf, None, np.inf)


def _point_by_factor(
    operator: GramOperator, y: Array, shift: float, options: SolveOptions
) -> PathPoint:
    options = replace(options, dtype=np.float64)  # the inverse's diagonal is not refined
    if options.work is not None:
        work = options.work.with_name(f"{options.work.name}.{shift:.6g}")
        options = replace(options, work=work)
    with factored(operator.shifted(shift), y.shape[1], options) as factor:
        solution = factor.solve(y)
        mse, share = leave_one_out(solution.x, factor.inverse_diagonal(), y)
    return PathPoint(shift, solution.x, mse, share, solution.residual)
