"""The compiled loop over packed planes: a cell is up to four displacements, equal modulo the image.

Everything that does not change from cell to cell is in tables made beforehand, so that a step costs
a few loads and a call.
"""

from __future__ import annotations

from widegram.cpu.driver.context import At
from widegram.cpu.driver.fields import (
    SLOT_ROW,
    STEP_ROW,
    Kind,
    Move,
    ProgramField,
    SlotField,
    StepField,
)
from widegram.cpu.driver.jit import jit
from widegram.cpu.driver.memory import call_plane, peek, peek_byte, poke
from widegram.cpu.driver.packed_fields import CELL_ROW, PACKED_ROW, CellField, PackedField
from widegram.cpu.driver.planes import (
    Place,
    Rectangle,
    combine,
    copy,
    fill,
    hand_over,
    moved,
    output,
    set_shape,
)
from widegram.cpu.driver.pool_feeds import pool_feeds
from widegram.cpu.kernels.fields import Cell, Geometry, PackedGeometry


@jit
def _read(packed: int, ctx: int) -> Place:
    """The plane that a step reads."""
    k = peek(ctx, At.SCRATCH) + peek(packed, PackedField.IN_AT)
    return Place(k, k + peek(packed, PackedGeometry.T_IN), peek(packed, PackedGeometry.IN_ROW))


@jit
def _written(packed: int, ctx: int) -> Place:
    """The plane that a step writes."""
    k = peek(ctx, At.SCRATCH) + peek(packed, PackedField.OUT_AT)
    return Place(k, k + peek(packed, PackedGeometry.T_OUT), peek(packed, PackedGeometry.OUT_ROW))


