"""Some rows and columns of a matrix, as it is read."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from widegram.data.read_together import read_together

Array = NDArray[Any]
Numbers = NDArray[np.int64]
_BUFFER = 4 << 20  # bytes that are read at a time where rows or columns are left out
_GAP = 1 << 18  # bytes of rows that are read for nothing rather than in two reads
_COLUMN_GAP = 4096  # the same of columns, in entries


class StoredMatrix(Protocol):
    """A matrix on the disk, sliced like an h5py dataset."""

    name: str
    shape: tuple[int, int]
    dtype: np.dtype[Any]

    def __getitem__(self, place: Any) -> Array:
        """A block by a slice of rows, or one of rows and one of columns."""

    def read_direct(self, into: Array, place: Any) -> None:
        """The block at ``place`` into an array of its shape and any float dtype."""


class ChosenMatrix:
    """Rows ``rows`` and columns ``cols`` of ``matrix``, sliced like it.

    Both ascending, None for all. Where some are left out at most 4 MB are read at a time, or one
    row.
    """

    def __init__(self, matrix: StoredMatrix, rows: Numbers | None, cols: Numbers | None) -> None:
        self._matrix = matrix
        n1, n2 = matrix.shape
        self._rows = np.arange(n1) if rows is None else rows
        self._cols = np.arange(n2) if cols is None else cols
        self.name, self.dtype = matrix.name, matrix.dtype
        self.shape: tuple[int, int] = (self._rows.size, self._cols.size)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, place: Any) -> Array:
        """A block by a slice of rows, or one of rows and one of columns."""
        rows, cols = self._chosen(place)
        into = np.empty((rows.size, cols.size), self.dtype)
        self._read(into, rows, cols)
        return into

    def read_direct(self, into: Array, place: Any) -> None:
        """The block at ``place`` into an array of its shape and any float dtype."""
        self._read(into, *self._chosen(place))

    def _chosen(self, place: Any) -> tuple[Numbers, Numbers]:
        rows, cols = place if isinstance(place, tuple) else (place, slice(None))
        return self._rows[rows], self._cols[cols]

    def _read(self, into: Array, rows: Numbers, cols: Numbers) -> None:
        if not into.size:
            return
        if _whole(rows) and _whole(cols):
            self._matrix.read_direct(into, (_span(rows), _span(cols)))
            return
        entry = self.dtype.itemsize
        widest = _BUFFER // entry
        for across in read_together(cols, _COLUMN_GAP, widest):
            columns = cols[across]
            span = _span(columns)
            row_bytes = entry * (span.stop - span.start)
            highest = max(1, _BUFFER // row_bytes)
            for down in read_together(rows, max(1, _GAP // row_bytes), highest):
                chosen = rows[down]
                block = self._matrix[_span(chosen), span]
                into[down, across] = block[np.ix_(chosen - chosen[0], columns - columns[0])]


def _whole(numbers: Numbers) -> bool:
    """Whether ascending numbers leave none out."""
    return bool(numbers[-1] - numbers[0] == numbers.size - 1)


def _span(numbers: Numbers) -> slice:
    """From the first to the last of ascending numbers."""
    return slice(int(numbers[0]), int(numbers[-1]) + 1)
