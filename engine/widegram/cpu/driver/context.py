"""What one thread hands to the compiled code: addresses, and strides in numbers."""

from __future__ import annotations

from enum import auto

from widegram.cpu.kernels.fields import Field


class At(Field):
    """Positions in the context of a thread: addresses, and strides in numbers.

    ``POOL_FEEDS``: a table of what a plane feeds to pooled ones; ``SOME``: the cell of some rows of
    a packed plane.

    From ``RUN_PLAIN`` on: parts of the driver, 0 where a network needs none; then the rectangle of
    a plane that stores work on, its shape and displacement, its row stride and its first pixel.
    """

    SCRATCH = auto()
    SUMS = auto()
    X = auto()
    Y = auto()
    X_FACTORS = auto()
    Y_FACTORS = auto()
    OUT_K = auto()
    OUT_T = auto()
    OUT_STRIDE = auto()
    GEOMETRY = auto()
    PARAMS = auto()
    BUFFER = auto()
    ITEMSIZE = auto()
    LANES = auto()
    PAIRED = auto()
    ITSELF = auto()
    OWN_K = auto()
    OWN_T = auto()
    OWN = auto()
    PROGRAMS = auto()
    N_PROGRAMS = auto()
    STEPS = auto()
    N_STEPS = auto()
    DISPLACEMENTS = auto()
    ACTIVE = auto()
    SLOTS = auto()
    STORES = auto()
    INDEX = auto()
    MOVES = auto()
    N_SUMS = auto()
    CLEAR_BEGIN = auto()
    CLEAR_END = auto()
    CELLS = auto()
    CELL_ACTIVE = auto()
    PACKED = auto()
    MAPS = auto()
    HALT = auto()
    POOL_FEEDS = auto()
    SOME = auto()
    RUN_PLAIN = auto()
    RUN_PACKED = auto()
    LOAD = auto()
    KEEP = auto()
    POOL = auto()
    RUN_MAPS = auto()
    ROWS = auto()
    COLS = auto()
    D_ROWS = auto()
    D_COLS = auto()
    ROW = auto()
    K = auto()
    T = auto()


CONTEXT = len(At)
