"""The iterate of conjugate gradients on disk, so that a stopped run goes on where it was."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from widegram.durable.sealed import write_sealed
from widegram.linalg.cg import Checkpoint
from widegram.linalg.workfile import NOTHING_SAVED, StepClock, open_work_file, remove_work_file
from widegram.machine import interrupts

Array = NDArray[Any]
FORMAT = "widegram-restart"


class RestartFile:
    """The file ``path``: x of shape (n, k), the iterations so far and the key of the problem.

    Written whole or not at all, at most every ``seconds``. A file of another problem is refused
    (see :func:`widegram.linalg.workfile.open_work_file`). ``clock``: of iterations.
    """

    def __init__(self, path: Path, key: str, seconds: float) -> None:
        self.path = path
        self._key = key
        self._seconds = seconds
        self._last, self._saved = time.monotonic(), 0
        self.clock = StepClock()

    def kept(self) -> str:
        """What an interrupted run leaves."""
        if not self._saved:
            return NOTHING_SAVED
        return (
            f"{self.path}: interrupted, {self._saved} iterations are saved; run the same command "
            "again to go on"
        )

    def load(self, shape: tuple[int, ...], discard_other: bool = False) -> tuple[Array | None, int]:
        """(x, iterations), or (None, 0) where there is no file.

        A file of another problem is removed with ``discard_other``, else a WidegramError.
        """
        file = open_work_file(self.path, FORMAT, self._identity(shape), discard_other)
        if file is None:
            return None, 0
        with file:
            return file.array("x"), int(file.attributes["iterations"])

    def save(self, x: Array, iterations: int) -> None:
        """Write the iterate; what has the name and is no restart of this problem is refused."""
        self._check_present(x.shape)
        attributes = {"format": FORMAT, "format_version": 1, "iterations": iterations}
        write_sealed(self.path, {"x": x}, attributes | self._identity(x.shape), overwrite=True)
        self._last = time.monotonic()
        self._saved = iterations

    def counting_from(self, before: int) -> Checkpoint:
        """What the solver calls after each iteration; raises
        :class:`widegram.machine.interrupts.Stopped` where a stop is asked for."""

        def checkpoint(x: Array, iterations: int) -> None:
            due = interrupts.requested() or time.monotonic() - self._last >= self._seconds
            self.clock.end()
            if due and np.isfinite(x).all():
                with interrupts.saving():
                    self.save(x, before + iterations)
            if interrupts.requested():
                raise interrupts.Stopped(self.kept())

        return checkpoint

    def finish(self, x: Array, iterations: int, solved: bool) -> None:
        """Remove the file, and what a kill left of one, when the problem is solved, else keep the
        last iterate."""
        if not solved:
            self.save(x, iterations)
            return
        self._check_present(x.shape)
        remove_work_file(self.path)

    def _check_present(self, shape: tuple[int, ...]) -> None:
        """Refuse what has the name and is no restart of this problem."""
        file = open_work_file(self.path, FORMAT, self._identity(shape), False)
        if file is not None:
            file.close()

    def _identity(self, shape: tuple[int, ...]) -> dict[str, Any]:
        return {"key": self._key, "shape": "x".join(map(str, shape))}
