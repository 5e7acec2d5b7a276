"""Pooling of planes, in compiled integer arithmetic.

Fine pixels i = s P - lo + u and i' = s P' - lo + u' of the windows P and P' have displacement
d = s D + (u' - u). So the fine plane d feeds every pooled plane D with |d - s D| < window: its
pixel P gets the taps u for which u' = u + d - s D is a tap too. Circular windows also meet d + m h.
"""

from __future__ import annotations

from widegram.cpu.driver.context import At
from widegram.cpu.driver.fields import MOVES, StepField, StoreField
from widegram.cpu.driver.halo import jit
from widegram.cpu.driver.memory import call_plane, peek, poke

# Numba freezes these as constants.
_GATHER = MOVES.index("gather")
_ROWS, _COLS = int(StepField.ROWS), int(StepField.COLS)
_STRIDE_Y, _STRIDE_X = int(StepField.STRIDE_ROWS), int(StepField.STRIDE_COLS)
_LO_Y, _LO_X = int(StepField.LO_ROWS), int(StepField.LO_COLS)
_CIRCULAR, _STEP_PARAMS = int(StepField.CIRCULAR), int(StepField.PARAMS)
_G_H, _G_W = int(StoreField.ROWS), int(StoreField.COLS)
_G_INDEX = int(StoreField.INDEX)
_G_OFFSET, _G_T = int(StoreField.OFFSET), int(StoreField.T_OFFSET)
_SCRATCH, _PARAMS, _GEOMETRY = int(At.SCRATCH), int(At.PARAMS), int(At.GEOMETRY)
_ITEM, _LANES = int(At.ITEMSIZE), int(At.LANES)


@jit
def pool(step, ctx, geo, moves, store, index, rows, cols, y, x, row, k, t, h, w):  # type: ignore[no-untyped-def]  # fmt: skip
    """Add the rectangle (d = (y, x), first pixel at k, t) to every pooled plane that it feeds."""
    a, b = peek(step, _ROWS), peek(step, _COLS)
    sy, sx = peek(step, _STRIDE_Y), peek(step, _STRIDE_X)
    out_h, out_w = peek(store, _G_H), peek(store, _G_W)
    turns_y = 1 + a // h if peek(step, _CIRCULAR) else 0
    turns_x = 1 + b // w if peek(step, _CIRCULAR) else 0
    # Two windows may wrap in opposite directions: twice the turns of one. Steps of at least 1: a
    # range that might have step 0 would have to raise.
    for d_y in range(y - 2 * turns_y * h, y + 2 * turns_y * h + 1, max(h, 1)):
        for pooled_y in range(*_pooled(d_y, a, sy, out_h)):
            for d_x in range(x - 2 * turns_x * w, x + 2 * turns_x * w + 1, max(w, 1)):
                for pooled_x in range(*_pooled(d_x, b, sx, out_w)):
                    line = (pooled_y + out_h - 1) * (2 * out_w - 1)
                    plane = peek(index, peek(store, _G_INDEX) + line + pooled_x + out_w - 1)
                    if plane >= 0:
                        _gather(
                            step, ctx, geo, moves, store, plane, pooled_y, pooled_x,
                            d_y - sy * pooled_y, d_x - sx * pooled_x,
                            rows, cols, y, x, row, k, t, h * turns_y, w * turns_x, h, w,
                        )  # fmt: skip


@jit
def _pooled(d, window, stride, size):  # type: ignore[no-untyped-def]
    """The range of pooled displacements D, |D| < size, with |d - stride D| < window."""
    low = -((window - 1 - d) // stride)
    high = (d + window - 1) // stride
    return max(low, 1 - size), min(high, size - 1) + 1


@jit
def _gather(  # type: ignore[no-untyped-def]
    step, ctx, geo, moves, store, plane, pooled_y, pooled_x, e_y, e_x,
    rows, cols, y, x, row, k, t, reach_y, reach_x, h, w,
):  # fmt: skip
    """Add the taps of offset (e_y, e_x) = u' - u to one pooled plane.

    Taps whose windows all lie inside the rectangle go in one call; at borders each tap goes alone.
    """
    lanes, item = peek(ctx, _LANES), peek(ctx, _ITEM)
    a, b = peek(step, _ROWS), peek(step, _COLS)
    sy, sx = peek(step, _STRIDE_Y), peek(step, _STRIDE_X)
    i0, j0 = max(0, -y), max(0, -x)
    p0, q0 = max(0, -pooled_y), max(0, -pooled_x)
    n_p, n_q = peek(store, _G_H) - abs(pooled_y), peek(store, _G_W) - abs(pooled_x)
    u0, u1 = max(0, -e_y), min(a, a - e_y)
    v0, v1 = max(0, -e_x), min(b, b - e_x)
    # Fine pixel of tap (0, 0) of pooled pixel (0, 0), counted from the rectangle's first pixel.
    base_r, base_c = -peek(step, _LO_Y) - i0, -peek(step, _LO_X) - j0
    whole_y = base_r + sy * p0 + u0 >= 0 and base_r + sy * (p0 + n_p - 1) + u1 <= rows
    whole_x = base_c + sx * q0 + v0 >= 0 and base_c + sx * (q0 + n_q - 1) + v1 <= cols
    step_u = u1 - u0 if whole_y and reach_y == 0 else 1
    step_v = v1 - v0 if whole_x and reach_x == 0 else 1
    poke(geo, 2, sy * row)
    poke(geo, 3, sx * lanes)
    poke(geo, 4, n_q * lanes)
    poke(geo, 5, lanes)
    poke(geo, 6, row)
    poke(geo, 7, lanes)
    poke(geo, 12, step_u)
    poke(geo, 13, step_v)
    params = peek(ctx, _PARAMS) + peek(step, _STEP_PARAMS) * item
    out = peek(ctx, _SCRATCH) + plane * lanes * item
    for u in range(u0, u1, max(step_u, 1)):
        for turn_y in range(-reach_y, reach_y + 1, max(h, 1)):
            p, count_p = _run(turn_y - base_r - u, rows, sy, p0, n_p, step_u)
            for v in range(v0, v1, max(step_v, 1)):
                for turn_x in range(-reach_x, reach_x + 1, max(w, 1)):
                    q, count_q = _run(turn_x - base_c - v, cols, sx, q0, n_q, step_v)
                    if count_p <= 0 or count_q <= 0:
                        continue
                    r = sy * p + base_r + u - turn_y
                    c = sx * q + base_c + v - turn_x
                    at = (r * row + c * lanes) * item
                    to = out + ((p - p0) * n_q + q - q0) * lanes * item
                    poke(geo, 0, count_p)
                    poke(geo, 1, count_q)
                    call_plane(
                        peek(moves, _GATHER), peek(ctx, _GEOMETRY), params, k + at, t + at,
                        to + peek(store, _G_OFFSET) * item, to + peek(store, _G_T) * item, 0, 0,
                    )  # fmt: skip


@jit
def _run(start, length, stride, first, count, together):  # type: ignore[no-untyped-def]
    """The positions P in [first, first + count) with start <= stride P < start + length.

    All of them where several taps go together.
    """
    if together > 1:
        return first, count
    low = max(first, -((-start) // stride))
    high = min(first + count - 1, (start + length - 1) // stride)
    return low, high - low + 1
