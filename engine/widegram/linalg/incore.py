"""Cholesky factorisation in memory, in place, with refinement to float64 accuracy.

The factor takes the lower triangle; the upper one keeps the matrix, and its diagonal is kept
apart, so that residuals need neither a second copy nor a second read when the factor is float64.
A float32 factor (half the memory) is refined against the operator in float64, and becomes the
preconditioner of conjugate gradients where plain refinement does not converge.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from widegram.linalg import lapack
from widegram.linalg.definite import FailedPivot, not_definite
from widegram.linalg.equilibrated import EquilibratedFactor
from widegram.linalg.operator import GramOperator
from widegram.linalg.refine import Factor, refined_solve
from widegram.linalg.solution import Solution
from widegram.machine.progress import Progress, ProgressCallback

Array = NDArray[Any]
_COLUMNS = 128


class DenseCholesky:
    """L L^T = A held in one n x n array, as LAPACK's potrf leaves it.

    ``factor`` holds L in its lower triangle and A above, ``diagonal`` A's: both give residuals.
    """

    method = "cholesky"

    def __init__(self, factor: Array, diagonal: Array) -> None:
        self.factor = factor
        self.n = int(factor.shape[0])
        self._diagonal = diagonal

    @property
    def dtype(self) -> np.dtype[Any]:
        """Precision of the factor."""
        return self.factor.dtype

    def logdet(self) -> float:
        """log det A."""
        return 2.0 * math.fsum(np.log(np.diagonal(self.factor).astype(np.float64)))

    def apply(self, b: Array) -> Array:
        """A^-1 b by two triangular solves, without refinement; b of shape (n, k)."""
        x = np.array(b, dtype=self.dtype, order="F")
        lapack.potrs(self.factor, x)
        return np.asarray(x, dtype=np.float64)

    def half(self, b: Array) -> Array:
        """L^-1 b, so that column sums of squares are b^T A^-1 b; b of shape (n, k)."""
        x = np.array(b, dtype=self.dtype, order="F")
        lapack.trtrs(self.factor, x)
        return np.asarray(x, dtype=np.float64)

    def inverse_diagonal(self) -> Array:
        """diag(A^-1), float64 of shape (n,). The factor is used up: it becomes its inverse.

        As sums of squares of the columns of L^-1, half the work of the inverse of A.
        """
        inverse = self.factor
        lapack.trtri(inverse)
        out = np.empty(self.n)
        for lo in range(0, self.n, _COLUMNS):
            hi = min(self.n, lo + _COLUMNS)
            head = np.tril(inverse[lo:hi, lo:hi]).astype(np.float64)
            below = inverse[hi:, lo:hi].astype(np.float64)
            out[lo:hi] = np.einsum("ij,ij->j", head, head) + np.einsum("ij,ij->j", below, below)
        return out

    def solve(self, b: Array, tol: float = 0.0) -> Solution:
        """Solve A x = b, refining against A itself while the residual falls; b of shape (n, k).

        ``tol`` stops before the residual is at rounding level.
        """
        return refined_solve(self, self._upper_product, b, tol)

    def about(self) -> dict[str, Any]:
        """Nothing beyond what every factor says."""
        return {}

    def close(self, delete: bool = False) -> None:
        """Nothing to close."""

    def _upper_product(self, x: Array) -> Array:
        index = np.diag_indices(self.n)
        kept = self.factor[index].copy()
        self.factor[index] = self._diagonal
        try:
            right = np.asfortranarray(x, dtype=self.dtype)
            return np.asarray(lapack.symm(self.factor, right), dtype=np.float64)
        finally:
            self.factor[index] = kept


def load_cholesky(
    operator: GramOperator,
    dtype: DTypeLike = np.float64,
    progress: ProgressCallback | None = None,
    *,
    advise: bool = True,
) -> Factor:
    """Read ``operator`` (with its shift) once and factor it in place.

    A float32 factor is one of the equilibrated matrix and keeps the operator for its residuals.
    Raises NotPositiveDefinite, with advice that was tried by factoring again; without
    ``advise`` a bare :class:`FailedPivot`.
    """
    found = _attempt(operator, np.dtype(dtype), progress)
    if not isinstance(found, FailedPivot):
        return found
    if not advise:
        raise found
    eps = float(max(np.finfo(operator.dtype).eps, np.finfo(dtype).eps))

    def works(shift: float) -> bool:
        again = _attempt(operator.shifted(shift), np.dtype(dtype), progress)
        return not isinstance(again, FailedPivot)

    raise not_definite(operator, found, eps, works)


def _attempt(
    operator: GramOperator, dtype: np.dtype[Any], progress: ProgressCallback | None
) -> Factor | FailedPivot:
    used, scaling = operator.equilibrated() if dtype == np.float32 else (operator, None)
    matrix = used.load(dtype, progress)
    if progress:
        progress(Progress(0, 1, what="factoring"))
    diagonal = np.diagonal(matrix).copy()
    info = lapack.potrf(matrix)
    if progress:
        progress(Progress(1, 1, what="factoring"))
    if info:
        pivot = float(matrix[info - 1, info - 1])
        unit = 1.0 if scaling is None else float(scaling[info - 1])
        return FailedPivot(info - 1, pivot / unit / unit)
    dense = DenseCholesky(matrix, diagonal)
    return dense if scaling is None else EquilibratedFactor(dense, operator, scaling)
