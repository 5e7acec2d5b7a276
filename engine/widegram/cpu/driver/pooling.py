"""Pooling of planes, in compiled integer arithmetic.

Fine pixels i = s P - lo + u and i' = s P' - lo + u' of the windows P and P' have displacement
d = s D + (u' - u). So the fine plane d feeds every pooled plane D with |d - s D| < window: its
pixel P gets the taps u for which u' = u + d - s D is a tap too. Circular windows also meet d + m h.
"""

from __future__ import annotations

from typing import NamedTuple

from widegram.cpu.driver.context import At
from widegram.cpu.driver.fields import SLOT_ROW, Move, SlotField, StepField, StoreField
from widegram.cpu.driver.jit import jit
from widegram.cpu.driver.memory import call_plane, peek, poke
from widegram.cpu.driver.stores import plane_at
from widegram.cpu.kernels.fields import Geometry


class Axis(NamedTuple):
    """One axis of a pool: the ``window``, its ``stride`` and padding ``lo``; of the image the
    ``size`` and how far a circular window reaches (``reach``, in multiples of that); of the fine
    rectangle the displacement ``d`` and the ``length``; the ``pooled`` size."""

    window: int
    stride: int
    lo: int
    size: int
    reach: int
    d: int
    length: int
    pooled: int


class Taps(NamedTuple):
    """The taps ``begin`` to ``end`` - 1 of one offset u' - u, along an axis: those of the pooled
    pixels ``first`` to ``first`` + ``number`` - 1, whose tap 0 of pixel 0 is ``base`` from the
    rectangle's first; so many ``together`` as lie inside the rectangle in all windows."""

    begin: int
    end: int
    first: int
    number: int
    base: int
    together: int


class Run(NamedTuple):
    """``number`` pooled positions from ``first`` on."""

    first: int
    number: int


@jit
def _reach(size: int, window: int, circular: int) -> int:
    return size * (1 + window // size) if circular else 0


@jit
def _pooled(axis: Axis, d: int) -> tuple[int, int]:
    """The range of pooled displacements D, |D| < size, with |d - stride D| < window."""
    low = -((axis.window - 1 - d) // axis.stride)
    high = (d + axis.window - 1) // axis.stride
    return max(low, 1 - axis.pooled), min(high, axis.pooled - 1) + 1


@jit
def _taps(axis: Axis, d: int, pooled: int) -> Taps:
    """The taps with which fine displacement d feeds a pooled one."""
    offset = d - axis.stride * pooled
    begin, end = max(0, -offset), min(axis.window, axis.window - offset)
    first, number = max(0, -pooled), axis.pooled - abs(pooled)
    base = -axis.lo - max(0, -axis.d)
    last = base + axis.stride * (first + number - 1) + end
    inside = base + axis.stride * first + begin >= 0 and last <= axis.length
    together = end - begin if inside and axis.reach == 0 else 1
    return Taps(begin, end, first, number, base, together)


@jit
def _run(axis: Axis, taps: Taps, start: int) -> Run:
    """The positions P of the taps with start <= stride P < start + length.

    All of them where several taps go together.
    """
    if taps.together > 1:
        return Run(taps.first, taps.number)
    low = max(taps.first, -((-start) // axis.stride))
    high = min(taps.first + taps.number - 1, (start + axis.length - 1) // axis.stride)
    return Run(low, high - low + 1)


@jit
def pool(step: int, ctx: int, store: int) -> None:
    """Add the rectangle in the context to every pooled plane that it feeds."""
    slot = peek(ctx, At.SLOTS) + peek(step, StepField.IN0) * SLOT_ROW
    h, w = peek(slot, SlotField.ROWS), peek(slot, SlotField.COLS)
    a, b = peek(step, StepField.ROWS), peek(step, StepField.COLS)
    circular = peek(step, StepField.CIRCULAR)
    down = Axis(
        a, peek(step, StepField.STRIDE_ROWS), peek(step, StepField.LO_ROWS), h,
        _reach(h, a, circular), peek(ctx, At.D_ROWS), peek(ctx, At.ROWS),
        peek(store, StoreField.ROWS),
    )  # fmt: skip
    along = Axis(
        b, peek(step, StepField.STRIDE_COLS), peek(step, StepField.LO_COLS), w,
        _reach(w, b, circular), peek(ctx, At.D_COLS), peek(ctx, At.COLS),
        peek(store, StoreField.COLS),
    )  # fmt: skip
    # Two windows may wrap in opposite directions: twice the turns of one. Steps of at least 1: a
    # range that might have step 0 would have to raise.
    for d_y in range(down.d - 2 * down.reach, down.d + 2 * down.reach + 1, max(h, 1)):
        for y in range(*_pooled(down, d_y)):
            for d_x in range(along.d - 2 * along.reach, along.d + 2 * along.reach + 1, max(w, 1)):
                for x in range(*_pooled(along, d_x)):
                    plane = plane_at(store, ctx, y, x)
                    if plane >= 0:
                        rows, cols = _taps(down, d_y, y), _taps(along, d_x, x)
                        _gather(step, ctx, store, plane, down, rows, along, cols)


@jit
def _gather(
    step: int, ctx: int, store: int, plane: int, down: Axis, rows: Taps, along: Axis, cols: Taps
) -> None:
    """Add taps to one pooled plane.

    Taps whose windows all lie inside the rectangle go in one call; at borders each tap goes alone.
    """
    geo, lanes, item = peek(ctx, At.GEOMETRY), peek(ctx, At.LANES), peek(ctx, At.ITEMSIZE)
    row = peek(ctx, At.ROW)
    poke(geo, Geometry.IN_ROW, down.stride * row)
    poke(geo, Geometry.IN_COL, along.stride * lanes)
    poke(geo, Geometry.OUT_ROW, cols.number * lanes)
    poke(geo, Geometry.OUT_COL, lanes)
    poke(geo, Geometry.FX_ROW, row)
    poke(geo, Geometry.FX_COL, lanes)
    poke(geo, Geometry.WINDOW_ROWS, rows.together)
    poke(geo, Geometry.WINDOW_COLS, cols.together)
    params = peek(ctx, At.PARAMS) + peek(step, StepField.PARAMS) * item
    out = peek(ctx, At.SCRATCH) + plane * lanes * item
    k_out = out + peek(store, StoreField.OFFSET) * item
    t_out = out + peek(store, StoreField.T_OFFSET) * item
    for u in range(rows.begin, rows.end, max(rows.together, 1)):
        for turn_y in range(-down.reach, down.reach + 1, max(down.size, 1)):
            p, count_p = _run(down, rows, turn_y - rows.base - u)
            for v in range(cols.begin, cols.end, max(cols.together, 1)):
                for turn_x in range(-along.reach, along.reach + 1, max(along.size, 1)):
                    q, count_q = _run(along, cols, turn_x - cols.base - v)
                    if count_p <= 0 or count_q <= 0:
                        continue
                    r = down.stride * p + rows.base + u - turn_y
                    c = along.stride * q + cols.base + v - turn_x
                    at = (r * row + c * lanes) * item
                    to = ((p - rows.first) * cols.number + q - cols.first) * lanes * item
                    poke(geo, Geometry.ROWS, count_p)
                    poke(geo, Geometry.COLS, count_q)
                    call_plane(
                        peek(peek(ctx, At.MOVES), Move.GATHER), geo, params,
                        peek(ctx, At.K) + at, peek(ctx, At.T) + at, k_out + to, t_out + to, 0, 0,
                    )  # fmt: skip
