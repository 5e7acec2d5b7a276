"""The compiled loop over displacements and steps of one strip of pairs.

A strip is one x (or, paired, ``lanes`` of them) against ``lanes`` x'. Everything here is integer
arithmetic on addresses: the floating-point work is done by the kernels of
:mod:`widegram.cpu.kernels.window_ir` and :mod:`widegram.cpu.kernels.move_ir`, called by address.
"""

from __future__ import annotations

from widegram.cpu.driver.context import At
from widegram.cpu.driver.fields import KINDS, MOVES, ProgramField, SlotField, StepField, StoreField
from widegram.cpu.driver.halo import halos, jit, move, place, rectangle, row_stride, zero_halo
from widegram.cpu.driver.memory import call_plane, peek, peek_byte, poke
from widegram.cpu.driver.packed import run_packed
from widegram.cpu.driver.stores import keep, load, output

# Numba freezes these as constants.
_INPUT, _LOAD, _WINDOW, _POINT, _ADD, _COPY, _POOL, _REDUCE, _OUTPUT = range(len(KINDS))
_MOVE_COPY, _MOVE_FILL, _MOVE_ADD, _MOVE_GATHER, _MOVE_REDUCE, _MOVE_CAST = range(len(MOVES))
_KIND, _OUT, _IN0, _IN1 = (
    int(StepField.KIND), int(StepField.OUT), int(StepField.IN0), int(StepField.IN1),
)  # fmt: skip
_KERNEL, _STEP_PARAMS = int(StepField.KERNEL), int(StepField.PARAMS)
_FACTOR, _N_FACTORS = int(StepField.FACTOR), int(StepField.N_FACTORS)
_ROWS, _COLS = int(StepField.ROWS), int(StepField.COLS)
_STRIDE_Y, _STRIDE_X = int(StepField.STRIDE_ROWS), int(StepField.STRIDE_COLS)
_LO_Y, _LO_X = int(StepField.LO_ROWS), int(StepField.LO_COLS)
_CIRCULAR, _STORE, _NODE = (
    int(StepField.CIRCULAR), int(StepField.STORE), int(StepField.NODE),
)  # fmt: skip
_P_STEP, _P_STEPS = int(ProgramField.FIRST_STEP), int(ProgramField.N_STEPS)
_P_D, _P_DS = int(ProgramField.FIRST_DISPLACEMENT), int(ProgramField.N_DISPLACEMENTS)
_P_TY, _P_TX = int(ProgramField.TORUS_ROWS), int(ProgramField.TORUS_COLS)
_P_SLOT, _P_SLOTS = int(ProgramField.FIRST_SLOT), int(ProgramField.N_SLOTS)
_P_ACTIVE, _P_TOGETHER = int(ProgramField.ACTIVE), int(ProgramField.TOGETHER)
_P_CELLS = int(ProgramField.N_CELLS)
_L_H, _L_W = int(SlotField.ROWS), int(SlotField.COLS)
_L_LO_Y, _L_HI_Y = int(SlotField.LO_ROWS), int(SlotField.HI_ROWS)
_L_LO_X, _L_HI_X = int(SlotField.LO_COLS), int(SlotField.HI_COLS)
_G_REDUCED, _G_H, _G_W = int(StoreField.REDUCED), int(StoreField.ROWS), int(StoreField.COLS)
_G_INDEX, _G_OFFSET, _G_T = (
    int(StoreField.INDEX), int(StoreField.OFFSET), int(StoreField.T_OFFSET),
)  # fmt: skip
_SCRATCH, _SUMS, _X, _Y = int(At.SCRATCH), int(At.SUMS), int(At.X), int(At.Y)
_XF, _YF, _OUT_K, _OUT_T = int(At.X_FACTORS), int(At.Y_FACTORS), int(At.OUT_K), int(At.OUT_T)
_OUT_STRIDE, _GEOMETRY, _PARAMS = int(At.OUT_STRIDE), int(At.GEOMETRY), int(At.PARAMS)
_BUFFER, _ITEM, _LANES = int(At.BUFFER), int(At.ITEMSIZE), int(At.LANES)
_PAIRED, _ITSELF, _HALT = int(At.PAIRED), int(At.ITSELF), int(At.HALT)
_OWN_K, _OWN_T, _OWN = int(At.OWN_K), int(At.OWN_T), int(At.OWN)
_PROGRAMS, _N_PROGRAMS, _STEPS = int(At.PROGRAMS), int(At.N_PROGRAMS), int(At.STEPS)
_DISPLACEMENTS, _ACTIVE = int(At.DISPLACEMENTS), int(At.ACTIVE)
_SLOTS, _STORES, _INDEX, _MOVES = int(At.SLOTS), int(At.STORES), int(At.INDEX), int(At.MOVES)
_N_SUMS, _CLEAR_BEGIN, _CLEAR_END = int(At.N_SUMS), int(At.CLEAR_BEGIN), int(At.CLEAR_END)
_STEP_ROW, _SLOT_ROW = 8 * len(StepField), 8 * len(SlotField)
_STORE_ROW, _PROGRAM_ROW = 8 * len(StoreField), 8 * len(ProgramField)


