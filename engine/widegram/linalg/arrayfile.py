"""A kernel of the user's own, an array in an .npy file, with what is asked of a Gram file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from widegram.closing import Closing
from widegram.data.formats import npy_array
from widegram.durable.contents import octets
from widegram.errors import WidegramError
from widegram.machine import interrupts
from widegram.tiling import WHOLE, End
from widegram.validation.choices import OWN

Array = NDArray[Any]
NETWORK = "array"  # in place of a network's fingerprint
_SIDE = 512  # of the blocks in which an array is checked
# How far from its mirror image an entry may be, relative to the largest: as far as this program's
# own kernels of one dtype are from those of another method.
_ASYMMETRY = {"float32": 1e-5, "float64": 1e-10}


def is_array(path: str | Path) -> bool:
    """Whether a matrix is an array of the user's own, by its name."""
    return Path(path).suffix.lower() == ".npy"


class ArrayMatrix:
    """A matrix in an .npy file, sliced like an h5py dataset; mapped anew for each block."""

    def __init__(self, path: Path) -> None:
        self._array = npy_array(path)
        shape, dtype = self._array.shape, self._array.dtype
        if len(shape) != 2 or 0 in shape:
            raise WidegramError(f"{path}: has shape {shape}; a kernel matrix has rows and columns")
        if dtype.kind != "f" or dtype.itemsize not in (4, 8):
            raise WidegramError(
                f"{path}: holds {dtype}; a kernel matrix is float32 or float64: save it with "
                ".astype(float)"
            )
        self.name = OWN
        self.shape: tuple[int, int] = (shape[0], shape[1])
        self.dtype = dtype.newbyteorder("=")

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, place: Any) -> Array:
        """A block by a slice of rows, or one of rows and one of columns."""
        return np.array(self._array.mapped()[place], self.dtype, order="C")

    def read_direct(self, into: Array, place: Any) -> None:
        """The block at ``place`` into an array of its shape and any float dtype."""
        into[...] = self._array.mapped()[place]


class ArrayFile(Closing):
    """An array as a file of one kernel, :data:`widegram.validation.choices.OWN`, without depths and
    heads. All of it is read once, for a fingerprint and to find what is no kernel.

    * ``train``: the fingerprint of the training matrix; without it the array has to be symmetric
    * ``diagonal``: K(x, x) of the rows, (n1,), of an array that is not symmetric
    * ``fingerprints``: of 'network' :data:`NETWORK`; of 'x1' that of the array; of 'x2' ``train``,
      since an array does not say what its columns are, without it the same as of 'x1'

    Raises :class:`WidegramError` for a wrong dtype or shape, NaN, infinities, and a matrix that is
    not symmetric and has to be.
    """

    def __init__(
        self, path: str | Path, *, train: str | None = None, diagonal: Array | None = None
    ) -> None:
        self.path = Path(path)
        self.matrix = ArrayMatrix(self.path)
        self.n1, self.n2 = self.matrix.shape
        self.dtype = self.matrix.dtype
        if train is None and self.n1 != self.n2:
            raise WidegramError(
                f"{path}: has shape {self.matrix.shape}; the matrix of the training data with "
                "itself is square"
            )
        digest = self._checked(symmetric=train is None)
        self.symmetric = train is None or digest == train
        self.fingerprints = {"network": NETWORK, "x1": digest, "x2": train or digest}
        self.network = {"array": str(self.path.resolve())}
        self.kernels = (OWN,)
        self.attributes: dict[str, Any] = {}
        self._held = diagonal
        if self.symmetric:
            self._held = self._of_matrix()

    def diagonal(self, kernel: str, end: End = WHOLE, second: bool = False) -> Array | None:
        """K(x, x) of every row, float64 (n1,); None where nothing says it."""
        return self._held

    def _of_matrix(self) -> Array:
        parts = [
            np.diagonal(self.matrix[lo : lo + _SIDE, lo : lo + _SIDE])
            for lo in range(0, self.n1, _SIDE)
        ]
        return np.concatenate(parts).astype(np.float64)

    def _checked(self, symmetric: bool) -> str:
        """The fingerprint, xxh3-128 (hex), of an array that can be a kernel."""
        digest = xxhash.xxh3_128(f"{self.matrix.shape}{self.dtype.str}".encode())
        most = self._tolerance() if symmetric else 0.0
        for rows, cols in self._blocks():
            interrupts.check()
            block = self._finite(rows, cols)
            digest.update(octets(block))
            if self.n1 != self.n2 or rows == cols:
                mirrored = block
            else:
                mirrored = self._finite(cols, rows)
                digest.update(octets(mirrored))
            if symmetric:
                self._compare(block, mirrored, rows, cols, most)
        return digest.hexdigest()

    def _blocks(self) -> Iterator[tuple[slice, slice]]:
        """The places of all blocks; of a square array those on and above the diagonal."""
        for top in range(0, self.n1, _SIDE):
            for left in range(top if self.n1 == self.n2 else 0, self.n2, _SIDE):
                yield slice(top, top + _SIDE), slice(left, left + _SIDE)

    def _finite(self, rows: slice, cols: slice) -> Array:
        block = self.matrix[rows, cols]
        if not np.isfinite(block).all():
            row, col = np.argwhere(~np.isfinite(block))[0]
            raise WidegramError(
                f"{self.path}: entry ({rows.start + row}, {cols.start + col}) is {block[row, col]};"
                " every entry must be finite"
            )
        return block

    def _tolerance(self) -> float:
        return _ASYMMETRY[self.dtype.name] * float(np.max(np.abs(self._of_matrix())))

    def _compare(
        self, block: Array, mirrored: Array, rows: slice, cols: slice, most: float
    ) -> None:
        wrong = np.abs(block.astype(np.float64) - mirrored.T) > most
        if wrong.any():
            row, col = np.argwhere(wrong)[0]
            here, there = block[row, col], mirrored[col, row]
            i, j = rows.start + row, cols.start + col
            raise WidegramError(
                f"{self.path}: is not symmetric: entry ({i}, {j}) is {here:.9g}, ({j}, {i}) is "
                f"{there:.9g}; save (K + K.T) / 2 if that is what it should be"
            )

    def close(self) -> None:
        """Nothing is held open."""
