"""Files that a user names: whether they are there, and small ones read without trust."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from widegram.errors import WidegramError

# Where a shell puts what a command writes: `--net <(program)`, `--net /dev/stdin`.
_PIPES = ("/dev/fd/", "/dev/stdin", "/proc/self/fd/")


def existing_file(path: Path) -> Path:
    """``path`` if it is a file, else an error naming the nearest name in its folder."""
    if path.is_file():
        return path
    if path.is_dir():
        raise WidegramError(f"{path}: is a directory, a data file was expected")
    folder = path.parent
    if not folder.is_dir():
        raise WidegramError(f"{path}: no such file; its directory {folder} does not exist")
    if os.path.lexists(path):
        raise WidegramError(f"{path}: is no regular file, or a link to none")
    import difflib  # not before it is needed: every command comes by here

    close = difflib.get_close_matches(path.name, [p.name for p in folder.iterdir()], n=1)
    hint = f"; did you mean {str(folder / close[0])!r}?" if close else ""
    raise WidegramError(f"{path}: no such file{hint}")


def read_text(path: Path, what: str, most_bytes: int) -> str:
    """The UTF-8 text of a file, without a byte order mark.

    Raises :class:`WidegramError` naming ``what`` was wanted where the file cannot be read, is a
    device or a pipe that no shell made (reading them may never end), larger than ``most_bytes``
    or no text.
    """
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            content = file.read(most_bytes + 1)
    except OSError as error:
        raise WidegramError(f"{path}: cannot read the {what}: {error.strerror}") from None
    except ValueError as error:  # a name with a NUL
        raise WidegramError(f"{str(path)!r}: cannot read the {what}: {error}") from None
    if len(content) > most_bytes:
        raise WidegramError(f"{path}: a {what} has at most {most_bytes:,} bytes")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise WidegramError(f"{path}: not a text file; a {what} is JSON or TOML") from None


def _without_waiting(path: str, flags: int) -> int:
    """A descriptor of a regular file, or of a shell's pipe; a named pipe is not waited for."""
    descriptor = os.open(path, flags | os.O_NONBLOCK)
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode) and not (
        str(path).startswith(_PIPES) and (stat.S_ISFIFO(mode) or stat.S_ISCHR(mode))
    ):
        os.close(descriptor)
        kind = "Is a directory" if stat.S_ISDIR(mode) else "Is no regular file"
        raise OSError(0, kind)
    os.set_blocking(descriptor, True)
    return descriptor
