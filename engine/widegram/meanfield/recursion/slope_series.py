"""Kdot(q, q - delta, q) along delta at one q, with small deltas and small drops to full precision.

Deep in the ordered phase delta = q - k falls below the rounding of q, and with it the drop
Kdot(q, q, q) - Kdot(q, q - delta, q) that separates Theta's diagonal from the rest. Both are read
off a Chebyshev series of Kdot in x on [0, X]: x = delta for smooth activations, x = the angle
theta (cos theta = k / q) where phi has kinks, since Kdot falls linearly in theta there. The
series' derivative integrated over [0, x] is x times a mean, which loses nothing as x -> 0.
"""

from __future__ import annotations

from functools import cached_property, lru_cache

import numpy as np
from numpy.polynomial import chebyshev
from numpy.typing import NDArray

from widegram.errors import WidegramError
from widegram.meanfield.recursion.scaled import LogScaled
from widegram.meanfield.theory.chebyshev import derivative_on, series_on
from widegram.meanfield.theory.one_layer import Array, LayerMaps

_DEGREE = 24
# Coefficients beyond the last few must be below this for X to be accepted.
_TAIL = 1e-13
# ... and below this in any case.
_ACCEPTED, _HALVINGS = 1e-9, 50
_UNDERFLOW = 1e-280
# On a stretch of this share of [0, X] a polynomial is its value at 0, to rounding.
_POINT = 1e-18


class SlopeSeries:
    """Kdot along delta at variance ``q`` of one activation; ``kinked`` selects the variable."""

    def __init__(self, maps: LayerMaps, q: float, kinked: bool) -> None:
        self.maps, self.q, self.kinked = maps, q, kinked
        self.slope = float(maps.slope(q))
        self._fit()

    def _fit(self) -> None:
        """Halve X from 1/4 of its range until the Chebyshev coefficients have died out."""
        top = np.pi / 2 if self.kinked else 0.5 * self.q
        for halvings in range(_HALVINGS):
            series = series_on(self._slope_at, _DEGREE, 0.0, top)
            tail = np.abs(series[-4:]).max() / max(float(np.abs(series).max()), 1e-300)
            # Beyond eight halvings rounding of q - delta is all that is left, or nearly.
            if tail <= (_TAIL if halvings < 8 else _ACCEPTED):
                break
            top /= 2
        else:
            raise WidegramError(
                f"{self.maps.name}: at the variance q = {self.q:g} its slopes change faster than "
                "float64 can follow; give smaller weights or inputs"
            )
        self.top = top
        self.series = series
        self.falling = -derivative_on(series, 0.0, top)

    def _slope_at(self, x: Array) -> Array:
        delta = 2 * self.q * np.sin(x / 2) ** 2 if self.kinked else x
        return self.maps.slope_at(self.q, delta)

    @cached_property
    def bend(self) -> float:
        """The slope of Kdot at c = 1 in the Chebyshev variable, with its sign turned: dKdot/dk for
        smooth activations."""
        return float(chebyshev.chebval(-1.0, self.falling))

    @cached_property
    def q_slopes(self) -> tuple[float, float]:
        """dV/dq and dE[phi'^2]/dq by a Chebyshev series over q (1 -+ 1/4): about 1e-13 relative."""
        lo, hi = 0.75 * self.q, 1.25 * self.q
        slopes = [
            float(chebyshev.chebval(0.0, derivative_on(series_on(f, _DEGREE, lo, hi), lo, hi)))
            for f in (self.maps.power, self.maps.slope)
        ]
        return slopes[0], slopes[1]

    def mean(self, delta: Array) -> Array:
        """Mean of Kdot over [q - delta, q]; ``delta * mean`` is V(q) - K(q, q - delta, q)."""
        x, near = self._variable(delta)
        reach = float(x[near].max(initial=0.0))
        if near.all() and reach <= _flat(self.slope, abs(self.bend)):
            return np.full(delta.shape, self.slope)
        result = np.empty(delta.shape)
        if self.kinked:
            near = np.zeros_like(near)
        elif near.any():
            u, weight = _gauss(reach / self.top)
            result[near] = self._at(x[near][:, None] * u, self.series) @ weight
        if not near.all():
            result[~near] = self.maps.mean_slope(self.q, delta[~near])
        return result

    def drop(self, delta: LogScaled) -> LogScaled:
        """Kdot(q, q, q) - Kdot(q, q - delta, q)."""
        plain = delta.plain()
        x, near = self._variable(plain)
        mean = np.zeros(plain.shape)
        reach = float(x[near].max(initial=0.0)) / self.top
        if reach <= _POINT:
            mean[near] = self.bend
        else:
            u, weight = _gauss(reach)
            mean[near] = self._at(x[near][:, None] * u, self.falling) @ weight
        if self.kinked and plain.max(initial=0.0) <= _UNDERFLOW:
            return LogScaled(np.sqrt(2 * delta.value / self.q) * mean, delta.log_scale / 2)
        if near.all() and not self.kinked:
            return delta.times(mean)
        fall = x * mean
        fall[~near] = self.slope - self.maps.slope_at(self.q, plain[~near])
        return LogScaled(fall)

    def _at(self, x: Array, series: Array) -> Array:
        return np.asarray(chebyshev.chebval(2 * x / self.top - 1, series))

    def _variable(self, delta: Array) -> tuple[Array, NDArray[np.bool_]]:
        """The Chebyshev variable, and where it lies on [0, X]."""
        angle: Array = 2 * np.arcsin(np.sqrt(np.clip(delta / (2 * self.q), 0, 1)))
        x = angle if self.kinked else delta
        return x, x <= self.top


class Slopes:
    """The slope series of one activation at the last few variances it was met with.

    ``kinked`` says whether phi' jumps. Raises WidegramError where phi' has no mean square.
    """

    def __init__(self, maps: LayerMaps) -> None:
        maps.require_slope()
        self.maps, self.kinked = maps, maps.is_kinked()
        self._at = lru_cache(maxsize=16)(SlopeSeries)

    def at(self, q: float) -> SlopeSeries:
        """The series at variance ``q``."""
        return self._at(self.maps, q, self.kinked)


def _flat(slope: float, bend: float) -> float:
    """The x below which Kdot is constant to a tenth of float64's rounding."""
    return 1e-17 * slope / bend if bend > 0 else 1e-17


def _gauss(reach: float) -> tuple[Array, Array]:
    """Gauss-Legendre on [0, 1] with as many nodes as a stretch of this share of [0, X] needs."""
    count = 16 if reach > 0.1 else 7 if reach > 1e-4 else 2
    x, w = np.polynomial.legendre.leggauss(count)
    return (x + 1) / 2, w / 2
