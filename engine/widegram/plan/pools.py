"""Operations that sum over displacements: pools, and what makes one number of an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from widegram.activations import Formula
from widegram.plan.affine import Windowed
from widegram.plan.angles import Angles
from widegram.plan.masks import (
    Mask,
    Pair,
    centre,
    differences,
    displacements,
    full,
    marked,
    wrapped,
)
from widegram.plan.operation_base import Array, Centre, Flags, Operation, Places
from widegram.plan.seen import Seen


@dataclass(frozen=True)
class Gather(Windowed):
    """AvgPool or SumPool: ``scale`` times the sum over both windows."""

    stored: ClassVar[bool] = True
    accumulates: ClassVar[bool] = True
    scale: float

    def needs(self, need: Mask, source: Pair) -> Mask:
        d = displacements(need) * np.array(self.strides)
        d = (d[:, None, :] + differences(self.window)[None]).reshape(-1, 2)
        d = np.unique(d, axis=0)
        if self.circular:
            # Windows may reach round the image more than once, each in its own direction.
            d = wrapped(np.unique(d % np.array(source), axis=0), source)
        return marked(d, source)

    def bound(self, below: Sequence[float], source: Pair, formula: Formula | None) -> float:
        a, b = self.window
        return below[0] * (self.scale * (a * b) ** 2)

    def profile(self, q: Array, shape: Pair) -> Array:
        return np.asarray(self.scale * self.sums(np.sqrt(q), shape) ** 2)

    def at_angles(self, below: Sequence[Angles], source: Pair, formula: Formula | None) -> Angles:
        a, b = self.window
        return below[0].times(self.scale * (a * b) ** 2)

    def loses(self, seen: Seen) -> tuple[Any, Array]:
        return 0.0, np.maximum(seen.top, seen.top / self.scale)


@dataclass(frozen=True)
class Take(Gather):
    """Index: the pixels ``strides`` p - ``lo``, a pool with windows of one pixel."""

    def even(self, axis: int, source: Pair, shape: Pair) -> bool:
        return False

    def profile(self, q: Array, shape: Pair) -> Array:
        rows, cols = (
            slice(-lo, -lo + stride * (n - 1) + 1, stride)
            for lo, stride, n in zip(self.lo, self.strides, shape, strict=True)
        )
        return q[:, rows, cols]


@dataclass(frozen=True)
class Reduce(Operation):
    """The sum to a single number: over all pixel pairs, or over equal pixels (``diagonal``,
    Flatten)."""

    stored: ClassVar[bool] = True
    reduced: ClassVar[bool] = True
    diagonal: bool
    scale: float

    @property
    def sum_scale(self) -> float:
        return self.scale

    def needs(self, need: Mask, source: Pair) -> Mask:
        return centre(source) if self.diagonal else full(source)

    def even(self, axis: int, source: Pair, shape: Pair) -> bool:
        return True

    def visible(self, below: Sequence[Flags], shape: Pair) -> Flags:
        return np.asarray(below[0].any(axis=(1, 2), keepdims=True))

    def mixes(self, places: Sequence[Places]) -> bool:
        return True

    def zero_at_masked(self, below: bool) -> bool:
        return True

    def masked_places(self, places: Sequence[Places]) -> Places:
        return places[0], "any"

    def at_zero(self, sources: Sequence[Centre], shape: Pair, formula: Formula | None) -> Centre:
        """The value where no other displacement of the source counts."""
        ((k, t),) = sources
        total = self.scale * k.sum(axis=(1, 2), keepdims=True)
        return total, self.scale * t.sum(axis=(1, 2), keepdims=True)

    def total(self, source: Pair) -> float:
        """What it makes of ones, on a source of that shape."""
        h, w = source
        return self.scale * (h * w if self.diagonal else (h * w) ** 2)

    def bound(self, below: Sequence[float], source: Pair, formula: Formula | None) -> float:
        return below[0] * self.total(source)

    def profile(self, q: Array, shape: Pair) -> Array:
        if self.diagonal:
            return np.asarray(self.scale * q.sum(keepdims=True))
        return np.asarray(self.scale * np.sqrt(q).sum(keepdims=True) ** 2)

    def at_angles(self, below: Sequence[Angles], source: Pair, formula: Formula | None) -> Angles:
        return below[0].times(self.total(source))

    def describe(self) -> str:
        return " equal pixels" if self.diagonal else " all pixels"
