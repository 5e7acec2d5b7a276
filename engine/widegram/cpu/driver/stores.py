"""Values that outlive a plane: copies, pools and sums of planes, for programs that come later."""

from __future__ import annotations

from widegram.cpu.driver.context import At
from widegram.cpu.driver.fields import KINDS, MOVES, SlotField, StepField, StoreField
from widegram.cpu.driver.halo import jit, move
from widegram.cpu.driver.memory import call_plane, peek
from widegram.cpu.driver.pooling import pool

# Numba freezes these as constants.
_POOL, _REDUCE = KINDS.index("pool"), KINDS.index("reduce")
_MOVE_COPY, _MOVE_FILL = MOVES.index("copy"), MOVES.index("fill")
_MOVE_REDUCE, _MOVE_CAST = MOVES.index("reduce"), MOVES.index("cast")
_KIND, _STORE, _STEP_PARAMS = int(StepField.KIND), int(StepField.STORE), int(StepField.PARAMS)
_L_H, _L_W = int(SlotField.ROWS), int(SlotField.COLS)
_G_REDUCED, _G_H, _G_W = int(StoreField.REDUCED), int(StoreField.ROWS), int(StoreField.COLS)
_G_INDEX, _G_OFFSET, _G_T = (
    int(StoreField.INDEX), int(StoreField.OFFSET), int(StoreField.T_OFFSET),
)  # fmt: skip
_SCRATCH, _SUMS, _PARAMS = int(At.SCRATCH), int(At.SUMS), int(At.PARAMS)
_OUT_K, _OUT_T, _OUT_STRIDE = int(At.OUT_K), int(At.OUT_T), int(At.OUT_STRIDE)
_GEOMETRY, _ITEM, _LANES = int(At.GEOMETRY), int(At.ITEMSIZE), int(At.LANES)
_STORE_ROW = 8 * len(StoreField)


@jit
def _plane_at(store, index, y, x):  # type: ignore[no-untyped-def]
    """Position of the plane of displacement (y, x), -1 where the store has none."""
    h, w = peek(store, _G_H), peek(store, _G_W)
    return peek(index, peek(store, _G_INDEX) + (y + h - 1) * (2 * w - 1) + x + w - 1)


@jit
def load(step, ctx, geo, moves, stores, index, rows, cols, y, x, row, k, t):  # type: ignore[no-untyped-def]  # fmt: skip
    """Write the rectangle (y, x) at k, t, row stride ``row``; zeros where its store has no such."""
    lanes, item = peek(ctx, _LANES), peek(ctx, _ITEM)
    store = stores + peek(step, _STORE) * _STORE_ROW
    params = peek(ctx, _PARAMS) + peek(step, _STEP_PARAMS) * item
    if peek(store, _G_REDUCED):
        k_in = peek(ctx, _SUMS) + peek(store, _G_OFFSET) * 8
        t_in = peek(ctx, _SUMS) + peek(store, _G_T) * 8
        call_plane(peek(moves, _MOVE_CAST), peek(ctx, _GEOMETRY), params, k_in, t_in, k, t, 0, 0)
        return
    plane = _plane_at(store, index, y, x)
    if plane < 0:
        move(peek(moves, _MOVE_FILL), ctx, geo, rows, cols, 0, 0, row, lanes, params, 0, 0, k, t)
        return
    k_in = peek(ctx, _SCRATCH) + (peek(store, _G_OFFSET) + plane * lanes) * item
    t_in = peek(ctx, _SCRATCH) + (peek(store, _G_T) + plane * lanes) * item
    copy = peek(moves, _MOVE_COPY)
    move(copy, ctx, geo, rows, cols, cols * lanes, lanes, row, lanes, params, k_in, t_in, k, t)


@jit
def keep(step, ctx, geo, moves, stores, index, slot, rows, cols, y, x, row, k, t):  # type: ignore[no-untyped-def]  # fmt: skip
    """Fill a store (copy, pool, reduce) from the rectangle (y, x) at k, t, row stride ``row``."""
    lanes, item = peek(ctx, _LANES), peek(ctx, _ITEM)
    store = stores + peek(step, _STORE) * _STORE_ROW
    params = peek(ctx, _PARAMS) + peek(step, _STEP_PARAMS) * item
    if peek(step, _KIND) == _REDUCE:
        k_out = peek(ctx, _SUMS) + peek(store, _G_OFFSET) * 8
        t_out = peek(ctx, _SUMS) + peek(store, _G_T) * 8
        reduce = peek(moves, _MOVE_REDUCE)
        move(reduce, ctx, geo, rows, cols, row, lanes, 0, 0, params, k, t, k_out, t_out)
        return
    h, w = peek(slot, _L_H), peek(slot, _L_W)
    if peek(step, _KIND) == _POOL:
        pool(step, ctx, geo, moves, store, index, rows, cols, y, x, row, k, t, h, w)
        return
    plane = _plane_at(store, index, y, x)
    if plane >= 0:
        k_out = peek(ctx, _SCRATCH) + (peek(store, _G_OFFSET) + plane * lanes) * item
        t_out = peek(ctx, _SCRATCH) + (peek(store, _G_T) + plane * lanes) * item
        copy, wide = peek(moves, _MOVE_COPY), cols * lanes
        move(copy, ctx, geo, rows, cols, row, lanes, wide, lanes, params, k, t, k_out, t_out)


@jit
def output(step, ctx, geo, moves, k, t):  # type: ignore[no-untyped-def]
    """Write the single pixel at k, t to the strip of the result."""
    to = peek(step, _STORE) * peek(ctx, _OUT_STRIDE) * peek(ctx, _ITEM)
    move(
        peek(moves, _MOVE_COPY), ctx, geo, 1, 1, 0, 0, 0, 0, 0, k, t,
        peek(ctx, _OUT_K) + to, peek(ctx, _OUT_T) + to,
    )  # fmt: skip
