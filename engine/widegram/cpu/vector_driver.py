"""The compiled loop for networks that see vectors.

A vector is a one-pixel image, so a plane would be a single number. Instead up to VECTOR_CHUNK x form
the columns of a one-row plane against one block of lanes: x's factors then step from column to
column and those of x' stay. The kernels are the same.
"""

from __future__ import annotations

from widegram.cpu.context import At
from widegram.cpu.halo import jit, move
from widegram.cpu.kernels import call_plane
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


@jit
def _step(step, ctx, geo, moves, slots, count, x_step, factor_step, out_row):  # type: ignore[no-untyped-def]  # fmt: skip
    """One step on a chunk of ``count`` x."""
    lanes, item = ctx[_LANES], ctx[_ITEM]
    kind = step[_KIND]
    params = ctx[_PARAMS] + step[_STEP_PARAMS] * item
    target = slots[step[_OUT]]
    k = ctx[_SCRATCH] + target[_OFFSET] * item
    t = ctx[_SCRATCH] + target[_T_OFFSET] * item
    if kind == _INPUT:
        geo[0], geo[1], geo[3], geo[4], geo[5] = 1, count, x_step // item, 0, lanes
        geo[17] = step[_N_FACTORS]
        call_plane(step[_KERNEL], ctx[_GEOMETRY], params, ctx[_X], ctx[_Y], k, t, 0, 0)
        return
    source = slots[step[_IN0]]
    k_in = ctx[_SCRATCH] + source[_OFFSET] * item
    t_in = ctx[_SCRATCH] + source[_T_OFFSET] * item
    if kind == _OUTPUT:
        to = step[_STORE] * ctx[_OUT_STRIDE] * item
        move(
            moves[_MOVE_COPY], ctx, geo, count, 1, lanes, 0, out_row // item, 0, params, k_in, t_in,
            ctx[_OUT_K] + to, ctx[_OUT_T] + to,
        )  # fmt: skip
        return
    geo[0], geo[1], geo[2], geo[3], geo[4], geo[5] = 1, count, 0, lanes, 0, lanes
    geo[14], geo[15] = 1, 1
    if kind == _ADD:
        other = slots[step[_IN1]]
        geo[6], geo[7] = 0, lanes
        call_plane(
            moves[_MOVE_ADD], ctx[_GEOMETRY], params, k_in, t_in, k, t,
            ctx[_SCRATCH] + other[_OFFSET] * item, ctx[_SCRATCH] + other[_T_OFFSET] * item,
        )  # fmt: skip
        return
    geo[6], geo[7], geo[8] = 0, factor_step // item, 1
    geo[9], geo[10], geo[11] = 0, 0, lanes
    geo[17] = step[_N_FACTORS]
    fx = ctx[_XF] + step[_FACTOR] * item
    fy = ctx[_YF] + step[_FACTOR] * lanes * item
    call_plane(step[_KERNEL], ctx[_GEOMETRY], params, k_in, t_in, k, t, fx, fy)


@jit
def run_vectors(ctx, geo, programs, steps, displacements, active, slots, stores, index, moves, own,
                clear_range, sums, n_sums, x_list, out_rows, x_step, factor_step, out_row):  # type: ignore[no-untyped-def]  # fmt: skip
    """All steps for the consecutive x of ``x_list`` against the x' of the context.

    The arguments are those of :func:`widegram.cpu.driver.run_strips`; a vector network is one
    program without displacements, stores or sums.
    """
    x, factors, k, t = ctx[_X], ctx[_XF], ctx[_OUT_K], ctx[_OUT_T]
    for begin in range(0, x_list.size, VECTOR_CHUNK):
        count = min(VECTOR_CHUNK, x_list.size - begin)
        ctx[_X] = x + x_list[begin] * x_step
        ctx[_XF] = factors + x_list[begin] * factor_step
        ctx[_OUT_K] = k + out_rows[begin] * out_row
        ctx[_OUT_T] = t + out_rows[begin] * out_row
        for s in range(steps.shape[0]):
            _step(steps[s], ctx, geo, moves, slots, count, x_step, factor_step, out_row)
    ctx[_X], ctx[_XF], ctx[_OUT_K], ctx[_OUT_T] = x, factors, k, t
