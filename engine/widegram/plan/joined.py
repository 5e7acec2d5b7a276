"""Operations that branches meet by, beside the sum of two values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar

import numpy as np

from widegram.activations import Formula
from widegram.network.contribution import Contribution
from widegram.plan.angles import Angles, rounded
from widegram.plan.carried import Carried
from widegram.plan.masks import Pair
from widegram.plan.operation_base import Exponents, Flags, Places
from widegram.plan.operations import Affine
from widegram.plan.pointwise import Join
from widegram.plan.seen import Array, Centre, Parts, Seen, where

_ONE = (1, 1)


@dataclass(frozen=True)
class Scaled(Affine):
    """K and T times a number: what stands several times in a sum, or is a part of a mean."""

    layers: ClassVar[int] = 0

    def visible(self, below: Sequence[Flags], shape: Pair) -> Flags:
        return below[0] & (self.gain > 0)

    def masked_places(self, places: Sequence[Places]) -> Places:
        return super().masked_places(places) if self.gain else (places[0], self)

    def describe(self) -> str:
        return " scaled"


def scaled_by(factor: float) -> Scaled:
    """K and T times ``factor``."""
    nothing = Contribution(0.0, 0.0)
    return Scaled(_ONE, _ONE, (0, 0), False, (0, 0), factor, 0.0, nothing)


@dataclass(frozen=True)
class Multiply(Join):
    """Product of two branches: K = K1 K2, T = T1 K2 + K1 T2."""

    def at_zero(self, sources: Sequence[Centre], shape: Pair, formula: Formula | None) -> Centre:
        (k, t), (k2, t2) = sources
        return k * k2, t * k2 + k * t2

    def bound(self, below: Sequence[float], source: Pair, formula: Formula | None) -> float:
        return prod(below)

    def may_vanish(self, below: Sequence[bool]) -> bool:
        return any(below)

    def degree_of(self, below: Sequence[int]) -> int | None:
        return sum(below)

    @property
    def power(self) -> int:
        return 2

    def place(self, i: int, shape: Pair, sources: tuple[int, ...], graph: Exponents) -> int:
        """Exponents of factors add up; each is chosen so that the product stays in range."""
        sources = tuple(
            graph.moved(at, graph.within(graph.size(at), self.power, graph.exponent[at]))
            for at in sources
        )
        exponent = sum(graph.exponent[at] for at in sources)
        one, two = (graph.profile[at] for at in sources)
        return graph.add(self, sources, shape, exponent, one * two)

    def at_angles(self, below: Sequence[Angles], source: Pair, formula: Formula | None) -> Angles:
        one, two = below
        own = one.own * two.q + one.q * two.own
        return Angles(one.q * two.q, own, rounded(one.k * two.k), one.t * two.k + one.k * two.t)

    def carries(self, below: Sequence[Carried], formula: Formula | None) -> Carried:
        return Carried.of_product(below)

    def loses(self, seen: Seen) -> tuple[Any, Array]:
        (one, _), (two, _) = seen.sources
        vanished = (one > 0) & (two > 0) & (seen.value[0] == 0)
        return where(vanished.any(axis=(1, 2))), seen.top

    def carries_lost(self, seen: Seen) -> Parts:
        (k, t), (k2, t2) = seen.lost
        k = k + k2
        return k, np.maximum(t, t2) + k
