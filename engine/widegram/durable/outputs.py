"""Places for new files, and the errors of a file system in plain words."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from widegram.errors import WidegramError, WriteFailed, reason
from widegram.machine.budgets import format_size


def free_disk(path: Path) -> int:
    """Bytes that are free where ``path`` would lie; WidegramError where its folder is not there."""
    folder = Path(os.path.realpath(path)).parent  # a link's target may be on another disk
    _require(folder, path)
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize


def check_disk(path: Path, needed: int) -> None:
    """Refuse to start what does not fit on the disk of ``path``, naming both numbers of bytes."""
    free = free_disk(path)
    if free < needed:
        folder = os.path.dirname(os.path.realpath(path))
        raise WidegramError(
            f"{path}: too little disk: {needed} bytes ({format_size(needed)}) are needed, "
            f"{free} bytes ({format_size(free)}) are free in {folder}; "
            "free some, or choose another place"
        )


def is_own_plain(path: Path) -> bool:
    """Whether ``path``, which is there, is a plain file of this user with one name, no link."""
    found = os.lstat(path)
    return stat.S_ISREG(found.st_mode) and found.st_nlink == 1 and found.st_uid == os.geteuid()


def check_target(path: Path, overwrite: bool) -> None:
    """Refuse a target that is a directory, has no parent, exists (unless to be overwritten), or
    whose folder takes no files: now, and not when all is computed."""
    if "\0" in str(path):
        raise WidegramError(f"{path}: a file's name has no null character; choose another name")
    if path.is_dir():
        raise WidegramError(f"{path}: is a directory; give the name of a file in it")
    folder = path.parent
    if path.is_symlink():
        target = Path(os.path.realpath(path))
        if target.is_symlink():
            raise WidegramError(f"{path}: is a link to itself; choose another name")
        folder = target.parent
    _require(folder, path)
    if path.exists() and not overwrite:
        raise WidegramError(f"{path}: exists; choose another name or pass --overwrite")
    if path.exists() and not path.is_file():
        raise WidegramError(f"{path}: is not a regular file; choose another name")
    with file_system_errors(path):
        _check_folder(folder)


def _require(folder: Path, path: Path) -> None:
    """Refuse a ``path`` whose folder is not there."""
    if not folder.is_dir():
        raise WidegramError(f"{path}: its directory {folder} does not exist; create it first")


def _check_folder(folder: Path) -> None:
    """Raise OSError where no file can be created in ``folder``, as far as can be said without
    trying; where there is no disk behind it, such as in /proc, it is tried."""
    effective = os.access in os.supports_effective_ids
    if not os.access(folder, os.W_OK | os.X_OK, effective_ids=effective):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    if os.statvfs(folder).f_blocks == 0:
        descriptor, name = tempfile.mkstemp(dir=folder)
        os.close(descriptor)
        os.unlink(name)


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
    said = os.strerror(error.errno) if error.errno else reason(error)
    return f"cannot be written: {said}; mend that or choose another place, then run again"
