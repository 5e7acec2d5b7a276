"""New files that appear whole or not at all, and the errors of a file system in plain words."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from widegram.errors import WidegramError, WriteFailed
from widegram.memory import format_size


def check_disk(path: Path, needed: int) -> None:
    """Refuse to start what does not fit on the disk of ``path``, naming both numbers of bytes."""
    stat = os.statvfs(path.parent)
    free = stat.f_bavail * stat.f_frsize
    if free < needed:
        raise WidegramError(
            f"{path}: too little disk: {needed} bytes ({format_size(needed)}) are needed, "
            f"{free} bytes ({format_size(free)}) are free in {path.parent}; "
            "free some, or choose another place"
        )


def check_target(path: Path, overwrite: bool) -> None:
    """Refuse a target that is a directory, has no parent or exists (unless to be overwritten)."""
    if path.is_dir():
        raise WidegramError(f"{path}: is a directory; give the name of a file in it")
    if not path.parent.is_dir():
        raise WidegramError(f"{path}: its directory {path.parent} does not exist; create it first")
    if path.exists() and not overwrite:
        raise WidegramError(f"{path}: exists; choose another name or pass --overwrite")
    if path.exists() and not path.is_file():
        raise WidegramError(f"{path}: is not a regular file; choose another name")


@contextmanager
def new_file(path: Path, *, overwrite: bool = False, allocate: bool = False) -> Iterator[Path]:
    """Yield ``path``.part, empty and locked; rename it to ``path`` once the block has ended well.

    The content is on disk before the rename and the rename before the return. ``allocate``
    reserves the blocks of a sparse part first. If the block raises, the part is removed and
    ``path`` is as it was. Raises :class:`WidegramError` for what :func:`check_target` refuses, an
    unwritable place, a full disk and a second process that is creating the same file.
    """
    check_target(path, overwrite)
    part = path.with_name(path.name + ".part")
    with file_system_errors(path):
        descriptor = _locked(part)
    try:
        check_target(path, overwrite)
        with file_system_errors(path):
            os.ftruncate(descriptor, 0)
            yield part
            if allocate:
                os.posix_fallocate(descriptor, 0, os.fstat(descriptor).st_size)
            os.fsync(descriptor)
            os.replace(part, path)
            sync_directory(path.parent)
    finally:
        if _same_file(descriptor, part):
            part.unlink()
        os.close(descriptor)


def _locked(part: Path) -> int:
    """An open, exclusively locked part file; one left behind by a killed process is taken over."""
    descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        alone = _same_file(descriptor, part)
    except BlockingIOError:
        alone = False
    if not alone:
        os.close(descriptor)
        raise WidegramError(f"{part}: another process is creating this file; wait until it is done")
    return descriptor


def _same_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def sync_directory(folder: Path) -> None:
    """Make a rename in ``folder`` durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def file_system_errors(path: Path) -> Iterator[None]:
    """Turn the errors of the system while writing ``path`` into :class:`WriteFailed`, one line."""
    try:
        yield
    except OSError as error:
        raise WriteFailed(f"{path}: {_reason(error)}") from error


def _reason(error: OSError) -> str:
    if error.errno == errno.ENOSPC or "No space left" in str(error):
        return "the disk is full; free some, then run again"
    if error.errno == errno.EDQUOT:
        return "the disk is full (your quota is used up); free some, then run again"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"cannot be written ({os.strerror(error.errno)}); choose another place"
    said = os.strerror(error.errno) if error.errno else " ".join(str(error).split())
    return f"cannot be written: {said}; mend that or choose another place, then run again"
