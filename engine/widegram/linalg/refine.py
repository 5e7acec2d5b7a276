"""Iterative refinement, the same for every factorisation.

Wilkinson's scheme with residuals in float64; see Higham, "Accuracy and Stability of Numerical
Algorithms", 2002, section 12.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from widegram.linalg.cg import conjugate_gradients
from widegram.linalg.solution import OK, STAGNATED, Solution

Array = NDArray[Any]
_MAX_REFINEMENTS = 30
_GRADIENT_TOL = 1e-12
_ACCEPTED = 1e-8


class Factor(Protocol):
    """A factorisation: a value that is made once and applied many times."""

    n: int

    @property
    def dtype(self) -> np.dtype[Any]:
        """Precision of the factor."""

    def apply(self, b: Array) -> Array:
        """A^-1 b without refinement, b of shape (n, k)."""

    def half(self, b: Array) -> Array:
        """L^-1 b, so that column sums of squares are b^T A^-1 b."""

    def logdet(self) -> float:
        """log det A."""

    def inverse_diagonal(self) -> Array:
        """diag(A^-1) of shape (n,)."""

    def solve(self, b: Array, tol: float = 0.0) -> Solution:
        """A^-1 b with refinement and the true residual."""


def refined_solve(
    factor: Factor, product: Callable[[Array], Array], b: Array, tol: float, method: str
) -> Solution:
    """Solve A x = b with ``factor``, refining against ``product`` while the residual halves.

    Stops at ``tol`` or at rounding level. Where a float32 factor does not converge, because the
    condition number passes 1e7, it preconditions conjugate gradients instead.
    """
    started = time.perf_counter()
    b = np.asarray(b, dtype=np.float64)
    scale = np.maximum(np.linalg.norm(b, axis=0), np.finfo(float).tiny)
    goal = max(tol, 4.0 * np.finfo(np.float64).eps)
    x = factor.apply(b)
    best, best_error, history = x, math.inf, []
    for _ in range(_MAX_REFINEMENTS):
        r = b - product(x)
        error = float(np.max(np.linalg.norm(r, axis=0) / scale))
        history.append(error)
        if not error < 0.5 * best_error:
            break
        best, best_error = x, error
        if error <= goal:
            break
        x = x + factor.apply(r)
    status = OK
    if factor.dtype == np.float32 and best_error > max(tol, 1e2 * _GRADIENT_TOL):
        rescue = conjugate_gradients(
            product, b, factor.apply, tol=max(tol, _GRADIENT_TOL), max_iter=200
        )
        history.extend(rescue.history)
        best, best_error = rescue.x, rescue.residual
        status = OK if best_error <= max(tol, _ACCEPTED) else STAGNATED
    return Solution(
        best,
        method,
        status,
        len(history) - 1,
        best_error,
        time.perf_counter() - started,
        tuple(history),
        {"factor_dtype": str(factor.dtype), "logdet": factor.logdet()},
    )
