"""K = Q T Q^T with T tridiagonal: one reduction in place serves (K + r I)^-1 for every r.

Householder's reduction (LAPACK sytrd), in the memory of the matrix; cheaper than eigenvectors, and
for each r there remains a bidiagonal factorisation T + r I = L D L^T (pttrf).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigvalsh_tridiagonal
from scipy.linalg.lapack import dpttrf, dpttrs

from widegram.linalg import lapack
from widegram.machine import interrupts
from widegram.machine.progress import Progress, ProgressCallback

Array = NDArray[Any]


class Tridiagonal:
    """A reduced matrix. ``matrix``, symmetric, float64 and Fortran-ordered, is overwritten by Q."""

    def __init__(self, matrix: Array, progress: ProgressCallback | None = None) -> None:
        if progress:
            progress(Progress(0, 2, what="tridiagonalisation"))
        self._diagonal, self._below, tau = lapack.tridiagonal(matrix)
        if progress:
            progress(Progress(1, 2, what="tridiagonalisation"))
        lapack.basis(matrix, tau)
        self._basis = matrix
        if progress:
            progress(Progress(2, 2, what="tridiagonalisation"))

    @property
    def top(self) -> float:
        """The largest eigenvalue of K."""
        last = self._diagonal.size - 1
        found = eigvalsh_tridiagonal(
            self._diagonal, self._below, select="i", select_range=(last, last)
        )
        return float(found[0])

    def definite(self, shift: float) -> bool:
        """Whether K + shift I is positive definite."""
        return self._factored(shift) is not None

    def solve(self, shift: float, b: Array) -> Array:
        """(K + shift I)^-1 b for b (n, k). The matrix must be definite."""
        factored = self._factored(shift)
        assert factored is not None
        x, _ = dpttrs(*factored, self._basis.T @ b)
        return np.asarray(self._basis @ x)

    def logdet(self, shift: float) -> float:
        """log det (K + shift I). The matrix must be definite."""
        factored = self._factored(shift)
        assert factored is not None
        return math.fsum(np.log(factored[0]))

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
            interrupts.check()
            if j:
                row *= -lower[:, j - 1, None]
            row += self._basis[:, j]
            np.multiply(row, row, out=term)
            term /= pivots[:, j, None]
            total += term
        return total.T

    def _factored(self, shift: float) -> tuple[Array, Array] | None:
        """D and L's subdiagonal, None where T + shift I is not positive definite."""
        pivots, lower, info = dpttrf(self._diagonal + shift, self._below)
        return None if info else (pivots, lower)
