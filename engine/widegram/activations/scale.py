"""Pointwise operations that multiply both kernels by a factor of each image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from widegram.activations.base import Array, Formula, std
from widegram.machine.dtypes import FLOOR


@dataclass(frozen=True)
class Scale(Formula):
    """LayerNorm: K <- f f' k and T <- f f' T with f = 1 / sqrt(v + eps), v the variance normalised
    by; v and k come times 4^``exponent``."""

    exponent: int = 0
    eps: float = 0.0
    code = "scale"

    @property
    def _epsilon(self) -> float:
        return float(np.ldexp(self.eps, 2 * self.exponent))

    def factors(self, q: Array, floor: float = FLOOR["float64"]) -> Array:
        return 1 / std(np.maximum(q, 0.0) + self._epsilon, floor)[None]

    @staticmethod
    def dual(ops: Any, k: Any, fx: Any, fy: Any, const: Any) -> tuple[Any, Any]:
        f = ops.mul(fx[0], fy[0])
        return ops.mul(f, k), f

    def variance(self, q: Array) -> tuple[Array, Array]:
        return q / (q + self._epsilon), 1 / (q + self._epsilon)


@dataclass(frozen=True)
class Weight(Scale):
    """K <- f f' k and T <- f f' T with f = ``rows``[i] ``cols``[j] at pixel (i, j)."""

    rows: tuple[float, ...] = (1.0,)
    cols: tuple[float, ...] = (1.0,)
    homogeneity = 1

    def _weights(self) -> Array:
        return np.multiply.outer(self.rows, self.cols)

    def factors(self, q: Array, floor: float = FLOOR["float64"]) -> Array:
        return np.broadcast_to(self._weights(), (1, *np.shape(q)))

    def variance(self, q: Array) -> tuple[Array, Array]:
        square = np.broadcast_to(self._weights() ** 2, np.shape(q))
        return q * square, square


@dataclass(frozen=True)
class Rescale(Scale):
    """K <- 4^``exponent`` k and T <- 4^``exponent`` T: from one exponent to another (see
    :mod:`widegram.plan.scales`). An image's factor stays within ``floor`` and its inverse: what is
    multiplied by more, or less, is outside the range before or behind."""

    homogeneity = 1

    def factors(self, q: Array, floor: float = FLOOR["float64"]) -> Array:
        power = np.clip(np.ldexp(1.0, self.exponent), floor, 1 / floor)
        return np.full((1, *np.shape(q)), power)

    def variance(self, q: Array) -> tuple[Array, Array]:
        return np.ldexp(q, 2 * self.exponent), np.full_like(q, np.ldexp(1.0, 2 * self.exponent))
