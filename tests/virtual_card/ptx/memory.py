"""Memory of a virtual card: bounds of every access, and races between threads.

Addresses of global memory are those of the host memory that stands for it.
"""

from __future__ import annotations

import ctypes
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
WORD = 4


class Fault(Exception):
    """An access outside of memory, a race, or threads that wait for ever."""


@dataclass
class Region:
    """Consecutive bytes, with views of them as numbers of any type, and who touched them."""

    name: str
    base: int
    bytes: NDArray[np.uint8]
    views: dict[Any, Array] = field(default_factory=dict)
    touched: Touched | None = None

    def view(self, kind: np.dtype[Any]) -> Array:
        found = self.views.get(kind)
        if found is None:
            whole = len(self.bytes) // kind.itemsize * kind.itemsize
            found = self.views[kind] = self.bytes[:whole].view(kind)
        return found


class Touched:
    """Who read and wrote every word of a region since the launch began.

    Two threads race at a word that one of them writes if they belong to different blocks, or to
    one block with no barrier between.
    """

    def __init__(self, words: int) -> None:
        self.writer, self.reader = (np.full(words, -1, dtype=np.int32) for _ in range(2))
        self.written, self.read = (np.full(words, -1, dtype=np.int32) for _ in range(2))
        # The last epoch in which several threads of a block, or several blocks ever, read a word.
        self.shared = np.full(words, -1, dtype=np.int32)
        self.everywhere = np.zeros(words, dtype=np.bool_)

    def load(self, words: Array, who: Array, epoch: Array, block: int) -> Array:
        """Note reads; True where a write races with one."""
        bad = _conflict(self.writer[words], self.written[words], who, epoch, block)
        before, when = self.reader[words], self.read[words]
        self.reader[words], self.read[words] = who, epoch
        # Threads of this very instruction that read the same word show as another last reader.
        last = self.reader[words]
        several = ((before >= 0) & (before != who) & (when == epoch)) | (last != who)
        self.shared[words[several]] = epoch[several]
        apart = ((before >= 0) & (before // block != who // block)) | (
            last // block != who // block
        )
        self.everywhere[words[apart]] = True
        return bad

    def store(self, words: Array, who: Array, epoch: Array, block: int) -> Array:
        """Note writes; True where a read or a write races with one."""
        reader, read = self.reader[words], self.read[words]
        bad = _conflict(self.writer[words], self.written[words], who, epoch, block)
        bad |= _conflict(reader, read, who, epoch, block)
        bad |= (self.shared[words] == epoch) & (reader // block == who // block)
        bad |= self.everywhere[words]
        self.writer[words], self.written[words] = who, epoch
        return bad | (self.writer[words] != who)


def _conflict(other: Array, when: Array, who: Array, epoch: Array, block: int) -> Array:
    apart = (other // block != who // block) | (when == epoch)
    return (other >= 0) & (other != who) & apart


class Memory:
    """Regions that do not overlap; ``check``: look for races."""

    def __init__(self, check: bool = True) -> None:
        self.check = check
        self._bases: list[int] = []
        self._regions: list[Region] = []

    def add(self, name: str, base: int, data: NDArray[np.uint8]) -> None:
        place = bisect_right(self._bases, base)
        self._bases.insert(place, base)
        self._regions.insert(place, Region(name, base, data))

    def add_array(self, array: Array, name: str = "array") -> int:
        """Make an array's own memory part of this one; its address."""
        base = array.ctypes.data
        self.add(name, base, array.reshape(-1).view(np.uint8))
        return base

    def address(self, array: Array) -> int | None:
        """The address of an array that is part of this memory already."""
        base: int = array.ctypes.data
        return base if self._region(base) is not None and base in self._bases else None

    def add_host(self, base: int, size: int) -> None:
        """Make ``size`` bytes of this process part of this memory."""
        data = np.frombuffer((ctypes.c_uint8 * size).from_address(base), dtype=np.uint8)
        self.add("allocation", base, data)

    def remove(self, base: int) -> None:
        place = self._bases.index(base)
        del self._bases[place], self._regions[place]

    def begin(self) -> None:
        """Forget who touched what: a launch begins."""
        for region in self._regions:
            region.touched = None

    def load(
        self, kind: np.dtype[Any], addresses: Array, who: Array, epoch: Array, block: int
    ) -> Array:
        found = np.empty(len(addresses), dtype=kind)
        for part, region in self._find(addresses, kind.itemsize):
            offsets = addresses[part] - np.uint64(region.base)
            found[part] = region.view(kind)[offsets // np.uint64(kind.itemsize)]
            self._touch("load", region, offsets, kind, who[part], epoch[part], block)
        return found

    def store(
        self, kind: np.dtype[Any], addresses: Array, values: Array, who: Array, epoch: Array,
        block: int,
    ) -> None:  # fmt: skip
        for part, region in self._find(addresses, kind.itemsize):
            offsets = addresses[part] - np.uint64(region.base)
            self._touch("store", region, offsets, kind, who[part], epoch[part], block)
            region.view(kind)[offsets // np.uint64(kind.itemsize)] = values[part]

    def _find(self, addresses: Array, size: int) -> list[tuple[Any, Region]]:
        """The regions that the addresses lie in, each with those addresses."""
        if (addresses & np.uint64(size - 1)).any():
            raise Fault(f"misaligned access of {size} bytes")
        first, last = int(addresses.min()), int(addresses.max())
        region = self._region(first)
        if region is not None and last + size <= region.base + len(region.bytes):
            return [(slice(None), region)]
        found = []
        places = np.searchsorted(np.array(self._bases, dtype=np.uint64), addresses, "right")
        for place in np.unique(places):
            part = np.flatnonzero(places == place)
            region = self._region(int(addresses[part[0]]))
            last = int(addresses[part].max())
            if region is None or last + size > region.base + len(region.bytes):
                raise Fault(self._outside(last, region))
            found.append((part, region))
        return found

    def _region(self, address: int) -> Region | None:
        place = bisect_right(self._bases, address)
        return self._regions[place - 1] if place else None

    def _outside(self, address: int, region: Region | None) -> str:
        if region is None:
            return f"access at {address:#x}, below all memory"
        return (
            f"access at {address:#x}, {address - region.base} bytes into {region.name} "
            f"of {len(region.bytes)}"
        )

    def _touch(
        self, what: str, region: Region, offsets: Array, kind: np.dtype[Any], who: Array,
        epoch: Array, block: int,
    ) -> None:  # fmt: skip
        if not self.check:
            return
        if region.touched is None:
            region.touched = Touched(-(-len(region.bytes) // WORD))
        first = (offsets // np.uint64(WORD)).astype(np.int64)
        for words in (first + n for n in range(max(1, kind.itemsize // WORD))):
            bad = getattr(region.touched, what)(words, who, epoch, block)
            if bad.any():
                word = words[bad][0]
                raise Fault(
                    f"race: thread {who[bad][0] % block} of block {who[bad][0] // block} "
                    f"({what}) and another thread at byte {word * WORD} of {region.name}"
                )


_WINDOW = 1 << 20


class Shared:
    """Shared arrays of several blocks. An array lies far from every other one, so that an index
    outside of it is found; all bytes start as 0xff, which is NaN."""

    def __init__(self, sizes: dict[str, int], blocks: int, check: bool = True) -> None:
        self.addresses = {name: (n + 1) * _WINDOW for n, name in enumerate(sizes)}
        self._sizes = np.array([0, *sizes.values()], dtype=np.uint64)
        self._memory = Memory(check)
        for (name, size), address in zip(sizes.items(), self.addresses.values(), strict=True):
            data = np.full(blocks * size, 0xFF, dtype=np.uint8)
            self._memory.add(f"shared {name}", address << 20, data)

    def load(
        self, kind: np.dtype[Any], addresses: Array, who: Array, epoch: Array, block: int,
        slots: Array,
    ) -> Array:  # fmt: skip
        return self._memory.load(kind, self._place(kind, addresses, slots), who, epoch, block)

    def store(
        self, kind: np.dtype[Any], addresses: Array, values: Array, who: Array, epoch: Array,
        block: int, slots: Array,
    ) -> None:  # fmt: skip
        self._memory.store(kind, self._place(kind, addresses, slots), values, who, epoch, block)

    def _place(self, kind: np.dtype[Any], addresses: Array, slots: Array) -> Array:
        """Addresses among the arrays of all blocks; ``slots``: number of each thread's block."""
        number, offset = addresses // np.uint64(_WINDOW), addresses % np.uint64(_WINDOW)
        if (number >= len(self._sizes)).any():
            raise Fault("access outside of shared memory")
        size = self._sizes[number]
        wrong = offset + np.uint64(kind.itemsize) > size
        if wrong.any():
            raise Fault(f"access {offset[wrong][0]} bytes into shared memory of {size[wrong][0]}")
        return (addresses - offset << np.uint64(20)) + slots.astype(np.uint64) * size + offset
