"""HDF5 metadata made in memory, and where the data of each dataset belongs in the file."""

from __future__ import annotations

import io
import itertools
import operator
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
from numpy.typing import DTypeLike, NDArray

from widegram.durable.contents import octets

# Where a block begins: a row, an index for each axis (0 for those left out), None for the start.
Start = int | tuple[int, ...] | None
_PAGE = 1 << 16


@dataclass(frozen=True)
class Extent:
    """Where the elements of a dataset lie in its file.

    ``offsets`` (int64) has a byte offset for each chunk of shape ``chunk``, an axis for each of the
    dataset's; a contiguous dataset is one chunk of the dataset's own shape. Chunks may reach beyond
    the dataset. Nothing of a dataset without elements is in a file.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunk: tuple[int, ...]
    offsets: NDArray[np.int64]

    def pieces(self, block: Any, start: Start) -> Iterator[tuple[int, memoryview]]:
        """(byte offset, bytes) of each contiguous piece of ``block``, as the dataset stores it."""
        stored = np.asarray(block, self.dtype)
        for offset, _, place in self.spans(start if stored.ndim else None, stored.shape):
            yield offset, octets(stored[place])

    def spans(
        self, start: Start, shape: tuple[int, ...]
    ) -> Iterator[tuple[int, int, tuple[slice, ...]]]:
        """(byte offset, bytes, place in the block) of each contiguous piece of a block.

        The block of ``shape`` begins at index ``start``. Raises IndexError where it does not fit.
        """
        start = (start,) if isinstance(start, int) else start or ()
        start = (*start, *(0,) * (len(self.shape) - len(start)))
        if len(start) != len(self.shape) or len(shape) != len(self.shape):
            raise IndexError(f"a block of shape {shape} for a dataset of shape {self.shape}")
        stop = tuple(lo + length for lo, length in zip(start, shape, strict=True))
        if any(lo < 0 or hi > n for lo, hi, n in zip(start, stop, self.shape, strict=True)):
            raise IndexError(f"a block of shape {shape} at {start} of {self.shape}")
        if 0 in shape:
            return
        for number in itertools.product(
            *(
                range(lo // c, -(-hi // c))
                for lo, hi, c in zip(start, stop, self.chunk, strict=True)
            )
        ):
            corner = tuple(k * c for k, c in zip(number, self.chunk, strict=True))
            first = tuple(map(max, start, corner))
            last = tuple(min(hi, k + c) for hi, k, c in zip(stop, corner, self.chunk, strict=True))
            base = int(self.offsets[number])
            for place, offset, length in self._in_chunk(corner, first, last):
                moved = (slice(p.start - s, p.stop - s) for p, s in zip(place, start, strict=True))
                yield base + offset, length, tuple(moved)

    def _in_chunk(
        self, corner: tuple[int, ...], first: tuple[int, ...], last: tuple[int, ...]
    ) -> Iterator[tuple[tuple[slice, ...], int, int]]:
        """(its indices in the dataset, byte offset in the chunk, bytes) of each contiguous piece of
        the box from ``first`` to ``last`` in the chunk at ``corner``."""
        sizes = tuple(hi - lo for lo, hi in zip(first, last, strict=True))
        steps = [self.dtype.itemsize]  # bytes from one index to the next, of each axis
        for length in reversed(self.chunk[1:]):
            steps.insert(0, steps[0] * length)
        lead = max(len(sizes) - 1, 0)
        while lead > 0 and sizes[lead] == self.chunk[lead]:
            lead -= 1
        length = int(np.prod(sizes[lead:], dtype=np.int64)) * self.dtype.itemsize
        zero = sum((b - c) * s for b, c, s in zip(first, corner, steps, strict=False))
        whole = tuple(map(slice, first[lead:], last[lead:]))
        for index in itertools.product(*map(range, sizes[:lead])):
            place = tuple(slice(lo + i, lo + i + 1) for lo, i in zip(first, index, strict=False))
            offset = zero + sum(map(operator.mul, index, steps))
            yield place + whole, offset, length


@dataclass(frozen=True)
class Skeleton:
    """A file of ``size`` bytes but for the data: ``segments`` (offset, bytes), ``extents`` by the
    datasets' paths without a leading slash."""

    size: int
    segments: tuple[tuple[int, bytes], ...]
    extents: dict[str, Extent]

    def find(self, content: bytes) -> int:
        """Byte offset of ``content``; ValueError unless it is in the metadata exactly once."""
        found = [
            offset + at for offset, data in self.segments for at in _occurrences(data, content)
        ]
        if len(found) != 1:
            raise ValueError(f"{content!r} is {len(found)} times in the metadata")
        return found[0]

    def read(self, offset: int, length: int) -> bytes:
        """Bytes of the file as it is before any data is put into it."""
        found = bytearray(length)
        first = bisect_right([start for start, _ in self.segments], offset) - 1
        for start, data in self.segments[max(first, 0) :]:
            if start >= offset + length:
                break
            lo, hi = max(start, offset), min(start + len(data), offset + length)
            if lo < hi:
                found[lo - offset : hi - offset] = data[lo - start : hi - start]
        return bytes(found)

    def replaced(self, offset: int, content: bytes) -> Skeleton:
        """The skeleton with other bytes at ``offset``; ValueError unless one segment holds them."""
        segments = list(self.segments)
        number = bisect_right([start for start, _ in segments], offset) - 1
        start, data = segments[number]
        at = offset - start
        if number < 0 or at + len(content) > len(data):
            raise ValueError(f"offset {offset} is in no segment")
        segments[number] = (start, data[:at] + content + data[at + len(content) :])
        return Skeleton(self.size, tuple(segments), self.extents)


