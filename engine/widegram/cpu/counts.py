"""How often pairs of pixels count in a sum, as the compiled driver reads it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from widegram.plan.counted import Counted
from widegram.plan.masks import Pair


def counts(counted: Counted, source: Pair) -> list[float]:
    """Rows of numbers for an image of shape ``source``: for each displacement d from 1 - size to
    size - 1 along rows, then along columns, those of pixels i of x that meet i + d."""
    found = [_by_displacement(counted.counts(size, axis)) for axis, size in enumerate(source)]
    return [float(number) for table in found for number in table.ravel()]


def _by_displacement(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """The diagonals of (size, size), shape (2 size - 1, size), each from the left on."""
    size = len(counts)
    table = np.zeros((2 * size - 1, size))
    for d in range(1 - size, size):
        table[d + size - 1, : size - abs(d)] = counts.diagonal(d)
    return table
