"""Leave-one-out errors and determinants, for one regulariser or a whole path of them.

Leaving out row i changes its prediction to y_i - alpha_i / [(K + r I)^-1]_ii (Rasmussen and
Williams, "Gaussian Processes for Machine Learning", equation 5.12), so that one decomposition
gives all n of them; with a tridiagonal one, for every r.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from widegram.errors import WidegramError
from widegram.linalg.definite import FailedPivot
from widegram.linalg.evidence import Rounding, moved, spread_of
from widegram.linalg.methods.method import VECTORS, Choice
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
_RESOLVED = 1e-3  # the largest relative error of numbers that still mean something


@dataclass(frozen=True)
class PathPoint:
    """One regulariser of a path.

    * ``shift``: what it adds to the diagonal
    * ``alpha``: (n, k), with its ``residual``
    * ``mse``, ``accuracy``, ``log_density``: leave-one-out, see :class:`LeftOut`; None where they
      were not asked for
    * ``logdet``: log det (K + shift I), NaN where it is not positive definite
    * ``inflation``: the largest A_ii (A^-1)_ii of A = K + shift I, by which the rounding of A may
      grow in leave-one-out numbers; 0 without them. After a tridiagonalisation, which rounds all
      rows as the largest, with lambda_max in place of A_ii
    * ``rounding``: that of an evidence; None where it was not asked for
    """

    shift: float
    alpha: Array
    mse: float | None
    accuracy: float | None
    residual: float
    logdet: float
    log_density: float | None = None
    inflation: float = 0.0
    rounding: Rounding | None = None

    @property
    def resolved(self) -> bool:
        """Whether the numbers mean anything: finite, with a small residual and little rounding."""
        figure = self.logdet if self.mse is None else self.mse
        rounding = self.inflation * float(np.finfo(np.float64).eps)
        small = rounding < _RESOLVED and self.residual < _RESOLVED
        return bool(np.isfinite(figure) and small)


class LeftOut(NamedTuple):
    """Leave-one-out predictions against their targets, means over rows and columns.

    * ``mse``: squared errors
    * ``accuracy``: None for targets that name no class
    * ``log_density``: log N(y_i | mean, variance) without row i, noise included (Rasmussen and
      Williams, equations 5.10 to 5.12)
    """

    mse: float
    accuracy: float | None
    log_density: float


@checked_later
def leave_one_out(alpha: Array, inverse_diagonal: Array, y: Array) -> LeftOut:
    """Leave-one-out predictions from alpha = A^-1 y, (n, k) as y is, and the diagonal (n,) of
    A^-1."""
    precision = inverse_diagonal[:, None]
    errors = alpha / precision
    densities = 0.5 * (np.log(precision / (2.0 * np.pi)) - precision * errors**2)
    return LeftOut(float(np.mean(errors**2)), accuracy(y - errors, y), float(np.mean(densities)))


def path_choice(
    operator: GramOperator, k: int, count: int, options: SolveOptions, resources: Resources
) -> Choice:
    """How a path of ``count`` regularisers is computed, and why.

    In memory by a Cholesky factorisation and the inverse of its factor for each, 2/3 n^3
    operations, or for many by one tridiagonalisation with its basis, 8/3 n^3, of which half move
    the whole matrix through memory for every column: about as long as eight of the others, measured
    at n = 4,000. Beyond memory by a factorisation on the disk for each. Raises WidegramError where
    no factorisation has room.
    """
    choice = chosen(operator, k, replace(options, dtype=np.float64), resources)
    if not SOLVERS[choice.method].factors:
        raise WidegramError(
            f"leave-one-out errors and evidence need a factorisation, and {operator.shape[0]} rows "
            "are too many for one in memory or on the disk; give more --memory or more disk beside "
            "--out"
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
    *,
    loo: bool = True,
    evidence: bool = False,
) -> list[PathPoint]:
    """A point for every shift in ``shifts`` (absolute), in that order.

    By ``choice``, else as :func:`path_choice` says. ``operator`` is K without a shift. Without
    ``loo`` no leave-one-out errors; with ``evidence`` the rounding of one.
    """
    choice = choice or path_choice(operator, y.shape[1], len(shifts), options, resources)
    if choice.method == "tridiagonal":
        return _path_by_tridiagonal(
            replace(operator, memory=choice.stream), y, shifts, (loo, evidence), resources.progress
        )
    point = partial(
        _point_by_factor, operator, y, options=options, resources=resources, asked=(loo, evidence)
    )
    if len(shifts) == 1:
        return [point(shifts[0], advise=True)]
    points = []
    for shift in shifts:
        try:
            points.append(point(shift, advise=False))
        except (FailedPivot, NotFinite):
            points.append(_unresolved(shift, y))
    return points


def best_point(
    points: Sequence[PathPoint], losses: Sequence[float | None] | None = None
) -> PathPoint:
    """The point with the lowest loss among the resolved ones: leave-one-out mean squared error,
    unless ``losses`` are given.

    Raises WidegramError where there is none.
    """
    losses = [point.mse for point in points] if losses is None else losses
    usable = [
        (loss, index)
        for index, (point, loss) in enumerate(zip(points, losses, strict=True))
        if point.resolved and loss is not None and np.isfinite(loss)
    ]
    if not usable:
        raise WidegramError(
            "with none of these regularisers the matrix is positive definite and well enough "
            "conditioned to be solved; give larger ones"
        )
    return points[min(usable)[1]]


def _path_by_tridiagonal(
    operator: GramOperator,
    y: Array,
    shifts: Sequence[float],
    asked: tuple[bool, bool],
    progress: ProgressCallback | None,
) -> list[PathPoint]:
    reduced = Tridiagonal(operator.load(np.float64, progress), progress)
    sound = [shift for shift in shifts if reduced.definite(shift)]
    wanted = any(asked) and bool(sound)
    columns = reduced.inverse_diagonals(sound).T if wanted else [None] * len(sound)
    inverses = dict(zip(sound, columns, strict=True))
    own, rounded = operator.diagonal(), np.full(len(y), reduced.top)
    points = []
    for shift in shifts:
        if shift not in sound:
            points.append(_unresolved(shift, y))
            continue
        try:
            alpha, residual = refined(
                partial(reduced.solve, shift), operator.shifted(shift).matmat, y
            )
        except NotFinite:
            points.append(_unresolved(shift, y))
            continue
        point = PathPoint(shift, alpha, None, None, residual, reduced.logdet(shift))
        inverse = inverses[shift]
        if inverse is not None and asked[0]:
            point = _judged(point, y, rounded + shift, inverse)
        if inverse is not None and asked[1]:
            point = _rounded(point, y, own + shift, float((rounded + shift) @ inverse))
        points.append(point)
    return points


def _judged(point: PathPoint, y: Array, diagonal: Array, inverse_diagonal: Array) -> PathPoint:
    """The point with its leave-one-out numbers, from the diagonal (n,) of A^-1, and the size
    (n,) of what was rounded in each row, A's own diagonal."""
    left = leave_one_out(point.alpha, inverse_diagonal, y)
    return replace(point, **left._asdict(), inflation=float(np.max(diagonal * inverse_diagonal)))


