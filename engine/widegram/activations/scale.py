"""LayerNorm seen as a pointwise operation: both kernels times a factor of each image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from widegram.activations.base import FLOOR, Array, Formula

EPSILON = 1e-12  # neural-tangents' LayerNorm


@dataclass(frozen=True)
class Scale(Formula):
    """K <- f f' k and T <- f f' T with f = 1 / sqrt(v + eps), v the variance normalised by."""

    code = "scale"

    @property
    def constants(self) -> tuple[float, ...]:
        return ()

    def factors(self, q: Array, floor: float = FLOOR["float64"]) -> Array:
        return (1 / np.sqrt(np.maximum(q, 0.0) + EPSILON))[None]

    @staticmethod
    def dual(ops: Any, k: Any, fx: Any, fy: Any, const: Any) -> tuple[Any, Any]:
        f = ops.mul(fx[0], fy[0])
        return ops.mul(f, k), f

    def variance(self, q: Array) -> tuple[Array, Array]:
        return q / (q + EPSILON), 1 / (q + EPSILON)
