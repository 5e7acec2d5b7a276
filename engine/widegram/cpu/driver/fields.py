"""The columns of the tables that drivers read, and the names of what they run."""

from __future__ import annotations

from enum import IntEnum, auto
from typing import Any

import numpy as np
from numpy.typing import NDArray

KINDS = ("input", "load", "window", "point", "add", "copy", "pool", "reduce", "output")
MOVES = ("copy", "fill", "add", "gather", "reduce", "cast")
# Vectors are one-pixel images; this many x, and blocks of x', run as the pixels of one plane.
REGION = (128, 12)

Ints = NDArray[np.int64]


class Field(IntEnum):
    """Columns of a table, numbered from 0."""

    @staticmethod
    def _generate_next_value_(name: str, start: int, count: int, last: list[Any]) -> int:
        return count


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