def _rounded(point: PathPoint, y: Array, diagonal: Array, spread: float) -> PathPoint:
    """The point with the rounding of an evidence; ``diagonal`` (n,) is that of A."""
    norms = np.linalg.norm(y, axis=0) * np.linalg.norm(point.alpha, axis=0)
    return replace(point, rounding=moved(diagonal, spread, point.alpha, point.residual * norms))


def _unresolved(shift: float, y: Array) -> PathPoint:
    return PathPoint(shift, np.zeros_like(y), np.inf, None, np.inf, np.nan)


def _point_by_factor(
    operator: GramOperator,
    y: Array,
    shift: float,
    *,
    options: SolveOptions,
    resources: Resources,
    asked: tuple[bool, bool],
    advise: bool,
) -> PathPoint:
    options = replace(options, dtype=np.float64)  # the inverse's diagonal is not refined
    resources = replace(resources, work=resources.work_file(f".{shift:.6g}"))
    operator, k = operator.shifted(shift), y.shape[1]
    choice = chosen(operator, k, options, resources)
    (loo, evidence), diagonal, inverse, spread = asked, operator.diagonal(), None, 0.0
    with factored(operator, k, choice, resources, advise=advise) as factor:
        solution = factor.solve(y)
        if evidence and not loo:
            # In the room of right-hand sides, of which three blocks are held here.
            spread = spread_of(factor.half, diagonal, max(1, VECTORS * k // 3))
        if loo:
            inverse = factor.inverse_diagonal()
            spread = float(diagonal @ inverse)
    logdet = solution.details["logdet"]
    point = PathPoint(shift, solution.x, None, None, solution.residual, logdet)
    point = point if inverse is None else _judged(point, y, diagonal, inverse)
    return _rounded(point, y, diagonal, spread) if evidence else point