@jit
def _clean(program: int, ctx: int) -> None:
    """Zeros in every buffer (K and T alike): what lies around planes is never written again."""
    slot = peek(ctx, At.SLOTS) + peek(program, ProgramField.FIRST_SLOT) * SLOT_ROW
    at = peek(ctx, At.SCRATCH) + peek(slot, SlotField.OFFSET) * peek(ctx, At.ITEMSIZE)
    fill(ctx, 1, peek(program, ProgramField.SIZE) // peek(ctx, At.LANES), Place(at, at, 0))


@jit
def _clear_gaps(program: int, cell: int, ctx: int) -> None:
    """Zeros behind the first rows and the first columns of every buffer."""
    lanes, item = peek(ctx, At.LANES), peek(ctx, At.ITEMSIZE)
    slots = peek(ctx, At.SLOTS) + peek(program, ProgramField.FIRST_SLOT) * SLOT_ROW
    climb = peek(program, ProgramField.CLIMB)
    for s in range(peek(program, ProgramField.N_SLOTS)):
        slot = slots + s * SLOT_ROW
        top, wide = peek(slot, SlotField.LO_ROWS), peek(slot, SlotField.LO_COLS)
        tall = top - climb
        if top == 0 and wide == 0:
            continue
        own = cell + peek(slot, SlotField.LEVEL) * CELL_ROW
        height, width = peek(slot, SlotField.ROWS) + tall, peek(slot, SlotField.COLS) + wide
        row = (width + 2 * wide) * lanes
        at = peek(ctx, At.SCRATCH) + (top * row + wide * lanes) * item
        k, t = peek(slot, SlotField.OFFSET), peek(slot, SlotField.T_OFFSET)
        first = Place(at + k * item, at + t * item, row)
        fill(ctx, tall, width, moved(first, peek(own, Cell.FIRST_ROWS) * row, item))
        fill(ctx, height, wide, moved(first, peek(own, Cell.FIRST_COLS) * lanes, item))
        if climb:
            fill(ctx, climb, width, moved(first, -climb * row, item))


@jit
def _kernel(
    step: int, packed: int, cell: int, some: int, row: int, ctx: int, x_at: int, y_base: int
) -> None:
    """Call a step's kernel with the factors or pixels of x at an address, and of x'; ``some``: the
    cell, or that of its rows from ``row`` on."""
    item = peek(ctx, At.ITEMSIZE)
    params = peek(ctx, At.PARAMS) + peek(step, StepField.PARAMS) * item
    y_at = peek(packed, PackedField.FY_AT) + row * peek(packed, PackedGeometry.FY_ROW) * item
    y_at += peek(cell, CellField.Y_AT) * peek(packed, PackedField.FY_PIXEL)
    x_at += row * peek(packed, PackedGeometry.FX_ROW) * item
    down = row * peek(packed, PackedGeometry.STRIDE_ROWS) * peek(packed, PackedGeometry.IN_ROW)
    k_in = peek(packed, PackedField.IN_AT) + down * item
    scratch = peek(ctx, At.SCRATCH)
    call_plane(
        peek(step, StepField.KERNEL), packed, some, params, scratch + k_in,
        scratch + peek(packed, PackedField.OUT_AT), x_at, y_base + y_at, peek(ctx, At.BUFFER),
    )  # fmt: skip


@jit
def _compute(step: int, packed: int, cell: int, ctx: int) -> None:
    """A window or point step on a whole packed plane."""
    x_at = peek(ctx, At.X_FACTORS) + peek(packed, PackedField.FX_AT)
    if peek(packed, PackedField.OTHER_AT) >= 0:
        x_at = peek(ctx, At.SCRATCH) + peek(packed, PackedField.OTHER_AT)
    _kernel(step, packed, cell, cell, 0, ctx, x_at, peek(ctx, At.Y_FACTORS))


@jit
def _input(step: int, packed: int, cell: int, ctx: int) -> None:
    """The inputs of one cell."""
    x_at = peek(ctx, At.X) + peek(packed, PackedField.FX_AT)
    _kernel(step, packed, cell, cell, 0, ctx, x_at, peek(ctx, At.Y))


@jit
def _combine(step: int, packed: int, ctx: int) -> None:
    """The sum or product of two packed planes, gaps and all."""
    target, first = _written(packed, ctx), peek(ctx, At.SCRATCH) + peek(packed, PackedField.IN_AT)
    second = peek(ctx, At.SCRATCH) + peek(packed, PackedField.OTHER_AT)
    t, row = target.t - target.k, target.row
    rows = peek(packed, PackedGeometry.HEIGHT) + peek(packed, PackedGeometry.GAP_ROWS)
    cols = peek(packed, PackedGeometry.WIDTH) + peek(packed, PackedGeometry.GAP_COLS)
    combine(
        ctx, peek(step, StepField.KERNEL), (rows, cols), Place(first, first + t, row),
        Place(second, second + t, row), target,
    )  # fmt: skip


@jit
def _pieces(step: int, packed: int, cell: int, wanted: int, ctx: int) -> None:
    """A step that loads or stores, on each of the rectangles of ``wanted``."""
    lanes, item = peek(ctx, At.LANES), peek(ctx, At.ITEMSIZE)
    h, w = peek(packed, PackedGeometry.HEIGHT), peek(packed, PackedGeometry.WIDTH)
    rows = peek(cell, Cell.FIRST_ROWS) + peek(packed, PackedGeometry.GAP_ROWS)
    cols = peek(cell, Cell.FIRST_COLS) + peek(packed, PackedGeometry.GAP_COLS)
    loads = peek(step, StepField.KIND) == Kind.LOAD
    plane = _written(packed, ctx) if loads else _read(packed, ctx)
    part = At.LOAD if loads else At.KEEP
    for segment in range(4):
        if wanted & (1 << segment):
            lower, right = segment >> 1, segment & 1
            y, x = peek(cell, CellField.DY) - lower * h, peek(cell, CellField.DX) - right * w
            at = moved(plane, rows * lower * plane.row + cols * right * lanes, item)
            hand_over(ctx, part, step, Rectangle(h - abs(y), w - abs(x), y, x), at)


@jit
def _reduce(step: int, packed: int, cell: int, ctx: int) -> None:
    """The sum of a whole packed plane; its gaps are zero."""
    rows, cols = peek(cell, Cell.ROWS), peek(cell, Cell.FIRST_COLS)
    if rows > peek(cell, Cell.FIRST_ROWS):
        rows += peek(packed, PackedGeometry.GAP_ROWS)
    if peek(cell, Cell.SECOND_COLS):
        cols += peek(cell, Cell.SECOND_COLS) + peek(packed, PackedGeometry.GAP_COLS)
    hand_over(ctx, At.KEEP, step, Rectangle(rows, cols, 0, 0), _read(packed, ctx))
    if peek(cell, CellField.MAKES):
        _for_twin(packed, cell, ctx)


@jit
def _row_sums(packed: int, number: int, ctx: int) -> Place:
    """Where row sums that are kept stand."""
    size = peek(packed, PackedField.ROWS_SIZE)
    at = peek(ctx, At.SUMS) + peek(packed, PackedField.ROWS_AT) + number * size
    return Place(at, at + size // 2, peek(ctx, At.LANES))


@jit
def _for_twin(packed: int, cell: int, ctx: int) -> None:
    """Row sums of the plane at -d: this one's with its halves exchanged along both axes."""
    geo, lanes, item = peek(ctx, At.GEOMETRY), peek(ctx, At.LANES), peek(ctx, At.ITEMSIZE)
    plane, kept = _read(packed, ctx), _row_sums(packed, peek(cell, CellField.MAKES), ctx)
    upper, rows = peek(cell, Cell.FIRST_ROWS), peek(cell, Cell.ROWS)
    left, right = peek(cell, Cell.FIRST_COLS), peek(cell, Cell.SECOND_COLS)
    below = moved(plane, (upper + peek(packed, PackedGeometry.GAP_ROWS)) * plane.row, item)
    aside = (left + peek(packed, PackedGeometry.GAP_COLS)) * lanes
    for half in range(2):
        first, count = (plane, upper) if half else (below, rows - upper)
        to = moved(kept, (rows - upper) * half * lanes, item)
        begin = moved(first, aside, item)
        set_shape(ctx, count, right)
        poke(geo, Geometry.IN_ROW, plane.row)
        poke(geo, Geometry.OUT_ROW, lanes)
        poke(geo, Geometry.COUNT, left)
        kernel = peek(peek(ctx, At.MOVES), Move.ROW_SUMS)
        call_plane(kernel, geo, 0, begin.k, begin.t, to.k, to.t, first.k, first.t)


@jit
def _by_twin(steps: int, own: int, active: int, number: int, count: int, ctx: int) -> None:
    """The sums of a plane, row by row, from what its twin kept."""
    for s in range(count):
        step, packed = steps + s * STEP_ROW, own + s * PACKED_ROW
        if peek_byte(active, s) and peek(step, StepField.KIND) == Kind.REDUCE:
            rows = peek(packed, PackedGeometry.HEIGHT)
            kept = _row_sums(packed, number, ctx)
            hand_over(ctx, At.KEEP, step, Rectangle(rows, 1, 0, 0), kept)


@jit
def _wrap(packed: int, ctx: int) -> None:
    """The halo of a plane on a torus from its other side: columns first, then rows with corners."""
    lanes, item, plane = peek(ctx, At.LANES), peek(ctx, At.ITEMSIZE), _read(packed, ctx)
    k, row = peek(ctx, At.SCRATCH) + peek(packed, PackedField.HALO_AT), plane.row
    inside = Place(k, k + plane.t - plane.k, row)
    h, w = peek(packed, PackedField.HALO_ROWS), peek(packed, PackedField.HALO_COLS)
    above, below = peek(packed, PackedField.HALO_LO_ROWS), peek(packed, PackedField.HALO_HI_ROWS)
    left, right = peek(packed, PackedField.HALO_LO_COLS), peek(packed, PackedField.HALO_HI_COLS)
    wide = left + w + right
    for height, width, source, target in (
        (h, left, (w - left) * lanes, -left * lanes),
        (h, right, 0, w * lanes),
        (above, wide, (h - above) * row - left * lanes, -above * row - left * lanes),
        (below, wide, -left * lanes, h * row - left * lanes),
    ):
        there, here = moved(inside, source, item), moved(inside, target, item)
        copy(ctx, Move.COPY, height, width, there, here)


@jit
def _clear_left(packed: int, cell: int, ctx: int) -> None:
    """Zeros in the gap and below a plane written in place, where its source still stands."""
    item, plane = peek(ctx, At.ITEMSIZE), _written(packed, ctx)
    climbed = peek(packed, PackedField.CLIMBED)
    width = peek(packed, PackedGeometry.WIDTH) + peek(packed, PackedGeometry.GAP_COLS)
    end = peek(packed, PackedGeometry.HEIGHT) + peek(packed, PackedGeometry.GAP_ROWS)
    for at in (peek(cell, Cell.FIRST_ROWS), end):
        fill(ctx, climbed, width, moved(plane, at * plane.row, item))


@jit
def _clear_ahead(program: int, packed: int, cell: int, ctx: int) -> None:
    """Zeros in the gaps of the inputs made at once, the first of which is of ``cell``."""
    lanes, item = peek(ctx, At.LANES), peek(ctx, At.ITEMSIZE)
    tall, wide = peek(packed, PackedGeometry.GAP_ROWS), peek(packed, PackedGeometry.GAP_COLS)
    height = peek(packed, PackedGeometry.HEIGHT) + tall
    width = peek(packed, PackedGeometry.WIDTH) + wide
    k, row = _written(packed, ctx).k, peek(packed, PackedGeometry.OUT_ROW)
    for n in range(peek(cell, CellField.COUNT)):
        own = cell + n * peek(program, ProgramField.LEVELS) * CELL_ROW
        plane = moved(Place(k, k, row), n * peek(program, ProgramField.AHEAD_PLANE), item)
        fill(ctx, tall, width, moved(plane, peek(own, Cell.FIRST_ROWS) * row, item))
        fill(ctx, height, wide, moved(plane, peek(own, Cell.FIRST_COLS) * lanes, item))


@jit
def _ahead(step: int, packed: int, cell: int, program: int, ctx: int) -> None:
    """The inputs of one cell, or of several at once; nothing where they are made already."""
    if peek(cell, CellField.BATCH):
        return
    _clear_ahead(program, packed, cell, ctx)
    if peek(cell, CellField.COUNT) == 1:
        _input(step, packed, cell, ctx)
        return
    y_at = peek(packed, PackedField.FY_AT)
    y_at += peek(cell, CellField.Y_AT) * peek(packed, PackedField.FY_PIXEL)
    apart = peek(program, ProgramField.AHEAD_PLANE) * peek(ctx, At.ITEMSIZE)
    call_plane(
        peek(program, ProgramField.INPUTS_KERNEL), packed, cell, 0, apart,
        _written(packed, ctx).k, peek(ctx, At.X) + peek(packed, PackedField.FX_AT),
        peek(ctx, At.Y) + y_at, 0,
    )  # fmt: skip


@jit
def _hand_on(step: int, packed: int, cell: int, wanted: int, ctx: int) -> None:
    """A pool and the step before it, some rows of windows at a time, which stay in a core's first
    cache. Row i of a packed plane is row i of x, in all of its rectangles."""
    maker, made = step - STEP_ROW, packed - PACKED_ROW
    if peek(made, PackedField.HALO_AT) >= 0:
        _wrap(made, ctx)
    count = pool_feeds(step, packed, cell, wanted, ctx)
    x_at = peek(ctx, At.X_FACTORS) + peek(made, PackedField.FX_AT)
    params = peek(ctx, At.PARAMS) + peek(step, StepField.PARAMS) * peek(ctx, At.ITEMSIZE)
    some, stride = peek(ctx, At.SOME), peek(step, StepField.STRIDE_ROWS)
    poke(some, Cell.FIRST_COLS, peek(cell, Cell.FIRST_COLS))
    poke(some, Cell.SECOND_COLS, peek(cell, Cell.SECOND_COLS))
    source, each = _read(packed, ctx), peek(packed, PackedField.HANDED)
    windows = peek(packed, PackedGeometry.HEIGHT) // max(stride, 1)
    for first in range(0, windows, max(each, 1)):
        end, row = min(first + each, windows), stride * first
        poke(some, Cell.FIRST_ROWS, peek(cell, Cell.FIRST_ROWS) - row)
        poke(some, Cell.ROWS, min(peek(cell, Cell.ROWS), stride * end) - row)
        _kernel(maker, made, cell, some, row, ctx, x_at, peek(ctx, At.Y_FACTORS))
        top = moved(source, -row * source.row, peek(ctx, At.ITEMSIZE))
        call_plane(
            peek(peek(ctx, At.MOVES), Move.POOL), peek(ctx, At.POOL_FEEDS), params, count, first,
            end, top.k, 0, 0,
        )  # fmt: skip


@jit
def _step(step: int, packed: int, cell: int, wanted: int, program: int, ctx: int) -> None:
    """One step of one cell; what hands rows on waits for the pool that takes them."""
    kind = peek(step, StepField.KIND)
    own = cell + peek(packed, PackedField.LEVEL) * CELL_ROW
    if peek(packed, PackedField.HANDED):
        if kind == Kind.POOL:
            _hand_on(step, packed, own, wanted, ctx)
    elif kind == Kind.WINDOW or kind == Kind.POINT:
        if peek(packed, PackedField.HALO_AT) >= 0:
            _wrap(packed, ctx)
        _compute(step, packed, own, ctx)
        if peek(packed, PackedField.CLIMBED):
            _clear_left(packed, own, ctx)
    elif kind == Kind.INPUT:
        if peek(program, ProgramField.AHEAD):
            _ahead(step, packed, own, program, ctx)
        else:
            _input(step, packed, own, ctx)
    elif kind == Kind.ADD or kind == Kind.MULTIPLY:
        _combine(step, packed, ctx)
    elif kind == Kind.OUTPUT:
        output(ctx, step, _read(packed, ctx))
    elif kind == Kind.REDUCE and wanted == peek(own, CellField.SEGMENTS):
        _reduce(step, packed, own, ctx)
    else:
        _pieces(step, packed, own, wanted, ctx)


@jit
def run_packed(program: int, ctx: int, first: int) -> None:
    """All cells of a program from ``first`` on."""
    wraps = peek(program, ProgramField.WRAPS)
    if peek(program, ProgramField.AHEAD) or not wraps:
        _clean(program, ctx)
    count = peek(program, ProgramField.N_STEPS)
    steps = peek(ctx, At.STEPS) + peek(program, ProgramField.FIRST_STEP) * STEP_ROW
    rows = peek(ctx, At.PACKED) + peek(program, ProgramField.FIRST_PACKED) * PACKED_ROW
    cells = peek(ctx, At.CELLS) + peek(program, ProgramField.FIRST_CELL) * CELL_ROW
    active = peek(ctx, At.CELL_ACTIVE) + peek(program, ProgramField.CELL_ACTIVE)
    halt = peek(ctx, At.HALT)
    for m in range(first, peek(program, ProgramField.N_CELLS)):
        if peek(halt, 0):
            return
        cell = cells + m * peek(program, ProgramField.LEVELS) * CELL_ROW
        made = peek(cell, CellField.MADE)
        if made:
            _by_twin(steps, rows, active + m * count, made, count, ctx)
            continue
        if not wraps:
            _clear_gaps(program, cell, ctx)
        own = rows + peek(cell, CellField.BATCH) * count * PACKED_ROW
        for s in range(count):
            wanted = peek_byte(active, m * count + s)
            if wanted:
                _step(steps + s * STEP_ROW, own + s * PACKED_ROW, cell, wanted, program, ctx)
