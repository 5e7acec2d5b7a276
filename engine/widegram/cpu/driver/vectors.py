"""The compiled loop for networks that see vectors.

A vector is a one-pixel image, so a plane would be a single number. Instead the pairs of some x
and some blocks of x' (``REGION`` of the tables) form a plane, a row to an x and a column to a
block: x's factors then step from row to row, those of x' from column to column. The kernels are
the same.
"""

from __future__ import annotations

from widegram.cpu.driver.context import At
from widegram.cpu.driver.fields import KINDS, MOVES, REGION, SlotField, StepField
from widegram.cpu.driver.halo import jit
from widegram.cpu.driver.memory import call_plane, peek, poke

_INPUT, _ADD, _OUTPUT = KINDS.index("input"), KINDS.index("add"), KINDS.index("output")
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
_SLOTS, _MOVES, _HALT = int(At.SLOTS), int(At.MOVES), int(At.HALT)
_REGION_BLOCKS = REGION[1]
_OWN_BLOCKS = 3  # where a region meets the diagonal: as many as run together
_STEP_ROW, _SLOT_ROW = 8 * len(StepField), 8 * len(SlotField)


@jit
def _step(step, ctx, geo, moves, slots, rows, cols, x_step, y_step, out_row):  # type: ignore[no-untyped-def]  # fmt: skip
    """One step on a region of ``rows`` x and ``cols`` blocks of x'; strides in numbers."""
    lanes, item = peek(ctx, _LANES), peek(ctx, _ITEM)
    kind = peek(step, _KIND)
    params = peek(ctx, _PARAMS) + peek(step, _STEP_PARAMS) * item
    target = slots + peek(step, _OUT) * _SLOT_ROW
    k = peek(ctx, _SCRATCH) + peek(target, _OFFSET) * item
    t = peek(ctx, _SCRATCH) + peek(target, _T_OFFSET) * item
    poke(geo, 0, rows)
    poke(geo, 1, cols)
    poke(geo, 2, cols * lanes)
    poke(geo, 3, lanes)
    poke(geo, 4, cols * lanes)
    poke(geo, 5, lanes)
    poke(geo, 17, peek(step, _N_FACTORS))
    if kind == _INPUT:
        x, y = peek(ctx, _X), peek(ctx, _Y)
        call_plane(peek(step, _KERNEL), peek(ctx, _GEOMETRY), params, x, y, k, t, 0, 0)
        return
    source = slots + peek(step, _IN0) * _SLOT_ROW
    k_in = peek(ctx, _SCRATCH) + peek(source, _OFFSET) * item
    t_in = peek(ctx, _SCRATCH) + peek(source, _T_OFFSET) * item
    if kind == _OUTPUT:
        to = peek(step, _STORE) * peek(ctx, _OUT_STRIDE) * item
        poke(geo, 4, out_row)
        call_plane(
            peek(moves, _MOVE_COPY), peek(ctx, _GEOMETRY), params, k_in, t_in,
            peek(ctx, _OUT_K) + to, peek(ctx, _OUT_T) + to, 0, 0,
        )  # fmt: skip
        return
    if kind == _ADD:
        other = slots + peek(step, _IN1) * _SLOT_ROW
        poke(geo, 6, cols * lanes)
        poke(geo, 7, lanes)
        call_plane(
            peek(moves, _MOVE_ADD), peek(ctx, _GEOMETRY), params, k_in, t_in, k, t,
            peek(ctx, _SCRATCH) + peek(other, _OFFSET) * item,
            peek(ctx, _SCRATCH) + peek(other, _T_OFFSET) * item,
        )  # fmt: skip
        return
    _factors(geo, lanes, x_step, y_step)
    poke(geo, 14, 1)
    poke(geo, 15, 1)
    fx = peek(ctx, _XF) + peek(step, _FACTOR) * item
    fy = peek(ctx, _YF) + peek(step, _FACTOR) * lanes * item
    call_plane(peek(step, _KERNEL), peek(ctx, _GEOMETRY), params, k_in, t_in, k, t, fx, fy)


@jit
def _factors(geo, lanes, x_step, y_step):  # type: ignore[no-untyped-def]
    """Strides of the factors of x and of x'."""
    poke(geo, 6, x_step)
    poke(geo, 7, 0)
    poke(geo, 8, 1)
    poke(geo, 9, 0)
    poke(geo, 10, y_step)
    poke(geo, 11, lanes)


