"""The iterate of conjugate gradients on disk, so that a stopped run goes on where it was."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from widegram.errors import WidegramError
from widegram.files import new_file
from widegram.linalg.cg import Checkpoint

Array = NDArray[Any]


class RestartFile:
    """``path`` holds x of shape (n, k), the iterations so far and the key of the problem.

    Written whole or not at all, at most every ``seconds``.
    """

    def __init__(self, path: Path, key: str, seconds: float) -> None:
        self.path = path
        self._key = key
        self._seconds = seconds
        self._last = time.monotonic()

    def load(self, shape: tuple[int, ...], discard_other: bool = False) -> tuple[Array | None, int]:
        """(x, iterations), or (None, 0) where there is no file.

        A file of another problem is ignored with ``discard_other``, else a WidegramError.
        """
        if not self.path.exists():
            return None, 0
        try:
            with h5py.File(self.path, "r") as file:
                other = file.attrs.get("key") != self._key or file["x"].shape != shape
                if other and discard_other:
                    return None, 0
                if other:
                    raise WidegramError(
                        f"{self.path}: belongs to another problem (matrix, labels or regulariser); "
                        "remove it or give another --out"
                    )
                return file["x"][:], int(file.attrs["iterations"])
        except OSError as error:
            raise WidegramError(f"{self.path}: cannot be read ({error}); remove it") from error

    def save(self, x: Array, iterations: int) -> None:
        """Write the iterate."""
        with (
            new_file(self.path, overwrite=True) as part,
            h5py.File(part, "w", locking=False) as file,
        ):
            file["x"] = x
            file.attrs.update(key=self._key, iterations=iterations)
        self._last = time.monotonic()

    def counting_from(self, before: int) -> Checkpoint:
        """What the solver calls after each iteration."""

        def checkpoint(x: Array, iterations: int) -> None:
            if time.monotonic() - self._last >= self._seconds and np.isfinite(x).all():
                self.save(x, before + iterations)

        return checkpoint

    def finish(self, x: Array, iterations: int, solved: bool) -> None:
        """Remove the file when the problem is solved, else keep the last iterate."""
        if solved:
            if self.path.exists():
                os.unlink(self.path)
        else:
            self.save(x, iterations)
