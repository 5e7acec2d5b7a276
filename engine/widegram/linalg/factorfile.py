"""The work file of an out-of-core factorisation: packed block columns and their state."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from widegram.errors import WidegramError
from widegram.files import check_disk, new_file

Array = NDArray[Any]
FORMAT = "widegram-factor"
_SECONDS = 2.0


class FactorFile:
    """Lower block columns of ``width`` in tiles of ``width`` x ``width``, each from its diagonal.

    An existing file is continued when ``key``, n and dtype agree (its own width then holds) and
    refused otherwise. Columns are flagged after their data is on disk, every few seconds: a sync
    for each would take longer than factoring it. What is not flagged is computed again.
    """

    def __init__(
        self,
        path: Path,
        n: int,
        width: int,
        dtype: np.dtype[Any],
        key: str,
        discard_other: bool = False,
    ) -> None:
        self.path = path
        if discard_other and path.exists() and not _belongs(path, n, dtype, key):
            path.unlink()
        if not path.exists():
            _create(path, n, width, dtype, key)
        try:
            self._file = h5py.File(path, "r+")
        except OSError as error:
            raise WidegramError(
                f"{path}: cannot be opened as a work file ({error}); remove it and run again"
            ) from error
        self._check(n, dtype, key)
        self.width = int(self._file.attrs["width"])
        self.dtype = dtype
        self.columns = -(-n // self.width)
        self._n = n
        self._state: Array = self._file["state"][:]
        self._unflagged: list[int] = []
        self._flagged_at = time.monotonic()

    def finished(self) -> int:
        """Number of finished block columns."""
        return int(self._state.sum())

    def done(self, column: int) -> bool:
        """Whether the column is on disk."""
        return bool(self._state[column])

    def read_into(self, into: Array, column: int, start: int | None = None) -> None:
        """Rows of a block column, all its width, into a C-contiguous array.

        From row ``start`` below its diagonal on, or the last ones where that is None.
        """
        rows, width = into.shape
        if start is None:
            start = self._n - column * self.width - rows
        start += self._offset(column)
        self._file["factor"].read_direct(into, np.s_[start : start + rows, :width])

    def write(self, column: int, part: Array) -> None:
        """Store a factored block column."""
        start = self._offset(column)
        self._file["factor"][start : start + part.shape[0], : part.shape[1]] = part
        self._unflagged.append(column)
        if time.monotonic() - self._flagged_at > _SECONDS:
            self._flag()

    def close(self, discard: bool = False) -> None:
        """Close the file; ``discard`` where it is no longer needed. Closing twice is allowed."""
        if self._file:
            if not discard:
                self._flag()
            self._file.close()

    def _flag(self) -> None:
        """Flag what has been written, with its data on the disk before the flags."""
        self._sync()
        self._state[self._unflagged] = 1
        self._file["state"][...] = self._state
        self._sync()
        self._unflagged = []
        self._flagged_at = time.monotonic()

    def _offset(self, column: int) -> int:
        return self.width * (column * self.columns - column * (column - 1) // 2)

    def _sync(self) -> None:
        self._file.flush()
        os.fdatasync(self._file.id.get_vfd_handle())

    def _check(self, n: int, dtype: np.dtype[Any], key: str) -> None:
        expected = _identity(n, dtype, key)
        for name, value in expected.items():
            if self._file.attrs.get(name) != value:
                self._file.close()
                raise WidegramError(
                    f"{self.path}: an unfinished factorisation of another matrix or regulariser "
                    f"(its {name} differs); remove it, pass --overwrite, or give another --out"
                )


def _identity(n: int, dtype: np.dtype[Any], key: str) -> dict[str, Any]:
    return {"format": FORMAT, "n": n, "dtype": dtype.name, "key": key}


def _belongs(path: Path, n: int, dtype: np.dtype[Any], key: str) -> bool:
    try:
        with h5py.File(path, "r") as file:
            found = _identity(n, dtype, key).items()
            return all(file.attrs.get(name) == value for name, value in found)
    except OSError:
        return False


def _create(path: Path, n: int, width: int, dtype: np.dtype[Any], key: str) -> None:
    columns = -(-n // width)
    tiles = columns * (columns + 1) // 2
    check_disk(path, (tiles * width * width + columns) * dtype.itemsize + 2**16)
    space = h5py.h5s.create_simple((tiles * width, width))
    layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    layout.set_chunk((width, width))
    layout.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    layout.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    with new_file(path, allocate=True) as part, h5py.File(part, "w", locking=False) as file:
        kind = h5py.h5t.py_create(dtype, logical=True)
        h5py.h5d.create(file.id, b"factor", kind, space, layout)
        file.create_dataset("state", data=np.zeros(columns, dtype=np.uint8))
        file.attrs.update(width=width, **_identity(n, dtype, key))
