"""Standard streams that may be closed, or closed later, without any other consequence."""

from __future__ import annotations

import errno
import io
import os
import stat
import sys
from typing import Any, TextIO

# Nobody reads any more: a closed pipe, a closed descriptor, a terminal that has gone.
_GONE = {errno.EPIPE, errno.EBADF, errno.ESHUTDOWN, errno.ENXIO}


class _Output(io.FileIO):
    """A descriptor to which writing succeeds; what could not be written is dropped.

    ``failure``: why, unless it is only that nobody reads.
    """

    failure: OSError | None = None

    def write(self, data: Any) -> int:
        """As :meth:`io.FileIO.write`, without its errors."""
        try:
            return super().write(data)
        except OSError as error:
            # isatty() fails on a terminal that has gone.
            device = stat.S_ISCHR(os.fstat(self.fileno()).st_mode)
            terminal = error.errno == errno.EIO and device
            if error.errno not in _GONE and not terminal:
                self.failure = error
            return len(data)


def secure() -> None:
    """Make stdin, stdout and stderr safe to use, whatever the caller made of them.

    Closed ones become ``/dev/null``, so that no file takes their number; writing to one that is
    closed meanwhile does nothing; what its encoding lacks is written as an escape.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # Takes the lowest number that is free: this one.
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115 - for the life of the process
    sys.stdout, sys.stderr = _text(1, sys.stdout), _text(2, sys.stderr)


def _text(descriptor: int, old: TextIO | None) -> io.TextIOWrapper:
    raw = _Output(descriptor, "w", closefd=False)
    encoding = "utf-8" if old is None else old.encoding
    return io.TextIOWrapper(
        io.BufferedWriter(raw), encoding=encoding, errors="backslashreplace", line_buffering=True
    )


def lost() -> str | None:
    """Why part of stdout is missing, None where nothing that somebody reads is."""
    sys.stdout.flush()
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    failure = getattr(raw, "failure", None)
    return None if failure is None else f"stdout: {failure.strerror}; what was printed is lost"


def say(line: str) -> None:
    """Write a line to stderr at once, from a signal handler too; never fails, never waits."""
    import select

    try:
        if os.isatty(2):
            line = f"\r\x1b[2K\x1b[?25h{line}"  # Over a progress bar; its cursor comes back.
        if select.select([], [2], [], 0.2)[1]:
            os.write(2, f"{line}\n".encode(errors="backslashreplace"))
    except (OSError, ValueError):
        return
