"""Blocks of images in host memory, channels first, with their factors; shared by all devices."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from threading import RLock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from widegram.cpu.images import Rows
from widegram.cpu.itself_pool import ItselfPool
from widegram.cpu.pairs import sketch
from widegram.cuda.factors import rows


@dataclass(frozen=True)
class Block:
    """Images lo to hi - 1: ``scaled`` = x / C and ``x``, both (n, C, h + 7, w) with the first rows
    again behind the last one (see :mod:`widegram.cuda.factors`), vectors (n, D); ``factors``
    (n, F + 1) in the device's layout; sketches of their directions; ``own``: their kernels with
    themselves, where the runners make those. ``key`` names the block."""

    key: tuple[int, int, int]
    scaled: NDArray[Any]
    x: NDArray[Any]
    factors: NDArray[Any]
    sketch: NDArray[np.float64]
    own: dict[str, NDArray[np.float64]]

    @property
    def nbytes(self) -> int:
        return int(self.scaled.nbytes + self.x.nbytes + self.factors.nbytes)


class HostImages:
    """Makes and keeps blocks of one data set, the least recently used dropped over ``memory``."""

    def __init__(
        self, source: Rows, runners: ItselfPool, gather: NDArray[np.int64], vector: bool,
        dtype: str, memory: int,
    ) -> None:  # fmt: skip
        self.source, self.runners, self.gather, self.vector = source, runners, gather, vector
        self.dtype, self.memory = dtype, memory
        self.lock = RLock()
        self._kept: OrderedDict[tuple[int, int], Block] = OrderedDict()

    def block(self, lo: int, hi: int) -> Block:
        """Images [lo, hi)."""
        with self.lock:
            found = self._kept.pop((lo, hi), None) or self._make(lo, hi)
            self._kept[lo, hi] = found
            while len(self._kept) > 1 and self._bytes() > self.memory:
                self._kept.popitem(last=False)
            return found

    def read(self, lo: int, hi: int) -> NDArray[np.float64]:
        """Images (n, h, w, C); vectors, and images that are seen as such, (n, 1, 1, D)."""
        x = self.source.read(lo, hi).astype(np.float64)
        return x.reshape(hi - lo, 1, 1, -1) if self.vector else x

    def _make(self, lo: int, hi: int) -> Block:
        x = self.read(lo, hi)
        first = np.ascontiguousarray(np.moveaxis(x, -1, 1)[:, :, rows(x.shape[1])])
        key = (id(self), lo, hi)
        scaled = (first / x.shape[-1]).astype(self.dtype)
        own = self.runners.run(x)
        factors = np.ascontiguousarray(own.factors[:, self.gather])
        return Block(key, scaled, first.astype(self.dtype), factors, sketch(x), own.kernels)

    def _bytes(self) -> int:
        return sum(block.nbytes for block in self._kept.values())
