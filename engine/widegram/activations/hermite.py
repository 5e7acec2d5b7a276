"""Any other activation, by its Hermite series.

With h_n the orthonormal (probabilists') Hermite polynomials, s = sqrt(q) and
a_n(q) = E[phi(s z) h_n(z)], Mehler's formula gives

    K = sum_n a_n(q) a_n(q') c^n,      Kdot = dK/dk = (1 / (s s')) sum_n n a_n(q) a_n(q') c^(n-1)

The coefficients come from the derivative, a_(n+1) = s E[phi'(s z) h_n(z)] / sqrt(n + 1), which
keeps the limit s -> 0 exact. What a truncation after N terms leaves out is known, because
sum_n a_n^2 = E[phi^2] and sum_n n a_n^2 / q = E[phi'^2]; by Cauchy-Schwarz the missing tails at
(q, q') bound the error at any c.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from widegram.activations.approximate import Approximate, nodes, weighted
from widegram.activations.base import Array, Formula, std
from widegram.activations.densities import Densities
from widegram.activations.measured import measured_error
from widegram.activations.mixture import mixture
from widegram.machine.dtypes import FLOOR

MAX_DEGREE = 512
OWN_SUMS = 1e-14
"""What :meth:`Series.moments` may leave out, if MAX_DEGREE terms can do that."""
# A mixture costs more than a series of MAX_DEGREE terms: it must be so many times as good, or the
# series this bad.
_GAIN, _POOR = 30.0, 3e-4


@lru_cache(maxsize=4)
def _basis(degree: int) -> Array:
    """Weighted h_0 .. h_degree at the nodes, shape (degree + 1, nodes)."""
    z, weight = nodes()
    h = np.empty((degree + 1, z.size))
    h[0] = 1.0
    if degree:
        h[1] = z
    for n in range(1, degree):
        h[n + 1] = (z * h[n] - np.sqrt(n) * h[n - 1]) / np.sqrt(n + 1)
    return h * weight


@dataclass(frozen=True)
class Series(Approximate):
    """A series up to ``degree``; ``densities`` make the mixture where too many terms are needed.
    ``measured``: the function is the user's, and how well quadrature does for it is measured."""

    degree: int = 64
    densities: Densities | None = None
    measured: bool = False
    code = "series"

    @property
    def size(self) -> str:
        checked = ", checked against phi and phi' (a jump counts, and another df)," * self.measured
        return f"Hermite series of {self.degree} terms{checked}"

    @property
    def n_factors(self) -> int:  # type: ignore[override]  # a constant of most formulas
        """1 / s, then a_0 .. a_degree."""
        return self.degree + 2

    def factors(self, q: Array, floor: float = FLOOR["float64"]) -> Array:
        q = np.asarray(q, dtype=np.float64)
        s = std(q, floor).reshape(-1)
        _, weight = nodes()
        out = np.empty((self.degree + 2, s.size))
        out[0] = 1 / s
        out[1:2] = weighted(weight[None], self.function, s)
        out[1, q.reshape(-1) <= 0] = self.function(np.zeros(1))[0]  # exactly: it may be 0
        slopes = weighted(_basis(self.degree)[: self.degree], self.derivative, s)
        orders = np.sqrt(np.arange(1, self.degree + 1))[:, None]
        out[2:] = slopes * s / orders
        return out.reshape(self.degree + 2, *q.shape)

    @staticmethod
    def dual(ops: Any, k: Any, fx: Any, fy: Any, const: Any) -> tuple[Any, Any]:
        inverse = ops.mul(fx[0], fy[0])
        c = ops.minimum(ops.maximum(ops.mul(k, inverse), ops.const(-1.0)), ops.const(1.0))
        value, slope = ops.series(c, fx, fy)
        return value, ops.mul(slope, inverse)

    def truncation(self, q: float) -> tuple[float, float]:
        """Tails left out at variance q, relative to E[phi^2] and E[phi'^2]."""
        tails = self._tails(q, self.degree)
        return float(tails[0][-1]), float(tails[1][-1])

    def for_range(self, largest: float, tolerance: float) -> Approximate:
        """The same function with the fewest terms whose tails at q <= ``largest`` are within
        ``tolerance`` (relative), at most MAX_DEGREE; as a mixture where that is clearly better."""
        value, slope = self._tails(largest, MAX_DEGREE)
        good = np.flatnonzero((value <= tolerance) & (slope <= tolerance))
        degree = int(good[0]) if good.size else MAX_DEGREE
        degree = max(degree, 1)
        tail = float(max(value[degree], slope[degree]))
        if not good.size and self.densities is not None:
            other = mixture(self, self.densities, largest, tolerance)
            if other.tail < (tail if tail > _POOR else tail / _GAIN):
                return other
        if self.measured:
            tail = max(tail, measured_error(self.function, self.derivative, largest))
        return replace(self, tail=tail, degree=degree)

    def _tails(self, q: float, degree: int) -> tuple[Array, Array]:
        """Relative tails after 0 .. degree terms."""
        variance = np.array([max(q, 1e-30)])
        a = Series(self.function, self.derivative, degree=degree).factors(variance)[1:, 0]
        full, full_slope = (float(v[0]) for v in self.variance(variance))
        n = np.arange(degree + 1)
        value = 1 - np.cumsum(a * a) / full if full else np.zeros(degree + 1)
        slopes = np.cumsum(n * a * a) / variance[0]
        slope = 1 - slopes / full_slope if full_slope else np.zeros(degree + 1)
        return np.maximum(value, 0.0), np.maximum(slope, 0.0)

    def moments(self, q: Array, k: Array, q2: Array) -> tuple[Array, Array]:
        largest = float(max(np.max(q), np.max(q2)))
        chosen = self.for_range(largest, OWN_SUMS)
        return Formula.moments(chosen, q, k, q2)
