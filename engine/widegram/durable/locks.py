"""One writer at a time: flock, as HDF5 takes it, under HDF5's own switch."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

from widegram.errors import WidegramError

_NONE = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
_SWITCH = "HDF5_USE_FILE_LOCKING"


def lock(descriptor: int, path: Path) -> bool:
    """Lock an open file for this writer alone; whether that succeeded.

    False where another process reads or writes it. With HDF5_USE_FILE_LOCKING=FALSE, which is what
    users of HDF5 set on file systems without locks, nothing is locked and the answer is True; with
    BEST_EFFORT that is so where the file system has none. Raises :class:`WidegramError` naming the
    switch where it has none and the switch is not set.
    """
    switch = os.environ.get(_SWITCH, "").strip().upper()
    if switch in ("FALSE", "0"):
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NONE:
            raise
        if switch == "BEST_EFFORT":
            return True
        raise WidegramError(no_locks(path, error)) from error
    return True


def no_locks(path: Path, error: OSError) -> str:
    """What to tell the user of a file system without file locks."""
    return (
        f"{path}: its file system has no file locks ({os.strerror(error.errno or 0)}); "
        f"set {_SWITCH}=FALSE, and see that no other process writes this file"
    )


def in_use(path: Path) -> WidegramError:
    """The error for a file that another process has open."""
    return WidegramError(
        f"{path}: another process has this file open; wait until it is done or stop it"
    )


def being_written(path: Path) -> bool:
    """Whether a writer holds the lock of a file; False too where there is no file or no lock."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False
