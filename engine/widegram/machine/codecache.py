"""The folder of compiled code, which is run as it lies there: what is trusted in it, and writing.

Code is taken from a folder and from files that belong to this user and that nobody else may write,
as ssh does with its keys; whatever else lies there (a link, a pipe, somebody's file) is left alone
and code is compiled in memory. A file holds a digest of its name and its content, and appears under
its name only when it is whole, so that any number of processes may share a folder.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
import tempfile
import threading
import time
from functools import cache
from pathlib import Path
from typing import Any

from widegram.closing import OnFailure
from widegram.errors import one_line
from widegram.machine.log import logger

_DIGEST = 32  # bytes of SHA-256, before the content of a file
_OTHERS = stat.S_IWGRP | stat.S_IWOTH
_LARGEST = 1 << 28
_TEMPORARY = ".new-"
_CLEANED: set[tuple[int, int]] = set()  # folders, by device and inode
_STALE_SECONDS = 3600.0  # of a temporary file that another machine may still be writing


class Untrusted(Exception):
    """Why a folder or file is not used, in words for the user."""


def location(part: str) -> Path:
    """Where code lies: ``$WIDEGRAM_CACHE_DIR``, or ``widegram`` in the user's cache folder.

    ``part`` ('code', 'cuda') is a folder in it. Raises :class:`Untrusted` where there is no home.
    """
    named = os.environ.get("WIDEGRAM_CACHE_DIR")
    if named:
        folder = Path(os.path.expanduser(named), *([] if part == "code" else [part]))
    else:
        # The XDG base directory specification: a relative path is to be ignored.
        base = os.environ.get("XDG_CACHE_HOME", "")
        base = base if os.path.isabs(base) else os.path.expanduser("~/.cache")
        folder = Path(base, "widegram", part)
    if str(folder).startswith("~"):
        raise Untrusted(f"{folder}: there is no such home directory")
    return folder


def read(part: str, name: str) -> bytes | None:
    """The content kept under ``name``, None where there is none to be trusted."""
    try:
        folder = _opened(location(part))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, Untrusted) as error:
        warn(error)
        return None
    try:
        data = _content(folder, name, location(part))
    except (OSError, Untrusted) as error:
        _tell(f"{_words(error)}; it is not used, the code is made anew")
        return None
    finally:
        os.close(folder)
    content = data[_DIGEST:]
    return content if _digest(name, content) == data[:_DIGEST] else None


def _content(folder: int, name: str, path: Path) -> bytes:
    """What a file holds, nothing where there is none; a link is not followed, a pipe not read."""
    try:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(name, flags, dir_fd=folder)
    except FileNotFoundError:
        return b""
    except OSError as error:
        link = error.errno == errno.ELOOP
        raise Untrusted(f"{path / name}: {'is a link' if link else error.strerror}") from error
    try:
        _check(os.fstat(descriptor), path / name, stat.S_ISREG, "regular file")
        with open(descriptor, "rb", closefd=False) as file:
            return file.read(_LARGEST)
    finally:
        os.close(descriptor)


def keep(part: str, name: str, content: bytes) -> bool:
    """Write ``content`` under ``name``; False, and a hint once, where that cannot be."""
    try:
        path = location(part)
        _make(path)
        folder = _opened(path)
        try:
            _clean(folder)
            _write(folder, name, _digest(name, content) + content)
        finally:
            os.close(folder)
        return True
    except (OSError, ValueError, Untrusted) as error:
        warn(error)
        return False


def claim(part: str, name: str) -> bool:
    """Whether no process has claimed ``name`` before; in a folder that cannot be used, True."""
    try:
        path = location(part)
        _make(path)
        folder = _opened(path)
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            os.close(os.open(name, flags, 0o600, dir_fd=folder))
        finally:
            os.close(folder)
    except FileExistsError:
        return False
    except (OSError, ValueError, Untrusted):
        return True
    return True


def text_file(part: str, name: str, text: str) -> Path:
    """A file that holds ``text`` under ``name``: kept where that is safe, else of this process.

    What Python and Numba compile of it lies beside it, in ``__pycache__``, and is held to the same
    rules. Raises OSError where no file can be written at all.
    """
    try:
        path = location(part)
        _make(path / "__pycache__")
        os.close(_opened(path / "__pycache__"))
        folder = _opened(path)
    except (OSError, ValueError, Untrusted) as error:
        warn(error)
        path = private_folder()
        folder = _opened(path)
    try:
        # Numba takes a file that was written again for another one.
        if _written(folder, name, path) != text.encode():
            _clean(folder)
            _write(folder, name, text.encode())
    finally:
        os.close(folder)
    return path / name


def _written(folder: int, name: str, path: Path) -> bytes | None:
    try:
        return _content(folder, name, path)
    except (OSError, Untrusted):
        return None


def _write(folder: int, name: str, data: bytes) -> None:
    maker = f"{os.uname().nodename}-{os.getpid()}-{threading.get_ident()}"
    temporary = f"{_TEMPORARY}{maker}-{name}"[:250]
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary, dir_fd=folder)  # of an earlier process of this number
    descriptor = os.open(temporary, flags, 0o600, dir_fd=folder)
    with OnFailure(lambda: os.unlink(temporary, dir_fd=folder)):  # Half a file must not stay.
        with open(descriptor, "wb") as file:
            file.write(data)
        os.replace(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)


def _clean(folder: int) -> None:
    """Remove what processes left that were killed while they wrote, once in a process: a folder
    may hold thousands of files."""
    about = os.fstat(folder)
    if (about.st_dev, about.st_ino) in _CLEANED:
        return
    _CLEANED.add((about.st_dev, about.st_ino))
    ours = f"{_TEMPORARY}{os.uname().nodename}-"
    for name in os.listdir(folder):
        if not name.startswith(_TEMPORARY):
            continue
        with contextlib.suppress(OSError):
            age = time.time() - os.stat(name, dir_fd=folder, follow_symlinks=False).st_mtime
            number = name.removeprefix(ours).split("-")[0]
            dead = name.startswith(ours) and number.isdecimal() and not _alive(int(number))
            if dead or age > _STALE_SECONDS:
                os.unlink(name, dir_fd=folder)


def _alive(process: int) -> bool:
    return Path("/proc", str(process)).exists()


def _make(path: Path) -> None:
    """Create a folder and what it lies in, for this user alone."""
    for folder in (*reversed(path.parents), path):
        with contextlib.suppress(FileExistsError):
            if not folder.exists():
                folder.mkdir(mode=0o700)


def _opened(path: Path) -> int:
    """A descriptor of a folder that only this user can have filled."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    with OnFailure(lambda: os.close(descriptor)):
        _check(os.fstat(descriptor), path, stat.S_ISDIR, "folder")
    return descriptor


