"""The work file of an out-of-core factorisation: packed block columns and their state."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from widegram.durable.contents import checksum
from widegram.durable.filled import Fill, create_filled, open_filled
from widegram.durable.outputs import check_disk, file_system_errors
from widegram.errors import WidegramError, WriteFailed
from widegram.linalg.workfile import open_work_file
from widegram.machine.log import logger

Array = NDArray[Any]
FORMAT = "widegram-factor"
_SECONDS = 2.0


class FactorFile:
    """Lower block columns of ``width`` in tiles of ``width`` x ``width``, each from its diagonal.

    An existing file is continued when ``key``, n and dtype agree (its own width then holds) and
    refused otherwise. Columns are flagged after their data is on disk, every few seconds: a sync
    for each would take longer than factoring it. What is not flagged is computed again. Each tile
    has a checksum, compared whenever it is read and for all flagged columns at the beginning: from
    the first damaged column on they are computed again.
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
        identity = {"n": n, "dtype": dtype.name, "key": key}
        found = open_work_file(path, FORMAT, identity, discard_other)
        if found is None:
            _create(path, n, width, dtype, identity)
        else:
            width = int(found.attributes["width"])
            found.close()
        self.width = width
        self.dtype = dtype
        self.columns = -(-n // width)
        self._n = n
        self._file = open_filled(path, "remove it and run again")
        self._sums: Array = self._file.read("checksums")
        self._state: Array = np.zeros(self.columns, np.uint8)
        self._state[: self._trusted()] = 1
        self._unflagged: list[int] = []
        self._failed = self._closed = False
        self._flagged_at = time.monotonic()

    def finished(self) -> int:
        """Number of finished block columns."""
        return int(self._state.sum())

    def done(self, column: int) -> bool:
        """Whether the column is on disk."""
        return bool(self._state[column])

    def read_into(self, into: Array, column: int, start: int | None = None) -> None:
        """Rows of a block column, all its width, into a C-contiguous array.

        From row ``start`` below its diagonal on, or the last ones where that is None; from the
        beginning of a tile. Raises WidegramError where a tile has not its checksum.
        """
        rows = into.shape[0]
        if start is None:
            start = self._n - column * self.width - rows
        self._file.read_into(into, "factor", (start + self._offset(column), 0))
        wrong = [t for t, found in self._tiles(column, start, into) if int(self._sums[t]) != found]
        if wrong:
            raise WidegramError(
                f"{self.path}: block column {column} is damaged on the disk; run again, it is "
                "computed anew from there"
            )

    def write(self, column: int, part: Array) -> None:
        """Store a factored block column."""
        for tile, digest in self._tiles(column, 0, part):
            self._sums[tile] = digest
        first = self._offset(column) // self.width
        with self._writing():
            self._file.write("factor", part, (self._offset(column), 0))
            self._file.write("checksums", self._sums[first : first + self.columns - column], first)
        self._unflagged.append(column)
        if time.monotonic() - self._flagged_at > _SECONDS:
            self._flag()

    def close(self, discard: bool = False) -> None:
        """Close the file; ``discard`` removes it. Closing twice is allowed."""
        if self._closed:
            return
        try:
            if discard:
                self._discard()
            elif not self._failed:
                self._flag()
        finally:
            self._closed = True
            self._file.close()

    def _discard(self) -> None:
        if os.path.lexists(self.path) and os.path.samestat(os.lstat(self.path), self._file.stat()):
            with file_system_errors(self.path):
                os.unlink(self.path)

    def _flag(self) -> None:
        """Flag what has been written, with its data on the disk before the flags."""
        if not self._unflagged:
            return
        with self._writing():
            self._file.sync()
            self._state[self._unflagged] = 1
            self._file.write("state", self._state)
            self._file.sync()
        self._unflagged = []
        self._flagged_at = time.monotonic()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """After a write that failed nothing is flagged any more: what the disk has is not known."""
        try:
            yield
        except WriteFailed:
            self._failed = True
            raise

    def _trusted(self) -> int:
        """How many of the first columns are flagged and have their checksums."""
        flags = self._file.read("state")
        for column, flag in enumerate(flags.tolist()):
            if flag != 1 or not self._whole(column):
                if flags[column:].any():
                    logger.warning("%s: is damaged at block column %d: factored again from there",
                                   self.path, column)  # fmt: skip
                return column
        return self.columns

    def _whole(self, column: int) -> bool:
        shape = (self._n - column * self.width, min(self.width, self._n - column * self.width))
        try:
            self.read_into(np.empty(shape, self.dtype), column, 0)
        except WidegramError:
            return False
        return True

    def _tiles(self, column: int, start: int, part: Array) -> list[tuple[int, int]]:
        """(number, checksum) of each tile in rows of a block column, from row ``start`` on."""
        first = (self._offset(column) + start) // self.width
        return [
            (
                first + step,
                checksum(part[lo : lo + width]),
            )
            for width in (self.width,)
            for step, lo in enumerate(range(0, part.shape[0], width))
        ]

    def _offset(self, column: int) -> int:
        return self.width * (column * self.columns - column * (column - 1) // 2)


def damaged_columns(file: h5py.File) -> Iterator[str]:
    """What is wrong with the flagged columns of an open factor, whose attributes are as written."""
    n, width = int(file.attrs["n"]), int(file.attrs["width"])
    columns = -(-n // width)
    if len(file["state"]) != columns or len(file["checksums"]) != columns * (columns + 1) // 2:
        raise ValueError("it has other columns than its attributes say")
    sums, tile = file["checksums"][()].tolist(), 0
    for column, flag in enumerate(file["state"][()].tolist()):
        if flag not in (0, 1):
            yield f"the flag of block column {column} is {flag}"
        for row in range(column * width, n, width):
            if flag == 1:
                high, wide = min(width, n - row), min(width, n - column * width)
                held = file["factor"][tile * width : tile * width + high, :wide]
                if checksum(held) != sums[tile]:
                    yield f"block column {column}: wrong checksum at row {row}"
            tile += 1


def _create(path: Path, n: int, width: int, dtype: np.dtype[Any], identity: dict[str, Any]) -> None:
    columns = -(-n // width)
    tiles = columns * (columns + 1) // 2
    check_disk(path, (tiles * width * width + columns) * dtype.itemsize + 8 * tiles + 2**16)

    fills = {
        "factor": Fill((tiles * width, width), dtype, (width, width)),
        "state": Fill((columns,), np.uint8),
        "checksums": Fill((tiles,), np.uint64),
    }
    attributes = {"format": FORMAT, "format_version": 1, "width": width}
    create_filled(path, fills, {}, {**attributes, **identity})
