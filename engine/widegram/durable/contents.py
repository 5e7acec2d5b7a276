"""Arrays and attributes as files hold them: their bytes, their checksums, their plain values."""

from __future__ import annotations

from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from widegram.errors import shown


def little(array: Any) -> NDArray[Any]:
    """An array or scalar in C order and little-endian, without a copy where it is so."""
    array = np.asarray(array)
    stored = array.dtype.newbyteorder("<")
    return np.ascontiguousarray(array, stored).reshape(array.shape)


def octets(array: Any) -> memoryview:
    """The C-ordered little-endian bytes of an array or scalar."""
    return little(array).reshape(-1).view(np.uint8).data


def checksum(array: Any) -> int:
    """xxh3-64 of :func:`octets`: what every file of ours keeps of an array."""
    return int(xxhash.xxh3_64_intdigest(octets(array)))


def plain(value: Any) -> Any:
    """An attribute as a plain Python value; an array as it is."""
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return value.item() if isinstance(value, np.generic) else value


def text_of(value: Any) -> str | None:
    """An attribute that should be text; None where it is not."""
    found = plain(value)
    return found if isinstance(found, str) else None


def typed(value: Any, kind: type) -> Any:
    """An attribute as the plain value of type ``kind`` that was written; ValueError for another.

    A whole number stands for a float.
    """
    found = plain(value)
    if kind is float and type(found) is int:
        return float(found)
    if type(found) is not kind:
        raise ValueError(f"an attribute is {shown(found)}, not of type {kind.__name__}")
    return found
