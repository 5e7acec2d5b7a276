"""What surrounds rectangles of planes: the halo that convolutions read.

It is zeros, or, for circular padding, copies from the neighbouring segments.
"""

from __future__ import annotations

from typing import NamedTuple

from widegram.cpu.driver.context import At
from widegram.cpu.driver.fields import Move, SlotField
from widegram.cpu.driver.jit import jit
from widegram.cpu.driver.memory import peek
from widegram.cpu.driver.planes import copy, fill, moved, place, rectangle


class Torus(NamedTuple):
    """The plane (``dy``, ``dx``) and its torus (``ty``, ``tx``), 0 along an axis without one."""

    dy: int
    dx: int
    ty: int
    tx: int


class Axis(NamedTuple):
    """One axis of a segment on a torus: the ``length`` of the segment, of its halo ``before`` and
    ``behind`` it, of segment 0 (``first``) and of the torus (``size``); where the segment begins on
    it (``start``), and the number of segment 0 among all (``own``)."""

    length: int
    before: int
    behind: int
    first: int
    size: int
    start: int
    own: int


class Run(NamedTuple):
    """A run along an axis that stops where the halo turns into the segment itself and where the
    source's segment ends: which ``segment``, from where in it (``local``), the ``length``."""

    segment: int
    local: int
    length: int


@jit
def zero_halo(ctx: int, slot: int, segment: int, rows: int, cols: int) -> None:
    """Zeros around a rectangle."""
    lanes, item = peek(ctx, At.LANES), peek(ctx, At.ITEMSIZE)
    here = place(ctx, slot, segment, cols)
    left, right = peek(slot, SlotField.LO_COLS), peek(slot, SlotField.HI_COLS)
    above, below = peek(slot, SlotField.LO_ROWS), peek(slot, SlotField.HI_ROWS)
    wide = cols + left + right
    for at, height, width in (
        (-above * here.row - left * lanes, above, wide),
        (rows * here.row - left * lanes, below, wide),
        (-left * lanes, rows, left),
        (cols * lanes, rows, right),
    ):
        if height > 0 and width > 0:
            fill(ctx, height, width, moved(here, at, item))


@jit
def _axis(
    length: int, before: int, behind: int, image: int, first: int, segment: int, whole: int
) -> Axis:
    """An axis of segment 0 or 1. Where the torus is not the image's (``whole`` 0: behind a stride
    that does not divide it) no window wraps: a segment is its own and only neighbour there."""
    if whole:
        return Axis(length, before, behind, first, image, segment * first, 0)
    return Axis(length, before, behind, length, length, 0, segment)


@jit
def _run(axis: Axis, at: int) -> Run:
    """The run that begins at position ``at`` of a segment."""
    end = axis.length + axis.behind
    if at < 0:
        end = 0
    elif at < axis.length:
        end = axis.length
    position = (axis.start + at) % axis.size
    if position < axis.first:
        return Run(axis.own, position, min(end - at, axis.first - position))
    return Run(axis.own + 1, position - axis.first, min(end - at, axis.size - position))


@jit
def _wrap_halo(ctx: int, slot: int, torus: Torus, sy: int, sx: int) -> None:
    """Fill the halo of segment (sy, sx) of a plane from its neighbours on the torus."""
    rows, cols, _, _ = rectangle(slot, torus.dy - sy * torus.ty, torus.dx - sx * torus.tx)
    if rows == 0:
        return
    lanes, item = peek(ctx, At.LANES), peek(ctx, At.ITEMSIZE)
    h, w = peek(slot, SlotField.ROWS), peek(slot, SlotField.COLS)
    sigma_y, sigma_x = peek(slot, SlotField.SIGMA_ROWS), peek(slot, SlotField.SIGMA_COLS)
    down = _axis(
        rows, peek(slot, SlotField.LO_ROWS), peek(slot, SlotField.HI_ROWS), h,
        h - torus.dy // sigma_y, sy, int(torus.ty == h * sigma_y),
    )  # fmt: skip
    along = _axis(
        cols, peek(slot, SlotField.LO_COLS), peek(slot, SlotField.HI_COLS), w,
        w - torus.dx // sigma_x, sx, int(torus.tx == w * sigma_x),
    )  # fmt: skip
    here = place(ctx, slot, 2 * sy + sx, cols)
    r = -down.before
    while r < rows + down.behind:
        above = _run(down, r)
        c = -along.before
        while c < cols + along.behind:
            beside = _run(along, c)
            if r < 0 or r >= rows or c < 0 or c >= cols:
                # Segment 0 of its own torus is all of it.
                there_cols = along.first
                if beside.segment > along.own:
                    there_cols = along.size - along.first
                source = place(ctx, slot, 2 * above.segment + beside.segment, there_cols)
                local = above.local * source.row + beside.local * lanes
                target = moved(here, r * here.row + c * lanes, item)
                source = moved(source, local, item)
                copy(ctx, Move.COPY, above.length, beside.length, source, target)
            c += beside.length
        r += above.length


@jit
def halos(ctx: int, slot: int, torus: Torus, circular: int) -> None:
    """Set the halos of all segments of one value: wrapped or zero."""
    for sy in range(2 if torus.ty and torus.dy else 1):
        for sx in range(2 if torus.tx and torus.dx else 1):
            if circular:
                _wrap_halo(ctx, slot, torus, sy, sx)
            else:
                dy, dx = torus.dy - sy * torus.ty, torus.dx - sx * torus.tx
                rows, cols, _, _ = rectangle(slot, dy, dx)
                if rows:
                    zero_halo(ctx, slot, 2 * sy + sx, rows, cols)
