"""What one thread hands to the compiled code: addresses, and strides in numbers."""

from __future__ import annotations

from enum import IntEnum


class At(IntEnum):
    """Positions in the context of a thread: addresses, and strides in numbers."""

    SCRATCH = 0
    SUMS = 1
    X = 2
    Y = 3
    X_FACTORS = 4
    Y_FACTORS = 5
    OUT_K = 6
    OUT_T = 7
    OUT_STRIDE = 8
    GEOMETRY = 9
    PARAMS = 10
    BUFFER = 11
    ITEMSIZE = 12
    LANES = 13
    PAIRED = 14
    ITSELF = 15
    OWN_K = 16
    OWN_T = 17


CONTEXT = len(At)
