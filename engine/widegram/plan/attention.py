"""Attention as an operation: a map by each image's own covariances."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from widegram.activations import Formula
from widegram.network.attention import attended, largest_sum
from widegram.network.layers import GlobalSelfAttention
from widegram.plan.angles import Angles
from widegram.plan.maps import EachMap, Matrix
from widegram.plan.masks import Mask, Pair, full
from widegram.plan.operation_base import Array
from widegram.plan.operations import Copy


@dataclass(frozen=True)
class Kept(Copy):
    """A value kept with its true variances, of which weights are made."""

    @property
    def needs_truth(self) -> bool:
        return True


@dataclass(frozen=True)
class Attend(EachMap):
    """A map by the weights of ``layer``, of keys that are ``input`` times its source and what
    ``embedded`` adds to that; K and T of its source plus ``shift`` are mapped, where there is one.
    """

    layer: GlobalSelfAttention = field(kw_only=True)
    input: float = field(kw_only=True)
    embedded: Matrix = field(kw_only=True)
    shift: Matrix | None = field(default=None, kw_only=True)  # type: ignore[misc]

    patterned: ClassVar[bool] = False

    def coefficients(self, covariance: Array) -> Array:
        """Numbers (n, size^2) of images, given K (n, size, size) of their pixels: what each gives
        to each, as a pattern has them."""
        weights = attended(self.layer, self.input * covariance + self.embedded.values)
        return np.ascontiguousarray(np.swapaxes(weights, 1, 2)).reshape(len(weights), -1)

    def own_needs(self, source: Pair) -> Mask:
        return full(source)

    def _most(self, variance: float) -> float:
        top = self.input * variance + float(np.abs(self.embedded.values).max())
        return largest_sum(self.layer, top, self.size)

    @property
    def _shifted(self) -> float:
        return 0.0 if self.shift is None else float(np.abs(self.shift.values).max())

    def bound(self, below: Sequence[float], source: Pair, formula: Formula | None) -> float:
        return (below[0] + self._shifted) * self._most(below[0]) ** 2

    def degree(self, below: int) -> int | None:
        return None

    def profile(self, q: Array, shape: Pair) -> Array:
        return np.full((1, *shape), self.bound([float(q.max())], shape, None))

    def at_angles(self, below: Sequence[Angles], source: Pair, formula: Formula | None) -> Angles:
        return below[0].times(self._most(below[0].q) ** 2)

    def describe(self) -> str:
        return f" attention of {self.size} pixels"
