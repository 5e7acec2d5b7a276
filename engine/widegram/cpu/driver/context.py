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
    OWN = 18
    PROGRAMS = 19
    N_PROGRAMS = 20
    STEPS = 21
    N_STEPS = 22
    DISPLACEMENTS = 23
    ACTIVE = 24
    SLOTS = 25
    STORES = 26
    INDEX = 27
    MOVES = 28
    N_SUMS = 29
    CLEAR_BEGIN = 30
    CLEAR_END = 31
    CELLS = 32
    CELL_ACTIVE = 33
    PACKED = 34
    HALT = 35


CONTEXT = len(At)
