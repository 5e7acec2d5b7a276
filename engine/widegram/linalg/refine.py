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

from widegram.errors import WidegramError
from widegram.linalg.cg import conjugate_gradients
from widegram.linalg.solution import Solution, status_of
from widegram.linalg.units import NotFinite, checked_later, in_original_units, unit_columns

Array = NDArray[Any]
Product = Callable[[Array], Array]
_MAX_REFINEMENTS = 30
_ROUNDING = 4.0 * float(np.finfo(np.float64).eps)
_GRADIENT_TOL = 1e-12


class Factor(Protocol):
    """A factorisation: a value that is made once and applied many times."""

    n: int

    @property
    def method(self) -> str:
        """The name of the solver in :data:`widegram.validation.choices.METHODS`."""

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

    def about(self) -> dict[str, Any]:
        """What a solution's details say of the factor."""

    def close(self, delete: bool = False) -> None:
        """Let go of what it holds; ``delete`` removes its work file."""


@checked_later
def refined_solve(factor: Factor, product: Product, b: Array, tol: float = 0.0) -> Solution:
    """Solve A x = b with ``factor``, refining against ``product`` while the residual halves.

    Stops at ``tol`` or at rounding level. Where a float32 factor does not converge, because the
    condition number passes 1e7, it preconditions conjugate gradients instead. The status follows
    from the residual that ``product`` gives, in float64. Raises :class:`NotFinite` for a solution
    that is not finite.
    """
    started = time.perf_counter()
    b, exponents = unit_columns(np.asarray(b, dtype=np.float64))
    x, history = _refined(factor.apply, product, b, max(tol, _ROUNDING))
    error = min(history)
    if factor.dtype == np.float32 and not error <= max(tol, 1e2 * _GRADIENT_TOL):
        x, error = _rescued(factor, product, b, tol, (x, error), history)
    return Solution(
        x=_finite(x, error, exponents),
        method=factor.method,
        status=status_of(error, tol),
        iterations=len(history) - 1,
        residual=error,
        seconds=time.perf_counter() - started,
        history=tuple(history),
        details={"factor_dtype": str(factor.dtype), "logdet": factor.logdet(), **factor.about()},
    )


@checked_later
def refined(apply: Product, product: Product, b: Array) -> tuple[Array, float]:
    """(x, its true residual) of A x = b, where ``apply`` is A^-1 to some digits."""
    b, exponents = unit_columns(b)
    x, history = _refined(apply, product, b, _ROUNDING)
    return _finite(x, min(history), exponents), min(history)


def _refined(apply: Product, product: Product, b: Array, goal: float) -> tuple[Array, list[float]]:
    """The best iterate and the residual of each one; infinite where it is not finite."""
    scale = np.maximum(np.linalg.norm(b, axis=0), np.finfo(float).tiny)
    x = apply(b)
    best, history = x, [math.inf]
    for _ in range(_MAX_REFINEMENTS):
        if not np.isfinite(x).all():
            break
        r = b - product(x)
        error = float(np.max(np.linalg.norm(r, axis=0) / scale))
        improved = error < 0.5 * min(history)
        history.append(error if math.isfinite(error) else math.inf)
        if error <= min(history):
            best = x
        if not improved or error <= goal:
            break
        x = x + apply(r)
    return best, history[1:] or [math.inf]


def _finite(x: Array, error: float, exponents: Array) -> Array:
    """The solution in its original units."""
    if not (math.isfinite(error) and np.isfinite(x).all()):
        raise NotFinite(
            "the solution is not finite: a pivot of the factorisation is next to nothing; take a "
            "larger regulariser"
        )
    return in_original_units(x, exponents)


def _rescued(
    factor: Factor,
    product: Product,
    b: Array,
    tol: float,
    found: tuple[Array, float],
    history: list[float],
) -> tuple[Array, float]:
    """Conjugate gradients with the factor as preconditioner, where they end lower than ``found``.

    A factor that is no good as a preconditioner leaves ``found``, whose status then says so.
    """
    try:
        rescue = conjugate_gradients(
            product, b, factor.apply, tol=max(tol, _GRADIENT_TOL), max_iter=200
        )
    except WidegramError:
        return found
    history.extend(rescue.history)
    return (rescue.x, rescue.residual) if rescue.residual < found[1] else found
