"""A function of the user's as Chebyshev series on pieces: fast for arrays, with a derivative.

The pieces are halves of halves of fixed intervals (1 wide to |x| = 16, then 16 to an octave), down
to where the series has converged. What a place gives depends on its piece alone, not on what else
was asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np

from widegram.activations.base import Array
from widegram.errors import WidegramError

_DEGREE = 16
_NODES = np.cos(np.pi * (np.arange(_DEGREE + 1) + 0.5) / (_DEGREE + 1))
_CONVERGED = 4e-15
# A piece this narrow is around a kink or a jump. Many bad ones at a time are the function's own
# noise if it is as small as this; else the function changes too often.
_NARROW, _MANY, _MOST, _NOISE = 2.0**-40, 64, 1024, 1e-9


class Pieces:
    """``fn`` of arrays on pieces; ``name`` for messages, ``size`` what its values are like."""

    def __init__(self, fn: Callable[[Array], Array], name: str, size: float) -> None:
        self.fn, self.name, self.size = fn, name, size
        self.reach = 0
        self.edges = np.empty(0)
        self.series = np.empty((0, _DEGREE + 1))
        self.slopes = np.empty((0, _DEGREE + 1))

    def value(self, x: Array) -> Array:
        """phi(x)."""
        return self._evaluate(x, "series")

    def slope(self, x: Array) -> Array:
        """phi'(x)."""
        return self._evaluate(x, "slopes")

    def _evaluate(self, x: Array, which: str) -> Array:
        x = np.asarray(x, dtype=np.float64)
        self._extend(float(np.abs(x).max(initial=0.0)))
        table = getattr(self, which)
        at = np.clip(np.searchsorted(self.edges, x, side="right") - 1, 0, len(table) - 1)
        lo, hi = self.edges[at], self.edges[at + 1]
        twice = 2 * (2 * x - lo - hi) / (hi - lo)
        one = two = np.zeros(x.shape)
        for n in range(_DEGREE, 0, -1):
            one, two = table[at, n] + twice * one - two, one
        return np.asarray(table[at, 0] + 0.5 * twice * one - two)

    def _extend(self, largest: float) -> None:
        """Pieces as far as ``largest``."""
        if not np.isfinite(largest):
            raise WidegramError(f"{self.name} is asked for a value at infinity")
        reach = max(16, 2 ** int(np.ceil(np.log2(max(largest, 1.0)))))
        if reach <= self.reach:
            return
        old = self.reach
        octaves = [2.0**m * np.arange(16, 33) / 16 for m in range(4, reach.bit_length() - 1)]
        bounds = np.unique(np.concatenate([np.arange(17.0), *octaves]))
        bounds = bounds[bounds >= old]
        first = np.concatenate([-bounds[:0:-1], bounds[:-1]])
        last = np.concatenate([-bounds[-2::-1], bounds[1:]])
        edges, series = [self.edges[:-1]], [self.series]
        for lo, hi in zip(first, last, strict=True):
            found = self._resolved(lo, hi)
            edges.append(found[0])
            series.append(found[1])
        starts, table = np.concatenate(edges), np.concatenate(series)
        order = np.argsort(starts)
        self.edges = np.append(starts[order], float(reach))
        self.series = table[order]
        widths = np.diff(self.edges)[:, None]
        self.slopes = np.zeros_like(self.series)
        self.slopes[:, :-1] = np.polynomial.chebyshev.chebder(self.series, axis=1) * 2 / widths
        self.reach = reach

    def _resolved(self, lo: float, hi: float) -> tuple[Array, Array]:
        """Beginnings (m,) and series (m, _DEGREE + 1) of the pieces between lo and hi."""
        starts, made = [], []
        left, width = np.array([lo]), hi - lo
        while left.size:
            x = left[:, None] + 0.5 * width * (1 + _NODES)
            values = self.fn(x)
            if not np.isfinite(values).all():
                where = x.ravel()[~np.isfinite(values).ravel()][0]
                raise WidegramError(
                    f"{self.name} is no finite number at {where:.6g}; use smaller inputs or W_std"
                )
            series = values @ _to_series().T
            error = np.abs(series[:, -2:]).max(axis=1)
            local = np.maximum(np.abs(values).max(axis=1), 0.01 * self.size)
            bad = (error > _CONVERGED * local) & (width > _NARROW * max(1.0, abs(lo), abs(hi)))
            if bad.sum() > _MANY and (error[bad] < _NOISE * local[bad]).all():
                bad[:] = False
            if bad.sum() > _MOST:
                raise WidegramError(
                    f"{self.name} changes too often between {lo:g} and {hi:g}; use smaller inputs "
                    "or W_std"
                )
            starts.append(left[~bad])
            made.append(series[~bad])
            width /= 2
            left = np.concatenate([left[bad], left[bad] + width])
        return np.concatenate(starts), np.concatenate(made)


@cache
def _to_series() -> Array:
    """The matrix that makes Chebyshev coefficients of values at the nodes."""
    made = np.linalg.inv(np.polynomial.chebyshev.chebvander(_NODES, _DEGREE))
    return np.asarray(made, dtype=np.float64)
