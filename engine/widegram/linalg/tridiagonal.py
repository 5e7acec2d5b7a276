"""K = Q T Q^T with T tridiagonal: one reduction in place serves (K + r I)^-1 for every r.

Householder's reduction (LAPACK sytrd), in the memory of the matrix; cheaper than eigenvectors, and
for each r there remains a bidiagonal factorisation T + r I = L D L^T (pttrf).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

from widegram.linalg.operator import Progress

Array = NDArray[Any]


class Tridiagonal:
    """``matrix``, symmetric, float64 and Fortran-ordered, is overwritten by Q."""

    def __init__(self, matrix: Array, progress: Progress | None = None) -> None:
        n = matrix.shape[0]
        if progress:
            progress("tridiagonalisation", 0, 2)
        room = int(lapack.dsytrd_lwork(n, lower=1)[0])
        reflectors, self._diagonal, self._below, tau, _ = lapack.dsytrd(
            matrix, lower=1, lwork=room, overwrite_a=1
        )
        if progress:
            progress("tridiagonalisation", 1, 2)
        # orghr forms Q from reflectors that lie below the first subdiagonal, as sytrd's do.
        room = int(lapack.dorghr_lwork(n, lo=0, hi=n - 1)[0])
        self._basis, _ = lapack.dorghr(reflectors, tau, lo=0, hi=n - 1, lwork=room, overwrite_a=1)
        if progress:
            progress("tridiagonalisation", 2, 2)

    def definite(self, shift: float) -> bool:
        """Whether K + shift I is positive definite."""
        return self._factored(shift) is not None

    def solve(self, shift: float, b: Array) -> Array:
        """(K + shift I)^-1 b for b (n, k). The matrix must be definite."""
        factored = self._factored(shift)
        assert factored is not None
        x, _ = lapack.dpttrs(*factored, self._basis.T @ b)
        return np.asarray(self._basis @ x)

    def inverse_diagonals(self, shifts: Sequence[float]) -> Array:
        """diag((K + r I)^-1) for each r of ``shifts``, (n, count); all definite.

        Sums over j of w_j^2 / D_j with the rows w_j of W = L^-1 Q^T, in one pass over Q.
        """
        factors = [self._factored(shift) for shift in shifts]
        pivots = np.array([factor[0] for factor in factors if factor is not None])
        lower = np.array([factor[1] for factor in factors if factor is not None])
        row = np.zeros((len(shifts), self._basis.shape[0]))
        total, term = np.zeros_like(row), np.empty_like(row)
        for j in range(row.shape[1]):
            if j:
                row *= -lower[:, j - 1, None]
            row += self._basis[:, j]
            np.multiply(row, row, out=term)
            term /= pivots[:, j, None]
            total += term
        return total.T

    def _factored(self, shift: float) -> tuple[Array, Array] | None:
        """D and L's subdiagonal, None where T + shift I is not positive definite."""
        pivots, lower, info = lapack.dpttrf(self._diagonal + shift, self._below)
        return None if info else (pivots, lower)
