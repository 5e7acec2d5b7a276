"""A factor of S A S as a factor of A, with S diagonal, of powers of two.

A float32 factor is made of the equilibrated matrix, so that neither its entries nor the
right-hand sides, brought to size 1 column by column, leave the range of float32.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from widegram.linalg.operator import GramOperator
from widegram.linalg.refine import Factor, refined_solve
from widegram.linalg.solution import Solution
from widegram.linalg.units import unit_columns

Array = NDArray[Any]


class EquilibratedFactor:
    """A factor of ``operator``, by ``inner`` of the operator scaled on both sides by ``scaling``.

    Residuals are those of ``operator``.
    """

    def __init__(self, inner: Factor, operator: GramOperator, scaling: Array) -> None:
        self.inner = inner
        self.n = inner.n
        self._operator = operator
        self._scaling = scaling

    @property
    def method(self) -> str:
        """As the inner factor's."""
        return self.inner.method

    @property
    def dtype(self) -> np.dtype[Any]:
        """Precision of the factor."""
        return self.inner.dtype

    def apply(self, b: Array) -> Array:
        """A^-1 b without refinement, b of shape (n, k)."""
        unit, exponents = unit_columns(self._scaling[:, None] * b)
        return np.ldexp(self._scaling[:, None] * self.inner.apply(unit), exponents)

    def half(self, b: Array) -> Array:
        """L^-1 S b, so that column sums of squares are b^T A^-1 b."""
        unit, exponents = unit_columns(self._scaling[:, None] * b)
        return np.ldexp(self.inner.half(unit), exponents)

    def logdet(self) -> float:
        """log det A."""
        return self.inner.logdet() - 2.0 * math.fsum(np.log(self._scaling))

    def inverse_diagonal(self) -> Array:
        """diag(A^-1) of shape (n,)."""
        return self._scaling * self.inner.inverse_diagonal() * self._scaling

    def solve(self, b: Array, tol: float = 0.0) -> Solution:
        """Solve A x = b, refined in float64; b of shape (n, k)."""
        return refined_solve(self, self._operator.matmat, b, tol)

    def about(self) -> dict[str, Any]:
        """What the inner factor says of itself."""
        return self.inner.about()

    def close(self, delete: bool = False) -> None:
        """Close the inner factor."""
        self.inner.close(delete)
