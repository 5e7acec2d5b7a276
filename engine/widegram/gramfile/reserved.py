"""Root attributes that change while a gram file is filled, in places of fixed size.

Nothing is ever added to the metadata of a file that holds tiles: a kill in the middle would leave
what HDF5 cannot open. ``complete`` is one byte; the others are strings of variable length whose
stored text has a fixed size, ended by a zero byte for every reader. ``/state/reserved`` (uint64)
says where they lie: the offsets, a checksum of these and of all metadata but their values, and
one of the texts.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any

import h5py
import numpy as np
import xxhash

from widegram.durable import (
    Extent,
    LiveFile,
    Skeleton,
    build,
    calls,
    find_extents,
    is_suspect,
    metadata_checksum,
    trailer_size,
    with_trailer,
)

TABLE = "state/reserved"
SIZES = {"device": 64, "device_name": 512, "device_note": 256}
LENGTH = len(SIZES) + 3
_SUPERBLOCK_FLAGS = (20, 4)  # HDF5 marks there that a file is open for writing
Describe = Callable[..., None]


class Moved(Exception):
    """The metadata is not what was made: another program has changed it, or it is damaged."""


def reserve_texts(file: h5py.File) -> None:
    """Add the attributes of :data:`SIZES`, to be filled in by :func:`reserved_skeleton`."""
    for name in SIZES:
        file.attrs[name] = _token(name)


def reserved_skeleton(
    describe: Describe, texts: dict[str, str], complete: bool = False
) -> tuple[Skeleton, np.ndarray]:
    """The skeleton of ``describe(file, complete)`` with its attributes ``texts``; its table.

    ``describe`` calls :func:`reserve_texts` and sets ``complete`` to its argument, a bool.
    """
    skeleton, other = (build(partial(describe, complete=value)) for value in (False, True))
    offsets = [_difference(skeleton, other)]
    skeleton = other if complete else skeleton
    for name, size in SIZES.items():
        offsets.append(skeleton.find(_token(name).encode()))
        skeleton = skeleton.replaced(offsets[-1], _padded(texts.get(name, ""), size))
    checksum = _checksum(offsets, skeleton.extents, skeleton.size, skeleton.read)
    skeleton = with_trailer(skeleton, _changing(offsets))
    return skeleton, np.array([*offsets, checksum, _texts(offsets, skeleton.read)], np.uint64)


def intact(file: h5py.File) -> bool:
    """Whether the metadata of an open file is what was made, but for what may change."""
    read, size = _reading(file)
    if is_suspect(read, size) or not _agrees(file, read, size):
        return False
    *offsets, _, texts = (int(value) for value in file[TABLE][...])
    return texts == _texts(offsets, read)


def _agrees(file: h5py.File, read: Callable[[int, int], bytes], size: int) -> bool:
    """Whether the table of reserved attributes and all other metadata agree."""
    size -= trailer_size(read, size)
    *offsets, rest, _ = (int(value) for value in file[TABLE][...])
    return max(offsets) < size and rest == _checksum(offsets, find_extents(file), size, read)


def damaged(file: h5py.File) -> bool:
    """Whether the metadata of an open file is not what its trailer says; HDF5 cuts that off."""
    read, size = _reading(file)
    untouched = trailer_size(read, size) > 0
    return is_suspect(read, size) or (untouched and not _agrees(file, read, size))


def _reading(file: h5py.File) -> tuple[Callable[[int, int], bytes], int]:
    """What reads bytes of an open file, and its size."""
    descriptor = file.id.get_vfd_handle()

    def read(offset: int, length: int) -> bytes:
        return calls.read(descriptor, length, offset).ljust(length, b"\0")

    return read, os.fstat(descriptor).st_size


class Reserved:
    """The reserved attributes of a live file. Raises :class:`Moved` where they have been moved."""

    def __init__(self, live: LiveFile) -> None:
        self._live = live
        *offsets, rest, _ = (int(value) for value in live.read(TABLE))
        self._offsets = offsets
        self._places = dict(zip(("complete", *SIZES), offsets, strict=True))
        if is_suspect(live.bytes_at, live.size()):
            raise Moved
        size = live.size() - trailer_size(live.bytes_at, live.size())
        if rest != _checksum(offsets, live.extents, size, live.bytes_at):
            raise Moved
        self._values = live.inspect(_values)
        if self._values != self._stored():
            raise Moved

    def __getitem__(self, name: str) -> Any:
        """``complete`` as a bool, the others as strings."""
        return self._values[name]

    def set(self, name: str, value: Any) -> None:
        """Change an attribute; on the disk after ``live.sync()``. Too long a text is cut."""
        if name == "complete":
            data, self._values[name] = bytes([value]), bool(value)
        else:
            data = _padded(value, SIZES[name])
            self._values[name] = data.rstrip(b"\0").decode()
        self._live.put_bytes(self._places[name], data)
        if name != "complete":
            texts = np.array([_texts(self._offsets, self._live.bytes_at)], np.uint64)
            self._live.write(TABLE, texts, LENGTH - 1)

    def check(self) -> None:
        """Raise :class:`Moved` unless HDF5 reads what was set."""
        if self._live.inspect(_values) != self._values:
            raise Moved

    def _stored(self) -> dict[str, Any]:
        found: dict[str, Any] = {"complete": self._live.bytes_at(self._places["complete"], 1)}
        found["complete"] = {b"\0": False, b"\1": True}.get(found["complete"])
        for name, size in SIZES.items():
            data = self._live.bytes_at(self._places[name], size)
            found[name] = data.rstrip(b"\0").decode(errors="replace")
        return found


def _values(file: h5py.File) -> dict[str, Any]:
    values = {name: str(file.attrs[name]) for name in SIZES}
    return {"complete": bool(file.attrs["complete"]), **values}


def _token(name: str) -> str:
    return f"<reserved {name}>".ljust(SIZES[name], ".")


def _padded(text: str, size: int) -> bytes:
    cut = text.encode(errors="replace")[: size - 1].decode(errors="ignore").encode()
    return cut.ljust(size, b"\0")


def _difference(one: Skeleton, other: Skeleton) -> int:
    """Offset of the only byte that differs."""
    pairs = zip(one.segments, other.segments, strict=True)
    found = [
        offset + at
        for (offset, mine), (_, theirs) in pairs
        if mine != theirs
        for at in np.flatnonzero(np.frombuffer(mine, "u1") != np.frombuffer(theirs, "u1")).tolist()
    ]
    if len(found) != 1:
        raise RuntimeError(f"{len(found)} bytes depend on one attribute")
    return int(found[0])


def _checksum(
    offsets: list[int],
    extents: dict[str, Extent],
    size: int,
    read: Callable[[int, int], bytes],
) -> int:
    rest = metadata_checksum(extents.values(), size, read, _changing(offsets))
    return int(xxhash.xxh3_64_intdigest(np.array([*offsets, rest], "<u8").tobytes()))


def _changing(offsets: list[int]) -> list[tuple[int, int]]:
    """Spans of the metadata whose bytes may change."""
    return [_SUPERBLOCK_FLAGS, *zip(offsets, (1, *SIZES.values()), strict=True)]


def _texts(offsets: list[int], read: Callable[[int, int], bytes]) -> int:
    data = b"".join(map(read, offsets[1:], SIZES.values()))
    return int(xxhash.xxh3_64_intdigest(data))