@jit
def _close(ctx, geo, slots, step, rows, cols, x_step, y_step, kernel, factor, found, block):  # type: ignore[no-untyped-def]  # fmt: skip
    """Add a region's nearly parallel pairs to a list; ``block``: the number of its first one."""
    lanes, item = peek(ctx, _LANES), peek(ctx, _ITEM)
    target = slots + peek(step, _OUT) * _SLOT_ROW
    k = peek(ctx, _SCRATCH) + peek(target, _OFFSET) * item
    _factors(geo, lanes, x_step, y_step)
    poke(geo, 16, block)
    call_plane(
        kernel, peek(ctx, _GEOMETRY), peek(ctx, _PARAMS), k, 0, found, found + 8,
        peek(ctx, _XF) + factor * item, peek(ctx, _YF) + factor * lanes * item,
    )  # fmt: skip


@jit
def _turn(ctx, geo, rows, cols, out_row, kernel, turned_k, turned_t, outputs):  # type: ignore[no-untyped-def]
    """Write the transpose of a region's outputs."""
    lanes, item = peek(ctx, _LANES), peek(ctx, _ITEM)
    poke(geo, 0, rows // lanes)
    poke(geo, 1, cols)
    poke(geo, 2, out_row)
    poke(geo, 4, out_row)
    for n in range(outputs):
        to = n * peek(ctx, _OUT_STRIDE) * item
        call_plane(
            kernel, peek(ctx, _GEOMETRY), 0, peek(ctx, _OUT_K) + to, peek(ctx, _OUT_T) + to,
            turned_k + to, turned_t + to, 0, 0,
        )  # fmt: skip


@jit
def run_vectors(  # type: ignore[no-untyped-def]
    ctx, rows, blocks, x_step, y_step, out_row, close, factor, found, turn, turned_k, turned_t,
    outputs,
):  # fmt: skip
    """All steps for ``rows`` x and ``blocks`` blocks of x' that begin where the context says, a
    region after the other.

    A vector network is one program without displacements, stores or sums. ``x_step``, ``y_step``:
    numbers from one x's factors, and one block's, to the next; ``out_row``: from one row of the
    outputs to the next. ``close``: address of the kernel that finds nearly parallel pairs, 0
    without; ``factor``: where the factor that it compares stands; ``found``: what it fills, a
    number and then the pairs. ``turn``: address of the kernel that writes the transpose of all
    ``outputs`` outputs to ``turned_k`` and ``turned_t``, 0 without; the first x' are then the x
    themselves, and what lies below the diagonal is not computed but for small corners.
    """
    geo, moves, slots = peek(ctx, _GEOMETRY), peek(ctx, _MOVES), peek(ctx, _SLOTS)
    lanes, item = peek(ctx, _LANES), peek(ctx, _ITEM)
    y, factors = peek(ctx, _Y), peek(ctx, _YF)
    k, t = peek(ctx, _OUT_K), peek(ctx, _OUT_T)
    own = rows // lanes if turn else 0
    begin, halt = 0, peek(ctx, _HALT)
    while begin < blocks and not peek(halt, 0):
        cols = min(_OWN_BLOCKS, own - begin) if begin < own else _REGION_BLOCKS
        cols = min(cols, blocks - begin)
        high = min(rows, (begin + cols) * lanes) if begin < own else rows
        first = begin * lanes * item
        poke(ctx, _YF, factors + begin * y_step * item)
        poke(ctx, _OUT_K, k + first)
        poke(ctx, _OUT_T, t + first)
        for s in range(peek(ctx, _N_STEPS)):
            if peek(halt, 0):
                return
            step = peek(ctx, _STEPS) + s * _STEP_ROW
            is_input = peek(step, _KIND) == _INPUT
            if is_input:
                poke(ctx, _Y, y + first * peek(step, _N_FACTORS))
            _step(step, ctx, geo, moves, slots, high, cols, x_step, y_step, out_row)
            if is_input and close:
                _close(
                    ctx, geo, slots, step, high, cols, x_step, y_step, close, factor, found, begin
                )
        if turn:
            down = first * out_row
            _turn(ctx, geo, high, cols, out_row, turn, turned_k + down, turned_t + down, outputs)
        begin += cols
