"""Tables of integers that compiled code reads: their columns, by name."""

from __future__ import annotations

from enum import IntEnum, auto
from typing import Any


class Field(IntEnum):
    """Columns of a table, numbered from 0."""

    @staticmethod
    def _generate_next_value_(name: str, start: int, count: int, last: list[Any]) -> int:
        return count


class Geometry(Field):
    """The first argument of a plane kernel; strides in numbers, not bytes."""

    ROWS = auto()
    COLS = auto()
    IN_ROW = auto()
    IN_COL = auto()
    OUT_ROW = auto()
    OUT_COL = auto()
    FX_ROW = auto()
    FX_COL = auto()
    FX_PLANE = auto()
    FY_ROW = auto()
    FY_COL = auto()
    FY_PLANE = auto()
    WINDOW_ROWS = auto()
    WINDOW_COLS = auto()
    STRIDE_ROWS = auto()
    STRIDE_COLS = auto()
    BUFFER = auto()
    COUNT = auto()


class PackedGeometry(Field):
    """The first argument of a packed kernel; strides in numbers, the same for all planes of a
    step. ``CHART``: the address of the table of pixels, 0 without."""

    T_IN = auto()
    T_OUT = auto()
    IN_ROW = auto()
    OUT_ROW = auto()
    STRIDE_ROWS = auto()
    STRIDE_COLS = auto()
    FX_ROW = auto()
    FX_COL = auto()
    FX_PLANE = auto()
    FY_ROW = auto()
    FY_COL = auto()
    FY_PLANE = auto()
    WINDOW_ROWS = auto()
    WINDOW_COLS = auto()
    COUNT = auto()
    HEIGHT = auto()
    WIDTH = auto()
    GAP_ROWS = auto()
    GAP_COLS = auto()
    CHART = auto()


class Chart(Field):
    """A pixel of a packed plane in a table of 32-bit integers: its place in the plane, of x and of
    x' (from the first pixels that the kernel is given, in pixels); whether a run begins there."""

    PLANE = auto()
    X = auto()
    Y = auto()
    BEGINS = auto()


class Cell(Field):
    """A packed plane: the rows of the first rectangle and of all, the columns of the first and of
    the second."""

    FIRST_ROWS = auto()
    ROWS = auto()
    FIRST_COLS = auto()
    SECOND_COLS = auto()


class PoolFeed(Field):
    """Taps of a pool's windows that go to pooled planes of one displacement modulo the image
    (:mod:`widegram.cpu.driver.pool_feeds`); strides and gaps in numbers of pixels or of rows.

    * ``ROW``, ``COL``: the first tap; ``TAP_ROWS``, ``TAP_COLS``: how many there are
    * ``BORDER_ROWS``, ``BORDER_COLS``: from that window on they go to the lower, or right, planes
    * ``STRIDE_ROWS``, ``STRIDE_COLS``: pixels from one window to the next
    * ``IN_ROW``, ``LEFT_ROW``, ``RIGHT_ROW``: numbers from one row to the next
    * ``GAP_ROWS``, ``GAP_COLS``: the gap in the packed plane
    * ``T_IN``, ``T_OUT``: bytes from K to T
    * ``UPPER_LEFT`` to ``LOWER_RIGHT``: the addresses of K at the window (0, 0); ``UPPER_BEGIN``,
      ``UPPER_END`` and the same of the lower ones: the windows of a row whose plane there is
    """

    ROW = auto()
    COL = auto()
    TAP_ROWS = auto()
    TAP_COLS = auto()
    BORDER_ROWS = auto()
    BORDER_COLS = auto()
    STRIDE_ROWS = auto()
    STRIDE_COLS = auto()
    IN_ROW = auto()
    LEFT_ROW = auto()
    RIGHT_ROW = auto()
    GAP_ROWS = auto()
    GAP_COLS = auto()
    T_IN = auto()
    T_OUT = auto()
    UPPER_LEFT = auto()
    UPPER_RIGHT = auto()
    UPPER_BEGIN = auto()
    UPPER_END = auto()
    LOWER_LEFT = auto()
    LOWER_RIGHT = auto()
    LOWER_BEGIN = auto()
    LOWER_END = auto()


POOL_ROW = 8 * len(PoolFeed)
POOL_FEEDS = 4  # at most: two along each axis


class MapField(Field):
    """Columns of the table of maps (:mod:`widegram.plan.maps`).

    * ``KERNEL``: the address of the plane kernel
    * ``SOURCE``, ``T_SOURCE``, ``TARGET``, ``T_TARGET``: where K and T of both stores begin
    * ``FACTOR``: where an image's own coefficients stand
    * ``OUT``: pixels of the output; ``FULL``: whether the source has all pairs of pixels
    * ``ROWS``, ``COLUMNS``, ``VALUES``: addresses of A's entries, row by row
    * ``BEGIN``, ``SECOND``, ``PLACE``: addresses of lists of the source's pairs, by first pixel
    * ``TO_BEGIN``, ``TO_SECOND``, ``TO_PLACE``: the same of the output's pairs
    * ``SHIFT``: the address of what is added to the source, by place
    """

    KERNEL = auto()
    SOURCE = auto()
    T_SOURCE = auto()
    TARGET = auto()
    T_TARGET = auto()
    FACTOR = auto()
    OUT = auto()
    FULL = auto()
    ROWS = auto()
    COLUMNS = auto()
    VALUES = auto()
    BEGIN = auto()
    SECOND = auto()
    PLACE = auto()
    TO_BEGIN = auto()
    TO_SECOND = auto()
    TO_PLACE = auto()
    SHIFT = auto()


MAP_ROW = 8 * len(MapField)
