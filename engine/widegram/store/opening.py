"""Opening and creating the HDF5 file of a gram matrix."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from widegram.data.tables import existing_file
from widegram.durable import NewHdf5, being_written, new_hdf5
from widegram.errors import WidegramError
from widegram.files import check_disk, check_target
from widegram.store.layout import HEADER_CHECKSUM, Header, read_header
from widegram.store.reserved import TABLE, reserved_image

_CHUNK_CACHE = 1 << 20  # bytes for each dataset: a sweep over many depths opens many


class Unreadable(WidegramError):
    """A file that calls itself HDF5 but cannot be read."""


@contextmanager
def hdf5_errors(path: Path) -> Iterator[None]:
    """Turn what HDF5 raises on a damaged file into :class:`Unreadable`."""
    try:
        yield
    except WidegramError:
        raise
    except (
        OSError,
        RuntimeError,
        KeyError,
        ValueError,
        TypeError,
        AttributeError,
        IndexError,
    ) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise Unreadable(f"{path}: is damaged, HDF5 cannot read it: {reason}") from error


def open_file(path: Path, *, snapshot: bool = False) -> h5py.File:
    """Open an existing HDF5 file for reading.

    Where the file system has locks the reader takes one, so that no writer begins; ``snapshot``
    reads without, also what a writer is filling. Raises :class:`WidegramError` for a missing file
    (naming the nearest), one that is not HDF5, one that another process is writing, and one that
    may not be opened; :class:`Unreadable` for a damaged one.
    """
    check_readable(path)
    if snapshot:
        return _opened(path, False)
    if being_written(path):
        raise in_use(path)
    return _opened(path, "best-effort")


def check_readable(path: Path, *, write: bool = False) -> None:
    """Refuse what is no HDF5 file that this user may read (and ``write``)."""
    existing_file(path)
    if not os.access(path, os.R_OK | os.W_OK if write else os.R_OK):
        raise WidegramError(f"{path}: permission denied; change its mode or choose another file")
    if not h5py.is_hdf5(path):
        raise WidegramError(f"{path}: is not an HDF5 file; choose another name")


def in_use(path: Path) -> WidegramError:
    """The error for a file that another process is writing."""
    return WidegramError(
        f"{path}: another process has this file open; wait until it is done or stop it"
    )


def _opened(path: Path, locking: bool | str) -> h5py.File:
    with hdf5_errors(path):
        try:
            return h5py.File(path, "r", locking=locking, rdcc_nbytes=_CHUNK_CACHE)
        except OSError as error:
            if locking is False or "unable to lock" not in str(error):
                raise
            if error.errno in (errno.EAGAIN, errno.EACCES):
                raise in_use(path) from error
    return _opened(path, False)  # a file system without locks: nothing keeps a reader from reading


def create(path: Path, header: Header, overwrite: bool = False) -> None:
    """Create an empty gram file of its final size; it appears under ``path`` only when whole.

    Every byte is allocated, so that a full disk shows up now and not hours later. Raises
    :class:`WidegramError` where the disk is too small, the place cannot be written or another
    process is creating or writing the same file.
    """
    check_target(path, overwrite)
    check_disk(path, header.file_bytes())
    with new_gram(path, header, {}, overwrite=overwrite):
        pass


@contextmanager
def new_gram(
    path: Path,
    header: Header,
    texts: dict[str, str],
    *,
    overwrite: bool = False,
    ours: bool = False,
) -> Iterator[NewHdf5]:
    """A gram file in the making without finished tiles, whose data the block may put into place.

    ``texts`` are attributes of :data:`widegram.store.reserved.SIZES` beside the header's device;
    ``ours`` as for :func:`widegram.durable.new_file`.
    """
    image, table = reserved_image(header.write, {"device": header.device, **texts})
    with new_hdf5(path, image, overwrite=overwrite, ours=ours) as new:
        new.write(HEADER_CHECKSUM, np.array([header.checksum()], np.uint64))
        new.write(TABLE, table)
        yield new


def read(path: Path, *, snapshot: bool = False) -> tuple[h5py.File, Header]:
    """Open a gram file and its header, or close it again and raise."""
    file = open_file(path, snapshot=snapshot)
    try:
        with hdf5_errors(path):
            return file, read_header(file, path)
    except WidegramError:
        file.close()
        raise
