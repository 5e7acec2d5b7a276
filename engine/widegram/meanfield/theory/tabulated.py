"""Series activations on large grids: Chebyshev tables in (log q, 1 - c) in place of the series.

A Hermite series costs an integral per degree and per q. V, E[phi'^2], Kdot and its mean depend on
(q, c) alone, not on the weight variance, so that one table of a few thousand exact values serves
every point of a phase diagram.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.polynomial import chebyshev
from numpy.typing import ArrayLike

from widegram.meanfield.theory.chebyshev import series_on
from widegram.meanfield.theory.one_layer import Array, LayerMaps

_DEGREE = 63
# Below this fraction of the largest q the exact series takes over: log q would span too much.
_SPAN = 1e-4


@dataclass(frozen=True)
class TabulatedMaps(LayerMaps):
    """The maps of ``exact`` for q in [lo, hi] and c >= 0, by interpolation; exact elsewhere."""

    exact: LayerMaps | None = None
    lo: float = 0.0
    hi: float = 0.0
    tables: dict[str, Any] = field(default_factory=dict)

    def power(self, q: ArrayLike) -> Array:
        """V(q)."""
        return self._along_q("power", np.asarray(q, np.float64))

    def slope(self, q: ArrayLike) -> Array:
        """E[phi'(u)^2]."""
        return self._along_q("slope", np.asarray(q, np.float64))

    def slope_at(self, q: ArrayLike, delta: ArrayLike) -> Array:
        """Kdot(q, q - delta, q)."""
        return self._plane("slope_at", q, delta)

    def mean_slope(self, q: ArrayLike, delta: ArrayLike) -> Array:
        """Mean of Kdot over [q - delta, q]."""
        return self._plane("mean_slope", q, delta)

    def _along_q(self, name: str, q: Array) -> Array:
        inside = (q >= self.lo) & (q <= self.hi)
        result = np.empty(q.shape)
        result[inside] = chebyshev.chebval(self._unit(q[inside]), self.tables[name])
        if not inside.all():
            result[~inside] = getattr(self.exact, name)(q[~inside])
        return result

    def _plane(self, name: str, q: ArrayLike, delta: ArrayLike) -> Array:
        q, delta = np.broadcast_arrays(np.asarray(q, np.float64), np.asarray(delta, np.float64))
        inside = (q >= self.lo) & (q <= self.hi) & (delta <= q)
        result = np.empty(q.shape)
        qi = q[inside]
        along_q = chebyshev.chebvander(self._unit(qi), _DEGREE)
        along_gap = chebyshev.chebvander(2 * delta[inside] / qi - 1, _DEGREE)
        result[inside] = ((along_q @ self.tables[name]) * along_gap).sum(-1)
        if not inside.all():
            result[~inside] = getattr(self.exact, name)(q[~inside], delta[~inside])
        return result

    def _unit(self, q: Array) -> Array:
        a, b = np.log(self.lo), np.log(self.hi)
        return (2 * np.log(q) - a - b) / (b - a)


def tabulated(maps: LayerMaps, lo: float, hi: float) -> LayerMaps:
    """``maps`` tabulated for q in [lo, hi] where its dual is a series, itself otherwise."""
    if getattr(maps.dual, "code", "") != "series" or not 0 < hi < np.inf:
        return maps
    lo = max(lo, _SPAN * hi) * 0.999
    hi *= 1.001
    span = float(np.log(lo)), float(np.log(hi))

    def along_q(name: str) -> Array:
        return series_on(lambda log_q: getattr(maps, name)(np.exp(log_q)), _DEGREE, *span)

    def plane(name: str) -> Array:
        """Rows for log q, columns for the gap 1 - c in [0, 1]."""

        def along_gap(log_q: Array) -> Array:
            q = np.exp(log_q)
            return series_on(
                lambda gap: getattr(maps, name)(q, q * gap[:, None]), _DEGREE, 0.0, 1.0
            ).T

        return series_on(along_gap, _DEGREE, *span)

    tables: dict[str, Any] = {name: along_q(name) for name in ("power", "slope")}
    tables |= {name: plane(name) for name in ("slope_at", "mean_slope")}
    return TabulatedMaps(maps.name, maps.dual, maps.params, maps, lo, hi, tables)
