"""A file that is filled in place: one writer, fixed offsets, no change of its metadata."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from widegram.closing import ClosedOnFailure, Closing
from widegram.durable import calls
from widegram.durable.inside import check_inside
from widegram.durable.locks import in_use, lock
from widegram.durable.outputs import file_system_errors
from widegram.durable.skeleton import Start, find_extents
from widegram.durable.trailer import check_bearable
from widegram.errors import WidegramError, WriteFailed

_WORTH = 1 << 16  # bytes that are forgotten by a call of their own


class LiveFile(Closing):
    """An existing HDF5 file, opened and locked for writing at the places of its datasets.

    HDF5 reads it once, to find these places (``extents``) and for :meth:`inspect`; afterwards one
    descriptor is all there is. Data is on the disk after :meth:`sync` only: write data and
    checksums, sync, write flags, sync. A context manager that closes it. Raises
    :class:`WidegramError` where another process has the file open, or it cannot be opened;
    :class:`WriteFailed` where the file system fails; what h5py raises on a damaged file.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.target = Path(os.path.realpath(self.path))
        self._name = os.path.abspath(self.path)
        with file_system_errors(self.path):
            self._descriptor = calls.open_for_update(self.target)
        with ClosedOnFailure(self):
            self._claim()
            check_bearable(self.target)
            self.extents = self.inspect(find_extents)

    def _claim(self) -> None:
        if not stat.S_ISREG(os.fstat(self._descriptor).st_mode):
            raise WidegramError(f"{self.path}: is not a regular file; choose another name")
        with file_system_errors(self.path):
            free = lock(self._descriptor, self.path)
        if not free:
            raise in_use(self.path)

    def inspect(self, ask: Any) -> Any:
        """``ask(file)``, given the file as h5py reads it now, and closed again.

        Raises WidegramError where that is another file by now.
        """
        with h5py.File(self.target, "r", locking=False) as file:
            if not os.path.samestat(os.fstat(file.id.get_vfd_handle()), os.fstat(self._descriptor)):
                raise WidegramError(f"{self.path}: was replaced by another file; run again")
            check_inside(file)
            return ask(file)

    def write(self, name: str, block: NDArray[Any], start: Start = None) -> None:
        """Put ``block`` into the dataset ``name`` at ``start`` (as for ``Extent.spans``)."""
        with file_system_errors(self.path):
            for offset, data in self.extents[name].pieces(block, start):
                calls.write(self._descriptor, data, offset)

    def read(self, name: str, start: Start = None, shape: Any = None) -> NDArray[Any]:
        """A block of the dataset ``name``, all of it without ``start`` and ``shape``."""
        extent = self.extents[name]
        found = np.empty(extent.shape if shape is None else shape, extent.dtype)
        self.read_into(found, name, start)
        return found

    def read_into(self, into: NDArray[Any], name: str, start: Start = None) -> None:
        """Fill ``into`` with the block of its shape at ``start``; TypeError for another dtype than
        the dataset's."""
        extent = self.extents[name]
        if into.dtype != extent.dtype:
            raise TypeError(f"{name} holds {extent.dtype}, not {into.dtype}")
        for offset, length, place in extent.spans(start, into.shape):
            target = into[place] if into.ndim else into.reshape(1)  # always a view
            if target.flags.c_contiguous and target.size:
                self._fill(target.reshape(-1).view(np.uint8).data, offset)
            else:
                piece = self.bytes_at(offset, length)
                target[...] = np.frombuffer(piece, extent.dtype).reshape(target.shape)

    def bytes_at(self, offset: int, length: int) -> bytes:
        """Bytes of the file; WidegramError where it ends before."""
        found = bytearray(length)
        self._fill(memoryview(found), offset)
        return bytes(found)

    def _fill(self, into: memoryview, offset: int) -> None:
        try:
            count = calls.read_into(self._descriptor, into, offset)
        except OSError as error:
            raise WidegramError(f"{self.path}: cannot be read: {error.strerror}") from error
        if count != len(into):
            end = offset + len(into)
            raise WidegramError(f"{self.path}: is damaged: it ends before byte {end}")

    def size(self) -> int:
        """Bytes of the file."""
        return os.fstat(self._descriptor).st_size

    def put_bytes(self, offset: int, data: calls.Bytes) -> None:
        """Overwrite bytes whose meaning the caller knows, such as a reserved attribute's."""
        with file_system_errors(self.path):
            calls.write(self._descriptor, data, offset)

    def begin_sync(self) -> None:
        """Let the disk begin with what was written: :meth:`sync` will find less to do."""
        calls.begin_sync(self._descriptor)

    def sync(self) -> None:
        """Bring what was written to the disk."""
        with file_system_errors(self.path):
            calls.sync_data(self._descriptor)

    def forget(self, name: str, start: Start, shape: tuple[int, ...]) -> None:
        """Drop what a block at ``start`` has of whole pages from memory; it is on the disk."""
        with file_system_errors(self.path):
            for offset, size, _ in self.extents[name].spans(start, shape):
                if size >= _WORTH:
                    calls.forget(self._descriptor, size, offset)

    def stat(self) -> os.stat_result:
        """What the system says of the file, whatever its name is now."""
        return os.fstat(self._descriptor)

    def check_place(self) -> None:
        """Raise :class:`WriteFailed`, saying where the data is, unless the file still has its name.

        A file that was deleted, replaced, or moved with its folder goes on being written by this
        process, and nobody finds it.
        """
        mine = os.fstat(self._descriptor)
        try:
            if os.path.samestat(mine, os.stat(self._name)):
                return
        except OSError:
            pass
        if mine.st_nlink == 0:
            raise WriteFailed(
                f"{self.path}: was deleted or replaced while it was being written, its content is "
                "lost; run the same command again, from the beginning"
            )
        where = _name_of(self._descriptor)
        raise WriteFailed(
            f"{self.path}: was moved while it was being written"
            + (f", to {where}" if where else "")
            + "; what is done is kept there: move it back, then run the same command again"
        )

    def close(self) -> None:
        """Close the file and give up its lock; closing twice is allowed."""
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            with file_system_errors(self.path):
                os.close(descriptor)


def _name_of(descriptor: int) -> str:
    """Where an open file lies now, as the kernel knows it; empty where it does not say."""
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    except OSError:
        return ""
