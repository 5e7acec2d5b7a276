"""A matrix cut into tiles: how large they are, a pure function of sizes and budgets, and where."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

LARGEST_TILE = 512
LARGEST_IN_MEMORY = 4096
_STEP = 16
_VECTOR_BYTES = 64
_TILE_SHARE = 16
_TILE_ELEMENT_LAYERS = 5e9
_LARGEST_CHUNK = 512


@dataclass(frozen=True)
class TileGrid:
    """An (n1, n2) matrix cut into squares of side ``tile``; the last ones may be smaller."""

    n1: int
    n2: int
    tile: int
    symmetric: bool

    @property
    def shape(self) -> tuple[int, int]:
        """Number of tiles down and across."""
        return -(-self.n1 // self.tile), -(-self.n2 // self.tile)

    def rows(self, i: int) -> range:
        """Matrix rows of tile row ``i``."""
        return range(i * self.tile, min((i + 1) * self.tile, self.n1))

    def cols(self, j: int) -> range:
        """Matrix columns of tile column ``j``."""
        return range(j * self.tile, min((j + 1) * self.tile, self.n2))

    def tiles(self) -> list[tuple[int, int]]:
        """The tiles to compute, row by row: all, or those on and above the diagonal. What order
        they are computed in is up to :mod:`widegram.computing.order`."""
        down, across = self.shape
        return [(i, j) for i in range(down) for j in range(i if self.symmetric else 0, across)]

    def entries(self, i: int, j: int) -> int:
        """Matrix entries that tile (i, j) settles: a mirrored tile counts twice."""
        mirrored = self.symmetric and i != j
        return len(self.rows(i)) * len(self.cols(j)) * (2 if mirrored else 1)

    def chunk(self) -> tuple[int, int]:
        """HDF5 chunk shape: whole tiles, about 512 across, cut so that little is padding."""
        return self._chunk_side(self.n1), self._chunk_side(self.n2)

    def _chunk_side(self, n: int) -> int:
        inner = -(-self.tile // -(-self.tile // _LARGEST_CHUNK))
        panels = -(-n // _LARGEST_CHUNK)
        times = min(-(-n // (panels * inner)), max(1, _LARGEST_CHUNK // inner))
        return min(n, inner * times)


class End(NamedTuple):
    """Where kernels are read out: after ``depth`` repeats of a sweep, None without one, by the
    ``head`` of Readouts, None without them."""

    depth: int | None = None
    head: str | None = None

    def path(self, kernel: str) -> str:
        """The dataset: 'ntk', 'depth/3/ntk', 'head/gap/ntk' or 'depth/3/head/gap/ntk'."""
        depth = "" if self.depth is None else f"depth/{self.depth}/"
        return depth + ("" if self.head is None else f"head/{self.head}/") + kernel


WHOLE = End()


def ends(depths: tuple[int, ...], heads: tuple[str, ...]) -> tuple[End, ...]:
    """All of them, by depth first."""
    return tuple(End(depth, head) for depth in depths or (None,) for head in heads or (None,))


def dataset_keys(
    kernels: tuple[str, ...], depths: tuple[int, ...], heads: tuple[str, ...] = ()
) -> tuple[str, ...]:
    """Dataset paths: ``('nngp', 'ntk')`` or ``('depth/1/nngp', 'depth/1/ntk', ...)``."""
    return tuple(end.path(kernel) for end in ends(depths, heads) for kernel in kernels)


def choose_tile(
    n: int,
    matrices: int,
    itemsize: int,
    memory: int,
    entry_cost: float = 0.0,
    image_bytes: int = 0,
    largest: int = LARGEST_TILE,
    at_once: int = 1,
) -> int:
    """Side of a tile of a run whose ``matrices`` matrices have ``n`` rows or columns at the most.

    At most ``largest``; the matrices of ``at_once`` tiles, as many as are computed at the same
    time, take at most a sixteenth of ``memory`` bytes (a batch, its mirror images and the evaluator
    need the rest), the images of their rows and columns, with ``image_bytes`` each, at most a
    quarter, and ``entry_cost`` element-layers per entry add up to some seconds of work, so that a
    killed run loses little. Never less than the pairs computed side by side, 16 in float32 and 8 in
    float64. A matrix that fits is one tile; others are cut evenly into multiples of 16.
    """
    largest = min(largest, math.isqrt(memory // (_TILE_SHARE * at_once * matrices * itemsize)))
    if image_bytes > 0:
        largest = min(largest, memory // (8 * at_once * image_bytes))
    if entry_cost > 0:
        largest = min(largest, math.isqrt(int(_TILE_ELEMENT_LAYERS / entry_cost)))
    lanes = _VECTOR_BYTES // itemsize
    step = _STEP if largest >= _STEP else lanes
    largest = max(lanes, largest - largest % step)
    if n <= largest:
        return n
    even = -(-n // -(-n // largest))
    return min(largest, -(-even // step) * step)


def mirror_lower(value: NDArray[Any]) -> None:
    """Copy what stands above the diagonal of a square array to below it; the diagonal becomes 0."""
    upper = np.triu(value, 1)
    np.add(upper, upper.T, out=value)


def transposed(block: NDArray[Any]) -> NDArray[Any]:
    """The transpose of a matrix as an array of its own.

    Rows are moved apart first: where their length is a power of two, the numbers of a column would
    take each other's places in the cache.
    """
    rows, cols = block.shape
    apart = np.empty((rows, cols + _VECTOR_BYTES // block.itemsize), block.dtype)[:, :cols]
    apart[...] = block
    return np.ascontiguousarray(apart.T)
