"""The dual of a mixture of error functions, where a Hermite series would need too many terms.

Of noises with variances a = 1 / (2 t_i), b = 1 / (2 t_j), S and A of :mod:`~.densities` are the
means of a sign and of an absolute value. With r = sqrt(q + a), r' = sqrt(q' + b) and z = k / (r r')

    E[S S'] = (2 / pi) asin z               E[A A'] = (2 / pi) r r' (sqrt(1 - z^2) + z asin z)
    E[A] = sqrt(2 / pi) r                   E[u S'] = sqrt(2 / pi) k / r'

E[S A'] = E[S] = E[u A'] = 0, and Kdot = dK/dk. E[phi] E[phi'] is taken out of the sums, so that it
is exact where a variance is 0. Every z is below 1, at any variance and c: nothing
is cut off but what the mixture differs from phi by, which is measured.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from widegram.activations.approximate import Approximate, Function, nodes
from widegram.activations.base import Array, std
from widegram.activations.densities import NOTHING, Densities, Terms
from widegram.activations.mixture_sums import BLOCKS
from widegram.machine.dtypes import FLOOR

_ROOT = np.sqrt(2 / np.pi)


@dataclass(frozen=True, eq=False)
class Mixture(Approximate):
    """A sum of ``terms``; ``tail`` is its relative error at any variance that it was made for."""

    terms: Terms = NOTHING
    code = "mixture"
    commutes = False  # it sums over the widths of one image first

    @property
    def n_factors(self) -> int:  # type: ignore[override]  # a constant of most formulas
        """Two, then five for every width."""
        return 2 + BLOCKS * self.terms.t.size

    @property
    def size(self) -> str:
        return f"mixture of {self.terms.t.size} error functions"

    def factors(self, q: Array, floor: float = FLOOR["float64"]) -> Array:
        """E[phi], c1 (E[S' parts] + c1 / 2), then for all i 1 / r, sqrt(2) w_i,
        sqrt(2 / pi) w_i / r, sqrt(2) v_i, sqrt(2 / pi) v_i r."""
        terms, q = self.terms, np.asarray(q, dtype=np.float64)
        column = (-1,) + (1,) * q.ndim
        t, odd, even = (part.reshape(column) for part in (terms.t, terms.odd, terms.even))
        r = std(q + 1 / (2 * t), floor)
        slopes, sizes = _ROOT * odd / r, _ROOT * even * r
        # E[A] less its value at q = 0, with which ``terms.constant`` makes phi(0).
        more = _ROOT * even * np.maximum(q, 0.0) / (r + std(1 / (2 * t), 0.0))
        first = self.function(np.zeros(1))[0] + _sum(more)
        second = terms.linear * (_sum(slopes) + 0.5 * terms.linear)
        spread = np.broadcast_to
        root = np.sqrt(2.0)
        blocks = [1 / r, spread(root * odd, r.shape), slopes, spread(root * even, r.shape), sizes]
        return np.concatenate([first[None], second[None], *blocks])

    @staticmethod
    def dual(ops: Any, k: Any, fx: Any, fy: Any, const: Any) -> tuple[Any, Any]:
        value, slope = ops.mixture(k, fx, fy)
        line = ops.add(fx[1], fy[1])
        value = ops.fma(fx[0], fy[0], ops.fma(k, line, value))
        return value, ops.add(slope, line)


def _sum(rows: Array) -> Array:
    """Sum over the first axis, one row after the other: NumPy's sum of a single column is another
    one, and a variance must give the same bits whatever others it is computed with."""
    total = rows[0].copy()
    for row in rows[1:]:
        total += row
    return total


def error_of(made: Mixture, largest: float) -> float:
    """The relative error of K and Kdot by a mixture at variances up to ``largest``, any c.

    phi = m + e gives |E[phi phi'] - E[m m']| <= |e| |phi'| + |m| |e'|, norms at the two variances:
    at most 2 x + x^2 of |phi| |phi'| with x the largest relative |e|; of derivatives likewise.
    """
    z, weight = nodes(deep=True)
    decades = np.log10(max(largest, 1.0))
    q = np.logspace(-8, decades, int(2 * (decades + 8)))
    full = made.variance(q)
    worst = 0.0
    for n, variance in enumerate(q):
        x = z * np.sqrt(variance)
        kept = made.terms(x)
        for m, function in enumerate((made.function, made.derivative)):
            missed = weight @ (kept[m] - function(x)) ** 2
            worst = max(worst, float(np.sqrt(missed / full[m][n])))
    return 2 * worst + worst**2


def mixture(made: Approximate, densities: Densities, largest: float, tolerance: float) -> Mixture:
    """The mixture for variances up to ``largest``, its error near ``tolerance``."""
    power = 2.0 ** np.ceil(np.log2(max(largest, 1.0)))
    found = _mixture(made.function, made.derivative, densities, float(power), tolerance)
    return replace(found, jump=made.jump)


@lru_cache(maxsize=64)
def _mixture(
    function: Function, derivative: Function, densities: Densities, largest: float, tolerance: float
) -> Mixture:
    tolerance = max(tolerance, 1e-10 if densities.light else 1e-7)
    if not densities.smooth:
        tolerance = max(tolerance, 1e-5)
    # Errors of the trapezoidal rule found are between exp(-8 / step) and exp(-6.7 / step).
    step = 7 / np.log(1 / tolerance)
    low = 0.0 if densities.light else tolerance ** (2 / 3) / max(largest, 1.0)
    high = np.inf if densities.smooth else 1e7
    terms = densities.terms(step, low, high, 0.01 * tolerance)
    found = Mixture(function, derivative, terms=terms)
    return replace(found, tail=error_of(found, largest))
