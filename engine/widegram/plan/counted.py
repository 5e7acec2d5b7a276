"""Local average pooling in front of Flatten (Li et al. 2019, arXiv:1911.00809), as one operation.

Pooled and flattened a kernel is the sum over positions P of the sums over both windows at P: a pair
of pixels p, p' of two images counts as often as one window holds both. Along an axis that is the
number of windows that begin in a range, and so no pooled image is ever made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from widegram.activations import Formula
from widegram.plan.affine import left_over
from widegram.plan.masks import Mask, Pair, differences, marked
from widegram.plan.operation_base import Array, Centre
from widegram.plan.operations import Reduce


@dataclass(frozen=True)
class Counted(Reduce):
    """A pool of stride 1 with Flatten behind it: a pair of pixels counts as often as a window
    holds it.

    ``window``, ``lo``: as of the pool; ``pooled``: the shape behind it.
    """

    window: Pair
    lo: Pair
    pooled: Pair

    def counts(self, size: int, axis: int) -> Array:
        """Windows (size, size), as floats, that hold pixels i and i' of an axis of that length."""
        pixels = np.arange(size)
        low, high = np.minimum.outer(pixels, pixels), np.maximum.outer(pixels, pixels)
        last = np.minimum(low + self.lo[axis], self.pooled[axis] - 1)
        first = np.maximum(high + self.lo[axis] - self.window[axis] + 1, 0)
        return np.maximum(last - first + 1, 0).astype(np.float64)

    def even(self, axis: int, source: Pair, shape: Pair) -> bool:
        return left_over(source[axis], self.window[axis], 1, self.lo[axis], self.pooled[axis]) == 0

    def needs(self, need: Mask, source: Pair) -> Mask:
        return marked(differences(self.window), source)

    def at_zero(self, sources: Sequence[Centre], shape: Pair, formula: Formula | None) -> Centre:
        rows, cols = (self.counts(n, axis).diagonal() for axis, n in enumerate(_shape(sources)))
        ((k, t),) = sources
        weights = rows[:, None] * cols
        return super().at_zero([(k * weights, t * weights)], shape, formula)

    def total(self, source: Pair) -> float:
        rows, cols = (self.counts(n, axis).sum() for axis, n in enumerate(source))
        return float(self.scale * rows * cols)

    def profile(self, q: Array, shape: Pair) -> Array:
        rows, cols = (self.counts(n, axis) for axis, n in enumerate(q.shape[1:]))
        root = np.sqrt(q[0])
        return np.asarray(self.scale * (root * (rows @ root @ cols)).sum()).reshape(1, 1, 1)

    def describe(self) -> str:
        return " windows of {}x{}, equal pixels".format(*self.window)


def _shape(sources: Sequence[Centre]) -> Pair:
    """The image that the first source lives on."""
    _, height, width = sources[0][0].shape
    return height, width
