"""Masked pixels: where a plan sets K and T to 0, and what it knows of them.

What a layer makes of masked pixels may be anything, as long as it stays there. So nothing is done
behind each layer: :class:`Hide` stands before an operation that mixes pixels, and before the kernel
is read out, where its source may not be 0 at masked ones. Which pixels those are depends on the
input alone and is found image by image (:meth:`~widegram.plan.operation_base.Operation.visible`);
it enters as one factor of each image, so that no backend has a plane kernel of its own for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from widegram.activations import Formula
from widegram.activations.scale import Scale
from widegram.plan.affine import Affine
from widegram.plan.angles import Angles
from widegram.plan.maps import Matrix
from widegram.plan.masks import Pair
from widegram.plan.operation_base import Array, Centre, Flags, Operation, Places
from widegram.plan.pointwise import Norm


@dataclass(frozen=True)
class Shown(Scale):
    """K <- f f' k and T <- f f' T with a factor f of each image and pixel that does not depend on
    variances: it comes in their place."""

    homogeneity = 1

    def factors(self, q: Array, floor: float = 0.0) -> Array:
        return q[None]


@dataclass(frozen=True)
class Hide(Operation):
    """0 at masked pixels. ``mean``: times pixels / visible pixels besides, so that a mean over all
    pixels behind it is one over those that are visible.

    ``shown``: which pixels (n, h, w) are, where it is known of which images it is.
    """

    mean: bool = False
    shown: Flags | None = field(default=None, compare=False, repr=False)

    @property
    def formula(self) -> Formula:
        return Shown()

    def seeing(self, visible: Flags) -> Operation:
        return replace(self, shown=visible)

    def normalised(self, q: Array) -> Array:
        assert self.shown is not None
        weights = self.shown.astype(np.float64)
        if self.mean:
            pixels = weights.shape[1] * weights.shape[2]
            weights *= pixels / np.maximum(weights.sum(axis=(1, 2), keepdims=True), 1.0)
        return weights

    def even(self, axis: int, source: Pair, shape: Pair) -> bool:
        return True

    def at_zero(self, sources: Sequence[Centre], shape: Pair, formula: Formula | None) -> Centre:
        ((k, t),) = sources
        square = self.normalised(k) ** 2
        return np.where(square, k * square, 0.0), np.where(square, t * square, 0.0)

    def zero_at_masked(self, below: bool) -> bool:
        return True

    def bound(self, below: Sequence[float], source: Pair, formula: Formula | None) -> float:
        # Of a mean, what the pool behind it makes.
        return below[0]

    def may_vanish(self, below: Sequence[bool]) -> bool:
        return True

    def at_angles(self, below: Sequence[Angles], source: Pair, formula: Formula | None) -> Angles:
        """The value of pixels that are visible."""
        return below[0]

    def describe(self) -> str:
        return " visible pixels, their mean" if self.mean else " visible pixels"


@dataclass(frozen=True)
class VisibleNorm(Norm):
    """LayerNorm of images with masked pixels: variances are averaged over visible ones."""

    shown: Flags | None = field(default=None, compare=False, repr=False)

    def seeing(self, visible: Flags) -> Operation:
        return replace(self, shown=visible)

    def normalised(self, q: Array) -> Array:
        if self.shown is None or not self.axes:
            return q
        axes = tuple(a + 1 for a in self.axes)
        count = self.shown.sum(axis=axes, keepdims=True)
        total = np.where(self.shown, q, 0.0).sum(axis=axes, keepdims=True)
        return np.broadcast_to(np.where(count, total / np.maximum(count, 1), 1.0), q.shape)


@dataclass(frozen=True)
class Spreading(Affine):
    """The window of a ConvTranspose: a pixel is masked where any is that reaches it; ``reached``:
    by rows and by columns, which pixels that were set apart reach which (row)."""

    reached: tuple[Matrix, ...] = field(default=(), kw_only=True)

    def even(self, axis: int, source: Pair, shape: Pair) -> bool:
        return False

    def mixes(self, places: Sequence[Places]) -> bool:
        return True

    def masked_places(self, places: Sequence[Places]) -> Places:
        return places[0], self

    def visible(self, below: Sequence[Flags], shape: Pair) -> Flags:
        rows, cols = (matrix.values for matrix in self.reached)
        return np.asarray(rows @ np.float64(~below[0]) @ cols.T == 0)


class Hidden:
    """What is known of masked pixels at each node of a graph.

    * ``zero``: whether K and T are 0 there
    * ``places``: equal for nodes with the same masked pixels, whatever the image
    * ``behind``: the Hide behind a node that has one
    """

    def __init__(self) -> None:
        self.zero: list[bool] = []
        self.places: list[Places] = []
        self.behind: dict[int, int] = {}

    def needed(self, operation: Operation, inputs: Sequence[int]) -> tuple[int, ...]:
        """The inputs of an operation that have to be 0 at masked pixels and may not be."""
        mixed = operation.mixes([self.places[j] for j in inputs])
        return tuple(j for j in inputs if mixed and not self.zero[j])

    def see(self, operation: Operation, inputs: Sequence[int]) -> None:
        """A node was added."""
        self.zero.append(operation.zero_at_masked(all(self.zero[j] for j in inputs)))
        self.places.append(operation.masked_places([self.places[j] for j in inputs]))