@jit
def _factors(step, ctx, geo, h, w, y, x):  # type: ignore[no-untyped-def]
    """Set the factor strides of the geometry; addresses of x's and of x''s factors at (y, x)."""
    lanes, item = peek(ctx, _LANES), peek(ctx, _ITEM)
    unit = lanes if peek(ctx, _PAIRED) else 1
    poke(geo, 6, w * unit)
    poke(geo, 7, unit)
    poke(geo, 8, h * w * unit)
    poke(geo, 9, w * lanes)
    poke(geo, 10, lanes)
    poke(geo, 11, h * w * lanes)
    poke(geo, 17, peek(step, _N_FACTORS))
    x_at = (peek(step, _FACTOR) + max(0, -y) * w + max(0, -x)) * unit
    y_at = (peek(step, _FACTOR) + max(0, y) * w + max(0, x)) * lanes
    return peek(ctx, _XF) + x_at * item, peek(ctx, _YF) + y_at * item


@jit
def _compute(step, ctx, geo, source, target, segment, dy, dx):  # type: ignore[no-untyped-def]
    """A window, point or add step on one segment."""
    rows, cols, y, x = rectangle(target, dy, dx)
    if rows == 0:
        return
    lanes, item = peek(ctx, _LANES), peek(ctx, _ITEM)
    _, in_cols, _, _ = rectangle(source, dy, dx)
    in_row, out_row = row_stride(source, in_cols, lanes), row_stride(target, cols, lanes)
    k_in, t_in = place(ctx, source, segment, in_cols)
    k_out, t_out = place(ctx, target, segment, cols)
    if peek(step, _KIND) == _WINDOW:
        k_in -= (peek(step, _LO_Y) * in_row + peek(step, _LO_X) * lanes) * item
    fx, fy = _factors(step, ctx, geo, peek(target, _L_H), peek(target, _L_W), y, x)
    poke(geo, 0, rows)
    poke(geo, 1, cols)
    poke(geo, 2, in_row)
    poke(geo, 3, lanes)
    poke(geo, 4, out_row)
    poke(geo, 5, lanes)
    poke(geo, 12, peek(step, _ROWS))
    poke(geo, 13, peek(step, _COLS))
    poke(geo, 14, peek(step, _STRIDE_Y))
    poke(geo, 15, peek(step, _STRIDE_X))
    poke(geo, 16, peek(ctx, _BUFFER))
    params = peek(ctx, _PARAMS) + peek(step, _STEP_PARAMS) * item
    call_plane(
        peek(step, _KERNEL), peek(ctx, _GEOMETRY), params,
        k_in, k_in + t_in, k_out, k_out + t_out, fx, fy,
    )  # fmt: skip


@jit
def _add(ctx, geo, moves, first, second, target, segment, dy, dx):  # type: ignore[no-untyped-def]
    """The sum of two values on one segment."""
    rows, cols, _, _ = rectangle(target, dy, dx)
    if rows == 0:
        return
    lanes = peek(ctx, _LANES)
    k0, t0 = place(ctx, first, segment, cols)
    k1, t1 = place(ctx, second, segment, cols)
    k, t = place(ctx, target, segment, cols)
    poke(geo, 0, rows)
    poke(geo, 1, cols)
    poke(geo, 2, row_stride(first, cols, lanes))
    poke(geo, 3, lanes)
    poke(geo, 4, row_stride(target, cols, lanes))
    poke(geo, 5, lanes)
    poke(geo, 6, row_stride(second, cols, lanes))
    poke(geo, 7, lanes)
    call_plane(
        peek(moves, _MOVE_ADD),
        peek(ctx, _GEOMETRY),
        peek(ctx, _PARAMS),
        k0,
        k0 + t0,
        k,
        k + t,
        k1,
        k1 + t1,
    )


