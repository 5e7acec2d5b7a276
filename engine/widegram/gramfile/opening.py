"""Opening and creating the HDF5 file of a gram matrix."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from widegram.closing import ClosedOnFailure
from widegram.durable import NewHdf5, new_hdf5
from widegram.durable.hdf5 import hdf5_errors, open_file
from widegram.durable.outputs import check_disk, check_target
from widegram.errors import WidegramError
from widegram.gramfile.header import HEADER_CHECKSUM, Header, is_virtual, read_header
from widegram.gramfile.reserved import TABLE, reserved_skeleton
from widegram.sharding import shard_of


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
    virtual: Callable[[h5py.File], None] | None = None,
) -> Iterator[NewHdf5]:
    """A gram file in the making without finished tiles, whose data the block may put into place.

    ``texts`` are attributes of :data:`widegram.gramfile.reserved.SIZES` beside the header's device;
    ``ours`` as for :func:`widegram.durable.new_file`. With ``virtual``, which adds virtual
    datasets, the file says that it is complete.
    """

    def describe(file: h5py.File, complete: bool) -> None:
        header.write(file, complete)
        if virtual is not None:
            virtual(file)

    complete = virtual is not None
    skeleton, table = reserved_skeleton(describe, {"device": header.device, **texts}, complete)
    with new_hdf5(path, skeleton, overwrite=overwrite, ours=ours) as new:
        new.write(HEADER_CHECKSUM, np.array([header.checksum()], np.uint64))
        new.write(TABLE, table)
        yield new


def read(
    path: Path, *, snapshot: bool = False, shard: bool = False
) -> tuple[h5py.File, Header]:
    """Open a gram file and its header, or close it again and raise; a ``shard`` too, if asked."""
    file = open_file(path, snapshot=snapshot, virtual=is_virtual)
    with ClosedOnFailure(file):
        with hdf5_errors(path):
            header = read_header(file, path)
        if header.shard is not None and not shard:
            named = shard_of(path)
            out = "OUT.h5" if named is None else named[0]
            raise WidegramError(
                f"{path}: is {header.kind()} of a matrix; when all are there `widegram join {out}` "
                "makes the matrix of them"
            )
        return file, header
