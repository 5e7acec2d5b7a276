"""The system calls that change files: thin, so that a test can make each of them fail.

All raise OSError. No other module opens a file of the user's for writing.
"""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path
from typing import Any

Bytes = bytes | bytearray | memoryview
_PIECE = 1 << 26
_SYNC_FILE_RANGE_WRITE = 2


def _sync_range() -> Any:
    """Linux's sync_file_range, which Python has no name for; None where the C library has none."""
    found = getattr(ctypes.CDLL(None), "sync_file_range", None)
    if found is not None:
        found.argtypes = ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint
    return found


_SYNC_RANGE = _sync_range()


def create(path: Path) -> int:
    """A descriptor of a new, empty file; FileExistsError for anything that has the name."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(path, flags, 0o666)


def open_for_update(path: Path) -> int:
    """A descriptor for reading and writing of an existing file that is no symbolic link.

    It is not truncated, and a FIFO is not waited for.
    """
    return os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)


def write(descriptor: int, data: Bytes, offset: int) -> None:
    """All of ``data`` at ``offset``, however many calls that takes."""
    view = memoryview(data).cast("B")
    while len(view):
        written = os.pwrite(descriptor, view[:_PIECE], offset)
        if written == 0:
            raise OSError(errno.EIO, "nothing was written")
        view, offset = view[written:], offset + written


def read(descriptor: int, size: int, offset: int) -> bytes:
    """``size`` bytes from ``offset`` on; fewer where the file ends."""
    pieces = []
    while size:
        piece = os.pread(descriptor, min(size, _PIECE), offset)
        if not piece:
            break
        pieces.append(piece)
        size, offset = size - len(piece), offset + len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def read_into(descriptor: int, into: memoryview, offset: int) -> int:
    """Fill bytes in memory from ``offset`` on; how many, fewer where the file ends."""
    done = 0
    while done < len(into):
        count = os.preadv(descriptor, [into[done : done + _PIECE]], offset + done)
        if not count:
            break
        done += count
    return done


def forget(descriptor: int, size: int = 0, offset: int = 0) -> None:
    """Drop pages of a synced file from memory, by default all: reading them then asks the disk."""
    os.posix_fadvise(descriptor, offset, size, os.POSIX_FADV_DONTNEED)


def allocate(descriptor: int, size: int) -> None:
    """Reserve the blocks of the first ``size`` bytes, so that filling them cannot fill the disk."""
    if size:
        os.posix_fallocate(descriptor, 0, size)


def begin_sync(descriptor: int) -> None:
    """Let the disk begin with what was written to a file; a hint, which promises nothing."""
    if _SYNC_RANGE is not None:
        _SYNC_RANGE(descriptor, 0, 0, _SYNC_FILE_RANGE_WRITE)


def sync(descriptor: int) -> None:
    """Bring a file's content and size to the disk."""
    os.fsync(descriptor)


def sync_data(descriptor: int) -> None:
    """Bring the content of a file of known size to the disk."""
    os.fdatasync(descriptor)


def rename(source: Path, target: Path) -> None:
    """Give ``source`` the name of ``target``, whatever has had it."""
    os.replace(source, target)


def unlink(path: Path) -> None:
    """Remove a name."""
    os.unlink(path)


def sync_directory(folder: Path) -> None:
    """Make a rename in ``folder`` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
