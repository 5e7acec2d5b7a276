"""The operations of a graph, and what each of them is.

An operation makes a value of others, K and T at every displacement; values live on images. The
walks of a plan (:mod:`~widegram.plan.needs`, :mod:`~widegram.plan.groups`, ...) ask operations
(:mod:`~widegram.plan.operation_base`) and know none of them. What reads one value and is stored is
read by a later group; all else runs on planes, as the steps of :mod:`widegram.plan.steps`.

Here are those at which a graph begins, is cut and ends; the others are in :mod:`~.affine`,
:mod:`~.pointwise`, :mod:`~.pools` and :mod:`~.counted`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from widegram.activations import Formula
from widegram.plan.affine import CONVOLUTIONS, Affine, Local, Windowed
from widegram.plan.angles import Angles
from widegram.plan.masks import Pair
from widegram.plan.operation_base import Exponents, Operation, Places
from widegram.plan.pointwise import Act, Add, Keep, Norm, Weigh
from widegram.plan.pools import Gather, Reduce, Take
from widegram.tiling import End

__all__ = [
    "CONVOLUTIONS", "Act", "Add", "Affine", "Copy", "Gather", "Input", "Keep", "Local", "Norm",
    "Output", "Reduce", "Take", "Weigh", "Windowed",
]  # fmt: skip


@dataclass(frozen=True)
class Input(Operation):
    """k0 = <x_p, x'_p'> / C; no NTK. Inputs are multiplied by 2^``exponent`` first. ``part``: which
    of a list of inputs it is."""

    made_anew: ClassVar[bool] = True
    exponent: int = 0
    part: int = 0

    def bound(self, below: Sequence[float], source: Pair, formula: Formula | None) -> float:
        return float(np.ldexp(below[0], 2 * self.exponent))

    def rescaled(self, exponent: int) -> tuple[Operation, int]:
        return replace(self, exponent=exponent), exponent

    def place(self, i: int, shape: Pair, sources: tuple[int, ...], graph: Exponents) -> int:
        chosen = graph.chosen(i, float(np.log2(graph.largest)))
        # A list of inputs comes with one power of two; its first stands first.
        made, exponent = self.rescaled(graph.exponent[0] if self.part else chosen)
        profile = np.full((1, *shape), np.ldexp(graph.largest, 2 * exponent))
        return graph.add(made, (), shape, exponent, profile)

    def at_angles(self, below: Sequence[Angles], source: Pair, formula: Formula | None) -> Angles:
        return below[0].shifted(2 * self.exponent)

    def even(self, axis: int, source: Pair, shape: Pair) -> bool:
        return True

    def zero_at_masked(self, below: bool) -> bool:
        return True

    def masked_places(self, places: Sequence[Places]) -> Places:
        return ("input", self.part) if self.part else ()


@dataclass(frozen=True)
class Copy(Operation):
    """A value kept in a store between two groups (:mod:`widegram.plan.groups` inserts these)."""

    stored: ClassVar[bool] = True

    def at_angles(self, below: Sequence[Angles], source: Pair, formula: Formula | None) -> Angles:
        return below[0]


@dataclass(frozen=True)
class Output(Operation):
    """The kernel, times 4^``exponent``, where it is read out."""

    read_out: ClassVar[bool] = True
    end: End
    exponent: int = 0

    def rescaled(self, exponent: int) -> tuple[Operation, int]:
        return replace(self, exponent=exponent), exponent

    def at_angles(self, below: Sequence[Angles], source: Pair, formula: Formula | None) -> Angles:
        return below[0]

    def even(self, axis: int, source: Pair, shape: Pair) -> bool:
        return True

    def mixes(self, places: Sequence[Places]) -> bool:
        return True
