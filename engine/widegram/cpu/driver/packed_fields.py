"""The columns of the tables of packed planes that only the driver reads."""

from __future__ import annotations

from enum import IntEnum

from widegram.cpu.kernels.packed_ir import CELL, PACKED


class CellField(IntEnum):
    """Columns of the table of cells behind those that kernels read: the displacement of the first
    rectangle, which of the four there are (bit 2 (row half) + column half), the first pixel of x'
    (rows times width plus columns), the position among cells whose inputs are made at once, and
    for the first of them their number."""

    DY = len(CELL)
    DX = len(CELL) + 1
    SEGMENTS = len(CELL) + 2
    Y_AT = len(CELL) + 3
    BATCH = len(CELL) + 4
    COUNT = len(CELL) + 5


class PackedField(IntEnum):
    """Columns of the table of packed steps behind the kernel's geometry: bytes from the scratch
    (``IN_AT``, ``OUT_AT``, ``OTHER_AT`` of what is added, -1 without), from the factors or pixels
    of x and x', bytes of x' per pixel, which shape the step works on; on a torus the first pixel of
    the window's source (-1 where no halo is read), its halo and its shape; the rows by which a
    result in place moves up."""

    IN_AT = len(PACKED)
    OTHER_AT = len(PACKED) + 1
    OUT_AT = len(PACKED) + 2
    FX_AT = len(PACKED) + 3
    FY_AT = len(PACKED) + 4
    FY_PIXEL = len(PACKED) + 5
    LEVEL = len(PACKED) + 6
    HALO_AT = len(PACKED) + 7
    HALO_LO_ROWS = len(PACKED) + 8
    HALO_HI_ROWS = len(PACKED) + 9
    HALO_LO_COLS = len(PACKED) + 10
    HALO_HI_COLS = len(PACKED) + 11
    HALO_ROWS = len(PACKED) + 12
    HALO_COLS = len(PACKED) + 13
    CLIMBED = len(PACKED) + 14


CELL_ROW, PACKED_ROW = len(CellField) + len(CELL), len(PackedField) + len(PACKED)