@jit
def _input(step, ctx, geo, target, segment, dy, dx):  # type: ignore[no-untyped-def]
    """Inner products over channels on one segment."""
    rows, cols, y, x = rectangle(target, dy, dx)
    if rows == 0:
        return
    lanes, item = peek(ctx, _LANES), peek(ctx, _ITEM)
    channels, w = peek(step, _N_FACTORS), peek(target, _L_W)
    unit = lanes if peek(ctx, _PAIRED) else 1
    poke(geo, 0, rows)
    poke(geo, 1, cols)
    poke(geo, 4, row_stride(target, cols, lanes))
    poke(geo, 5, lanes)
    poke(geo, 6, w * channels * unit)
    poke(geo, 9, w * channels * lanes)
    poke(geo, 17, channels)
    x_at = peek(ctx, _X) + (max(0, -y) * w + max(0, -x)) * channels * unit * item
    y_at = peek(ctx, _Y) + (max(0, y) * w + max(0, x)) * channels * lanes * item
    k, t = place(ctx, target, segment, cols)
    call_plane(
        peek(step, _KERNEL), peek(ctx, _GEOMETRY), peek(ctx, _PARAMS), 0, 0, k, k + t, x_at, y_at
    )


@jit
def _segment(step, ctx, geo, moves, slots, stores, index, segment, dy, dx):  # type: ignore[no-untyped-def]  # fmt: skip
    """One step on one segment."""
    kind = peek(step, _KIND)
    if kind in (_WINDOW, _POINT):
        _compute(
            step,
            ctx,
            geo,
            slots + peek(step, _IN0) * _SLOT_ROW,
            slots + peek(step, _OUT) * _SLOT_ROW,
            segment,
            dy,
            dx,
        )
    elif kind == _INPUT:
        _input(step, ctx, geo, slots + peek(step, _OUT) * _SLOT_ROW, segment, dy, dx)
    elif kind == _LOAD:
        target = slots + peek(step, _OUT) * _SLOT_ROW
        rows, cols, y, x = rectangle(target, dy, dx)
        if rows:
            k, t = place(ctx, target, segment, cols)
            row = row_stride(target, cols, peek(ctx, _LANES))
            load(step, ctx, geo, moves, stores, index, rows, cols, y, x, row, k, k + t)
    elif kind == _ADD:
        first, second = slots + peek(step, _IN0) * _SLOT_ROW, slots + peek(step, _IN1) * _SLOT_ROW
        _add(ctx, geo, moves, first, second, slots + peek(step, _OUT) * _SLOT_ROW, segment, dy, dx)
    else:
        slot = slots + peek(step, _IN0) * _SLOT_ROW
        rows, cols, y, x = rectangle(slot, dy, dx)
        if rows == 0:
            return
        k, t = place(ctx, slot, segment, cols)
        if kind == _OUTPUT:
            output(step, ctx, geo, moves, k, k + t)
            return
        row = row_stride(slot, cols, peek(ctx, _LANES))
        keep(step, ctx, geo, moves, stores, index, slot, rows, cols, y, x, row, k, k + t)


@jit
def _own(step, ctx, geo, moves, slots, stores, index, own):  # type: ignore[no-untyped-def]
    """A storing step at d = 0 of an image with itself, from values computed beforehand."""
    kind = peek(step, _KIND)
    if kind != _COPY and kind != _POOL and kind != _REDUCE:
        return
    slot = slots + peek(step, _IN0) * _SLOT_ROW
    at = peek(own, peek(step, _NODE)) * peek(ctx, _LANES) * peek(ctx, _ITEM)
    row = peek(slot, _L_W) * peek(ctx, _LANES)
    keep(
        step, ctx, geo, moves, stores, index, slot, peek(slot, _L_H), peek(slot, _L_W), 0, 0, row,
        peek(ctx, _OWN_K) + at, peek(ctx, _OWN_T) + at,
    )  # fmt: skip


@jit
def _plain(m, program, ctx, geo, moves, slots, stores, index):  # type: ignore[no-untyped-def]
    """Displacements m, m + 1, ... of a program without a torus, together step by step.

    Each has its own segment of every buffer.
    """
    together = min(peek(program, _P_TOGETHER), peek(program, _P_DS) - m)
    shifts = peek(ctx, _DISPLACEMENTS) + 16 * (peek(program, _P_D) + m)
    count, first = peek(program, _P_STEPS), peek(program, _P_SLOT)
    for s in range(first, first + peek(program, _P_SLOTS)):
        slot = slots + s * _SLOT_ROW
        for b in range(together):
            rows, cols, _, _ = rectangle(slot, peek(shifts, 2 * b), peek(shifts, 2 * b + 1))
            if rows:
                zero_halo(ctx, geo, moves, slot, b, rows, cols)
    for s in range(count):
        step = peek(ctx, _STEPS) + (peek(program, _P_STEP) + s) * _STEP_ROW
        for b in range(together):
            if peek_byte(peek(ctx, _ACTIVE), peek(program, _P_ACTIVE) + (m + b) * count + s):
                _segment(
                    step, ctx, geo, moves, slots, stores, index, b,
                    peek(shifts, 2 * b), peek(shifts, 2 * b + 1),
                )  # fmt: skip


