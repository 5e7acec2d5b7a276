"""Sums over the rows of a file on disk, so that a stopped pass goes on where it was."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from widegram.durable.sealed import write_sealed
from widegram.linalg.workfile import StepClock, open_work_file, remove_work_file
from widegram.machine import interrupts

Array = NDArray[Any]
FORMAT = "widegram-sums"
_SHARE = 20.0  # A pass takes so many times as long as saving its sums.


class SumsFile:
    """The work file ``path``: arrays by name, and how many rows of the problem ``key`` are in them.

    Written whole or not at all, at most every ``seconds`` and a twentieth of the time. A file of
    another problem is refused (see :func:`widegram.linalg.workfile.open_work_file`). ``clock``: of
    blocks.
    """

    def __init__(self, path: Path, key: str, seconds: float) -> None:
        self.path = path
        self.saved = 0
        self.key, self._seconds = key, seconds
        self._last, self.clock = time.monotonic(), StepClock()

    def load(
        self, names: tuple[str, ...], discard_other: bool
    ) -> tuple[dict[str, Array], int, int] | None:
        """(arrays, rows in them, rows of a block); None where there is no file.

        A file of another problem is removed with ``discard_other``, else a WidegramError.
        """
        file = open_work_file(self.path, FORMAT, {"key": self.key}, discard_other)
        if file is None:
            return None
        with file:
            found = {name: file.array(name) for name in names}
            self.saved = int(file.attributes["rows"])
            return found, self.saved, int(file.attributes["height"])

    def save(self, arrays: Mapping[str, Array], rows: int, height: int) -> None:
        """Write the sums; what has the name and is no sums of this problem is refused."""
        begun = time.monotonic()
        present = open_work_file(self.path, FORMAT, {"key": self.key}, False)
        if present is not None:
            present.close()
        attributes = {"format": FORMAT, "format_version": 1, "key": self.key}
        with interrupts.saving():
            write_sealed(
                self.path, arrays, {**attributes, "rows": rows, "height": height}, overwrite=True
            )
        self.saved, self._last = rows, time.monotonic()
        self._seconds = max(self._seconds, _SHARE * (self._last - begun))

    def reached(
        self, rows: int, total: int, height: int, arrays: Callable[[], Mapping[str, Array]]
    ) -> bool:
        """After every block: save what is due, and the last; whether a stop is asked for."""
        self.clock.end()
        stop = interrupts.requested()
        if stop or rows == total or time.monotonic() - self._last >= self._seconds:
            self.save(arrays(), rows, height)
            self.clock.begin()
        return stop

    def remove(self) -> None:
        """Remove the file, and what a kill left of one."""
        remove_work_file(self.path)
