"""Log marginal likelihoods of Gaussian processes.

log N(y | 0, A) = -(y^T A^-1 y + log det A + n log 2 pi) / 2 (Rasmussen and Williams, "Gaussian
Processes for Machine Learning", 2006, equation 2.30), added up over columns of targets, which are
independent. With a prior s^2 A, s as :mod:`widegram.linalg.normalise` has it, y^T A^-1 y is divided
by s^2 and n log s^2 added to the determinant.

Rounding is that of a matrix A + E, |E_ij| about eps sqrt(A_ii A_jj), as a Cholesky factorisation
leaves it (Demmel, LAPACK Working Note 14, 1989; Higham, "Accuracy and Stability of Numerical
Algorithms", 2002, section 10.1). To first order it moves log det A by tr(A^-1 E) and y^T A^-1 y by
alpha^T E alpha, alpha = A^-1 y: of random signs at most about eps sum_i A_ii (A^-1)_ii and
eps sum_i A_ii alpha_i^2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from widegram.linalg.units import checked_later

Array = NDArray[Any]
SHARE = 1e-3
"""Of a log evidence, or of 1 for each target where that is more: what rounding may move it by."""

_PROBES = 16  # their mean square is within a factor of three of the sum, but for 1 seed in 1,000
_EPS = float(np.finfo(np.float64).eps)


class Rounding(NamedTuple):
    """What rounding may move log det A by, and each y^T A^-1 y, (k,)."""

    logdet: float
    squares: Array


@checked_later
def moved(diagonal: Array, spread: float, alpha: Array, missed: Array | float = 0.0) -> Rounding:
    """The rounding of an evidence from A's ``diagonal`` (n,), ``spread`` = sum of A_ii (A^-1)_ii,
    and alpha (n, k), whose residuals change y^T A^-1 y by ``missed`` (k,)."""
    return Rounding(_EPS * spread, _EPS * np.einsum("i,ij,ij->j", diagonal, alpha, alpha) + missed)


@checked_later
def spread_of(half: Callable[[Array], Array], diagonal: Array, columns: int = _PROBES) -> float:
    """An estimate of sum_i A_ii (A^-1)_ii, where ``half(b)`` is L^-1 b of A = L L^T.

    The mean of |L^-1 D^(1/2) z|^2, D the ``diagonal`` (n,) of A, over vectors z of random signs
    (Hutchinson, Commun. Stat. Simul. 19, 1990), ``columns`` of them at a time.
    """
    rng, root, squares = np.random.default_rng(0), np.sqrt(diagonal)[:, None], 0.0
    for lo in range(0, _PROBES, columns):
        signs = rng.choice([-1.0, 1.0], size=(min(columns, _PROBES - lo), diagonal.size)).T
        squares += float(np.sum(half(root * signs) ** 2))
    return squares / _PROBES


@checked_later
def log_evidence(squares: Array, logdet: float, n: int, scale: Array | None = None) -> float:
    """Sum over columns of log N(y | 0, A), or with a ``scale`` s (k,) of log N(y | 0, s^2 A).

    ``squares`` (k,) are y^T A^-1 y of n targets each, ``logdet`` is log det A.
    """
    scale = np.ones(squares.size) if scale is None else scale
    columns = squares / scale**2 + 2.0 * n * np.log(scale) + logdet + n * np.log(2.0 * np.pi)
    return float(-0.5 * np.sum(columns))


@checked_later
def resolved_evidence(
    squares: Array, logdet: float, n: int, rounding: Rounding, scale: Array | None = None
) -> float | None:
    """:func:`log_evidence`; None where ``rounding`` may move it by more than :data:`SHARE`."""
    found = log_evidence(squares, logdet, n, scale)
    units = np.ones(squares.size) if scale is None else scale**2
    error = 0.5 * float(squares.size * rounding.logdet + np.sum(rounding.squares / units))
    return found if error <= SHARE * max(n * squares.size, abs(found)) < np.inf else None
