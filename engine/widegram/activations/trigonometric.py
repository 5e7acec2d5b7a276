"""Sin, Cos and Rbf, from E[exp(i t u)] = exp(-t^2 q / 2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from widegram.activations.base import Array, Formula
from widegram.machine.dtypes import FLOOR

# A squared sine or cosine of the phase below this is the rounding of a multiple of pi / 2.
_TURN = 1e-31


@dataclass(frozen=True)
class Sin(Formula):
    """phi(x) = a sin(b x + c).

    With D = b^2 (q + q') / 2 and S = b^2 k, |S| <= D,

        K = a^2 exp(-D) (cos(c)^2 sinh S + sin(c)^2 cosh S),

    and Kdot / b^2 the same with sinh and cosh exchanged: neither cancels where variances are small,
    as E[cos] - E[cos] would. exp(-D) sinh S and exp(-D) cosh S are written with E = exp(|S| - D)
    and m = expm1(-2 |S|), so that nothing overflows where they are large.
    """

    a: float
    b: float
    c: float
    code = "sin"
    n_constants = 5

    @property
    def sharpness(self) -> float:
        return self.b**2

    def _weights(self) -> tuple[float, float]:
        """a^2 / 2 times cos(c)^2 and sin(c)^2."""
        squares = (float(f(self.c)) ** 2 for f in (np.cos, np.sin))
        half = 0.5 * self.a**2
        odd, even = (half * (w if w > _TURN else 0.0) for w in squares)
        return odd, even

    @property
    def constants(self) -> tuple[float, ...]:
        odd, even = self._weights()
        square = self.b**2
        return (square, odd, even, square * odd, square * even)

    def factors(self, q: Array, floor: float = FLOOR["float64"]) -> Array:
        return (0.5 * self.b**2 * q)[None]

    @staticmethod
    def dual(ops: Any, k: Any, fx: Any, fy: Any, const: Any) -> tuple[Any, Any]:
        square, odd, even, slope_odd, slope_even = const
        shift = ops.mul(square, k)
        size = ops.abs_(shift)
        # rounding of k may push |S| above D
        exponent = ops.minimum(ops.sub(size, ops.add(fx[0], fy[0])), ops.const(0.0))
        scale = ops.exp(exponent)
        less = ops.mul(scale, ops.expm1(ops.mul(ops.const(-2.0), size)))
        sinh = ops.where_nonnegative(shift, ops.sub(ops.const(0.0), less), less)
        cosh = ops.fma(ops.const(2.0), scale, less)
        value = ops.fma(odd, sinh, ops.mul(even, cosh))
        return value, ops.fma(slope_odd, cosh, ops.mul(slope_even, sinh))

    def variance(self, q: Array) -> tuple[Array, Array]:
        odd, even = self._weights()
        less = np.expm1(-2 * self.b**2 * q)
        value = even * (2 + less) - odd * less
        return value, self.b**2 * (odd * (2 + less) - even * less)


@dataclass(frozen=True)
class Rbf(Formula):
    """phi(x) = sqrt(2) sin(sqrt(2 gamma) x + pi/4): K = exp(-gamma (q + q' - 2k))."""

    gamma: float
    code = "rbf"
    n_constants = 1

    @property
    def sharpness(self) -> float:
        return 2 * self.gamma

    @property
    def constants(self) -> tuple[float, ...]:
        return (2 * self.gamma,)

    def factors(self, q: Array, floor: float = FLOOR["float64"]) -> Array:
        return (self.gamma * q)[None]

    @staticmethod
    def dual(ops: Any, k: Any, fx: Any, fy: Any, const: Any) -> tuple[Any, Any]:
        (double,) = const
        exponent = ops.sub(ops.mul(double, k), ops.add(fx[0], fy[0]))
        # rounding of k may push it above 0
        value = ops.exp(ops.minimum(exponent, ops.const(0.0)))
        return value, ops.mul(double, value)

    def variance(self, q: Array) -> tuple[Array, Array]:
        return np.ones_like(q), np.full_like(q, 2 * self.gamma)

    def nonnegative(self, k_nonnegative: bool) -> bool:
        return True
