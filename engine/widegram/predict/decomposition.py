"""The regularised training matrix, factored for infinite times and diagonalised for finite ones."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from widegram.errors import WidegramError
from widegram.linalg.definite import relative_shift
from widegram.linalg.incore import load_cholesky
from widegram.linalg.operator import as_operator
from widegram.linalg.refine import Factor

Array = NDArray[Any]


class Decomposition:
    """The matrix ``square`` + regulariser; each decomposition is made once, when first needed.

    ``size`` is the number of training outputs, by which the mean squared loss is divided.
    """

    def __init__(self, square: Array, diag_reg: float, absolute: bool, size: int) -> None:
        if square.shape[0] != square.shape[1]:
            raise WidegramError(f"the training kernel is not square: {square.shape}")
        self.square = np.asarray(square, dtype=np.float64)
        trace = float(np.trace(self.square))
        self._shift = relative_shift(trace, self.square.shape[0], diag_reg, absolute)
        self._given = as_operator(np.asarray(square), name="the training kernel")
        self._size = size

    @cached_property
    def _regularised(self) -> Array:
        copy = np.array(self.square, order="F")
        copy[np.diag_indices_from(copy)] += self._shift
        return copy

    @cached_property
    def _factor(self) -> Factor:
        return load_cholesky(self._given.shifted(self._shift))

    @cached_property
    def _eigen(self) -> tuple[Array, Array]:
        values, vectors = linalg.eigh(self._regularised, check_finite=False)
        return values, vectors

    @property
    def n(self) -> int:
        """Rows of the matrix."""
        return int(self.square.shape[0])

    def solve(self, b: Array) -> Array:
        """A^-1 b, b of shape (N, k).

        Raises WidegramError where A is not positive definite, with a regulariser that mends it.
        """
        return self._factor.solve(b).x

    def decayed(self, t: float, b: Array) -> Array:
        """exp(-A t / size) b."""
        values, vectors = self._eigen
        return np.asarray(vectors @ (self._decay(values, t)[:, None] * (vectors.T @ b)))

    def learned(self, t: float, b: Array) -> Array:
        """(1 - exp(-A t / size)) b."""
        values, vectors = self._eigen
        return np.asarray(
            vectors @ ((-np.expm1(_log_decay(values, t, self._size)))[:, None] * (vectors.T @ b))
        )

    def solved(self, t: float, b: Array) -> Array:
        """A^-1 (1 - exp(-A t / size)) b, with its limit t / size where A is singular.

        For infinite t that is :meth:`solve`.
        """
        if np.isinf(t):
            return self.solve(b)
        values, vectors = self._eigen
        gained = -np.expm1(_log_decay(values, t, self._size))
        tiny = np.abs(values) < np.finfo(np.float64).tiny
        weight = np.where(tiny, t / self._size, gained / np.where(tiny, 1.0, np.abs(values)))
        return np.asarray(vectors @ (weight[:, None] * (vectors.T @ b)))

    def prior(self, t: float) -> Array:
        """A exp(-2 A t / size)."""
        values, vectors = self._eigen
        weight = np.maximum(values, 0.0) * self._decay(values, 2.0 * t)
        return np.asarray((vectors * weight) @ vectors.T)

    def _decay(self, values: Array, t: float) -> Array:
        return np.exp(_log_decay(values, t, self._size))


def _log_decay(values: Array, t: float, size: int) -> Array:
    """-max(values, 0) t / size, 0 at value 0 also for infinite t."""
    positive = np.maximum(values, 0.0)
    with np.errstate(invalid="ignore"):
        return np.where(positive > 0, -positive * t / size, 0.0)
