"""ReLU, its relatives, and Sign.

Arc-cosine kernels: Cho and Saul, "Kernel methods for deep learning" (NeurIPS 2009), eq. 3-6. With
c = k / sqrt(q q'), theta = acos(c):

    ReLU: K = sqrt(q q') / (2 pi) (sin theta + (pi - theta) c),   Kdot = (pi - theta) / (2 pi)

For both signs of c this is K = max(k, 0) / 2 + sqrt(q q') area(|c|) / 2 with
area(c) = (sqrt(1 - c^2) - c acos c) / pi, and 2 Kdot = angle(|c|) for c < 0, 1 - angle(|c|) for
c >= 0, with angle(c) = acos(c) / pi. A piecewise linear phi with slopes a (x < 0) and b (x > 0) has
(a - b)^2 times that pair plus (a b k, a b); for k >= 0 its K is (a^2 + b^2) k / 2 plus the area.

ReLU takes its inputs halved (:attr:`Formula.prescale`), which saves the products by 1/2.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from widegram.activations.base import Array, Formula, std
from widegram.machine.dtypes import FLOOR


class Homogeneous(Formula):
    """A formula of degree 1, whose first factor is a standard deviation."""

    homogeneity = 1

    def near_one(self, error: float) -> tuple[float, float]:
        return error, float(np.sqrt(2 * error)) / np.pi  # Kdot is linear in the angle

    @staticmethod
    def unit(ops: Any, k: Any, fx: Any, fy: Any) -> tuple[Any, Any]:
        """Standard deviation product and c."""
        scale = ops.mul(fx[0], fy[0])
        return scale, ops.div(k, scale)


class OrZero(Homogeneous):
    """Standard deviations are 0 where variances are: K is then 0 and c = 0. One operation more."""

    def factors(self, q: Array, floor: float = FLOOR["float64"]) -> Array:
        factors = super().factors(q, floor)  # type: ignore[safe-super]  # the base of its users has it
        return np.where(q > 0, factors, 0.0)

    @staticmethod
    def unit(ops: Any, k: Any, fx: Any, fy: Any) -> tuple[Any, Any]:
        """Standard deviation product and c."""
        scale = ops.mul(fx[0], fy[0])
        return scale, ops.div(k, ops.maximum(scale, ops.least()))


@dataclass(frozen=True)
class ABRelu(Homogeneous):
    """phi(x) = a min(x, 0) + b max(x, 0).

    ``slope``: (a^2 + b^2) / 2, what a variance is multiplied by. Deep homogeneous networks multiply
    it many times over, so variances and covariances must use the same rounding of it.
    """

    a: float
    b: float
    slope: float = np.nan
    code = "abrelu"
    n_constants = 3

    def __post_init__(self) -> None:
        if np.isnan(self.slope):
            object.__setattr__(self, "slope", 0.5 * (self.a**2 + self.b**2))

    @property
    def constants(self) -> tuple[float, ...]:
        return (0.5 * (self.a - self.b) ** 2, self.a * self.b, self.slope)

    def rounded(self, dtype: str) -> ABRelu:
        return replace(self, slope=float(np.dtype(dtype).type(self.slope)))

    def factors(self, q: Array, floor: float = FLOOR["float64"]) -> Array:
        return std(q, floor)[None]

    @classmethod
    def dual(cls, ops: Any, k: Any, fx: Any, fy: Any, const: Any) -> tuple[Any, Any]:
        half, product, slope = const
        scale, c = cls.unit(ops, k, fx, fy)
        angle, area = ops.angle_and_area(ops.abs_(c))
        linear = ops.mul(ops.where_nonnegative(k, slope, product), k)
        value = ops.fma(ops.mul(half, scale), area, linear)
        turned = ops.where_nonnegative(c, ops.sub(ops.const(1.0), angle), angle)
        return value, ops.fma(half, turned, product)

    def or_zero(self) -> Formula:
        return ABReluOrZero(self.a, self.b, self.slope)

    def variance(self, q: Array) -> tuple[Array, Array]:
        return self.slope * q, np.full_like(q, 0.5 * (self.a**2 + self.b**2))

    def nonnegative(self, k_nonnegative: bool) -> bool:
        # E[|u| |v|] >= 0 always; otherwise both terms of K are >= 0 for k >= 0.
        return self.a * self.b == 0 or self.a == -self.b or (k_nonnegative and self.a * self.b > 0)


@dataclass(frozen=True)
class Relu(Homogeneous):
    """phi(x) = max(x, 0)."""

    code = "relu"
    prescale = 0.5

    def factors(self, q: Array, floor: float = FLOOR["float64"]) -> Array:
        return std(0.5 * q, floor)[None]

    @classmethod
    def dual(cls, ops: Any, k: Any, fx: Any, fy: Any, const: Any) -> tuple[Any, Any]:
        scale, c = cls.unit(ops, k, fx, fy)
        angle, area = ops.angle_and_area(ops.abs_(c))
        value = ops.fma(scale, area, ops.maximum(k, ops.const(0.0)))
        return value, ops.where_nonnegative(c, ops.sub(ops.const(1.0), angle), angle)

    def or_zero(self) -> Formula:
        return ReluOrZero()

    def variance(self, q: Array) -> tuple[Array, Array]:
        return 0.5 * q, np.full_like(q, 0.5)

    def nonnegative(self, k_nonnegative: bool) -> bool:
        return True


@dataclass(frozen=True)
class ReluNonnegative(Relu):
    """Relu where k >= 0 is known: no handling of signs."""

    code = "relu_nonnegative"

    def or_zero(self) -> Formula:
        return ReluNonnegativeOrZero()

    @classmethod
    def dual(cls, ops: Any, k: Any, fx: Any, fy: Any, const: Any) -> tuple[Any, Any]:
        scale, c = cls.unit(ops, k, fx, fy)
        angle, area = ops.angle_and_area(c)
        return ops.fma(scale, area, k), ops.sub(ops.const(1.0), angle)


@dataclass(frozen=True)
class Sign(Formula):
    """phi(x) = sign(x): K = (2 / pi) asin(c), and no NTK from below."""

    code = "sign"
    homogeneity = 0

    def near_one(self, error: float) -> tuple[float, float]:
        behind = 2 / np.pi * float(np.sqrt(2 * error))
        return behind, behind

    def factors(self, q: Array, floor: float = FLOOR["float64"]) -> Array:
        return np.where(q > 0, 1.0 / std(q, floor), 0.0)[None]

    @staticmethod
    def dual(ops: Any, k: Any, fx: Any, fy: Any, const: Any) -> tuple[Any, Any]:
        c = ops.mul(k, ops.mul(fx[0], fy[0]))
        # (2/pi) asin|c| = 1 - (2/pi) acos|c|
        size = ops.fma(ops.const(-2.0), ops.angle(ops.abs_(c)), ops.const(1.0))
        return ops.where_nonnegative(c, size, ops.sub(ops.const(0.0), size)), None

    def or_zero(self) -> Formula:
        return SignOrZero()

    def variance(self, q: Array) -> tuple[Array, Array]:
        return np.where(q > 0, 1.0, 0.0), np.zeros_like(q)

    def nonnegative(self, k_nonnegative: bool) -> bool:
        return k_nonnegative


@dataclass(frozen=True)
class ABReluOrZero(OrZero, ABRelu):
    """ABRelu where variances may be 0."""

    code = "abrelu_or_zero"


@dataclass(frozen=True)
class ReluOrZero(OrZero, Relu):
    """Relu where variances may be 0."""

    code = "relu_or_zero"


@dataclass(frozen=True)
class ReluNonnegativeOrZero(OrZero, ReluNonnegative):
    """Relu where k >= 0 is known and variances may be 0."""

    code = "relu_nonnegative_or_zero"


@dataclass(frozen=True)
class SignOrZero(Sign):
    """Sign where variances may be 0: a second factor is 1, or 0 there."""

    code = "sign_or_zero"
    n_factors = 2

    def factors(self, q: Array, floor: float = FLOOR["float64"]) -> Array:
        return np.concatenate([super().factors(q, floor), (q > 0)[None]])

    @staticmethod
    def dual(ops: Any, k: Any, fx: Any, fy: Any, const: Any) -> tuple[Any, Any]:
        value, _ = Sign.dual(ops, k, fx, fy, const)
        return ops.mul(value, ops.mul(fx[1], fy[1])), None
