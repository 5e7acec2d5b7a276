"""The compiled loop over displacements of a program, each with planes of its own.

Everything here is integer arithmetic on addresses: the floating-point work is done by the kernels
of :mod:`widegram.cpu.kernels.window_ir` and :mod:`widegram.cpu.kernels.move_ir`, called by address.
"""

from __future__ import annotations

from typing import NamedTuple

from widegram.cpu.driver.context import At
from widegram.cpu.driver.fields import SLOT_ROW, STEP_ROW, Kind, ProgramField, SlotField, StepField
from widegram.cpu.driver.halo import Torus, halos, zero_halo
from widegram.cpu.driver.jit import jit
from widegram.cpu.driver.memory import call_plane, peek, peek_byte, poke
from widegram.cpu.driver.planes import (
    Rectangle,
    combine,
    hand_over,
    output,
    place,
    rectangle,
    set_shape,
)
from widegram.cpu.kernels.fields import Geometry


class Segment(NamedTuple):
    """The ``number`` of a segment and its displacement."""

    number: int
    dy: int
    dx: int


@jit
def _slot(step: int, ctx: int, field: StepField) -> int:
    """The row of the slot that a column of a step names."""
    return peek(ctx, At.SLOTS) + peek(step, field) * SLOT_ROW


@jit
def _factors(step: int, ctx: int, target: int, piece: Rectangle) -> tuple[int, int]:
    """Set the factor strides of the geometry; addresses of x's and of x''s factors of a piece."""
    geo, lanes, item = peek(ctx, At.GEOMETRY), peek(ctx, At.LANES), peek(ctx, At.ITEMSIZE)
    h, w = peek(target, SlotField.ROWS), peek(target, SlotField.COLS)
    unit = lanes if peek(ctx, At.PAIRED) else 1
    poke(geo, Geometry.FX_ROW, w * unit)
    poke(geo, Geometry.FX_COL, unit)
    poke(geo, Geometry.FX_PLANE, h * w * unit)
    poke(geo, Geometry.FY_ROW, w * lanes)
    poke(geo, Geometry.FY_COL, lanes)
    poke(geo, Geometry.FY_PLANE, h * w * lanes)
    poke(geo, Geometry.COUNT, peek(step, StepField.N_FACTORS))
    first = peek(step, StepField.FACTOR)
    x_at = (first + max(0, -piece.y) * w + max(0, -piece.x)) * unit
    y_at = (first + max(0, piece.y) * w + max(0, piece.x)) * lanes
    return peek(ctx, At.X_FACTORS) + x_at * item, peek(ctx, At.Y_FACTORS) + y_at * item


@jit
def _compute(step: int, ctx: int, segment: Segment) -> None:
    """A window or point step on one segment."""
    source, target = _slot(step, ctx, StepField.IN0), _slot(step, ctx, StepField.OUT)
    piece = rectangle(target, segment.dy, segment.dx)
    if piece.rows == 0:
        return
    geo, item = peek(ctx, At.GEOMETRY), peek(ctx, At.ITEMSIZE)
    wide = rectangle(source, segment.dy, segment.dx)
    read = place(ctx, source, segment.number, wide.cols)
    write = place(ctx, target, segment.number, piece.cols)
    before = 0
    if peek(step, StepField.KIND) == Kind.WINDOW:
        left = peek(step, StepField.LO_COLS) * peek(ctx, At.LANES)
        before = (peek(step, StepField.LO_ROWS) * read.row + left) * item
    fx, fy = _factors(step, ctx, target, piece)
    set_shape(ctx, piece.rows, piece.cols)
    poke(geo, Geometry.IN_ROW, read.row)
    poke(geo, Geometry.OUT_ROW, write.row)
    poke(geo, Geometry.WINDOW_ROWS, peek(step, StepField.ROWS))
    poke(geo, Geometry.WINDOW_COLS, peek(step, StepField.COLS))
    poke(geo, Geometry.STRIDE_ROWS, peek(step, StepField.STRIDE_ROWS))
    poke(geo, Geometry.STRIDE_COLS, peek(step, StepField.STRIDE_COLS))
    poke(geo, Geometry.BUFFER, peek(ctx, At.BUFFER))
    params = peek(ctx, At.PARAMS) + peek(step, StepField.PARAMS) * item
    # The window's lower padding moves K's first pixel, and with it T's.
    k_in, t_in = read.k - before, read.t - before
    call_plane(peek(step, StepField.KERNEL), geo, params, k_in, t_in, write.k, write.t, fx, fy)


@jit
def _combine(step: int, ctx: int, segment: Segment) -> None:
    """The sum or product of two values on one segment."""
    target = _slot(step, ctx, StepField.OUT)
    piece = rectangle(target, segment.dy, segment.dx)
    if piece.rows:
        first = place(ctx, _slot(step, ctx, StepField.IN0), segment.number, piece.cols)
        second = place(ctx, _slot(step, ctx, StepField.IN1), segment.number, piece.cols)
        write = place(ctx, target, segment.number, piece.cols)
        kernel = peek(step, StepField.KERNEL)
        combine(ctx, kernel, (piece.rows, piece.cols), first, second, write)


