"""The one way in which this program writes files.

HDF5 never writes to the disk. Its metadata is made in memory
(:mod:`~widegram.durable.skeleton`); the program itself puts that, and the data at the offsets that
HDF5 chose, into the file. A new file is written as a part, synced, read back, and renamed
(:mod:`~widegram.durable.part`). A file that grows over many runs is written in place under a lock
(:mod:`~widegram.durable.live`). Every system call is a function of :mod:`~widegram.durable.calls`,
and one that fails raises :class:`widegram.errors.WriteFailed`: nothing fails in a destructor.

A whole file, for most commands, with a checksum of every dataset and a seal of the rest
(:mod:`~widegram.durable.sealed`)::

    write_sealed(path, {"alpha": alpha}, {"format": "..."}, overwrite=overwrite)

One that is filled in place over many runs, with flags and checksums of its owner's
(:mod:`~widegram.durable.filled`): ``create_filled``, then ``open_filled``. One whose data comes
piece by piece::

    def describe(file):                      # file: an h5py.File in memory
        file.attrs["format"] = "..."
        reserve(file, "kernel", (n1, n2), "<f4")

    with new_hdf5(path, describe, overwrite=overwrite) as new:
        new.write("kernel", block, row=lo)

Any other bytes::

    with new_file(path, overwrite=overwrite) as part:
        part.stream().write(text)

What writes at known places of an existing file: :class:`LiveFile`.
"""

from __future__ import annotations

from widegram.durable.live import LiveFile
from widegram.durable.locks import being_written
from widegram.durable.metadata import metadata_checksum
from widegram.durable.newfile import NewHdf5, new_file, new_hdf5, write_bytes
from widegram.durable.part import Part, discard_leftover
from widegram.durable.skeleton import Extent, Skeleton, build, find_extents, reserve
from widegram.durable.trailer import check_bearable, is_suspect, trailer_size, with_trailer

__all__ = [
    "Extent",
    "LiveFile",
    "NewHdf5",
    "Part",
    "Skeleton",
    "being_written",
    "build",
    "check_bearable",
    "discard_leftover",
    "find_extents",
    "is_suspect",
    "metadata_checksum",
    "new_file",
    "new_hdf5",
    "reserve",
    "trailer_size",
    "with_trailer",
    "write_bytes",
]
