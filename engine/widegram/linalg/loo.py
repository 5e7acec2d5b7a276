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
    eigen_bytes = 8 * (2 * n * n + n * (8 * k + 2 * _BLOCK))
    if len(shifts) > 1 and eigen_bytes <= options.memory:
        return _path_by_eigen(operator, y, shifts, options)
    return [_point_by_factor(operator, y, shift, options) for shift in shifts]


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
        memory=options.memory,
        progress=options.progress,
    )
    assert pairs.vectors is not None
    rotated = pairs.vectors.T @ y
    weights = np.stack([_inverse(pairs.values + shift) for shift in shifts], axis=1)
    diagonals = np.empty((y.shape[0], len(shifts)))
    for lo in range(0, y.shape[0], _BLOCK):
        diagonals[lo : lo + _BLOCK] = pairs.vectors[lo : lo + _BLOCK] ** 2 @ weights
    points = []
    for index, shift in enumerate(shifts):
        alpha = pairs.vectors @ (weights[:, index, None] * rotated)
        image = pairs.vectors @ ((pairs.values + shift)[:, None] * (pairs.vectors.T @ alpha))
        residual = float(np.linalg.norm(y - image) / np.linalg.norm(y))
        mse, share = leave_one_out(alpha, diagonals[:, index], y)
        points.append(PathPoint(shift, alpha, mse, share, residual))
    return points


def _inverse(values: Array) -> Array:
    """1 / values; infinite below the rounding of the largest, where nothing is known."""
    floor = np.finfo(np.float64).eps * float(values[-1])
    return np.where(values > floor, 1.0 / np.maximum(values, floor), np.inf)


def _point_by_factor(
    operator: GramOperator, y: Array, shift: float, options: SolveOptions
) -> PathPoint:
    with factored(operator.shifted(shift), y.shape[1], options) as factor:
        solution = factor.solve(y)
        mse, share = leave_one_out(solution.x, factor.inverse_diagonal(), y)
    return PathPoint(shift, solution.x, mse, share, solution.residual)
