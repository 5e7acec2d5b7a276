"""A matrix of a gram file that is read with its checksums compared."""

from __future__ import annotations

from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from widegram.durable.contents import octets
from widegram.durable.hdf5 import hdf5_errors
from widegram.errors import WidegramError
from widegram.gramfile.header import CHECKSUMS
from widegram.gramfile.view import GramFile

Array = NDArray[Any]
_BLOCK_BYTES = 1 << 20


class CheckedMatrix:
    """An (n1, n2) matrix, sliced like the h5py dataset it reads.

    The first time that a block touches a tile the tile's checksum is compared: from the block where
    that holds all of it, else by reading the tile once more. Raises :class:`WidegramError` for a
    damaged tile. ``depth`` and ``head`` as for :meth:`GramFile.dataset`.
    """

    def __init__(
        self, file: GramFile, kernel: str, depth: int | None = None, head: str | None = None
    ) -> None:
        self._path, self._grid = file.path, file.header.grid
        self._data: Any = file.dataset(kernel, depth, head)
        self.name = str(self._data.name)
        self.shape: tuple[int, int] = self._data.shape
        self.dtype: np.dtype[Any] = self._data.dtype
        with hdf5_errors(file.path):
            self._sums: Array = file.raw(f"{CHECKSUMS}/{self.name.strip('/')}")[...]
        self._good = np.zeros(self._grid.shape, bool)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, place: Any) -> Array:
        """A block by a slice of rows, or one of rows and one of columns."""
        rows, cols = self._ranges(place)
        with hdf5_errors(self._path):
            block: Array = self._data[rows.start : rows.stop, cols.start : cols.stop]
        self._check(rows, cols, block)
        return block

    def read_direct(self, into: Array, place: Any) -> None:
        """The block at ``place`` into an array of its shape and any float dtype."""
        rows, cols = self._ranges(place)
        with hdf5_errors(self._path):
            self._data.read_direct(into, np.s_[rows.start : rows.stop, cols.start : cols.stop])
        self._check(rows, cols, into)

    def _ranges(self, place: Any) -> tuple[range, range]:
        pair = place if isinstance(place, tuple) else (place, slice(None))
        rows, cols = (
            range(*part.indices(length)) for part, length in zip(pair, self.shape, strict=True)
        )
        return rows, cols

    def _check(self, rows: range, cols: range, block: Array) -> None:
        if not rows or not cols:
            return
        side = self._grid.tile
        for i in range(rows.start // side, (rows.stop - 1) // side + 1):
            for j in range(cols.start // side, (cols.stop - 1) // side + 1):
                if not self._good[i, j]:
                    self._check_tile(i, j, rows, cols, block)

    def _check_tile(self, i: int, j: int, rows: range, cols: range, block: Array) -> None:
        down, across = self._grid.rows(i), self._grid.cols(j)
        held = _inside(down, rows) and _inside(across, cols) and _exact(self.dtype, block.dtype)
        first = slice(across.start - cols.start, across.stop - cols.start)
        digest, step = xxhash.xxh3_64(), max(1, _BLOCK_BYTES // (len(across) * self.dtype.itemsize))
        for lo in range(down.start, down.stop, step):
            hi = min(lo + step, down.stop)
            if held:
                part = block[lo - rows.start : hi - rows.start, first]
            else:
                with hdf5_errors(self._path):
                    part = self._data[lo:hi, across.start : across.stop]
            digest.update(octets(part.astype(self.dtype, copy=False)))
        if digest.intdigest() != int(self._sums[i, j]):
            raise WidegramError(
                f"{self._path}: is damaged: {self.name} rows {down.start}-{down.stop - 1}, columns "
                f"{across.start}-{across.stop - 1} have another checksum than was written; "
                "`widegram verify --repair` computes them again"
            )
        self._good[i, j] = True


def _inside(inner: range, outer: range) -> bool:
    return outer.start <= inner.start and inner.stop <= outer.stop


def _exact(stored: np.dtype[Any], read: np.dtype[Any]) -> bool:
    """Whether numbers as they were read can be turned back into those that are stored."""
    return read.kind == "f" and read.itemsize >= stored.itemsize
