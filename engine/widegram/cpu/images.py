"""Blocks of images laid out for the kernels, with their factors."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from widegram.backends.close_pairs import sketches
from widegram.backends.equal import Digests, digests
from widegram.backends.self_runs import SelfRuns
from widegram.cpu.kernels.variants import LANES
from widegram.cpu.workspace import aligned
from widegram.data.scaled_rows import ScaledRows, split
from widegram.machine.byte_cache import ByteCache
from widegram.plan.plan import Plan

Runs = Callable[[NDArray[np.float64]], SelfRuns]


@dataclass(frozen=True)
class RowBlock:
    """Images one at a time: ``x`` (n, h, w, C), or (n, D) of lists of inputs, divided by C,
    ``factors`` (n, F + 1), the sketches of their directions (see
    :mod:`~widegram.backends.close_pairs`), and their digests (see
    :mod:`~widegram.backends.equal`)."""

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


class ImageBlocks:
    """Makes and keeps blocks of one data set, the least recently used dropped over ``memory``.

    ``itself`` runs images with themselves; ``check`` sees what that gave, and may raise.
    """

    def __init__(
        self, source: ScaledRows, plan: Plan, itself: Runs, dtype: str, memory: int,
        check: Callable[[SelfRuns, range], None],
    ) -> None:  # fmt: skip
        self.source, self.itself, self.check = source, itself, check
        self.dtype, self.memory = dtype, memory
        self.channels, self.divisor = plan.channels, plan.divisor
        self._kept: ByteCache[tuple[str, int, int], RowBlock | LaneBlock] = ByteCache(memory)

    def rows(self, lo: int, hi: int, itself: Runs | None = None) -> RowBlock:
        """Images [lo, hi) in row layout; ``itself``: what else runs images with themselves, and
        gives the same factors."""
        found = self._kept.find(("rows", lo, hi))
        if isinstance(found, RowBlock):
            return found
        x = self.read(lo, hi)
        factors = self._factors(x, lo, hi, itself or self.itself)
        images, _ = split(x, self.channels)
        scaled = aligned(images.shape, self.dtype)
        scaled[...] = images / self.divisor
        made = RowBlock(scaled, factors, self._sketch(x), digests(x, self.source.marked))
        self._kept.keep(("rows", lo, hi), made)
        return made

    def lanes(self, lo: int, hi: int) -> LaneBlock:
        """Images [lo, hi) in lane layout."""
        found = self._kept.find(("lanes", lo, hi))
        if isinstance(found, LaneBlock):
            return found
        rows = self._kept.find(("rows", lo, hi))
        x = self.read(lo, hi)
        if isinstance(rows, RowBlock):
            own, sketch, known = rows.factors, rows.sketch, rows.digests
        else:
            own = self._factors(x, lo, hi, self.itself)
            sketch, known = self._sketch(x), digests(x, self.source.marked)
        lanes = LANES[self.dtype]
        blocks = -(-(hi - lo) // lanes)
        index = np.minimum(np.arange(blocks * lanes), hi - lo - 1).reshape(blocks, lanes)
        images, _ = split(x, self.channels)
        y = aligned((blocks, *images.shape[1:], lanes), self.dtype)
        factors = aligned((blocks, own.shape[1], lanes), self.dtype)
        for b in range(blocks):
            y[b] = np.moveaxis(images[index[b]], 0, -1)
            factors[b] = own[index[b]].T
        made = LaneBlock(y, factors, sketch, known)
        self._kept.keep(("lanes", lo, hi), made)
        return made

    def _sketch(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        return sketches(x, self.source.parts)

    def _factors(
        self, x: NDArray[np.float64], lo: int, hi: int, itself: Runs
    ) -> NDArray[Any]:
        own = itself(x)
        self.check(own, range(lo, hi))
        return own.factors

    def read(self, lo: int, hi: int) -> NDArray[np.float64]:
        """Images (n, h, w, C), with their patterns; lists of inputs (n, D)."""
        return self.source.whole(lo, hi).astype(np.float64)

    def kept(self, tile: int, factors: int) -> int:
        """How many blocks of ``tile`` images with so many factors are kept."""
        padded = -(-tile // LANES[self.dtype]) * LANES[self.dtype]
        numbers = padded * (math.prod(self.source.shape[1:]) + factors + 1)
        return self.memory // (numbers * np.dtype(self.dtype).itemsize)
