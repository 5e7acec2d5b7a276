"""Values that outlive a plane: copies and sums of planes, for programs that come later.

Both parts work on the rectangle in the context (:func:`~widegram.cpu.driver.planes.hand_over`).
"""

from __future__ import annotations

from widegram.cpu.driver.context import At
from widegram.cpu.driver.fields import Kind, Move, StepField, StoreField
from widegram.cpu.driver.jit import jit
from widegram.cpu.driver.memory import call_part, call_plane, peek, poke
from widegram.cpu.driver.planes import Place, copy, fill, set_shape
from widegram.cpu.kernels.fields import Geometry
from widegram.cpu.kernels.variants import N_PARAMS


@jit
def plane_at(store: int, ctx: int, y: int, x: int) -> int:
    """Position of the plane of displacement (y, x), -1 where the store has none."""
    h, w = peek(store, StoreField.ROWS), peek(store, StoreField.COLS)
    at = peek(store, StoreField.INDEX) + (y + h - 1) * (2 * w - 1) + x + w - 1
    return peek(peek(ctx, At.INDEX), at)


@jit
def _stored(store: int, ctx: int, plane: int) -> Place:
    """Where a plane of a store stands; its rows follow each other."""
    lanes, item = peek(ctx, At.LANES), peek(ctx, At.ITEMSIZE)
    at = peek(ctx, At.SCRATCH) + plane * lanes * item
    k, t = peek(store, StoreField.OFFSET), peek(store, StoreField.T_OFFSET)
    return Place(at + k * item, at + t * item, peek(ctx, At.COLS) * lanes)


@jit
def _sums(store: int, ctx: int) -> Place:
    """Where sums of planes stand."""
    at = peek(ctx, At.SUMS)
    k, t = peek(store, StoreField.OFFSET), peek(store, StoreField.T_OFFSET)
    return Place(at + k * 8, at + t * 8, 0)


@jit
def _here(ctx: int) -> Place:
    """The rectangle that the context holds."""
    return Place(peek(ctx, At.K), peek(ctx, At.T), peek(ctx, At.ROW))


@jit
def _count(step: int, ctx: int, here: Place, sums: Place) -> None:
    """Add the rectangle's pixels to sums, each as often as the tables of the step say.

    Its parameters are followed by a row for each displacement, from 1 - size on, along rows and
    then along columns (:func:`widegram.cpu.counts.counts`).
    """
    geo, item = peek(ctx, At.GEOMETRY), peek(ctx, At.ITEMSIZE)
    h, w = peek(step, StepField.ROWS), peek(step, StepField.COLS)
    first = peek(ctx, At.PARAMS) + (peek(step, StepField.PARAMS) + N_PARAMS) * item
    down = first + (peek(ctx, At.D_ROWS) + h - 1) * h * item
    along = first + ((2 * h - 1) * h + (peek(ctx, At.D_COLS) + w - 1) * w) * item
    set_shape(ctx, peek(ctx, At.ROWS), peek(ctx, At.COLS))
    poke(geo, Geometry.IN_ROW, here.row)
    kernel = peek(peek(ctx, At.MOVES), Move.COUNT)
    call_plane(kernel, geo, 0, here.k, here.t, sums.k, sums.t, down, along)


@jit
def load(step: int, ctx: int, store: int) -> None:
    """Write the rectangle from its store; zeros where that has no such plane."""
    here, rows, cols = _here(ctx), peek(ctx, At.ROWS), peek(ctx, At.COLS)
    if peek(store, StoreField.REDUCED):
        params = peek(ctx, At.PARAMS) + peek(step, StepField.PARAMS) * peek(ctx, At.ITEMSIZE)
        sums, kernel = _sums(store, ctx), peek(peek(ctx, At.MOVES), Move.CAST)
        call_plane(kernel, peek(ctx, At.GEOMETRY), params, sums.k, sums.t, here.k, here.t, 0, 0)
        return
    plane = plane_at(store, ctx, peek(ctx, At.D_ROWS), peek(ctx, At.D_COLS))
    if plane < 0:
        fill(ctx, rows, cols, here)
    else:
        copy(ctx, Move.COPY, rows, cols, _stored(store, ctx, plane), here)


@jit
def keep(step: int, ctx: int, store: int) -> None:
    """Fill a store (copy, pool, reduce, count) from the rectangle."""
    here, kind = _here(ctx), peek(step, StepField.KIND)
    rows, cols = peek(ctx, At.ROWS), peek(ctx, At.COLS)
    if kind == Kind.POOL:
        call_part(peek(ctx, At.POOL), step, ctx, store)
    elif kind == Kind.REDUCE:
        copy(ctx, Move.REDUCE, rows, cols, here, _sums(store, ctx))
    elif kind == Kind.COUNT:
        _count(step, ctx, here, _sums(store, ctx))
    else:
        plane = plane_at(store, ctx, peek(ctx, At.D_ROWS), peek(ctx, At.D_COLS))
        if plane >= 0:
            copy(ctx, Move.COPY, rows, cols, here, _stored(store, ctx, plane))
