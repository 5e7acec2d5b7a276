"""A matrix scaled to a unit diagonal as it is read: K(x, x') / sqrt(K(x, x) K(x', x'))."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from widegram.errors import WidegramError
from widegram.gramfile.chosen import StoredMatrix
from widegram.tiling import WHOLE, End

Array = NDArray[Any]
_SCALED_ENTRIES = 1 << 18  # computed in float64 at a time, before they are rounded


class HasDiagonal(Protocol):
    """A file of kernels that may hold K(x, x) of its inputs, such as a Gram file."""

    path: Path
    symmetric: bool

    def diagonal(self, kernel: str, end: End = WHOLE, second: bool = False) -> Array | None:
        """K(x, x) of every input of x1, or of x2, (n,) float64; None where it does not hold it."""


class Scales(NamedTuple):
    """K(x, x)^(-1/2) of the rows, (n1,), and of the columns, (n2,), float64; ``kernel``: of which
    dataset they make the diagonal 1, empty for that of no matrix but a cross one."""

    down: Array
    across: Array
    kernel: str


def unit_scales(file: HasDiagonal, kernel: str, end: End) -> Scales:
    """The scales of one kernel of a file.

    Raises WidegramError for a cross file that does not hold K(x, x), and for an input whose kernel
    with itself is not positive.
    """
    down = _scale(file, kernel, end, second=False)
    if file.symmetric:
        return Scales(down, down, end.path(kernel))
    return Scales(down, _scale(file, kernel, end, second=True), "")


def _scale(file: HasDiagonal, kernel: str, end: End, second: bool) -> Array:
    values = file.diagonal(kernel, end, second)
    side = "x2" if second else "x1"
    if values is None:
        raise WidegramError(
            f"{file.path}: a unit diagonal needs K(x, x) of every input of {side}, which it does "
            "not hold; compute it again"
        )
    if not (values > 0).all():
        row = int(np.flatnonzero(~(values > 0))[0])
        raise WidegramError(
            f"{file.path}: row {row} of {side} has K(x, x) = {values[row]:g}, which no scale makes "
            "1; leave the input out, or give the network biases"
        )
    scale: Array = 1.0 / np.sqrt(values)
    return scale


class UnitDiagonalMatrix:
    """A matrix, sliced like it, times the scales of its rows and columns.

    Its dtype is the file's; the products are rounded to it from float64. A symmetric matrix is
    exactly symmetric, and has ones on its diagonal where the scales are its own.
    """

    def __init__(self, matrix: StoredMatrix, scales: Scales) -> None:
        self._matrix, self._scales = matrix, scales
        self._unit = matrix.name.strip("/") == scales.kernel
        self.name, self.shape, self.dtype = matrix.name, matrix.shape, matrix.dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, place: Any) -> Array:
        """A block by a slice of rows, or one of rows and one of columns."""
        block = self._matrix[place]
        self._scale(block, place)
        return block

    def read_direct(self, into: Array, place: Any) -> None:
        """The block at ``place`` into an array of its shape and any float dtype."""
        self._matrix.read_direct(into, place)
        self._scale(into, place)

    def _scale(self, block: Array, place: Any) -> None:
        rows, cols = place if isinstance(place, tuple) else (place, slice(None))
        top, *_ = rows.indices(self.shape[0])
        left, right, _ = cols.indices(self.shape[1])
        across = self._scales.across[left:right]
        step = max(1, _SCALED_ENTRIES // max(1, across.size))
        for lo in range(0, block.shape[0], step):
            hi = min(block.shape[0], lo + step)
            # The product of two scales first: it is the same for (i, j) and (j, i).
            scale = self._scales.down[top + lo : top + hi, None] * across
            block[lo:hi] = block[lo:hi] * scale
        if self._unit:
            here = np.arange(max(top, left), min(top + block.shape[0], right))
            block[here - top, here - left] = 1.0
