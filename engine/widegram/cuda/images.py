"""Blocks of images, channels first, with their factors: in host memory, shared by all devices, and
on one device."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from threading import Lock, RLock
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from widegram.backends.close_pairs import sketch
from widegram.backends.equal import Digests, digests
from widegram.backends.self_runs import SelfRuns
from widegram.cpu.self_kernels import SelfKernelPool
from widegram.cuda.device import Device
from widegram.cuda.factors import gathered, rows
from widegram.data.scaled_rows import ScaledRows
from widegram.machine.byte_cache import ByteCache


def image_bytes(
    shape: tuple[int, ...], vector: bool, factors: int, dtype: str, copies: int = 2
) -> int:
    """What an image of data of that ``shape`` takes in a block; its pixels are there twice, and
    once in what a device needs of a block of columns."""
    pixels = math.prod(shape[1:])
    if not vector:
        pixels = pixels // shape[1] * len(rows(shape[1]))
    return (copies * pixels + factors) * np.dtype(dtype).itemsize


@dataclass(frozen=True)
class Block:
    """Images lo to hi - 1: ``scaled`` = x / C and ``x``, both (n, C, h + 7, w) with the first rows
    again behind the last one (see :mod:`widegram.cuda.factors`), vectors (n, D); ``factors``
    (n, F + 1) in the device's layout; sketches of their directions and digests. ``key`` names the
    block."""

    key: tuple[int, int, int]
    scaled: NDArray[Any]
    x: NDArray[Any]
    factors: NDArray[Any]
    sketch: NDArray[np.float64]
    digests: Digests

    @property
    def nbytes(self) -> int:
        return int(self.scaled.nbytes + self.x.nbytes + self.factors.nbytes)


class HostImages:
    """Makes and keeps blocks of one data set, the least recently used dropped over ``memory``.

    One block is made at a time, on all cores; blocks that are kept can be had meanwhile. ``check``
    sees what runs of images with themselves gave, and may raise.
    """

    def __init__(
        self, source: ScaledRows, runners: SelfKernelPool, gather: NDArray[np.int64], vector: bool,
        dtype: str, memory: int, check: Callable[[SelfRuns, range], None],
    ) -> None:  # fmt: skip
        self.check = check
        self.source, self.runners, self.gather, self.vector = source, runners, gather, vector
        self.dtype, self.memory = dtype, memory
        self.lock, self._making = RLock(), Lock()
        self._kept: ByteCache[tuple[int, int], Block] = ByteCache(memory)

    @property
    def nbytes(self) -> int:
        """Bytes of the blocks that are kept."""
        return self._kept.nbytes

    def block(self, lo: int, hi: int) -> Block:
        """Images [lo, hi)."""
        found = self._kept.find((lo, hi))
        if found is None:
            with self._making:
                found = self._kept.find((lo, hi))
                found = found or self._kept.keep((lo, hi), self._make(lo, hi))
        return found

    def read(self, lo: int, hi: int) -> NDArray[np.float64]:
        """Images (n, h, w, C); vectors, and images that are seen as such, (n, 1, 1, D)."""
        with self.lock:
            x = self.source.read(lo, hi).astype(np.float64)
        return x.reshape(hi - lo, 1, 1, -1) if self.vector else x

    def some(self, numbers: Iterable[int]) -> NDArray[np.float64]:
        """Images of those numbers, as :meth:`read` gives them."""
        with self.lock:
            return np.concatenate([self.read(n, n + 1) for n in numbers])

    def _make(self, lo: int, hi: int) -> Block:
        x = self.read(lo, hi)
        first = np.ascontiguousarray(np.moveaxis(x, -1, 1)[:, :, rows(x.shape[1])])
        key = (id(self), lo, hi)
        scaled = (first / x.shape[-1]).astype(self.dtype)
        own = self.runners.run(x)
        self.check(own, range(lo, hi))
        factors = gathered(own.factors, self.gather)
        copies = first.astype(self.dtype)
        names = digests(x, self.source.marked)
        return Block(key, scaled, copies, factors, sketch(x), names)


class _Copy(NamedTuple):
    """An array on the device."""

    array: Any
    nbytes: int


class DeviceImages:
    """Arrays of blocks in the memory of ``device``, copied there on ``stream``: those in use, and
    of others, the least recently used dropped, what ``memory`` bytes hold besides.

    Memory that is dropped stays allocated until the device frees it, which waits for all its work.
    So an eighth of ``memory`` is left to what is dropped: by this, or by others who say so.
    """

    def __init__(self, device: Device, stream: Any, memory: int) -> None:
        self._device, self._stream = device, stream
        self._most_dropped, self._dropped = memory // 8, 0
        self.most_kept = memory - self._most_dropped
        self._kept: ByteCache[tuple[Any, str], _Copy] = ByteCache()

    def pair(self, first: Block, second: Block, reserved: int = 0) -> list[Any]:
        """On the device: ``first.scaled``, ``first.factors``, ``second.x``, ``second.factors``.

        ``reserved``: bytes of the budget that something else takes.
        """
        parts = (first, "scaled"), (first, "factors"), (second, "x"), (second, "factors")
        wanted = {(block.key, part): getattr(block, part) for block, part in parts}
        there = {name: copy for name in wanted if (copy := self._kept.find(name))}
        new = {name: array for name, array in wanted.items() if name not in there}
        self._make_room(reserved + sum(array.nbytes for array in new.values()), wanted.keys())
        for name, array in new.items():
            copy = _Copy(self._device.put(array, self._stream), array.nbytes)
            there[name] = self._kept.keep(name, copy)
        return [there[block.key, part].array for block, part in parts]

    def drop(self, nbytes: int) -> None:
        """Nobody holds that much of the device's memory any more: free it, once it is a lot."""
        self._dropped += nbytes
        if self._dropped > self._most_dropped:
            self._device.free_memory()
            self._dropped = 0

    def _make_room(self, needed: int, used: Collection[tuple[Any, str]]) -> None:
        """Drop arrays other than those ``used`` until ``needed`` bytes more fit."""
        for nbytes in self._kept.shrink(self.most_kept - needed, used):
            self.drop(nbytes)
