"""The compiled loop for networks that see vectors.

A vector is a one-pixel image, so a plane would be a single number. Instead up to VECTOR_CHUNK x
form the columns of a one-row plane against one block of lanes: x's factors then step from column
to column and those of x' stay. The kernels are the same.
"""

from __future__ import annotations

from widegram.cpu.context import At
from widegram.cpu.halo import jit, move
from widegram.cpu.kernels import call_plane, peek, poke
from widegram.cpu.tables import KINDS, MOVES, VECTOR_CHUNK, SlotField, StepField

_INPUT, _WINDOW, _POINT = KINDS.index("input"), KINDS.index("window"), KINDS.index("point")
_ADD, _OUTPUT = KINDS.index("add"), KINDS.index("output")
_MOVE_COPY, _MOVE_ADD = MOVES.index("copy"), MOVES.index("add")
_KIND, _OUT = int(StepField.KIND), int(StepField.OUT)
_IN0, _IN1 = int(StepField.IN0), int(StepField.IN1)
_KERNEL, _STEP_PARAMS = int(StepField.KERNEL), int(StepField.PARAMS)
_FACTOR, _N_FACTORS, _STORE = (
    int(StepField.FACTOR), int(StepField.N_FACTORS), int(StepField.STORE),
)  # fmt: skip
_OFFSET, _T_OFFSET = int(SlotField.OFFSET), int(SlotField.T_OFFSET)
_SCRATCH, _X, _Y = int(At.SCRATCH), int(At.X), int(At.Y)
_XF, _YF, _OUT_K, _OUT_T = int(At.X_FACTORS), int(At.Y_FACTORS), int(At.OUT_K), int(At.OUT_T)
_OUT_STRIDE, _GEOMETRY, _PARAMS = int(At.OUT_STRIDE), int(At.GEOMETRY), int(At.PARAMS)
_ITEM, _LANES = int(At.ITEMSIZE), int(At.LANES)
_STEPS, _N_STEPS = int(At.STEPS), int(At.N_STEPS)
_SLOTS, _MOVES = int(At.SLOTS), int(At.MOVES)
_STEP_ROW, _SLOT_ROW = 8 * len(StepField), 8 * len(SlotField)


@jit
def _step(step, ctx, geo, moves, slots, count, x_step, factor_step, out_row):  # type: ignore[no-untyped-def]  # fmt: skip
    """One step on a chunk of ``count`` x."""
    lanes, item = peek(ctx, _LANES), peek(ctx, _ITEM)
    kind = peek(step, _KIND)
    params = peek(ctx, _PARAMS) + peek(step, _STEP_PARAMS) * item
    target = slots + peek(step, _OUT) * _SLOT_ROW
    k = peek(ctx, _SCRATCH) + peek(target, _OFFSET) * item
    t = peek(ctx, _SCRATCH) + peek(target, _T_OFFSET) * item
    if kind == _INPUT:
        poke(geo, 0, 1)
        poke(geo, 1, count)
        poke(geo, 3, x_step // item)
        poke(geo, 4, 0)
        poke(geo, 5, lanes)
        poke(geo, 17, peek(step, _N_FACTORS))
        call_plane(
            peek(step, _KERNEL),
            peek(ctx, _GEOMETRY),
            params,
            peek(ctx, _X),
            peek(ctx, _Y),
            k,
            t,
            0,
            0,
        )
        return
    source = slots + peek(step, _IN0) * _SLOT_ROW
    k_in = peek(ctx, _SCRATCH) + peek(source, _OFFSET) * item
    t_in = peek(ctx, _SCRATCH) + peek(source, _T_OFFSET) * item
    if kind == _OUTPUT:
        to = peek(step, _STORE) * peek(ctx, _OUT_STRIDE) * item
        move(
            peek(moves, _MOVE_COPY), ctx, geo, count, 1, lanes, 0, out_row // item, 0, params,
            k_in, t_in,
            peek(ctx, _OUT_K) + to, peek(ctx, _OUT_T) + to,
        )  # fmt: skip
        return
    poke(geo, 0, 1)
    poke(geo, 1, count)
    poke(geo, 2, 0)
    poke(geo, 3, lanes)
    poke(geo, 4, 0)
    poke(geo, 5, lanes)
    poke(geo, 14, 1)
    poke(geo, 15, 1)
    if kind == _ADD:
        other = slots + peek(step, _IN1) * _SLOT_ROW
        poke(geo, 6, 0)
        poke(geo, 7, lanes)
        call_plane(
            peek(moves, _MOVE_ADD), peek(ctx, _GEOMETRY), params, k_in, t_in, k, t,
            peek(ctx, _SCRATCH) + peek(other, _OFFSET) * item,
            peek(ctx, _SCRATCH) + peek(other, _T_OFFSET) * item,
        )  # fmt: skip
        return
    poke(geo, 6, 0)
    poke(geo, 7, factor_step // item)
    poke(geo, 8, 1)
    poke(geo, 9, 0)
    poke(geo, 10, 0)
    poke(geo, 11, lanes)
    poke(geo, 17, peek(step, _N_FACTORS))
    fx = peek(ctx, _XF) + peek(step, _FACTOR) * item
    fy = peek(ctx, _YF) + peek(step, _FACTOR) * lanes * item
    call_plane(peek(step, _KERNEL), peek(ctx, _GEOMETRY), params, k_in, t_in, k, t, fx, fy)


@jit
def run_vectors(ctx, which, rows, x_step, factor_step, out_row):  # type: ignore[no-untyped-def]
    """All steps for the consecutive x of ``which`` against the x' of the context.

    The arguments are those of :func:`widegram.cpu.driver.run_strips`; a vector network is one
    program without displacements, stores or sums.
    """
    geo, moves, slots = peek(ctx, _GEOMETRY), peek(ctx, _MOVES), peek(ctx, _SLOTS)
    x, factors = peek(ctx, _X), peek(ctx, _XF)
    k, t = peek(ctx, _OUT_K), peek(ctx, _OUT_T)
    for begin in range(0, which.size, VECTOR_CHUNK):
        count = min(VECTOR_CHUNK, which.size - begin)
        poke(ctx, _X, x + which[begin] * x_step)
        poke(ctx, _XF, factors + which[begin] * factor_step)
        poke(ctx, _OUT_K, k + rows[begin] * out_row)
        poke(ctx, _OUT_T, t + rows[begin] * out_row)
        for s in range(peek(ctx, _N_STEPS)):
            step = peek(ctx, _STEPS) + s * _STEP_ROW
            _step(step, ctx, geo, moves, slots, count, x_step, factor_step, out_row)
