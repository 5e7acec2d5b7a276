"""Opening and creating the HDF5 file of a gram matrix."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from widegram.data.tables import existing_file
from widegram.errors import WidegramError
from widegram.files import check_disk, check_target, new_file
from widegram.store.layout import CHECKSUMS, STATE, Header, read_header

# Bytes of chunk cache for each dataset. A writer has none: tiles are whole chunks or slow to
# compute, and a sweep over many depths opens many datasets.
_CHUNK_CACHE = {"r": 1 << 20, "r+": 0}


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


def open_file(path: Path, mode: str = "r") -> h5py.File:
    """Open an existing gram file ('r' or 'r+'), never creating or truncating one.

    Raises :class:`WidegramError` for a missing file (naming the nearest), one that is not HDF5,
    one that another process is writing, and one that may not be opened; :class:`Unreadable` for
    a damaged one.
    """
    existing_file(path)
    if not os.access(path, os.R_OK if mode == "r" else os.R_OK | os.W_OK):
        raise WidegramError(f"{path}: permission denied; change its mode or choose another file")
    if not h5py.is_hdf5(path):
        raise WidegramError(f"{path}: is not an HDF5 file; choose another name")
    locking = "best-effort" if mode == "r" else True
    with hdf5_errors(path):
        try:
            return h5py.File(path, mode, locking=locking, rdcc_nbytes=_CHUNK_CACHE[mode])
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES) or "unable to lock" in str(error):
                raise WidegramError(
                    f"{path}: another process has this file open; wait until it is done or stop it"
                ) from error
            raise


def create(path: Path, header: Header, overwrite: bool = False) -> None:
    """Create an empty gram file of its final size; it appears under ``path`` only when whole.

    Every byte is allocated (HDF5's early allocation alone leaves a sparse file, and a full disk
    would show up hours later). Raises :class:`WidegramError` where the disk is too small, the
    place cannot be written or another process is creating or writing the same file.
    """
    check_target(path, overwrite)
    if overwrite and path.exists():
        _refuse_if_locked(path)
    check_disk(path, header.file_bytes())
    # The part is ours, empty and locked by new_file: mode 'w' can destroy nothing here.
    with (
        new_file(path, overwrite=overwrite, allocate=True) as part,
        h5py.File(part, "w", locking=False) as file,
    ):
        header.write(file)
        down_across = header.grid.shape
        for key in header.keys:
            _dataset(file, key, (header.n1, header.n2), header.dtype, header.grid.chunk())
            _dataset(file, f"{CHECKSUMS}/{key}", down_across, "uint64")[...] = 0
        _dataset(file, STATE, down_across, "uint8")[...] = 0


def _refuse_if_locked(path: Path) -> None:
    if h5py.is_hdf5(path):
        try:
            open_file(path, "r+").close()
        except Unreadable:
            return


def _dataset(
    file: h5py.File,
    name: str,
    shape: tuple[int, int],
    dtype: str,
    chunk: tuple[int, int] | None = None,
) -> h5py.Dataset:
    """An uncompressed dataset whose storage is allocated now, so that no index changes later."""
    plist: Any = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    plist.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    plist.set_obj_track_times(False)  # two runs give the same bytes
    if chunk is not None:
        plist.set_chunk(chunk)
    folder, _, leaf = name.rpartition("/")
    group = file.require_group(folder) if folder else file
    stored = h5py.h5t.py_create(np.dtype(dtype).newbyteorder("<"))
    space = h5py.h5s.create_simple(shape)
    return h5py.Dataset(h5py.h5d.create(group.id, leaf.encode(), stored, space, plist))


def read(path: Path, mode: str = "r") -> tuple[h5py.File, Header]:
    """Open a gram file and its header, or close it again and raise."""
    file = open_file(path, mode)
    try:
        with hdf5_errors(path):
            return file, read_header(file, path)
    except WidegramError:
        file.close()
        raise
