"""The deviation recursion over many pairs: per layer two polynomials that all pairs share.

With one norm for all inputs, delta = q - k of a pair is all that its next layer needs. The mean
slope and the drop of Kdot (see :mod:`~widegram.meanfield.recursion.slope_series`) are therefore
fitted once per layer on the range of delta that the pairs still occupy, and each pair costs two
polynomials whatever the activation:

    x = delta (smooth phi) or sqrt(delta) (phi with kinks), y = x s - 1
    fall = x R(y);  delta' = w delta M(y);  D' = w ((slope - fall) D + level fall) + delta'
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numba import njit
from numpy.polynomial import chebyshev

from widegram.meanfield.recursion.scaled import LogScaled
from widegram.meanfield.recursion.slope_series import Slopes, SlopeSeries
from widegram.meanfield.theory.chebyshev import series_on
from widegram.meanfield.theory.one_layer import Array, LayerMaps

# Degrees that kernels are compiled for; a layer takes the first that meets the tolerance.
_DEGREES = (7, 11, 15, 23, 31, 47)
TOLERANCE = 1e-11
# Monomials (Horner) up to this degree lose 2.4^15 = 5e5 roundings at worst; above it Clenshaw.
_HORNER = 15


@dataclass(frozen=True, kw_only=True)
class LayerTable:
    """Constants of one activation and Dense, and the two polynomials, lowest degree first:

    monomials of y up to degree _HORNER, a Chebyshev series above. ``tail`` is the relative size
    of their last coefficients: 1e-11, or 1e-8 for pairs near c = -1 of an activation with a kink.
    """

    scale: float
    slope: float
    level: float
    mean: Array
    fall: Array
    kinked: bool
    tail: float

    @property
    def accurate(self) -> bool:
        """Whether the polynomials are as good as asked for."""
        return self.tail <= TOLERANCE

    def run(self, delta: Array, drop: Array, w: float, own: float) -> None:
        """Take ``delta`` and ``drop`` (n,) through the layer, in place.

        delta <- w delta M, D <- w ((slope - fall) D + level fall) + own delta, where ``own`` is 1
        if the Dense of variance w belongs to the step and 0 for the activation alone.
        """
        constants = (float(w), own, self.scale, self.slope, self.level)
        _kernel(len(self.mean) - 1, self.kinked)(delta, drop, constants, self.mean, self.fall)


@dataclass(frozen=True)
class LayerTables:
    """A fully connected network at one (w, b): ``layers[l]`` takes depth l to depth l + 1.

    ``levels[l]`` is Theta's diagonal behind l activations and the Dense that follows.
    """

    w: float
    layers: tuple[LayerTable, ...]
    levels: Array

    def run(self, delta_input: Array, depths: Sequence[int], out: Array) -> None:
        """Fill ``out`` (len(depths), n) with D = level - Theta of the pairs ``delta_input`` (n,).

        ``depths`` ascend and lie in 1 .. len(self.layers). Releases the GIL.
        """
        delta = delta_input * self.w
        drop = delta.copy()
        done = 0
        for row, depth in enumerate(depths):
            for table in self.layers[done:depth]:
                table.run(delta, drop, self.w, 1.0)
            out[row] = drop
            done = depth


def layer_tables(
    maps: LayerMaps, w: float, b: float, q_input: float, delta_max: float, depth: int
) -> LayerTables:
    """Tables for ``depth`` hidden layers on pairs with input deviations in [0, delta_max]."""
    slopes = Slopes(maps)
    q = maps.variances(w, b, q_input, depth + 1)
    reach = w * delta_max
    tables, levels = [], [float(q[0])]
    for before, behind in itertools.pairwise(q.tolist()):
        series = slopes.at(before)
        tables.append(layer_table(series, levels[-1], max(reach, 1e-300)))
        reach = w * reach * float(series.mean(np.array([reach]))[0]) * (1 + 1e-12)
        levels.append(behind + w * (levels[-1] * series.slope))
    return LayerTables(w, tuple(tables), np.array(levels))


def layer_table(series: SlopeSeries, level: float, reach: float) -> LayerTable:
    """Fit both polynomials on delta in [0, reach], reach > 0, for Theta's diagonal ``level``."""
    top = float(np.sqrt(reach) if series.kinked else reach)

    def delta(x: Array) -> Array:
        return x * x if series.kinked else x

    for degree in _DEGREES:
        mean = series_on(lambda x: series.mean(delta(x)), degree, 0.0, top)
        fall = series_on(lambda x: series.drop(LogScaled(delta(x))).plain() / x, degree, 0.0, top)
        tail = max(float(np.abs(c[-2:]).max() / max(np.abs(c).max(), 1e-300)) for c in (mean, fall))
        if tail <= TOLERANCE:
            break
    if degree <= _HORNER:
        mean, fall = _monomials(mean), _monomials(fall)
    return LayerTable(
        scale=2 / top,
        slope=series.slope,
        level=level,
        mean=mean,
        fall=fall,
        kinked=series.kinked,
        tail=tail,
    )


def _monomials(coefficients: Array) -> Array:
    """Monomials, padded where cheb2poly has trimmed trailing zeros."""
    poly = chebyshev.cheb2poly(coefficients)
    return np.concatenate([poly, np.zeros(len(coefficients) - len(poly))])


@lru_cache(maxsize=2 * len(_DEGREES))
def _kernel(degree: int, kinked: bool) -> Callable[..., Any]:
    """The layer step for one degree: with the degree known, LLVM unrolls the polynomials."""

    monomials = degree <= _HORNER

    @njit(nogil=True, fastmath={"contract"}, error_model="numpy", cache=True)
    def step(delta, drop, constants, mean, fall):  # type: ignore[no-untyped-def]  # Numba's
        w, own, scale, slope, level = constants
        for i in range(delta.size):
            d = delta[i]
            x = np.sqrt(d) if kinked else d
            y = x * scale - 1.0
            if monomials:
                m = mean[degree]
                f = fall[degree]
                for j in range(1, degree + 1):
                    m = m * y + mean[degree - j]
                    f = f * y + fall[degree - j]
            else:
                y2 = 2.0 * y
                m, m1, f, f1 = 0.0, 0.0, 0.0, 0.0
                for j in range(degree):
                    m, m1 = mean[degree - j] + y2 * m - m1, m
                    f, f1 = fall[degree - j] + y2 * f - f1, f
                m = mean[0] + y * m - m1
                f = fall[0] + y * f - f1
            f = f * x
            d = w * d * m
            drop[i] = w * ((slope - f) * drop[i] + level * f) + own * d
            delta[i] = d

    return step
