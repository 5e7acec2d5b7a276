"""Opening HDF5 files for reading, and the datasets in them: the one way in for every command.

A file from elsewhere may name other files: external links, external raw storage and virtual
datasets make HDF5 open what they name, a pipe or somebody's secrets among them. A dataset is taken
only where its numbers lie in the file that was asked for; soft links inside the file are followed.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py

from widegram.closing import ClosedOnFailure
from widegram.durable import being_written, check_bearable
from widegram.durable.inside import check_inside, check_place
from widegram.durable.locks import in_use
from widegram.errors import WidegramError, reason, shown
from widegram.validation.reading import existing_file

_CHUNK_CACHE = 1 << 20  # bytes for each dataset: a sweep over many depths opens many
_MOST_LINKS = 16


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
        OverflowError,
    ) as error:
        raise Unreadable(f"{path}: is damaged, HDF5 cannot read it: {reason(error)}") from error


def open_file(
    path: Path,
    *,
    snapshot: bool = False,
    foreign: bool = False,
    virtual: Callable[[h5py.File], bool] | None = None,
) -> h5py.File:
    """Open an existing HDF5 file for reading.

    Nothing in it may lead to another file; one from elsewhere (``foreign``) may hold such links,
    which :func:`stored_dataset` refuses where they are asked for. Where ``virtual(file)`` is true
    it may hold virtual datasets too, which are refused in the same way: whoever knows them reads
    the files behind them.

    Where the file system has locks the reader takes one, so that no writer begins; ``snapshot``
    reads without, also what a writer is filling. Raises :class:`WidegramError` for a missing file
    (naming the nearest), one that is not HDF5, one that another process is writing, and one that
    may not be opened; :class:`Unreadable` for a damaged one.
    """
    check_readable(path)
    if not snapshot and being_written(path):
        raise in_use(path)
    file = _opened(path, False if snapshot else "best-effort")
    if not foreign:
        with ClosedOnFailure(file), hdf5_errors(path):
            check_inside(file, virtual is not None and virtual(file))
    return file


def check_readable(path: Path, *, write: bool = False) -> None:
    """Refuse what is no HDF5 file that this user may read (and ``write``)."""
    existing_file(path)
    if not os.access(path, os.R_OK | os.W_OK if write else os.R_OK):
        raise WidegramError(f"{path}: permission denied; change its mode or choose another file")
    if not h5py.is_hdf5(path):
        raise WidegramError(f"{path}: is not an HDF5 file; choose another name")


def _opened(path: Path, locking: bool | str) -> h5py.File:
    with hdf5_errors(path):
        check_bearable(path)
        try:
            return h5py.File(path, "r", locking=locking, rdcc_nbytes=_CHUNK_CACHE)
        except OSError as error:
            if locking is False or "unable to lock" not in str(error):
                raise
            if error.errno in (errno.EAGAIN, errno.EACCES):
                raise in_use(path) from error
    return _opened(path, False)  # a file system without locks: nothing keeps a reader from reading


def stored_dataset(file: h5py.File, name: str) -> h5py.Dataset:
    """The dataset ``name`` of an open file, whose shape, dtype and numbers are in that file.

    Raises KeyError where there is none, :class:`WidegramError` for one that leads to another file
    or holds no array of numbers that was written: external links, external storage, virtual
    datasets, null dataspaces, compound, variable-length, opaque and enumerated types, datasets
    never (or not wholly) written.
    """
    place = f"{file.filename}:{name}"
    dataset = h5py.Dataset(_object(file, name, place))
    check_place(dataset, place)
    _check_type(dataset, place)
    _check_written(dataset, place)
    return dataset


def _object(file: h5py.File, name: str, place: str) -> Any:
    """The dataset behind ``name``, link by link, so that none leads out of the file."""
    parts = [part for part in name.split("/") if part and part != "."]
    group, followed = file["/"].id, 0
    while True:
        leaf = parts.pop(0).encode() if parts else b"."
        if leaf != b".":
            if not group.links.exists(leaf):
                raise KeyError(name)
            kind = group.links.get_info(leaf).type
            if kind == h5py.h5l.TYPE_SOFT:
                target = group.links.get_val(leaf).decode()
                followed += 1
                if followed > _MOST_LINKS:
                    raise WidegramError(f"{place}: its soft links lead nowhere; name a dataset")
                if target.startswith("/"):
                    group = file["/"].id
                parts = [p for p in target.split("/") if p and p != "."] + parts
                continue
            if kind != h5py.h5l.TYPE_HARD:
                raise WidegramError(
                    f"{place}: is a link to another file; name that file and its dataset instead"
                )
        found = h5py.h5o.open(group, leaf)
        if isinstance(found, h5py.h5g.GroupID) and parts:
            group = found
        elif isinstance(found, h5py.h5d.DatasetID) and not parts:
            return found
        else:
            raise WidegramError(f"{place}: is no dataset; name a dataset")


def _check_written(dataset: h5py.Dataset, place: str) -> None:
    plist = dataset.id.get_create_plist()
    count = dataset.id.get_space().get_simple_extent_npoints()
    if plist.get_layout() == h5py.h5d.COMPACT or not count:
        return
    wanted = count * dataset.id.get_type().get_size()
    written = dataset.id.get_storage_size()
    packed = plist.get_nfilters() > 0
    if written == 0 or (written < wanted and not packed):
        raise WidegramError(
            f"{place}: declares {wanted:,} bytes, of which {written:,} were ever written; "
            "write all of it"
        )
    if packed:
        _check_chunks(dataset, place)


def _check_chunks(dataset: h5py.Dataset, place: str) -> None:
    """Compressed chunks are counted: their bytes say nothing of the array's."""
    wanted = 1
    for size, chunk in zip(dataset.shape, dataset.chunks, strict=True):
        wanted *= -(-size // chunk)
    written = dataset.id.get_num_chunks()
    if written < wanted:
        raise WidegramError(
            f"{place}: only {written:,} of its {wanted:,} chunks were ever written; write all of it"
        )


def _check_type(dataset: h5py.Dataset, place: str) -> None:
    try:
        dtype = dataset.dtype
    except (TypeError, ValueError, RuntimeError, KeyError) as error:
        raise WidegramError(f"{place}: its type has no counterpart here: {error}") from error
    enumerated = h5py.check_enum_dtype(dtype) is not None
    if dtype.kind not in "iufcb" or dtype.subdtype is not None or enumerated:
        kind = "an enumeration" if enumerated else shown(str(dtype))
        raise WidegramError(f"{place}: holds {kind}, not numbers")
