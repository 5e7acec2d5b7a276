"""Erf, GELU and Gaussians.

Erf: Williams, "Computing with infinite networks" (NeurIPS 1997), eq. 11. GELU with the exact
Gaussian distribution function: Tsuchida et al., "Avoiding kernel fixed points" (2020); rederived
here in terms of z = k / sqrt((1 + q)(1 + q')).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from widegram.activations.base import Array, Formula
from widegram.machine.dtypes import FLOOR


@dataclass(frozen=True)
class Erf(Formula):
    """phi(x) = a erf(b x) + c."""

    a: float
    b: float
    c: float
    code = "erf"
    n_constants = 3

    @property
    def sharpness(self) -> float:
        return self.b**2

    @property
    def constants(self) -> tuple[float, ...]:
        return (2 * self.a**2, self.c**2, 2 * self.a**2 / np.pi)

    def factors(self, q: Array, floor: float = FLOOR["float64"]) -> Array:
        return (np.sqrt(2.0) * abs(self.b) / np.sqrt(1 + 2 * self.b**2 * q))[None]

    @staticmethod
    def dual(ops: Any, k: Any, fx: Any, fy: Any, const: Any) -> tuple[Any, Any]:
        scale, shift, slope = const
        f = ops.mul(fx[0], fy[0])
        arcsine, inverse = ops.arcsine(ops.mul(k, f))
        return ops.fma(scale, arcsine, shift), ops.mul(ops.mul(slope, f), inverse)

    def variance(self, q: Array) -> tuple[Array, Array]:
        w = 2 * self.b**2 * q
        # the arc sine of w / (1 + w), which loses nothing at large w
        value = self.a**2 * (2 / np.pi) * np.arctan2(w, np.sqrt(1 + 2 * w)) + self.c**2
        return value, (self.a * self.b) ** 2 * (4 / np.pi) / np.sqrt(1 + 2 * w)

    def nonnegative(self, k_nonnegative: bool) -> bool:
        return k_nonnegative


@dataclass(frozen=True)
class Gelu(Formula):
    """phi(x) = x Phi(x), Phi the standard normal distribution function."""

    code = "gelu"
    n_factors = 2
    sharpness = 0.5

    def spoilt(self, eps: float, q: float) -> float:
        # Kdot, of order 1, changes with the root of 1 - c down to 1 - c of 1 / q: in the end that
        # of ReLU, where rounding of c = 1 is a root of a rounding of the angle.
        return min(eps * max(1.0, self.sharpness * q) ** 0.5, eps**0.5)

    def factors(self, q: Array, floor: float = FLOOR["float64"]) -> Array:
        return np.stack([1 / np.sqrt(1 + q), q + 0.0])

    @staticmethod
    def dual(ops: Any, k: Any, fx: Any, fy: Any, const: Any) -> tuple[Any, Any]:
        r = ops.mul(fx[0], fy[0])
        product = ops.mul(fx[1], fy[1])
        z = ops.mul(k, r)
        arcsine, inverse = ops.arcsine(z)
        z2 = ops.mul(z, z)
        # Of this z, not of its rounded square: what errors of z make of both terms cancels.
        w = ops.fma(ops.sub(ops.const(0.0), z), z, ops.const(1.0))
        w = ops.maximum(w, ops.const(0.0))
        quarter = ops.fma(ops.const(0.5), arcsine, ops.const(0.25))
        outer = ops.mul(ops.const(1 / (2 * np.pi)), inverse)
        inner = ops.mul(r, ops.fma(product, w, z2))
        value = ops.fma(k, quarter, ops.mul(outer, inner))
        # 1/w + 1 - q q' = 1/w + 1 - product, times r^2, plus 1
        curved = ops.add(ops.mul(inverse, inverse), ops.sub(ops.const(1.0), product))
        slope = ops.fma(ops.mul(r, r), curved, ops.const(1.0))
        return value, ops.fma(ops.mul(outer, z), slope, quarter)

    def variance(self, q: Array) -> tuple[Array, Array]:
        # z = q / (1 + q); sqrt(1 - z^2) = root / (1 + q)
        root = np.sqrt(1 + 2 * q)
        quarter = 0.25 + np.arctan2(q, root) / (2 * np.pi)
        z, outer = q / (1 + q), (0.5 / np.pi) / root
        value = q * (quarter + 2 * outer * z)
        return value, quarter + outer * q * (1 / root**2 + 2 / (1 + q))


@dataclass(frozen=True)
class Gaussian(Formula):
    """phi(x) = exp(-x^2): K = det(1 + 2 Sigma)^(-1/2), Sigma the covariance matrix of (u, v)."""

    code = "gaussian"
    sharpness = 1.0

    def factors(self, q: Array, floor: float = FLOOR["float64"]) -> Array:
        return (1 / np.sqrt(1 + 2 * q))[None]

    @staticmethod
    def dual(ops: Any, k: Any, fx: Any, fy: Any, const: Any) -> tuple[Any, Any]:
        f = ops.mul(fx[0], fy[0])
        return _bell(ops, k, f, f)

    def variance(self, q: Array) -> tuple[Array, Array]:
        rest = 1 + 4 * q
        return 1 / np.sqrt(rest), 4 * q / rest**1.5

    def nonnegative(self, k_nonnegative: bool) -> bool:
        return True


def _bell(ops: Any, k: Any, width: Any, height: Any) -> tuple[Any, Any]:
    """height / sqrt(1 - z^2), z = 2 k width, and its derivative by k."""
    z = ops.mul(ops.const(2.0), ops.mul(k, width))
    _, inverse = ops.arcsine(z)
    value = ops.mul(height, inverse)
    # 2 width z height / sqrt(1 - z^2)^3
    slope = ops.mul(ops.mul(ops.const(2.0), z), ops.mul(height, inverse))
    return value, ops.mul(slope, ops.mul(width, ops.mul(inverse, inverse)))


@dataclass(frozen=True)
class ScaledGaussian(Formula):
    """phi(x) = a exp(b x^2), b other than 0: K = a^2 det(1 - 2 b Sigma)^(-1/2). Where b > 0 there
    is none at variances of 1 / (4 b) and more."""

    a: float
    b: float
    code = "scaled_gaussian"
    n_factors = 2

    @property
    def sharpness(self) -> float:
        return abs(self.b)

    def spoilt(self, eps: float, q: float) -> float:
        if self.b < 0:
            return super().spoilt(eps, q)
        rest = 1 - 4 * self.b * q
        return eps / rest if rest > 0 else np.inf

    def factors(self, q: Array, floor: float = FLOOR["float64"]) -> Array:
        """sqrt(|b|) f and |a| f with f = 1 / sqrt(1 - 2 b q)."""
        with np.errstate(invalid="ignore", divide="ignore"):
            f = 1 / np.sqrt(1 - 2 * self.b * q)
        return np.stack([np.sqrt(abs(self.b)) * f, abs(self.a) * f])

    @staticmethod
    def dual(ops: Any, k: Any, fx: Any, fy: Any, const: Any) -> tuple[Any, Any]:
        return _bell(ops, k, ops.mul(fx[0], fy[0]), ops.mul(fx[1], fy[1]))

    def variance(self, q: Array) -> tuple[Array, Array]:
        rest = 1 - 4 * self.b * np.asarray(q, dtype=np.float64)
        inside = np.where(rest > 0, rest, 1.0)
        value = self.a**2 / np.sqrt(inside)
        slope = self.a**2 * 4 * self.b**2 * q / inside**1.5
        return np.where(rest > 0, value, np.inf), np.where(rest > 0, slope, np.inf)

    def nonnegative(self, k_nonnegative: bool) -> bool:
        return True