def build(describe: Callable[[h5py.File], None]) -> Skeleton:
    """The HDF5 file that ``describe`` makes, without the disk.

    ``describe`` gets an h5py.File opened for writing: attributes, groups and small datasets in the
    ordinary way, others by :func:`reserve`. Nothing of a reserved dataset is held in memory.
    """
    memory = _Memory()
    with h5py.File(memory, "w") as file:
        describe(file)
        file.flush()
        extents = find_extents(file)
    return Skeleton(memory.size, memory.segments(), extents)


def reserve(
    file: h5py.File,
    name: str,
    shape: tuple[int, ...],
    dtype: DTypeLike,
    chunk: tuple[int, ...] | None = None,
) -> None:
    """Add an uncompressed dataset, stored little-endian, whose place is fixed now.

    Where nothing is written to it later it holds zeros.
    """
    plist: Any = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    plist.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    plist.set_obj_track_times(False)  # two runs give the same bytes
    if chunk is not None:
        plist.set_chunk(chunk)
    folder, _, leaf = name.rpartition("/")
    group = file.require_group(folder) if folder else file
    stored = h5py.h5t.py_create(np.dtype(dtype).newbyteorder("<"), logical=True)
    h5py.h5d.create(group.id, leaf.encode(), stored, h5py.h5s.create_simple(shape), plist)


def find_extents(file: h5py.File) -> dict[str, Extent]:
    """Where the data of every dataset of an open file lies, by path without a leading slash.

    Datasets of other kinds than plain arrays (variable length, compressed, compact, external,
    virtual, not allocated) are left out.
    """
    found: dict[str, Extent] = {}

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and (extent := find_extent(item)) is not None:
            found[name] = extent

    file.visititems(visit)
    return found


def find_extent(dataset: h5py.Dataset) -> Extent | None:
    """Where the data of one dataset lies; None for what :func:`find_extents` leaves out."""
    plist = dataset.id.get_create_plist()
    if dataset.shape is None or dataset.dtype.hasobject or plist.get_nfilters():
        return None
    shape = tuple(map(int, dataset.shape))
    if plist.get_layout() == h5py.h5d.CONTIGUOUS and not plist.get_external_count():
        offset = dataset.id.get_offset()
        if offset is None and 0 not in shape:
            return None
        offsets = np.full((1,) * len(shape), offset or 0, np.int64)
        return Extent(shape, dataset.dtype, tuple(max(n, 1) for n in shape), offsets)
    if plist.get_layout() != h5py.h5d.CHUNKED:
        return None
    chunk = tuple(map(int, dataset.chunks))
    grid = tuple(-(-n // c) for n, c in zip(shape, chunk, strict=True))
    offsets = np.full(grid, -1, np.int64)

    def store(info: Any) -> None:
        offsets[tuple(o // c for o, c in zip(info.chunk_offset, chunk, strict=True))] = (
            info.byte_offset
        )

    dataset.id.chunk_iter(store)
    return Extent(shape, dataset.dtype, chunk, offsets) if (offsets >= 0).all() else None


class _Memory(io.RawIOBase):
    """A sparse file in memory for HDF5: keeps what is written, reads zeros elsewhere."""

    def __init__(self) -> None:
        self.size = 0
        self._position = 0
        self._pages: dict[int, bytearray] = {}
        self._written: list[tuple[int, int]] = []

    def seek(self, offset: int, whence: int = 0) -> int:
        self._position = offset + (0, self._position, self.size)[whence]
        return self._position

    def tell(self) -> int:
        return self._position

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def truncate(self, size: int | None = None) -> int:
        self.size = self._position if size is None else size
        return self.size

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        for lo, hi, number, inside in self._split(len(view)):
            page = self._pages.get(number)
            view[lo:hi] = page[inside : inside + hi - lo] if page else bytes(hi - lo)
        self._position += len(view)
        return len(view)

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        for lo, hi, number, inside in self._split(len(view)):
            page = self._pages.setdefault(number, bytearray(_PAGE))
            page[inside : inside + hi - lo] = view[lo:hi]
        self._written.append((self._position, self._position + len(view)))
        self._position += len(view)
        self.size = max(self.size, self._position)
        return len(view)

    def segments(self) -> tuple[tuple[int, bytes], ...]:
        """What was written, neighbours joined, in the order of their offsets."""
        joined: list[list[int]] = []
        for lo, hi in sorted(self._written):
            if joined and lo <= joined[-1][1]:
                joined[-1][1] = max(hi, joined[-1][1])
            else:
                joined.append([lo, hi])
        found = []
        for lo, hi in joined:
            data = bytearray(min(hi, self.size) - lo) if lo < self.size else bytearray()
            self.seek(lo)
            self.readinto(data)
            found.append((lo, bytes(data)))
        return tuple(found)

    def _split(self, length: int) -> Iterator[tuple[int, int, int, int]]:
        """(from, to) in a block of ``length`` bytes here, page and place in it."""
        done = 0
        while done < length:
            number, inside = divmod(self._position + done, _PAGE)
            hi = min(length, done + _PAGE - inside)
            yield done, hi, number, inside
            done = hi


def _occurrences(data: bytes, content: bytes) -> Iterator[int]:
    at = data.find(content)
    while at >= 0:
        yield at
        at = data.find(content, at + 1)
