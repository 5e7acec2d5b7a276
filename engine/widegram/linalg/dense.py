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
from scipy.linalg import blas, lapack

from widegram.linalg.definite import not_definite
from widegram.linalg.operator import GramOperator, Progress
from widegram.linalg.refine import refined_solve
from widegram.linalg.solution import Solution

Array = NDArray[Any]
_COLUMNS = 128


class DenseCholesky:
    """L L^T = A held in one n x n array.

    ``matrix`` is Fortran-ordered, is overwritten, and needs only its lower triangle; where
    ``operator`` is given residuals are taken against it, else against the upper triangle;
    ``rounding`` is the relative rounding of its entries.
    Raises WidegramError when A is not positive definite: it names the smallest pivot and
    proposes a regulariser.
    """

    def __init__(
        self, matrix: Array, operator: GramOperator | None = None, rounding: float = 0.0
    ) -> None:
        self._matrix = matrix
        self._diagonal = np.diagonal(matrix).copy()
        self._operator = operator
        self._rounding = max(rounding, float(np.finfo(matrix.dtype).eps))
        self.n = int(matrix.shape[0])
        (potrf,) = lapack.get_lapack_funcs(("potrf",), (matrix,))
        factor, info = potrf(matrix, lower=1, overwrite_a=1, clean=0)
        self.factor: Array = factor
        if info:
            raise self._failure(info - 1)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Precision of the factor."""
        return self.factor.dtype

    def logdet(self) -> float:
        """log det A."""
        return 2.0 * math.fsum(np.log(np.diagonal(self.factor).astype(np.float64)))

    def apply(self, b: Array) -> Array:
        """A^-1 b by two triangular solves, without refinement; b of shape (n, k)."""
        (potrs,) = lapack.get_lapack_funcs(("potrs",), (self.factor,))
        x, _ = potrs(self.factor, np.asfortranarray(b, dtype=self.dtype), lower=1)
        return np.asarray(x, dtype=np.float64)

    def half(self, b: Array) -> Array:
        """L^-1 b, so that column sums of squares are b^T A^-1 b; b of shape (n, k)."""
        (trtrs,) = lapack.get_lapack_funcs(("trtrs",), (self.factor,))
        x, _ = trtrs(self.factor, np.asfortranarray(b, dtype=self.dtype), lower=1, overwrite_b=1)
        return np.asarray(x, dtype=np.float64)

    def inverse_diagonal(self) -> Array:
        """diag(A^-1), float64 of shape (n,). The factor is used up: it becomes its inverse.

        As sums of squares of the columns of L^-1, half the work of the inverse of A.
        """
        (trtri,) = lapack.get_lapack_funcs(("trtri",), (self.factor,))
        inverse, _ = trtri(self.factor, lower=1, overwrite_c=1)
        out = np.empty(self.n)
        for lo in range(0, self.n, _COLUMNS):
            hi = min(self.n, lo + _COLUMNS)
            head = np.tril(inverse[lo:hi, lo:hi]).astype(np.float64)
            below = inverse[hi:, lo:hi].astype(np.float64)
            out[lo:hi] = np.einsum("ij,ij->j", head, head) + np.einsum("ij,ij->j", below, below)
        return out

    def product(self, x: Array) -> Array:
        """A x in float64."""
        if self._operator is not None:
            return self._operator.matmat(x)
        return self._upper_product(x)

    def solve(self, b: Array, tol: float = 0.0) -> Solution:
        """Solve A x = b, refining while the residual falls; b of shape (n, k).

        A float64 factor is refined once or twice, until the residual is at rounding level; a
        float32 factor until it is there too, or by conjugate gradients preconditioned with the
        factor where refinement does not converge. ``tol`` stops earlier.
        """
        return refined_solve(self, self.product, b, tol, "cholesky")

    def _upper_product(self, x: Array) -> Array:
        (symm,) = blas.get_blas_funcs(("symm",), (self.factor,))
        index = np.diag_indices(self.n)
        kept = self.factor[index].copy()
        self.factor[index] = self._diagonal
        try:
            right = np.asfortranarray(x, dtype=self.dtype)
            return np.asarray(symm(1.0, self.factor, right, lower=0), dtype=np.float64)
        finally:
            self.factor[index] = kept

    def _failure(self, index: int) -> Exception:
        pivot = float(self.factor[index, index])
        top = float(np.max(self._diagonal))
        return not_definite(
            self._upper_product,
            self.n,
            float(np.mean(self._diagonal)),
            index,
            pivot,
            top,
            self._rounding,
        )


def load_cholesky(
    operator: GramOperator, dtype: DTypeLike = np.float64, progress: Progress | None = None
) -> DenseCholesky:
    """Read ``operator`` (with its shift) once and factor it in place.

    A factor coarser than the file keeps the operator for its residuals.
    """
    matrix = operator.load(dtype, progress)
    if progress:
        progress("factoring", 0, 1)
    keep = operator if np.dtype(dtype) == np.float32 else None
    factor = DenseCholesky(matrix, keep, float(np.finfo(operator.dtype).eps))
    if progress:
        progress("factoring", 1, 1)
    return factor
