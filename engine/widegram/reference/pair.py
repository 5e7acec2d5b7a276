"""What the dense recursion carries of pairs of images, and the masks that lie over it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from widegram.network.masking import Masked

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Pair:
    """NNGP ``k`` and NTK ``t`` between all pixels of B pairs of images, shape (B, H, W, H, W).

    ``masked``: the masks (B, H, W, c) of both images, None where nothing is masked.
    """

    k: Array
    t: Array
    masked: tuple[Masked, Masked] | None = None

    def map(self, function: Callable[[Array], Array]) -> Pair:
        """Apply one linear operation to both."""
        return Pair(function(self.k), function(self.t), self.masked)

    @property
    def visible(self) -> tuple[Array, Array] | None:
        """1 for pixels (B, H, W) of both images that are visible, 0 for those masked as a whole;
        None where nothing is masked."""
        if self.masked is None:
            return None
        first, second = (np.asarray(~m.all(axis=-1), dtype=np.float64) for m in self.masked)
        return first, second

    def under(self, masked: tuple[Masked, Masked] | None) -> Pair:
        """The pair with other masks, and zeros at pixels that they hide."""
        if masked is None:
            return self
        hidden = replace(self, masked=masked)
        assert hidden.visible is not None
        first, second = hidden.visible
        shown = first[:, :, :, None, None] * second[:, None, None, :, :]
        return hidden.map(lambda a: a * shown)


def masked_in_all(ends: Sequence[Pair]) -> tuple[Masked, Masked] | None:
    """What is masked in every one of several branches."""
    masks = [end.masked for end in ends if end.masked is not None]
    if not masks:
        return None
    first, second = (reduce(np.logical_and, side) for side in zip(*masks, strict=True))
    return first, second


def mean(q: Array, seen: Array | None, over: tuple[int, ...]) -> Array:
    """The mean over axes, which are kept, of pixels that are ``seen`` (1, else 0); 1 where none is.
    """
    if seen is None:
        return np.asarray(q.mean(axis=over, keepdims=True))
    count = seen.sum(axis=over, keepdims=True)
    total = (q * seen).sum(axis=over, keepdims=True)
    return np.where(count > 0, total / np.maximum(count, 1), 1.0)


def mean_of_visible(mean: Pair, pair: Pair) -> Pair:
    """From means over all pixels of a pair to means over those that are visible."""
    if pair.visible is None:
        return mean
    pixels = pair.k.shape[1] * pair.k.shape[2]
    first, second = (pixels / np.maximum(v.sum(axis=(1, 2)), 1) for v in pair.visible)
    return mean.map(lambda a: a * (first * second)[:, None, None, None, None])