def _check(found: os.stat_result, path: Path, is_kind: Any, kind: str) -> None:
    if not is_kind(found.st_mode):
        raise Untrusted(f"{path}: is no {kind}")
    if found.st_uid != os.geteuid():
        raise Untrusted(f"{path}: belongs to another user")
    if found.st_mode & _OTHERS:
        raise Untrusted(f"{path}: others may write it (chmod go-w mends that)")


def _digest(name: str, content: bytes) -> bytes:
    return hashlib.sha256(name.encode() + b"\0" + content).digest()


def problem(part: str = "code") -> str | None:
    """Why code is compiled again in every run, None where it is kept."""
    try:
        path = location(part)
        while not path.exists() and path != path.parent:
            path = path.parent
        if path == location(part):
            os.close(_opened(path))
        if not path.is_dir():
            return f"{path}: is no folder"
        return None if os.access(path, os.W_OK | os.X_OK) else f"{path}: cannot be written"
    except (OSError, ValueError, Untrusted) as error:
        return _words(error)


def describe() -> dict[str, Any]:
    """For ``doctor``: the ``folder``, its ``files`` and ``bytes``, and a ``problem`` or None."""
    sizes: list[int] = []
    try:
        folder = str(location("code"))
        with contextlib.suppress(OSError), os.scandir(folder) as found:
            sizes = [f.stat(follow_symlinks=False).st_size for f in found if f.name.endswith(".o")]
    except (Untrusted, ValueError):
        folder = ""
    return {"folder": folder, "files": len(sizes), "bytes": sum(sizes), "problem": problem()}


def warn(error: Exception) -> None:
    """Say why code is not kept: once in a process, whatever the number of functions."""
    _tell(
        f"compiled code is not kept, and made anew in every run (some 10 seconds): "
        f"{_words(error)}; set WIDEGRAM_CACHE_DIR to a folder of your own"
    )


def _tell(message: str) -> None:
    if not _told():
        _told().append(message)
        logger.warning("%s", one_line(message))


@cache
def _told() -> list[str]:
    """The one hint of this process, once it was given."""
    return []


def _words(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)


@cache
def private_folder() -> Path:
    """A folder for this process alone, removed at its end: for code that must lie in a file."""
    import atexit
    import shutil

    folder = Path(tempfile.mkdtemp(prefix="widegram-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
