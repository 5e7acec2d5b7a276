"""Which of some rows are read at a time, where others lie between them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray


def read_together(numbers: NDArray[np.int64], gap: int, longest: int) -> Iterator[slice]:
    """Places in ascending ``numbers`` (n,) whose rows one read takes, in order.

    A read begins anew where more than ``gap`` numbers are left out, and spans ``longest`` rows at
    most.
    """
    edges = [0, *(np.flatnonzero(np.diff(numbers) > gap + 1) + 1).tolist(), numbers.size]
    for first, stop in pairwise(edges):
        while first < stop:
            last = min(stop, int(np.searchsorted(numbers, numbers[first] + longest)))
            yield slice(first, last)
            first = last
