"""Knowing that HDF5's metadata is whole before HDF5 reads it.

Damaged metadata can send HDF5 into an endless loop. Behind the end of the file as HDF5 knows it,
where no reader looks, stand the spans of the metadata, a checksum of them and a mark:
``(offset, length)`` of each span, of each span in it that may change, the checksum, both numbers
of spans (all uint64, little-endian) and 16 bytes of text. Another program that changes the file
cuts that off. Where it does not agree a process of its own tries first what HDF5 makes of the file.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import h5py
import numpy as np
import xxhash

from widegram.durable import calls
from widegram.durable.skeleton import Skeleton, find_extents

Read = Callable[[int, int], bytes]
_MARK = b"widegram-trailer"
_TAIL = 24 + len(_MARK)
_PATIENCE = 5.0  # seconds for what takes milliseconds, unless it never ends
_POLL = 0.01


def with_trailer(skeleton: Skeleton, changing: Iterable[tuple[int, int]] = ()) -> Skeleton:
    """The skeleton and its trailer; bytes of the spans ``changing`` (offset, length) may change."""
    spans = [(offset, len(data)) for offset, data in skeleton.segments if data]
    hidden = list(changing)
    digest = _digest(spans, hidden, skeleton.read)
    numbers = [n for pair in (*spans, *hidden) for n in pair]
    numbers += [digest, len(spans), len(hidden)]
    trailer = np.array(numbers, "<u8").tobytes() + _MARK
    segments = (*skeleton.segments, (skeleton.size, trailer))
    return Skeleton(skeleton.size + len(trailer), segments, skeleton.extents)


def trailer_size(read: Read, size: int) -> int:
    """Bytes of the trailer of a file of ``size`` bytes; 0 where there is none."""
    found = _found(read, size)
    return 0 if found is None else found[0]


def is_suspect(read: Read, size: int) -> bool:
    """Whether a file has a trailer that does not agree with its metadata."""
    found = _found(read, size)
    if found is None:
        return False
    length, count, data = found
    numbers = [int(n) for n in np.frombuffer(data, "<u8")]
    pairs = list(zip(numbers[0:-3:2], numbers[1:-3:2], strict=True))
    if any(offset + span > size - length for offset, span in pairs):
        return True
    return numbers[-3] != _digest(pairs[:count], pairs[count:], read)


def check_bearable(path: Path) -> None:
    """Let a process of its own open a file whose trailer does not agree with it.

    Raises ValueError where HDF5 does not come back from that; what it says of the file is to be
    heard when the file is opened here.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        size = os.fstat(descriptor).st_size
        suspect = is_suspect(lambda offset, n: calls.read(descriptor, n, offset), size)
    finally:
        os.close(descriptor)
    if suspect and not _comes_back(path):
        raise ValueError("its metadata leads nowhere")


def _comes_back(path: Path) -> bool:
    child = os.fork()
    if child == 0:
        try:
            _read_all(path)
        finally:
            os._exit(0)
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end:
        if os.waitpid(child, os.WNOHANG) != (0, 0):
            return True
        time.sleep(_POLL)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


def _read_all(path: Path) -> None:
    """All metadata, as HDF5 reads it."""
    with h5py.File(path, "r", locking=False) as file:
        list(file.attrs.items())
        find_extents(file)
        file.visititems(lambda name, item: list(item.attrs.items()) and None)


def _found(read: Read, size: int) -> tuple[int, int, bytes] | None:
    """(bytes of the trailer, spans of metadata, the numbers' bytes), None without a trailer."""
    tail = read(size - _TAIL, _TAIL) if size > _TAIL else b""
    if len(tail) != _TAIL or not tail.endswith(_MARK):
        return None
    _, spans, hidden = (int(n) for n in np.frombuffer(tail[:24], "<u8"))
    length = 16 * (spans + hidden) + _TAIL
    if length > size:
        return None
    return length, spans, read(size - length, length - len(_MARK))


def _digest(spans: Sequence[tuple[int, int]], hidden: Sequence[tuple[int, int]], read: Read) -> int:
    digest = xxhash.xxh3_64(np.array([*spans, *hidden], "<u8").tobytes())
    for offset, length in spans:
        data = bytearray(read(offset, length))
        for start, n in hidden:
            first, last = max(start, offset), min(start + n, offset + length)
            if first < last:
                data[first - offset : last - offset] = bytes(last - first)
        digest.update(data)
    return int(digest.intdigest())