@jit
def _input(step: int, ctx: int, segment: Segment) -> None:
    """Inner products over channels on one segment."""
    target = _slot(step, ctx, StepField.OUT)
    piece = rectangle(target, segment.dy, segment.dx)
    if piece.rows == 0:
        return
    geo, lanes, item = peek(ctx, At.GEOMETRY), peek(ctx, At.LANES), peek(ctx, At.ITEMSIZE)
    channels, w = peek(step, StepField.N_FACTORS), peek(target, SlotField.COLS)
    unit = lanes if peek(ctx, At.PAIRED) else 1
    write = place(ctx, target, segment.number, piece.cols)
    set_shape(ctx, piece.rows, piece.cols)
    poke(geo, Geometry.OUT_ROW, write.row)
    poke(geo, Geometry.FX_ROW, w * channels * unit)
    poke(geo, Geometry.FY_ROW, w * channels * lanes)
    poke(geo, Geometry.COUNT, channels)
    first = peek(step, StepField.FACTOR)
    x_at = (first + (max(0, -piece.y) * w + max(0, -piece.x)) * channels) * unit * item
    y_at = (first + (max(0, piece.y) * w + max(0, piece.x)) * channels) * lanes * item
    call_plane(
        peek(step, StepField.KERNEL), geo, peek(ctx, At.PARAMS), 0, 0, write.k, write.t,
        peek(ctx, At.X) + x_at, peek(ctx, At.Y) + y_at,
    )  # fmt: skip


@jit
def _stored(step: int, ctx: int, slot: int, segment: Segment, part: At) -> None:
    """A step that loads or stores, on one segment of a slot."""
    piece = rectangle(slot, segment.dy, segment.dx)
    if piece.rows:
        hand_over(ctx, part, step, piece, place(ctx, slot, segment.number, piece.cols))


@jit
def _segment(step: int, ctx: int, segment: Segment) -> None:
    """One step on one segment."""
    kind = peek(step, StepField.KIND)
    if kind == Kind.WINDOW or kind == Kind.POINT:
        _compute(step, ctx, segment)
    elif kind == Kind.INPUT:
        _input(step, ctx, segment)
    elif kind == Kind.ADD or kind == Kind.MULTIPLY:
        _combine(step, ctx, segment)
    elif kind == Kind.LOAD:
        _stored(step, ctx, _slot(step, ctx, StepField.OUT), segment, At.LOAD)
    elif kind == Kind.OUTPUT:
        slot = _slot(step, ctx, StepField.IN0)
        piece = rectangle(slot, segment.dy, segment.dx)
        if piece.rows:
            output(ctx, step, place(ctx, slot, segment.number, piece.cols))
    else:
        _stored(step, ctx, _slot(step, ctx, StepField.IN0), segment, At.KEEP)


@jit
def _together(program: int, ctx: int, m: int) -> None:
    """Displacements m, m + 1, ... of a program without a torus, together step by step.

    Each has its own segment of every buffer.
    """
    left = peek(program, ProgramField.N_DISPLACEMENTS) - m
    together = min(peek(program, ProgramField.TOGETHER), left)
    first = peek(program, ProgramField.FIRST_DISPLACEMENT) + m
    shifts = peek(ctx, At.DISPLACEMENTS) + 16 * first
    slots = peek(ctx, At.SLOTS) + peek(program, ProgramField.FIRST_SLOT) * SLOT_ROW
    for s in range(peek(program, ProgramField.N_SLOTS)):
        slot = slots + s * SLOT_ROW
        for b in range(together):
            piece = rectangle(slot, peek(shifts, 2 * b), peek(shifts, 2 * b + 1))
            if piece.rows:
                zero_halo(ctx, slot, b, piece.rows, piece.cols)
    count = peek(program, ProgramField.N_STEPS)
    steps = peek(ctx, At.STEPS) + peek(program, ProgramField.FIRST_STEP) * STEP_ROW
    active = peek(ctx, At.ACTIVE) + peek(program, ProgramField.ACTIVE) + m * count
    for s in range(count):
        for b in range(together):
            if peek_byte(active, b * count + s):
                segment = Segment(b, peek(shifts, 2 * b), peek(shifts, 2 * b + 1))
                _segment(steps + s * STEP_ROW, ctx, segment)


@jit
def _wrapped(program: int, ctx: int, m: int) -> None:
    """Displacement m of a program on a torus: every step on all segments of the plane."""
    first = peek(program, ProgramField.FIRST_DISPLACEMENT) + m
    shift = peek(ctx, At.DISPLACEMENTS) + 16 * first
    torus = Torus(
        peek(shift, 0), peek(shift, 1),
        peek(program, ProgramField.TORUS_ROWS), peek(program, ProgramField.TORUS_COLS),
    )  # fmt: skip
    count = peek(program, ProgramField.N_STEPS)
    active = peek(ctx, At.ACTIVE) + peek(program, ProgramField.ACTIVE) + m * count
    for s in range(count):
        if not peek_byte(active, s):
            continue
        step = peek(ctx, At.STEPS) + (peek(program, ProgramField.FIRST_STEP) + s) * STEP_ROW
        window = peek(step, StepField.ROWS) * peek(step, StepField.COLS)
        if peek(step, StepField.KIND) == Kind.WINDOW and window > 1:
            circular = peek(step, StepField.CIRCULAR)
            halos(ctx, _slot(step, ctx, StepField.IN0), torus, circular)
        for sy in range(2 if torus.ty and torus.dy else 1):
            for sx in range(2 if torus.tx and torus.dx else 1):
                dy, dx = torus.dy - sy * torus.ty, torus.dx - sx * torus.tx
                _segment(step, ctx, Segment(2 * sy + sx, dy, dx))


@jit
def run_plain(program: int, ctx: int, first: int) -> None:
    """All displacements of a program from ``first`` on."""
    m, halt = first, peek(ctx, At.HALT)
    while m < peek(program, ProgramField.N_DISPLACEMENTS) and not peek(halt, 0):
        if peek(program, ProgramField.TORUS_ROWS) or peek(program, ProgramField.TORUS_COLS):
            _wrapped(program, ctx, m)
            m += 1
        else:
            _together(program, ctx, m)
            m += peek(program, ProgramField.TOGETHER)