@jit
def _wrapped(m, program, ctx, geo, moves, slots, stores, index):  # type: ignore[no-untyped-def]
    """Displacement m of a program on a torus: every step on all segments of the plane."""
    ty, tx = peek(program, _P_TY), peek(program, _P_TX)
    shift = peek(ctx, _DISPLACEMENTS) + 16 * (peek(program, _P_D) + m)
    dy, dx = peek(shift, 0), peek(shift, 1)
    count = peek(program, _P_STEPS)
    for s in range(count):
        if not peek_byte(peek(ctx, _ACTIVE), peek(program, _P_ACTIVE) + m * count + s):
            continue
        step = peek(ctx, _STEPS) + (peek(program, _P_STEP) + s) * _STEP_ROW
        if peek(step, _KIND) == _WINDOW and peek(step, _ROWS) * peek(step, _COLS) > 1:
            source = slots + peek(step, _IN0) * _SLOT_ROW
            halos(ctx, geo, moves, source, dy, dx, ty, tx, peek(step, _CIRCULAR))
        for sy in range(2 if ty and dy else 1):
            for sx in range(2 if tx and dx else 1):
                _segment(
                    step, ctx, geo, moves, slots, stores, index, 2 * sy + sx,
                    dy - sy * ty, dx - sx * tx,
                )  # fmt: skip


@jit
def run_program(n, ctx):  # type: ignore[no-untyped-def]
    """Run program n at all its displacements; the first, also of packed planes, is d = 0.

    Once the word at HALT is set it returns early, with results to be thrown away.
    """
    geo, moves, own = peek(ctx, _GEOMETRY), peek(ctx, _MOVES), peek(ctx, _OWN)
    slots, stores, index = peek(ctx, _SLOTS), peek(ctx, _STORES), peek(ctx, _INDEX)
    program = peek(ctx, _PROGRAMS) + n * _PROGRAM_ROW
    m = 0
    if peek(ctx, _ITSELF):
        for s in range(peek(program, _P_STEPS)):
            step = peek(ctx, _STEPS) + (peek(program, _P_STEP) + s) * _STEP_ROW
            if peek_byte(peek(ctx, _ACTIVE), peek(program, _P_ACTIVE) + s):
                _own(step, ctx, geo, moves, slots, stores, index, own)
        m = 1
    if peek(program, _P_CELLS):
        run_packed(m, program, ctx, geo, moves, slots, stores, index)
        return
    halt = peek(ctx, _HALT)
    while m < peek(program, _P_DS) and not peek(halt, 0):
        if peek(program, _P_TY) or peek(program, _P_TX):
            _wrapped(m, program, ctx, geo, moves, slots, stores, index)
            m += 1
        else:
            _plain(m, program, ctx, geo, moves, slots, stores, index)
            m += peek(program, _P_TOGETHER)


@jit
def clear(ctx):  # type: ignore[no-untyped-def]
    """Zero the sums and the stores that accumulate."""
    lanes, item = peek(ctx, _LANES), peek(ctx, _ITEM)
    sums = peek(ctx, _SUMS)
    for n in range(peek(ctx, _N_SUMS)):
        poke(sums, n, 0)  # the bits of 0.0
    begin, end = peek(ctx, _CLEAR_BEGIN), peek(ctx, _CLEAR_END)
    if end > begin:
        at = peek(ctx, _SCRATCH) + begin * item
        fill = peek(peek(ctx, _MOVES), _MOVE_FILL)
        pixels = (end - begin) // lanes
        geo = peek(ctx, _GEOMETRY)
        move(fill, ctx, geo, 1, pixels, 0, 0, 0, lanes, 0, 0, 0, at, at)


@jit
def run_strips(ctx, which, rows, count, x_step, factor_step, out_row):  # type: ignore[no-untyped-def]
    """Every program for each x of ``which`` against the x' of the context.

    ``x_step``, ``factor_step``: bytes per image; ``rows``: output row of each x, ``out_row`` their
    stride in bytes.
    """
    x, factors = peek(ctx, _X), peek(ctx, _XF)
    k, t = peek(ctx, _OUT_K), peek(ctx, _OUT_T)
    halt = peek(ctx, _HALT)
    for n in range(count):
        if peek(halt, 0):
            return
        poke(ctx, _X, x + peek(which, n) * x_step)
        poke(ctx, _XF, factors + peek(which, n) * factor_step)
        poke(ctx, _OUT_K, k + peek(rows, n) * out_row)
        poke(ctx, _OUT_T, t + peek(rows, n) * out_row)
        clear(ctx)
        for p in range(peek(ctx, _N_PROGRAMS)):
            run_program(p, ctx)
