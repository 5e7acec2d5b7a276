"""Rectangles of planes, and moving them, in compiled integer arithmetic.

At base displacement d a value on an (h, w) image has the rectangle of pixels (i, j) with
(i, j) + D inside the image, D = d / sigma: (h - |D|) x (w - |D|) pixels. On a torus the plane d is
made of up to four such rectangles ("segments"), d or d - torus along each axis; segment (1, 0) is
number 2.
"""

from __future__ import annotations

from typing import NamedTuple

from widegram.cpu.driver.context import At
from widegram.cpu.driver.fields import STORE_ROW, Move, SlotField, StepField
from widegram.cpu.driver.jit import jit
from widegram.cpu.driver.memory import call_part, call_plane, peek, poke
from widegram.cpu.kernels.fields import Geometry


class Rectangle(NamedTuple):
    """``rows`` x ``cols`` pixels (0 rows: none) at displacement D = (``y``, ``x``)."""

    rows: int
    cols: int
    y: int
    x: int


class Place(NamedTuple):
    """Addresses of the first pixel of K and of T, and the row stride in numbers."""

    k: int
    t: int
    row: int


@jit
def rectangle(slot: int, dy: int, dx: int) -> Rectangle:
    """The rectangle of a value at segment displacement (dy, dx)."""
    sy, sx = peek(slot, SlotField.SIGMA_ROWS), peek(slot, SlotField.SIGMA_COLS)
    if dy % sy != 0 or dx % sx != 0:
        return Rectangle(0, 0, 0, 0)
    y, x = dy // sy, dx // sx
    rows = peek(slot, SlotField.ROWS) - abs(y)
    cols = peek(slot, SlotField.COLS) - abs(x)
    if rows <= 0 or cols <= 0:
        return Rectangle(0, 0, 0, 0)
    return Rectangle(rows, cols, y, x)


@jit
def row_stride(ctx: int, slot: int, cols: int) -> int:
    """Row stride of a rectangle inside its slot, in numbers."""
    around = peek(slot, SlotField.LO_COLS) + peek(slot, SlotField.HI_COLS)
    return (cols + around) * peek(ctx, At.LANES)


@jit
def place(ctx: int, slot: int, segment: int, cols: int) -> Place:
    """Where a rectangle of a slot stands."""
    row, item = row_stride(ctx, slot, cols), peek(ctx, At.ITEMSIZE)
    left = peek(slot, SlotField.LO_COLS) * peek(ctx, At.LANES)
    inside = segment * peek(slot, SlotField.QUADRANT) + peek(slot, SlotField.LO_ROWS) * row + left
    at = peek(ctx, At.SCRATCH) + inside * item
    k, t = peek(slot, SlotField.OFFSET), peek(slot, SlotField.T_OFFSET)
    return Place(at + k * item, at + t * item, row)


@jit
def moved(at: Place, numbers: int, item: int) -> Place:
    """The place so many numbers further."""
    return Place(at.k + numbers * item, at.t + numbers * item, at.row)


@jit
def set_shape(ctx: int, rows: int, cols: int) -> None:
    """Set the shape of a rectangle, whose pixels are neighbours in every row."""
    geo, lanes = peek(ctx, At.GEOMETRY), peek(ctx, At.LANES)
    poke(geo, Geometry.ROWS, rows)
    poke(geo, Geometry.COLS, cols)
    poke(geo, Geometry.IN_COL, lanes)
    poke(geo, Geometry.OUT_COL, lanes)


@jit
def copy(ctx: int, kind: int, rows: int, cols: int, source: Place, target: Place) -> None:
    """Run a kernel that moves one rectangle to another (``Move.COPY``, ``Move.REDUCE``)."""
    geo = peek(ctx, At.GEOMETRY)
    set_shape(ctx, rows, cols)
    poke(geo, Geometry.IN_ROW, source.row)
    poke(geo, Geometry.OUT_ROW, target.row)
    kernel = peek(peek(ctx, At.MOVES), kind)
    call_plane(kernel, geo, 0, source.k, source.t, target.k, target.t, 0, 0)


@jit
def combine(
    ctx: int, kernel: int, piece: tuple[int, int], first: Place, second: Place, target: Place
) -> None:
    """What the kernel at an address makes of two rectangles of ``piece`` (rows, columns)."""
    geo = peek(ctx, At.GEOMETRY)
    set_shape(ctx, piece[0], piece[1])
    poke(geo, Geometry.IN_ROW, first.row)
    poke(geo, Geometry.OUT_ROW, target.row)
    poke(geo, Geometry.FX_ROW, second.row)
    poke(geo, Geometry.FX_COL, peek(ctx, At.LANES))
    call_plane(kernel, geo, 0, first.k, first.t, target.k, target.t, second.k, second.t)


@jit
def fill(ctx: int, rows: int, cols: int, target: Place) -> None:
    """Zeros in a rectangle."""
    geo = peek(ctx, At.GEOMETRY)
    set_shape(ctx, rows, cols)
    poke(geo, Geometry.OUT_ROW, target.row)
    kernel = peek(peek(ctx, At.MOVES), Move.FILL)
    call_plane(kernel, geo, 0, 0, 0, target.k, target.t, 0, 0)


@jit
def output(ctx: int, step: int, value: Place) -> None:
    """Write a single pixel to the bundle of the result that a step makes."""
    to = peek(step, StepField.STORE) * peek(ctx, At.OUT_STRIDE) * peek(ctx, At.ITEMSIZE)
    copy(ctx, Move.COPY, 1, 1, value, Place(peek(ctx, At.OUT_K) + to, peek(ctx, At.OUT_T) + to, 0))


@jit
def hand_over(ctx: int, part: At, step: int, piece: Rectangle, at: Place) -> None:
    """Have a part that works on stores (``At.LOAD``, ``At.KEEP``) do a step on one rectangle."""
    poke(ctx, At.ROWS, piece.rows)
    poke(ctx, At.COLS, piece.cols)
    poke(ctx, At.D_ROWS, piece.y)
    poke(ctx, At.D_COLS, piece.x)
    poke(ctx, At.ROW, at.row)
    poke(ctx, At.K, at.k)
    poke(ctx, At.T, at.t)
    store = peek(ctx, At.STORES) + peek(step, StepField.STORE) * STORE_ROW
    call_part(peek(ctx, part), step, ctx, store)
