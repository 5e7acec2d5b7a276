"""Polynomials, whose Hermite series end: monomials, Hermite polynomials, any others.

With h_l the orthonormal Hermite polynomials, s = sqrt(q) and a_l = E[phi(s z) h_l(z)],
K = sum_l a_l(q) a_l(q') c^l (:mod:`~widegram.activations.hermite`). Of x^n, l = n - 2i,

    a_l = n! / (2^i i! sqrt(l!)) s^n        (i = 0 .. n/2; of other l it is 0)
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from widegram.activations.base import Array, Formula, std
from widegram.activations.hermite import Series
from widegram.activations.identity import Identity
from widegram.machine.dtypes import FLOOR

# Variances, over the largest, at which the digits that sums lose are looked for.
_SPREAD = np.logspace(-12, 0, 49)


@dataclass(frozen=True)
class Polynomial(Formula):
    """sum_l a_l h_l(x / s) with a_l = s^l sum_i ``terms``[l][i] q^i; every row has its last number
    other than 0."""

    terms: tuple[tuple[float, ...], ...]
    code = "polynomial"

    @property
    def n_factors(self) -> int:  # type: ignore[override]  # a constant of most formulas
        """1 / s, then every a_l."""
        return len(self.terms) + 1

    @property
    def homogeneity(self) -> int | None:  # type: ignore[override]  # a constant of most formulas
        """The degree of phi where it has one term alone."""
        found = {
            l + 2 * i for l, row in enumerate(self.terms) for i, term in enumerate(row) if term
        }
        return found.pop() if len(found) == 1 else None

    def spoilt(self, eps: float, q: float) -> float:
        """The digits that the sums over i lose where terms have both signs."""
        if all(_one_sign(row) for row in self.terms):
            return 0.0
        variances = q * _SPREAD
        with np.errstate(all="ignore"):
            found, sizes = self._sums(variances), self._sums(variances, np.abs)
            orders = np.arange(len(self.terms))[:, None]
            lost = [
                np.sqrt((weight * sizes**2).sum(axis=0) / (weight * found**2).sum(axis=0))
                for weight in (1 + 0 * orders, orders)
            ]
        worst = float(np.max(np.nan_to_num(lost, nan=1.0, posinf=np.inf)))
        return eps * worst

    def near_one(self, error: float) -> tuple[float, float]:
        carried = max(len(self.terms) - 1, 1) * error
        return carried, carried

    def _sums(self, q: Array, of: Any = np.asarray, less: int = 0) -> Array:
        """a_l / s^``less`` for every l, (L, \\*q.shape), of terms or, with ``of``, of their sizes;
        0 for l < ``less``."""
        out = np.zeros((len(self.terms), *q.shape))
        s = np.sqrt(np.maximum(q, 0.0))
        for l, row in enumerate(self.terms):
            if row and l >= less:
                for term in row[::-1]:
                    out[l] = out[l] * q + of(term)
                out[l] *= s ** (l - less)
        return out

    def factors(self, q: Array, floor: float = FLOOR["float64"]) -> Array:
        q = np.asarray(q, dtype=np.float64)
        s = std(q, floor)
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            sums = self._sums(s * s)
        # At variance 0 all is 0 but a_0, and a_1, which makes the limit of Kdot.
        sums[2:] = np.where(q > 0, sums[2:], 0.0)
        sums[:1] = np.where(q > 0, sums[:1], self._sums(np.zeros(1))[:1, 0, None] * (1 + 0 * q))
        return np.concatenate([1 / s[None], sums])

    dual = staticmethod(Series.dual)

    def variance(self, q: Array) -> tuple[Array, Array]:
        q = np.asarray(q, dtype=np.float64)
        orders = np.arange(len(self.terms)).reshape(-1, *(1,) * q.ndim)
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            found = self._sums(q) ** 2, orders * self._sums(q, less=1) ** 2
            value, slope = (part.sum(axis=0) for part in found)
        return np.where(np.isnan(value), np.inf, value), np.where(np.isnan(slope), np.inf, slope)

    def nonnegative(self, k_nonnegative: bool) -> bool:
        known = all(k_nonnegative or l % 2 == 0 for l, row in enumerate(self.terms) if row)
        return known and all(_one_sign(row) for row in self.terms)


def _one_sign(row: Iterable[float]) -> bool:
    """Whether no two numbers have different signs: a_l has the same sign at any variance."""
    signs = {float(np.sign(term)) for term in row} - {0.0}
    return len(signs) <= 1


def polynomial(coef: tuple[float, ...]) -> Formula:
    """sum_n coef[n] x^n."""
    terms: list[tuple[float, ...]] = []
    for l in range(len(coef)):
        row = [
            coef[n] * (math.factorial(n) / (2.0**i * math.factorial(i) * math.factorial(l) ** 0.5))
            for i, n in enumerate(range(l, len(coef), 2))
        ]
        while row and not row[-1]:
            row.pop()
        terms.append(tuple(row))
    return Polynomial(tuple(terms))


def monomial(degree: int) -> Formula:
    """x^degree."""
    return Identity() if degree == 1 else polynomial((0.0,) * degree + (1.0,))


def hermite(degree: int) -> Formula:
    """The orthonormal Hermite polynomial, where variances are 1; elsewhere s^degree times that of
    x / s. K = k^degree, as in neural-tangents."""
    return Identity() if degree == 1 else Polynomial(((),) * degree + ((1.0,),))
