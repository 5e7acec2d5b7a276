"""Sealed files that are filled in place: their metadata is guarded, as their data changes.

A file that has datasets without checksums of :mod:`widegram.durable.sealed`, because they are
filled later, has the dataset ``/guard`` (1,), uint64: a checksum of all of HDF5's own structures,
which never change. What is filled has flags and checksums of its owner's.
"""

from __future__ import annotations

from pathlib import Path

import h5py

from widegram.durable import LiveFile, calls, find_extents, metadata_checksum, trailer_size
from widegram.durable.hdf5 import Unreadable, hdf5_errors
from widegram.durable.sealed import GUARD, Broken

_MESSAGE = "HDF5's structures in it are not those that were written"


def open_filled(path: Path, remedy: str) -> LiveFile:
    """Open such a file for writing; ``remedy`` is what to do about a damaged one.

    Raises :class:`Broken` where its metadata is not what was written, and as :class:`LiveFile`.
    """
    try:
        with hdf5_errors(path):
            file = LiveFile(path)
        try:
            with hdf5_errors(path):
                size = file.size() - trailer_size(file.bytes_at, file.size())
                found = metadata_checksum(file.extents.values(), size, file.bytes_at)
                if found != int(file.read(GUARD)[0]):
                    raise Broken(f"{path}: is damaged or was changed: {_MESSAGE}; {remedy}")
        except BaseException:
            file.close()
            raise
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
