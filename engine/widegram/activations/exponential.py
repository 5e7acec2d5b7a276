"""Exp, the Gaussian normalised kernel, and Gabor's function, from Gaussian integrals."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from widegram.activations.base import Array, Formula, std
from widegram.activations.rectified import Homogeneous, OrZero
from widegram.machine.dtypes import FLOOR

# exp of this is a number of float64, and what the facades' exp takes.
_LARGEST_EXPONENT = 700.0


@dataclass(frozen=True)
class Exp(Formula):
    """phi(x) = a exp(b x): K = a^2 exp(b^2 ((q + q') / 2 + k)), Kdot = b^2 K."""

    a: float
    b: float
    code = "exp"
    n_constants = 2

    def spoilt(self, eps: float, q: float) -> float:
        # The exponent, 2 b^2 q at c = 1, carries roundings of its own size. That keeps it below 84
        # in float32, in which exp(88) is too large.
        return eps * 2 * self.b**2 * q if self._exponent(q) <= _LARGEST_EXPONENT else np.inf

    def _exponent(self, q: Any) -> Any:
        return 2 * self.b**2 * q

    @property
    def constants(self) -> tuple[float, ...]:
        return (self.b**2, self.a**2)

    def factors(self, q: Array, floor: float = FLOOR["float64"]) -> Array:
        return (0.5 * self.b**2 * q)[None]

    @staticmethod
    def dual(ops: Any, k: Any, fx: Any, fy: Any, const: Any) -> tuple[Any, Any]:
        square, scale = const
        value = ops.mul(scale, ops.exp(ops.fma(square, k, ops.add(fx[0], fy[0]))))
        return value, ops.mul(square, value)

    def variance(self, q: Array) -> tuple[Array, Array]:
        exponent = self._exponent(q)
        inside = np.minimum(exponent, _LARGEST_EXPONENT)
        value = np.where(exponent <= _LARGEST_EXPONENT, self.a**2 * np.exp(inside), np.inf)
        return value, np.where(np.isinf(value), np.inf, self.b**2 * value)

    def nonnegative(self, k_nonnegative: bool) -> bool:
        return True


@dataclass(frozen=True)
class ExpNormalized(Homogeneous):
    """No function of one variable, but the kernel K = sqrt(q q') exp(gamma (c + shift)), and
    Kdot = dK/dk.

    Shankar et al., "Neural kernels without tangents" (2020), section 3. Written with exp(gamma
    (c - 1)) and ``scale`` = exp(gamma (1 + shift)), which multiplies variances: deep networks
    multiply it many times over, so variances and covariances must use the same rounding of it.
    """

    gamma: float
    shift: float
    scale: float = np.nan
    code = "exp_normalized"
    n_constants = 3

    def __post_init__(self) -> None:
        if np.isnan(self.scale):
            object.__setattr__(self, "scale", float(np.exp(self.gamma * (1 + self.shift))))

    def spoilt(self, eps: float, q: float) -> float:
        return eps * self.gamma

    def near_one(self, error: float) -> tuple[float, float]:
        return (1 + self.gamma) * error, (1 + self.gamma) * error

    @property
    def constants(self) -> tuple[float, ...]:
        return (self.gamma, self.scale, self.gamma * self.scale)

    def rounded(self, dtype: str) -> ExpNormalized:
        return replace(self, scale=float(np.dtype(dtype).type(self.scale)))

    def factors(self, q: Array, floor: float = FLOOR["float64"]) -> Array:
        return std(q, floor)[None]

    @classmethod
    def dual(cls, ops: Any, k: Any, fx: Any, fy: Any, const: Any) -> tuple[Any, Any]:
        gamma, gain, slope = const
        size, c = cls.unit(ops, k, fx, fy)
        # rounding of k may push c above 1
        less = ops.minimum(ops.sub(c, ops.const(1.0)), ops.const(0.0))
        part = ops.exp(ops.mul(gamma, less))
        return ops.mul(ops.mul(gain, size), part), ops.mul(slope, part)

    def or_zero(self) -> Formula:
        return ExpNormalizedOrZero(self.gamma, self.shift, self.scale)

    def variance(self, q: Array) -> tuple[Array, Array]:
        return self.scale * q, np.full_like(q, self.gamma * self.scale)

    def nonnegative(self, k_nonnegative: bool) -> bool:
        return True


@dataclass(frozen=True)
class ExpNormalizedOrZero(OrZero, ExpNormalized):
    """ExpNormalized where variances may be 0."""

    code = "exp_normalized_or_zero"


@dataclass(frozen=True)
class Gabor(Formula):
    """phi(x) = exp(-x^2) sin(x).

    With Sigma the covariance matrix of (u, v), D = det(1 + 2 Sigma) and t = (1, -s), s = 1 or -1,

        E[exp(-u^2 - v^2) cos(u - s v)] = D^(-1/2) exp(-t' Sigma (1 + 2 Sigma)^(-1) t / 2)

    and K is half the difference of the two, Kdot = dK/dk. In terms of the factors
    f = 1 / sqrt(1 + 2 q) and of z = 2 k f f', D = (1 - z^2) / (f f')^2. Written with the larger
    exponential X and X - Y = -X expm1(-2 |k| / D), so that nothing cancels where variances are
    small.
    """

    code = "gabor"

    # Powers of D up to the fifth of its root.
    sharpness = 4.0
    commutes = False  # 1 + q + q' rounds one of the two

    def factors(self, q: Array, floor: float = FLOOR["float64"]) -> Array:
        return (1 / np.sqrt(1 + 2 * q))[None]

    @staticmethod
    def dual(ops: Any, k: Any, fx: Any, fy: Any, const: Any) -> tuple[Any, Any]:
        one, half = ops.const(1.0), ops.const(0.5)
        f = ops.mul(fx[0], fy[0])
        z = ops.mul(ops.const(2.0), ops.mul(ops.abs_(k), f))
        _, inverse = ops.arcsine(z)
        square = ops.mul(inverse, inverse)
        # (1 + q + q') (f f')^2
        rest = ops.mul(half, ops.fma(fx[0], fx[0], ops.mul(fy[0], fy[0])))
        lean = ops.mul(z, f)  # 2 |k| (f f')^2
        # rounding may push the exponent, at most 0, above
        exponent = ops.mul(half, ops.sub(ops.mul(ops.add(rest, lean), square), one))
        large = ops.exp(ops.minimum(exponent, ops.const(0.0)))
        apart = ops.expm1(ops.sub(ops.const(0.0), ops.mul(lean, square)))
        less = ops.mul(large, ops.sub(ops.const(0.0), apart))
        size = ops.mul(half, ops.mul(f, inverse))
        value = ops.mul(size, less)
        signed = ops.where_nonnegative(k, value, ops.sub(ops.const(0.0), value))
        # f^2 D^-1 times (1 + z^2) (X + Y) + 4 |k| (1 - z^2 + rest) (X - Y)
        both = ops.sub(ops.add(large, large), less)
        tilt = ops.mul(ops.add(ops.abs_(k), ops.abs_(k)), ops.const(2.0))
        inner = ops.add(ops.sub(one, ops.mul(z, z)), rest)
        bracket = ops.fma(ops.fma(z, z, one), both, ops.mul(ops.mul(tilt, inner), less))
        curve = ops.mul(ops.mul(f, square), ops.mul(f, square))
        return signed, ops.mul(ops.mul(size, curve), bracket)

    def variance(self, q: Array) -> tuple[Array, Array]:
        d = 1 + 4 * q
        less = -np.expm1(-2 * q / d)
        value = less / (2 * np.sqrt(d))
        shared = 1 + 4 * q * (1 + 2 * q)
        slope = (shared * (2 - less) + 8 * q * (1 + 3 * q) * less) / (2 * d**2.5)
        return value, slope

    def nonnegative(self, k_nonnegative: bool) -> bool:
        return k_nonnegative
