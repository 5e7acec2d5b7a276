"""The pairs of a tile, in the order in which they are computed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class TilePairs:
    """All pairs of a (rows, columns) tile, row by row; of a ``mirrored`` one those above the
    diagonal, listed one by one."""

    def __init__(self, rows: int, columns: int, mirrored: bool) -> None:
        self._count, self._columns = rows * columns, columns
        self._flat = None
        if mirrored:
            self._flat = np.flatnonzero(np.triu(np.ones((rows, columns), dtype=np.bool_), 1))
            self._count = len(self._flat)

    def __len__(self) -> int:
        return self._count

    def listed(self, lo: int, hi: int) -> NDArray[np.int32]:
        """(row, column) of pairs lo to hi - 1; of the first alone where the others follow it."""
        flat = np.array([lo]) if self._flat is None else self._flat[lo:hi]
        return np.stack(np.divmod(flat, self._columns), axis=1).astype(np.int32)

    def place(self, lo: int, hi: int) -> slice | NDArray[np.int64]:
        """Where pairs lo to hi - 1 stand in the flat tile."""
        return slice(lo, hi) if self._flat is None else self._flat[lo:hi]
