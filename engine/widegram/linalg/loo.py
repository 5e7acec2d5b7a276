"""Leave-one-out errors, for one regulariser or a whole path of them.

Leaving out row i changes its prediction to y_i - alpha_i / [(K + r I)^-1]_ii (Rasmussen and
Williams, "Gaussian Processes for Machine Learning", equation 5.12), so that one decomposition
gives all n of them; with a tridiagonal one, for every r.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from widegram.errors import WidegramError
from widegram.linalg.definite import FailedPivot
from widegram.linalg.methods.method import Choice
from widegram.linalg.operator import GramOperator
from widegram.linalg.refine import refined
from widegram.linalg.settings import Resources, SolveOptions
from widegram.linalg.solving import chosen, factored
from widegram.linalg.targets import accuracy
from widegram.linalg.tridiagonal import Tridiagonal
from widegram.linalg.units import NotFinite, checked_later
from widegram.machine.progress import ProgressCallback
from widegram.validation.choices import SOLVERS

Array = NDArray[Any]
_FACTORISATIONS = 8  # that take as long as one tridiagonalisation


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


@checked_later
def leave_one_out(alpha: Array, inverse_diagonal: Array, y: Array) -> tuple[float, float | None]:
    """(mean squared error, accuracy) of leave-one-out predictions; alpha and y of shape (n, k)."""
    errors = alpha / inverse_diagonal[:, None]
    return float(np.mean(errors**2)), accuracy(y - errors, y)


def path_choice(
    operator: GramOperator, k: int, count: int, options: SolveOptions, resources: Resources
) -> Choice:
    """How a path of ``count`` regularisers is computed, and why.

    In memory by a Cholesky factorisation and the inverse of its factor for each, 2/3 n^3
    operations, or for many by one tridiagonalisation with its basis, 8/3 n^3, of which half
    move the whole matrix through memory for every column: about as long as eight of the others,
    measured at n = 4,000. Beyond memory by a factorisation on the disk for each.
    """
    choice = chosen(operator, k, replace(options, dtype=np.float64), resources)
    if not SOLVERS[choice.method].factors:
        raise WidegramError(
            f"leave-one-out errors need a factorisation, and {operator.shape[0]} rows are too many "
            "for one in memory or on the disk; give more --memory or more disk beside --out"
        )
    many = count > _FACTORISATIONS and operator.shape[0] > 1  # one row has no second diagonal
    if choice.method == "cholesky" and options.method == "auto" and many:
        reason = f"one tridiagonalisation serves {count} regularisers; {choice.reason}"
        return replace(choice, method="tridiagonal", reason=reason)
    each = f"one factorisation for each of {count} regularisers" if count > 1 else "one regulariser"
    return replace(choice, reason=f"{each}; {choice.reason}")


def regulariser_path(
    operator: GramOperator,
    y: Array,
    shifts: Sequence[float],
    options: SolveOptions,
    resources: Resources,
    choice: Choice | None = None,
) -> list[PathPoint]:
    """Leave-one-out results for every shift in ``shifts`` (absolute), in that order.

    By ``choice``, else as :func:`path_choice` says. ``operator`` is K without a shift.
    """
    choice = choice or path_choice(operator, y.shape[1], len(shifts), options, resources)
    if choice.method == "tridiagonal":
        return _path_by_tridiagonal(
            replace(operator, memory=choice.stream), y, shifts, resources.progress
        )
    if len(shifts) == 1:
        return [_point_by_factor(operator, y, shifts[0], options, resources)]
    return [_point_or_failure(operator, y, shift, options, resources) for shift in shifts]


def best_point(points: Sequence[PathPoint]) -> PathPoint:
    """The point with the lowest leave-one-out mean squared error among the resolved ones.

    Raises WidegramError where there is none.
    """
    usable = [point for point in points if point.resolved]
    if not usable:
        raise WidegramError(
            "with none of these regularisers the matrix is positive definite and well enough "
            "conditioned to be solved; give larger ones"
        )
    return min(usable, key=lambda point: point.mse)


def _path_by_tridiagonal(
    operator: GramOperator, y: Array, shifts: Sequence[float], progress: ProgressCallback | None
) -> list[PathPoint]:
    reduced = Tridiagonal(operator.load(np.float64, progress), progress)
    sound = [shift for shift in shifts if reduced.definite(shift)]
    diagonals = dict(zip(sound, reduced.inverse_diagonals(sound).T, strict=True))
    points = []
    for shift in shifts:
        if shift not in diagonals:
            points.append(_unresolved(shift, y))
            continue
        try:
            alpha, residual = refined(
                partial(reduced.solve, shift), operator.shifted(shift).matmat, y
            )
        except NotFinite:
            points.append(_unresolved(shift, y))
            continue
        points.append(PathPoint(shift, alpha, *leave_one_out(alpha, diagonals[shift], y), residual))
    return points


def _unresolved(shift: float, y: Array) -> PathPoint:
    return PathPoint(shift, np.zeros_like(y), np.inf, None, np.inf)


def _point_or_failure(
    operator: GramOperator, y: Array, shift: float, options: SolveOptions, resources: Resources
) -> PathPoint:
    try:
        return _point_by_factor(operator, y, shift, options, resources, advise=False)
    except (FailedPivot, NotFinite):
        return _unresolved(shift, y)


def _point_by_factor(
    operator: GramOperator,
    y: Array,
    shift: float,
    options: SolveOptions,
    resources: Resources,
    advise: bool = True,
) -> PathPoint:
    options = replace(options, dtype=np.float64)  # the inverse's diagonal is not refined
    resources = replace(resources, work=resources.work_file(f".{shift:.6g}"))
    operator, k = operator.shifted(shift), y.shape[1]
    choice = chosen(operator, k, options, resources)
    with factored(operator, k, choice, resources, advise=advise) as factor:
        solution = factor.solve(y)
        mse, share = leave_one_out(solution.x, factor.inverse_diagonal(), y)
    return PathPoint(shift, solution.x, mse, share, solution.residual)
