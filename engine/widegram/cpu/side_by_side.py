"""Entries of a tile that blocks of x' leave over, as pairs side by side: each lane has an x.

A block of lanes beside one x is full of wanted entries but on the diagonal of a mirrored tile, of
which one half is wanted, and in the last columns. Those entries fill lanes as pairs in any order.
They are the same bits either way: the same operations on the same numbers.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from widegram.backends.equal import Pairs
from widegram.cpu.images import LaneBlock, RowBlock
from widegram.cpu.kernels.variants import LANES
from widegram.cpu.tables import Tables
from widegram.cpu.workspace import Workspace, aligned

# What a bundle of pairs takes over one with a single x, whose factors need no load of their own.
PAIR_COST = 1.15
# Bytes of images that bundles of one call take, if several fit: a part of a core's own cache.
_GATHERED = 512 * 1024


class Share(NamedTuple):
    """A part of a tile for one thread, of so many ``bundles``: rows ``which`` (n,) of a ``block``
    of lanes, or, where that is None, pairs ``which`` (n, 2)."""

    bundles: int
    block: int | None
    which: NDArray[np.int64]


class Division(NamedTuple):
    """How a tile is computed.

    * ``rows``: how many rows, from the first on, meet each block of lanes.
    * ``pairs`` (n, 2): row and column of the other entries.
    """

    rows: tuple[int, ...]
    pairs: Pairs

    def bundles(self, lanes: int) -> int:
        """Bundles in all."""
        return sum(self.rows) + -(-len(self.pairs) // lanes)

    def shares(self, lanes: int, parts: int) -> list[Share]:
        """About so many parts of roughly equal cost, and as many of pairs, the largest first."""
        each = max(1, -(-parts // max(len(self.rows), 1)))
        found = [
            Share(len(which), block, which)
            for block, count in enumerate(self.rows)
            for which in _cut(np.arange(count), 1, each)
        ]
        for some in _cut(self.pairs, lanes, parts):
            found.append(Share(-(-len(some) // lanes), None, some))
        return sorted(found, key=lambda share: -share.bundles)


def _cut(which: NDArray[np.int64], step: int, parts: int) -> list[NDArray[np.int64]]:
    """At most so many parts, each of whole steps but the last."""
    steps = -(-len(which) // step)
    ends = step * np.linspace(0, steps, min(parts, steps) + 1).astype(np.int64)
    return [which[a:b] for a, b in pairwise(ends)]


def whole_blocks(rows: int, cols: int, lanes: int, mirrored: bool) -> Division:
    """A tile without pairs; a mirrored one needs the rows up to the last column of each block."""
    ends = [first + lanes if mirrored else rows for first in range(0, cols, lanes)]
    return Division(tuple(min(rows, end) for end in ends), np.empty((0, 2), dtype=np.int64))


def with_pairs(rows: int, cols: int, lanes: int, mirrored: bool) -> Division:
    """A tile with pairs in the place of blocks that are not full, where that is less work; what
    stands below the diagonal of a mirrored one, and on it, is not computed."""
    counts, found = [], []
    for first in range(0, cols, lanes):
        numbers = np.arange(first, min(first + lanes, cols))
        above = first if mirrored else rows
        if mirrored:
            i, j = np.triu_indices(len(numbers), 1)
            found.append(np.stack([numbers[i], numbers[j]], axis=1))
        if PAIR_COST * -(-above * len(numbers) // lanes) < above:
            places = np.meshgrid(np.arange(above), numbers, indexing="ij")
            found.append(np.stack([axis.ravel() for axis in places], axis=1))
            above = 0
        counts.append(above)
    pairs = np.concatenate([np.empty((0, 2), dtype=np.int64), *found])
    return Division(tuple(counts), pairs)


class PairBundles:
    """Runs pairs of images of two blocks on workspaces that were made for tables like ``tables``,
    in which x is the same in all lanes."""

    def __init__(self, tables: Tables, outputs: int, dtype: str) -> None:
        self.tables, self.outputs, self.dtype = tables, outputs, dtype

    def run(
        self, work: Workspace, x: RowBlock, y: LaneBlock, pairs: Pairs
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """K and T, (outputs, n), of pairs (n, 2) of a row and a column."""
        lanes, n = LANES[self.dtype], len(pairs)
        found = np.empty((2, self.outputs, n), dtype=self.dtype)
        work.use(self.tables, True)
        bundle = 2 * lanes * (x.x[0].nbytes + x.factors[0].nbytes)
        step = lanes * max(1, _GATHERED // bundle)
        for lo in range(0, n, step):
            hi = min(lo + step, n)
            bundles = -(-(hi - lo) // lanes)
            out = aligned((2, self.outputs, bundles, lanes), self.dtype)
            i, j = pairs[np.minimum(np.arange(lo, lo + bundles * lanes), n - 1)].T
            block, lane = np.divmod(j, lanes)
            work.run_pairs(
                self._side_by_side(x.x[i]), self._side_by_side(x.factors[i]),
                self._side_by_side(y.y[block, ..., lane]),
                self._side_by_side(y.factors[block, :, lane]), out,
            )  # fmt: skip
            found[:, :, lo:hi] = out.reshape(2, self.outputs, -1)[:, :, : hi - lo]
        return found[0], found[1]

    def _side_by_side(self, images: NDArray[Any]) -> NDArray[Any]:
        """Numbers (bundles lanes, ...) of images as (bundles, ..., lanes)."""
        lanes = LANES[self.dtype]
        bundles = images.reshape(-1, lanes, *images.shape[1:])
        made = aligned((len(bundles), *images.shape[1:], lanes), self.dtype)
        made[...] = bundles.transpose(0, *range(2, bundles.ndim), 1)
        return made
