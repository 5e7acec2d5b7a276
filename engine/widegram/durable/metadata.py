"""A checksum of everything in an HDF5 file but the data of its datasets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import xxhash

from widegram.durable.skeleton import Extent


def metadata_checksum(
    extents: Iterable[Extent],
    size: int,
    read: Callable[[int, int], bytes],
    changing: Iterable[tuple[int, int]] = (),
) -> int:
    """xxh3-64 of the bytes of a file of ``size`` bytes that lie outside of all ``extents``.

    ``read(offset, length)`` gives bytes of the file; those of the spans ``changing`` (offset,
    length) count as zeros.
    """
    digest = xxhash.xxh3_64()
    for lo, hi in _between(extents, size):
        data = bytearray(read(lo, hi - lo))
        for offset, length in changing:
            first, last = max(offset, lo), min(offset + length, hi)
            if first < last:
                data[first - lo : last - lo] = bytes(last - first)
        digest.update(np.array([lo, hi], "<u8").tobytes())
        digest.update(data)
    return int(digest.intdigest())


def _between(extents: Iterable[Extent], size: int) -> Iterator[tuple[int, int]]:
    """The spans of a file that hold no data."""
    starts, ends = [], []
    for extent in extents:
        if 0 not in extent.shape:
            length = int(np.prod(extent.chunk, dtype=np.int64)) * extent.dtype.itemsize
            starts.append(extent.offsets.ravel())
            ends.append(extent.offsets.ravel() + length)
    begin = np.concatenate([*starts, [size]])
    order = np.argsort(begin, kind="stable")
    reached = np.maximum.accumulate(np.concatenate([[0], np.concatenate([*ends, [0]])[order]]))
    for lo, hi in zip(reached[:-1].tolist(), begin[order].tolist(), strict=True):
        if lo < min(hi, size):
            yield lo, min(hi, size)
