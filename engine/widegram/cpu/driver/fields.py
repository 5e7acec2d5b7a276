"""The columns of the tables that drivers read, the names of what they run, bytes of a row."""

from __future__ import annotations

from enum import auto

import numpy as np
from numpy.typing import NDArray

from widegram.cpu.kernels.fields import Field

# Vectors are one-pixel images; this many x, and blocks of x', run as the pixels of one plane.
REGION = (128, 12)

Ints = NDArray[np.int64]


class Kind(Field):
    """What a step is; the names are those of the plan, in capitals."""

    INPUT = auto()
    LOAD = auto()
    WINDOW = auto()
    POINT = auto()
    ADD = auto()
    MULTIPLY = auto()
    COPY = auto()
    POOL = auto()
    REDUCE = auto()
    COUNT = auto()
    OUTPUT = auto()


class Move(Field):
    """Columns of the table of addresses of the kernels that move planes, named as these."""

    COPY = auto()
    FILL = auto()
    GATHER = auto()
    REDUCE = auto()
    CAST = auto()
    COUNT = auto()
    ROW_SUMS = auto()
    POOL = auto()


class StepField(Field):
    """Columns of the table of steps."""

    KIND = auto()
    OUT = auto()
    IN0 = auto()
    IN1 = auto()
    KERNEL = auto()
    PARAMS = auto()
    FACTOR = auto()
    N_FACTORS = auto()
    ROWS = auto()
    COLS = auto()
    STRIDE_ROWS = auto()
    STRIDE_COLS = auto()
    LO_ROWS = auto()
    LO_COLS = auto()
    CIRCULAR = auto()
    STORE = auto()
    NODE = auto()


class ProgramField(Field):
    """Columns of the table of programs."""

    FIRST_STEP = auto()
    N_STEPS = auto()
    FIRST_DISPLACEMENT = auto()
    N_DISPLACEMENTS = auto()
    TORUS_ROWS = auto()
    TORUS_COLS = auto()
    FIRST_SLOT = auto()
    N_SLOTS = auto()
    ACTIVE = auto()
    TOGETHER = auto()
    FIRST_CELL = auto()
    N_CELLS = auto()
    CELL_ACTIVE = auto()
    LEVELS = auto()
    SIZE = auto()
    FIRST_PACKED = auto()
    AHEAD = auto()
    AHEAD_PLANE = auto()
    INPUTS_KERNEL = auto()
    WRAPS = auto()
    CLIMB = auto()
    FIRST_MAP = auto()
    N_MAPS = auto()


class SlotField(Field):
    """Columns of the table of plane buffers; offsets in numbers."""

    ROWS = auto()
    COLS = auto()
    SIGMA_ROWS = auto()
    SIGMA_COLS = auto()
    LO_ROWS = auto()
    HI_ROWS = auto()
    LO_COLS = auto()
    HI_COLS = auto()
    OFFSET = auto()
    QUADRANT = auto()
    T_OFFSET = auto()
    LEVEL = auto()


class StoreField(Field):
    """Columns of the table of stores; offsets in numbers (doubles where reduced)."""

    REDUCED = auto()
    ROWS = auto()
    COLS = auto()
    INDEX = auto()
    OFFSET = auto()
    T_OFFSET = auto()


class VectorField(Field):
    """What a run over vectors is given: ``ROWS`` x and ``BLOCKS`` blocks of x' that begin where the
    context says; numbers from one x's factors, and one block's, to the next, and from one row of
    the ``OUTPUTS`` outputs to the next; the kernel that finds nearly parallel pairs (0 without),
    where the factor that it compares stands, and the address that it fills with a number and then
    the pairs; the kernel that writes transposes (0 without), and the addresses that these go to."""

    ROWS = auto()
    BLOCKS = auto()
    X_STEP = auto()
    Y_STEP = auto()
    OUT_ROW = auto()
    CLOSE = auto()
    FACTOR = auto()
    FOUND = auto()
    TURN = auto()
    TURNED_K = auto()
    TURNED_T = auto()
    OUTPUTS = auto()


STEP_ROW, PROGRAM_ROW = 8 * len(StepField), 8 * len(ProgramField)
SLOT_ROW, STORE_ROW = 8 * len(SlotField), 8 * len(StoreField)
