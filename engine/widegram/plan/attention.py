"""Attention as operations on stored planes: a map by each image's own covariances, or the product
with a sum over all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np

from widegram.activations import Formula
from widegram.network.attention import attended, largest_sum
from widegram.network.layers import GlobalSelfAttention
from widegram.plan.angles import Angles, rounded
from widegram.plan.maps import EachMap, Entries, Matrix, Pairs
from widegram.plan.masks import Mask, Pair, full
from widegram.plan.operation_base import Array, Flags, Operation
from widegram.plan.operations import Copy
from widegram.plan.seen import Parts, Seen, where


@dataclass(frozen=True)
class Kept(Copy):
    """A value kept with its true variances, of which weights are made."""

    @property
    def needs_truth(self) -> bool:
        return True


@dataclass(frozen=True)
class Attend(EachMap):
    """A map of its source, or of that plus ``shift``, by weights of attention.

    * ``layer``: what makes the weights, of the keys' covariance
    * ``input``, ``embedded``: that covariance is ``input`` times its source plus ``embedded``
    * ``shown``: the pixels (n, h, w) that are visible, where it is known of which images
    """

    layer: GlobalSelfAttention = field(kw_only=True)
    input: float = field(kw_only=True)
    embedded: Matrix = field(kw_only=True)
    shift: Matrix | None = field(default=None, kw_only=True)  # type: ignore[misc]  # None of other maps
    shown: Flags | None = field(default=None, compare=False, repr=False, kw_only=True)

    patterned: ClassVar[bool] = False

    def seeing(self, visible: Flags) -> Operation:
        return replace(self, shown=visible)

    def coefficients(self, covariance: Array) -> Array:
        """Numbers (n, size^2) of images, given K (n, size, size) of their pixels: what each gives
        to each, as a pattern has them."""
        visible = None if self.shown is None else self.shown.reshape(len(covariance), -1)
        weights = attended(self.layer, self.input * covariance + self.embedded.values, visible)
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


@dataclass(frozen=True)
class RootAttend(EachMap):
    """Attention by random weights: K <- s C and T <- t C + s E.

    * C, E: K and T of the keys, its source's plus ``shift``
    * V, W: K and T of the values, its source's or, where ``values``, C and E
    * s, t: sums over all pairs of pixels, of C V, and of C W + V E

    Each image's own numbers are 1 for visible pixels and 0 for masked ones, to which no shift is
    added.
    """

    values: bool = field(kw_only=True)
    shift: Matrix = field(kw_only=True)  # type: ignore[misc]  # None of other maps
    shown: Flags | None = field(default=None, compare=False, repr=False, kw_only=True)

    patterned: ClassVar[bool] = False

    @property
    def kind(self) -> str:
        return "summed values" if self.values else "summed"

    @property
    def numbers(self) -> int:
        return self.size

    def seeing(self, visible: Flags) -> Operation:
        return replace(self, shown=visible)

    def coefficients(self, n: int) -> Array:
        """Its own numbers (n, size) of so many images."""
        if self.shown is None:
            return np.ones((n, self.size))
        return self.shown.reshape(n, self.size).astype(np.float64)

    def listed(self, shape: Pair, source: Pairs, target: Pairs) -> Entries:
        """The place in its source of each of its own pairs."""
        places = np.zeros((self.size, self.size), dtype=np.int64)
        places[source.first, source.second] = source.place
        columns = places[target.first, target.second]
        return Entries(np.arange(self.size + 1), columns, np.zeros(1))

    @property
    def _shifted(self) -> float:
        return float(np.abs(self.shift.values).max())

    def bound(self, below: Sequence[float], source: Pair, formula: Formula | None) -> float:
        keys = below[0] + self._shifted
        return self.size**2 * keys**2 * (keys if self.values else below[0])

    def degree(self, below: int) -> int | None:
        return None

    @property
    def power(self) -> int:
        return 3

    def profile(self, q: Array, shape: Pair) -> Array:
        return np.full((1, *shape), self.bound([float(q.max())], shape, None))

    def at_angles(self, below: Sequence[Angles], source: Pair, formula: Formula | None) -> Angles:
        """The value of images all of whose pixels are alike, without embeddings."""
        (one,) = below
        pairs = float(self.size**2)
        own = 3 * pairs * one.q**2 * one.own
        return Angles(
            pairs * one.q**3, own, rounded(pairs * one.k**3), 3 * pairs * one.k**2 * one.t
        )

    def loses(self, seen: Seen) -> tuple[Any, Array]:
        (k, _), made = seen.sources[0], seen.value[0]
        return where(((k > 0) & (made == 0)).any(axis=(1, 2))), seen.top

    def carries_lost(self, seen: Seen) -> Parts:
        k, t = seen.lost[0]
        return 3 * k, t + 2 * k

    def describe(self) -> str:
        return f" attention of {self.size} pixels, of random weights"
