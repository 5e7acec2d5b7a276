"""The columns of the tables of packed planes that only the driver reads."""

from __future__ import annotations

from enum import IntEnum

from widegram.cpu.kernels.fields import Cell, PackedGeometry


class CellField(IntEnum):
    """Columns of the table of cells behind those that kernels read.

    * ``DY``, ``DX``: the displacement of the first rectangle
    * ``SEGMENTS``: which of the four rectangles there are, bit 2 (row half) + column half
    * ``Y_AT``: the first pixel of x', row times width plus column
    * ``BATCH``: the place among cells whose inputs are made at once
    * ``COUNT``: of the first of those, how many they are
    * ``MAKES``, ``MADE``: of an image with itself, whose plane at -d is that at d, the number of
      the row sums that it makes for its twin, or that its twin made for it; 0 of none
    """

    DY = len(Cell)
    DX = len(Cell) + 1
    SEGMENTS = len(Cell) + 2
    Y_AT = len(Cell) + 3
    BATCH = len(Cell) + 4
    COUNT = len(Cell) + 5
    MAKES = len(Cell) + 6
    MADE = len(Cell) + 7


class PackedField(IntEnum):
    """Columns of the table of packed steps behind the kernel's geometry.

    * ``IN_AT``, ``OUT_AT``, ``OTHER_AT``: bytes from the scratch to the source, the result, and
      what is added (-1: nothing is)
    * ``FX_AT``, ``FY_AT``: bytes to the factors, or pixels, of x and of x'
    * ``FY_PIXEL``: bytes of x' per pixel
    * ``LEVEL``: which shape the step works on
    * ``HALO_AT``: on a torus the first pixel of the window's source, -1 where no halo is read
    * ``HALO_LO_ROWS`` to ``HALO_HI_COLS``: its halo; ``HALO_ROWS``, ``HALO_COLS``: its shape
    * ``CLIMBED``: rows by which a result in place moves up
    * ``HANDED``: of a pool and of the step before it, whose result goes to the pool by some rows at
      a time, so many rows of windows; 0 of any other step
    * ``ROWS_AT``, ``ROWS_SIZE``: bytes from the sums to row sums number 0, and from there to the
      next; half-way are those of T
    """

    IN_AT = len(PackedGeometry)
    OTHER_AT = len(PackedGeometry) + 1
    OUT_AT = len(PackedGeometry) + 2
    FX_AT = len(PackedGeometry) + 3
    FY_AT = len(PackedGeometry) + 4
    FY_PIXEL = len(PackedGeometry) + 5
    LEVEL = len(PackedGeometry) + 6
    HALO_AT = len(PackedGeometry) + 7
    HALO_LO_ROWS = len(PackedGeometry) + 8
    HALO_HI_ROWS = len(PackedGeometry) + 9
    HALO_LO_COLS = len(PackedGeometry) + 10
    HALO_HI_COLS = len(PackedGeometry) + 11
    HALO_ROWS = len(PackedGeometry) + 12
    HALO_COLS = len(PackedGeometry) + 13
    CLIMBED = len(PackedGeometry) + 14
    ROWS_AT = len(PackedGeometry) + 15
    ROWS_SIZE = len(PackedGeometry) + 16
    HANDED = len(PackedGeometry) + 17


# Columns in all, and bytes of a row.
CELL_COLUMNS = len(Cell) + len(CellField)
PACKED_COLUMNS = len(PackedGeometry) + len(PackedField)
CELL_ROW, PACKED_ROW = 8 * CELL_COLUMNS, 8 * PACKED_COLUMNS
