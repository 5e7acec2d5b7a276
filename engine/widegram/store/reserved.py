"""Root attributes that change while a gram file is filled, in places of fixed size.

Nothing is ever added to the metadata of a file that holds tiles: a kill in the middle would leave
what HDF5 cannot open. ``complete`` is one byte; the others are strings of variable length whose
stored text has a fixed size, ended by a zero byte for every reader. ``/state/reserved`` (uint64)
says where they lie: the offsets, and a checksum of these and of the bytes before ``complete``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import h5py
import numpy as np
import xxhash

from widegram.durable import Image, LiveFile, build

TABLE = "state/reserved"
SIZES = {"device": 64, "device_name": 512, "device_note": 256}
LENGTH = len(SIZES) + 2
_BEFORE = 78  # bytes of an attribute's message in the object header, before the value of a bool
Describe = Callable[..., None]


class Moved(Exception):
    """The attributes are not where they were reserved: another program has rewritten them."""


def reserve_texts(file: h5py.File) -> None:
    """Add the attributes of :data:`SIZES`, to be filled in by :func:`reserved_image`."""
    for name in SIZES:
        file.attrs[name] = _token(name)


def reserved_image(describe: Describe, texts: dict[str, str]) -> tuple[Image, np.ndarray]:
    """The image of ``describe(file, complete=False)`` with ``texts`` as attributes, and its table.

    ``describe`` calls :func:`reserve_texts` and sets ``complete`` to its argument, a bool.
    """
    image, other = (build(partial(describe, complete=value)) for value in (False, True))
    offsets = [_difference(image, other)]
    guard = _bytes_before(image, offsets[0])
    for name, size in SIZES.items():
        offsets.append(image.find(_token(name).encode()))
        image = image.replaced(offsets[-1], _padded(texts.get(name, ""), size))
    return image, np.array([*offsets, _digest(offsets, guard)], np.uint64)


class Reserved:
    """The reserved attributes of a live file. Raises :class:`Moved` where they have been moved."""

    def __init__(self, live: LiveFile) -> None:
        self._live = live
        table = [int(value) for value in live.read(TABLE)]
        offsets = table[:-1]
        self._places = dict(zip(("complete", *SIZES), offsets, strict=True))
        end = live.size()
        if not all(_BEFORE <= offset <= end - max(SIZES.values()) for offset in offsets):
            raise Moved
        guard = live.bytes_at(offsets[0] - _BEFORE, _BEFORE)
        if table[-1] != _digest(offsets, guard):
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
    cut = text.encode()[: size - 1].decode(errors="ignore").encode()
    return cut.ljust(size, b"\0")


def _difference(one: Image, other: Image) -> int:
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


def _bytes_before(image: Image, place: int) -> bytes:
    for offset, data in image.segments:
        if offset + _BEFORE <= place < offset + len(data):
            return data[place - offset - _BEFORE : place - offset]
    raise RuntimeError("an attribute lies at the beginning of a segment")


def _digest(offsets: list[int], guard: bytes) -> int:
    return int(xxhash.xxh3_64_intdigest(np.array(offsets, "<u8").tobytes() + guard))
