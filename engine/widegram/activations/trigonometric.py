"""Sin, Cos and Rbf, from E[exp(i t u)] = exp(-t^2 q / 2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from widegram.activations.base import FLOOR, Array, Formula


@dataclass(frozen=True)
class Sin(Formula):
    """phi(x) = a sin(b x + c); K = a^2/2 (E- - cos(2c) E+), E-+ = exp(-b^2 (q + q' -+ 2k) / 2)."""

    a: float
    b: float
    c: float
    code = "sin"
    n_constants = 5

    @property
    def constants(self) -> tuple[float, ...]:
        half = 0.5 * self.a**2
        turn = np.cos(2 * self.c)
        return (self.b**2, half, -half * turn, half * self.b**2, half * self.b**2 * turn)

    def factors(self, q: Array, floor: float = FLOOR["float64"]) -> Array:
        return (0.5 * self.b**2 * q)[None]

    @staticmethod
    def dual(ops: Any, k: Any, fx: Any, fy: Any, const: Any) -> tuple[Any, Any]:
        square, half, turned, slope, slope_turned = const
        decay = ops.add(fx[0], fy[0])
        shift = ops.mul(square, k)
        minus = ops.exp(ops.sub(shift, decay))
        plus = ops.exp(ops.sub(ops.sub(ops.const(0.0), shift), decay))
        value = ops.fma(half, minus, ops.mul(turned, plus))
        return value, ops.fma(slope, minus, ops.mul(slope_turned, plus))

    def variance(self, q: Array) -> tuple[Array, Array]:
        plus = np.cos(2 * self.c) * np.exp(-2 * self.b**2 * q)
        half = 0.5 * self.a**2
        return half * (1 - plus), half * self.b**2 * (1 + plus)


@dataclass(frozen=True)
class Rbf(Formula):
    """phi(x) = sqrt(2) sin(sqrt(2 gamma) x + pi/4): K = exp(-gamma (q + q' - 2k))."""

    gamma: float
    code = "rbf"
    n_constants = 1

    @property
    def constants(self) -> tuple[float, ...]:
        return (2 * self.gamma,)

    def factors(self, q: Array, floor: float = FLOOR["float64"]) -> Array:
        return (self.gamma * q)[None]

    @staticmethod
    def dual(ops: Any, k: Any, fx: Any, fy: Any, const: Any) -> tuple[Any, Any]:
        (double,) = const
        value = ops.exp(ops.sub(ops.mul(double, k), ops.add(fx[0], fy[0])))
        return value, ops.mul(double, value)

    def variance(self, q: Array) -> tuple[Array, Array]:
        return np.ones_like(q), np.full_like(q, 2 * self.gamma)

    def nonnegative(self, k_nonnegative: bool) -> bool:
        return True
