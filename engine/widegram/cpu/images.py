"""Blocks of images laid out for the kernels, with their factors."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from widegram.cpu.equal import Digests, digests
from widegram.cpu.kernels.vector_ops import LANES
from widegram.cpu.pairs import sketch
from widegram.cpu.self_kernels import Own
from widegram.cpu.self_kernels_pool import ItselfPool
from widegram.cpu.workspace import aligned
from widegram.data.scaled_rows import Rows


@dataclass(frozen=True)
class RowBlock:
    """Images one at a time: ``x`` (n, h, w, C) divided by C, ``factors`` (n, F + 1), the sketches
    of their directions (see :mod:`~widegram.cpu.pairs`), and their digests (see
    :mod:`~widegram.cpu.equal`)."""

    x: NDArray[Any]
    factors: NDArray[Any]
    sketch: NDArray[np.float64]
    digests: Digests

    @property
    def nbytes(self) -> int:
        return int(self.x.nbytes + self.factors.nbytes)


@dataclass(frozen=True)
class LaneBlock:
    """Images side by side: ``y`` (blocks, h, w, C, lanes), ``factors`` (blocks, F + 1, lanes). The
    last block repeats its last image. The rest as in :class:`RowBlock`."""

    y: NDArray[Any]
    factors: NDArray[Any]
    sketch: NDArray[np.float64]
    digests: Digests

    @property
    def nbytes(self) -> int:
        return int(self.y.nbytes + self.factors.nbytes)


Block = TypeVar("Block", RowBlock, LaneBlock)


class ImageBlocks:
    """Makes and keeps blocks of one data set, the least recently used dropped over ``memory``.

    ``check`` sees what runs of images with themselves gave, and may raise.
    """

    def __init__(
        self, source: Rows, runners: ItselfPool, dtype: str, memory: int,
        check: Callable[[Own, range], None],
    ) -> None:  # fmt: skip
        self.source, self.runners, self.check = source, runners, check
        self.dtype, self.memory = dtype, memory
        self._kept: OrderedDict[tuple[str, int, int], RowBlock | LaneBlock] = OrderedDict()

    def rows(self, lo: int, hi: int) -> RowBlock:
        """Images [lo, hi) in row layout."""
        found = self._find(("rows", lo, hi))
        if isinstance(found, RowBlock):
            return found
        x = self.read(lo, hi)
        factors = self._factors(x, lo, hi)
        scaled = aligned(x.shape, self.dtype)
        scaled[...] = x / x.shape[-1]
        return self._keep(("rows", lo, hi), RowBlock(scaled, factors, sketch(x), digests(x)))

    def lanes(self, lo: int, hi: int) -> LaneBlock:
        """Images [lo, hi) in lane layout."""
        found = self._find(("lanes", lo, hi))
        if isinstance(found, LaneBlock):
            return found
        kept = self._find(("rows", lo, hi))
        x = self.read(lo, hi)
        own = kept.factors if isinstance(kept, RowBlock) else self._factors(x, lo, hi)
        lanes = LANES[self.dtype]
        blocks = -(-(hi - lo) // lanes)
        index = np.minimum(np.arange(blocks * lanes), hi - lo - 1).reshape(blocks, lanes)
        y = aligned((blocks, *x.shape[1:], lanes), self.dtype)
        factors = aligned((blocks, own.shape[1], lanes), self.dtype)
        for b in range(blocks):
            y[b] = np.moveaxis(x[index[b]], 0, -1)
            factors[b] = own[index[b]].T
        return self._keep(("lanes", lo, hi), LaneBlock(y, factors, sketch(x), digests(x)))

    def _factors(self, x: NDArray[np.float64], lo: int, hi: int) -> NDArray[Any]:
        own = self.runners.run(x)
        self.check(own, range(lo, hi))
        return own.factors

    def read(self, lo: int, hi: int) -> NDArray[np.float64]:
        """Images (n, h, w, C)."""
        return self.source.read(lo, hi).astype(np.float64)

    def kept(self, tile: int, factors: int) -> int:
        """How many blocks of ``tile`` images with so many factors are kept."""
        padded = -(-tile // LANES[self.dtype]) * LANES[self.dtype]
        numbers = padded * (math.prod(self.source.shape[1:]) + factors + 1)
        return self.memory // (numbers * np.dtype(self.dtype).itemsize)

    def _find(self, key: tuple[str, int, int]) -> RowBlock | LaneBlock | None:
        found = self._kept.get(key)
        if found is not None:
            self._kept.move_to_end(key)
        return found

    def _keep(self, key: tuple[str, int, int], block: Block) -> Block:
        self._kept[key] = block
        while len(self._kept) > 1 and sum(b.nbytes for b in self._kept.values()) > self.memory:
            self._kept.popitem(last=False)
        return block
