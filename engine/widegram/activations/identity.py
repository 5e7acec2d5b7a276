"""The identity, which is part of the vocabulary and changes nothing: the plan drops it."""

from __future__ import annotations

import numpy as np

from widegram.activations.base import Array, Formula
from widegram.machine.dtypes import FLOOR


class Identity(Formula):
    """phi(x) = x."""

    code = "identity"
    homogeneity = 1
    n_factors = 0

    def factors(self, q: Array, floor: float = FLOOR["float64"]) -> Array:
        return np.empty((0, *np.shape(q)))

    @staticmethod
    def dual(ops: object, k: Array, fx: object, fy: object, const: object) -> tuple[Array, Array]:
        return k, np.ones_like(k)

    def variance(self, q: Array) -> tuple[Array, Array]:
        return q + 0.0, np.ones_like(q)

    def nonnegative(self, k_nonnegative: bool) -> bool:
        return k_nonnegative
