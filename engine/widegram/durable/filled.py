"""Sealed files that are filled in place: their metadata is guarded, as their data changes.

A file that has datasets without checksums of :mod:`widegram.durable.sealed`, because they are
filled later, has the dataset ``/guard`` (1,), uint64: a checksum of all of HDF5's own structures,
which never change. What is filled has flags and checksums of its owner's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import DTypeLike

from widegram.closing import ClosedOnFailure
from widegram.durable import (
    LiveFile,
    calls,
    find_extents,
    metadata_checksum,
    reserve,
    trailer_size,
)
from widegram.durable.hdf5 import Unreadable, hdf5_errors
from widegram.durable.sealed import GUARD, Broken, new_sealed

_MESSAGE = "HDF5's structures in it are not those that were written"


@dataclass(frozen=True)
class Fill:
    """A dataset that is filled in place: ``shape``, ``dtype``, ``chunk`` (None: contiguous), and
    the number that it holds until then (None: zeros)."""

    shape: tuple[int, ...]
    dtype: DTypeLike
    chunk: tuple[int, ...] | None = None
    empty: float | None = None


def create_filled(
    path: Path,
    fills: Mapping[str, Fill],
    datasets: Mapping[str, Any],
    attributes: Mapping[str, Any],
    *,
    overwrite: bool = False,
) -> None:
    """Create such a file: datasets to be filled, others that are whole, and root attributes.

    Errors as :func:`widegram.durable.new_file`'s.
    """

    def describe(file: h5py.File) -> None:
        for name, fill in fills.items():
            reserve(file, name, fill.shape, fill.dtype, fill.chunk)
        reserve(file, GUARD, (1,), np.uint64)

    with new_sealed(path, describe, live=(*fills, GUARD), overwrite=overwrite) as new:
        for name, fill in fills.items():
            if fill.empty is not None:
                new.append(name, np.full(fill.shape, fill.empty))
        new.finish(datasets, attributes)


def open_filled(path: Path, remedy: str) -> LiveFile:
    """Open such a file for writing; ``remedy`` is what to do about a damaged one.

    Raises :class:`Broken` where its metadata is not what was written, and as :class:`LiveFile`.
    """
    try:
        with hdf5_errors(path):
            file = LiveFile(path)
        with ClosedOnFailure(file), hdf5_errors(path):
            size = file.size() - trailer_size(file.bytes_at, file.size())
            found = metadata_checksum(file.extents.values(), size, file.bytes_at)
            if found != int(file.read(GUARD)[0]):
                raise Broken(f"{path}: is damaged or was changed: {_MESSAGE}; {remedy}")
    except Unreadable as error:
        raise Broken(f"{error}; {remedy}") from error
    return file


def check_guard(file: h5py.File) -> None:
    """Raise :class:`Broken` unless the metadata of an open file is what was written."""
    descriptor, size = file.id.get_vfd_handle(), file.id.get_filesize()

    def read(offset: int, length: int) -> bytes:
        return calls.read(descriptor, length, offset)

    size -= trailer_size(read, size)
    if metadata_checksum(find_extents(file).values(), size, read) != int(file[GUARD][0]):
        raise Broken(_MESSAGE)
