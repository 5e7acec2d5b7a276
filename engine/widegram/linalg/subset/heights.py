"""How many rows of kernel(train, centers) are taken at a time: a pure function of a byte budget."""

from __future__ import annotations

from widegram.errors import WidegramError
from widegram.machine.budgets import format_size

_ROWS = 1024  # as many as BLAS runs at full speed with, and some tenths of a second of work
_LEAST_ROWS = 64
_SQUARES = 3  # M x M arrays at once: the matrix, its eigenvectors and the factor of the centers
_PASSING = 2  # of which a pass over the rows holds so many
_COLUMNS = 4  # arrays of M or of a block's rows for every output of every regulariser


def block_height(m: int, columns: int, itemsize: int, tile: int, memory: int) -> int:
    """Rows of a block of M = ``m`` entries of ``itemsize`` bytes, whole tiles where those fit.

    ``columns``: outputs times regularisers. Raises WidegramError, naming what is needed, where
    ``memory`` bytes do not hold the arrays.
    """
    square, solutions = 8 * m * m, 8 * _COLUMNS * m * columns
    row = m * (itemsize + 3 * 8) + 8 * _COLUMNS * columns  # read, converted twice, multiplied
    rows = min(_ROWS, (memory - solutions - _PASSING * square) // row)
    if rows < _LEAST_ROWS or memory < _SQUARES * square + solutions:
        needed = solutions + max(_SQUARES * square, _PASSING * square + _LEAST_ROWS * row)
        raise WidegramError(
            f"{m} centers need {format_size(needed)} of arrays beside the targets, there are "
            f"{format_size(max(memory, 0))}; give more --memory, or draw fewer centers"
        )
    return rows - rows % tile if rows > tile else rows
