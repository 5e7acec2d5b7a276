"""The compiled loop over packed planes: a cell is up to four displacements, equal modulo the image.

Everything that does not change from cell to cell is in tables made beforehand, so that a step costs
a few loads and a call.
"""

from __future__ import annotations

from widegram.cpu.driver.context import At
from widegram.cpu.driver.fields import KINDS, MOVES, ProgramField, SlotField, StepField
from widegram.cpu.driver.halo import jit, move
from widegram.cpu.driver.memory import call_plane, peek, peek_byte, poke
from widegram.cpu.driver.packed_fields import CELL_ROW, PACKED_ROW, CellField, PackedField
from widegram.cpu.driver.stores import keep, load, output
from widegram.cpu.kernels.packed_ir import CELL, PACKED

# Numba freezes these as constants.
_INPUT, _LOAD, _WINDOW, _POINT, _ADD, _COPY, _POOL, _REDUCE, _OUTPUT = range(len(KINDS))
_MOVE_FILL, _MOVE_ADD, _MOVE_COPY = MOVES.index("fill"), MOVES.index("add"), MOVES.index("copy")
_KIND, _IN0, _KERNEL = int(StepField.KIND), int(StepField.IN0), int(StepField.KERNEL)
_STEP_PARAMS = int(StepField.PARAMS)
_P_STEP, _P_STEPS = int(ProgramField.FIRST_STEP), int(ProgramField.N_STEPS)
_P_SLOT, _P_SLOTS = int(ProgramField.FIRST_SLOT), int(ProgramField.N_SLOTS)
_P_CELL, _P_CELLS = int(ProgramField.FIRST_CELL), int(ProgramField.N_CELLS)
_P_ACTIVE, _P_LEVELS = int(ProgramField.CELL_ACTIVE), int(ProgramField.LEVELS)
_P_SIZE, _P_PACKED = int(ProgramField.SIZE), int(ProgramField.FIRST_PACKED)
_P_AHEAD, _P_PLANE = int(ProgramField.AHEAD), int(ProgramField.AHEAD_PLANE)
_P_INPUTS, _P_WRAPS = int(ProgramField.INPUTS_KERNEL), int(ProgramField.WRAPS)
_P_CLIMB = int(ProgramField.CLIMB)
_L_OFFSET, _L_T = int(SlotField.OFFSET), int(SlotField.T_OFFSET)
_L_ROWS, _L_COLS = int(SlotField.ROWS), int(SlotField.COLS)
_L_LO_ROWS, _L_LO_COLS = int(SlotField.LO_ROWS), int(SlotField.LO_COLS)
_L_LEVEL = int(SlotField.LEVEL)
_IN_AT, _OTHER_AT, _OUT_AT = (
    int(PackedField.IN_AT), int(PackedField.OTHER_AT), int(PackedField.OUT_AT),
)  # fmt: skip
_FX_AT, _FY_AT, _FY_PIXEL = (
    int(PackedField.FX_AT), int(PackedField.FY_AT), int(PackedField.FY_PIXEL),
)  # fmt: skip
_LEVEL, _HALO_AT = int(PackedField.LEVEL), int(PackedField.HALO_AT)
_HALO_LO_Y, _HALO_HI_Y = int(PackedField.HALO_LO_ROWS), int(PackedField.HALO_HI_ROWS)
_HALO_LO_X, _HALO_HI_X = int(PackedField.HALO_LO_COLS), int(PackedField.HALO_HI_COLS)
_CLIMBED = int(PackedField.CLIMBED)
_HALO_H, _HALO_W = int(PackedField.HALO_ROWS), int(PackedField.HALO_COLS)
_T_IN, _T_OUT = PACKED.index("t_in"), PACKED.index("t_out")
_IN_ROW, _OUT_ROW = PACKED.index("in_row"), PACKED.index("out_row")
_H, _W = PACKED.index("height"), PACKED.index("width")
_GAP_ROWS, _GAP_COLS = PACKED.index("gap_rows"), PACKED.index("gap_cols")
_FIRST_ROWS, _FIRST_COLS = CELL.index("first_rows"), CELL.index("first_cols")
_ALL_ROWS, _SECOND_COLS = CELL.index("rows"), CELL.index("second_cols")
_DY, _DX, _SEGMENTS = int(CellField.DY), int(CellField.DX), int(CellField.SEGMENTS)
_Y_AT, _BATCH, _COUNT = int(CellField.Y_AT), int(CellField.BATCH), int(CellField.COUNT)
_SCRATCH, _X, _Y = int(At.SCRATCH), int(At.X), int(At.Y)
_XF, _YF, _PARAMS = int(At.X_FACTORS), int(At.Y_FACTORS), int(At.PARAMS)
_GEOMETRY, _BUFFER = int(At.GEOMETRY), int(At.BUFFER)
_ITEM, _LANES = int(At.ITEMSIZE), int(At.LANES)
_STEPS, _CELLS, _PACKED = int(At.STEPS), int(At.CELLS), int(At.PACKED)
_CELL_ACTIVE, _HALT = int(At.CELL_ACTIVE), int(At.HALT)
_STEP_BYTES, _SLOT_BYTES = 8 * len(StepField), 8 * len(SlotField)
_CELL_BYTES, _PACKED_BYTES = 8 * CELL_ROW, 8 * PACKED_ROW


@jit
def _clean(program, ctx, geo, moves, slots):  # type: ignore[no-untyped-def]
    """Zeros in every buffer (K and T alike): what lies around planes is never written again."""
    lanes = peek(ctx, _LANES)
    first = slots + peek(program, _P_SLOT) * _SLOT_BYTES
    at = peek(ctx, _SCRATCH) + peek(first, _L_OFFSET) * peek(ctx, _ITEM)
    pixels = peek(program, _P_SIZE) // lanes
    move(peek(moves, _MOVE_FILL), ctx, geo, 1, pixels, 0, 0, 0, lanes, 0, 0, 0, at, at)


@jit
def _clear_gaps(program, cell, scratch, ctx, geo, moves, slots):  # type: ignore[no-untyped-def]
    """Zeros behind the first rows and the first columns of every buffer."""
    lanes, item, fill = peek(ctx, _LANES), peek(ctx, _ITEM), peek(moves, _MOVE_FILL)
    for s in range(peek(program, _P_SLOTS)):
        slot = slots + (peek(program, _P_SLOT) + s) * _SLOT_BYTES
        climb, wide = peek(program, _P_CLIMB), peek(slot, _L_LO_COLS)
        top = peek(slot, _L_LO_ROWS)
        tall = top - climb
        if top == 0 and wide == 0:
            continue
        own = cell + peek(slot, _L_LEVEL) * _CELL_BYTES
        height, width = peek(slot, _L_ROWS) + tall, peek(slot, _L_COLS) + wide
        row = (width + 2 * wide) * lanes
        k = scratch + (peek(slot, _L_OFFSET) + top * row + wide * lanes) * item
        t = (peek(slot, _L_T) - peek(slot, _L_OFFSET)) * item
        at = k + peek(own, _FIRST_ROWS) * row * item
        move(fill, ctx, geo, tall, width, 0, 0, row, lanes, 0, 0, 0, at, at + t)
        at = k + peek(own, _FIRST_COLS) * lanes * item
        move(fill, ctx, geo, height, wide, 0, 0, row, lanes, 0, 0, 0, at, at + t)
        if climb:
            at = k - climb * row * item
            move(fill, ctx, geo, climb, width, 0, 0, row, lanes, 0, 0, 0, at, at + t)


@jit
def _compute(step, packed, cell, scratch, ctx, is_input):  # type: ignore[no-untyped-def]
    """An input, window or point step on a whole packed plane."""
    x_at = peek(ctx, _X if is_input else _XF) + peek(packed, _FX_AT)
    if not is_input and peek(packed, _OTHER_AT) >= 0:
        x_at = scratch + peek(packed, _OTHER_AT)
    y_at = peek(packed, _FY_AT) + peek(cell, _Y_AT) * peek(packed, _FY_PIXEL)
    call_plane(
        peek(step, _KERNEL), packed, cell,
        peek(ctx, _PARAMS) + peek(step, _STEP_PARAMS) * peek(ctx, _ITEM),
        scratch + peek(packed, _IN_AT), scratch + peek(packed, _OUT_AT),
        x_at, peek(ctx, _Y if is_input else _YF) + y_at, peek(ctx, _BUFFER),
    )  # fmt: skip


@jit
def _add(packed, scratch, ctx, geo, moves):  # type: ignore[no-untyped-def]
    """The sum of two packed planes, gaps and all."""
    lanes, row, t = peek(ctx, _LANES), peek(packed, _OUT_ROW), peek(packed, _T_OUT)
    first, second = scratch + peek(packed, _IN_AT), scratch + peek(packed, _OTHER_AT)
    out = scratch + peek(packed, _OUT_AT)
    poke(geo, 0, peek(packed, _H) + peek(packed, _GAP_ROWS))
    poke(geo, 1, peek(packed, _W) + peek(packed, _GAP_COLS))
    poke(geo, 2, row)
    poke(geo, 3, lanes)
    poke(geo, 4, row)
    poke(geo, 5, lanes)
    poke(geo, 6, row)
    poke(geo, 7, lanes)
    call_plane(
        peek(moves, _MOVE_ADD), peek(ctx, _GEOMETRY), 0, first, first + t, out, out + t,
        second, second + t,
    )  # fmt: skip


@jit
def _pieces(step, packed, cell, wanted, scratch, ctx, geo, moves, slots, stores, index):  # type: ignore[no-untyped-def]  # fmt: skip
    """A step that loads or stores, on each of the rectangles of ``wanted``."""
    lanes, item, kind = peek(ctx, _LANES), peek(ctx, _ITEM), peek(step, _KIND)
    h, w = peek(packed, _H), peek(packed, _W)
    slot = slots + peek(step, _IN0) * _SLOT_BYTES
    base, row, t = scratch + peek(packed, _IN_AT), peek(packed, _IN_ROW), peek(packed, _T_IN)
    if kind == _LOAD:
        base, row, t = scratch + peek(packed, _OUT_AT), peek(packed, _OUT_ROW), peek(packed, _T_OUT)
    for segment in range(4):
        if not wanted & (1 << segment):
            continue
        y, x = peek(cell, _DY) - (segment >> 1) * h, peek(cell, _DX) - (segment & 1) * w
        down = (peek(cell, _FIRST_ROWS) + peek(packed, _GAP_ROWS)) * (segment >> 1)
        along = (peek(cell, _FIRST_COLS) + peek(packed, _GAP_COLS)) * (segment & 1)
        k, rows, cols = base + (down * row + along * lanes) * item, h - abs(y), w - abs(x)
        if kind == _LOAD:
            load(step, ctx, geo, moves, stores, index, rows, cols, y, x, row, k, k + t)
        else:
            keep(step, ctx, geo, moves, stores, index, slot, rows, cols, y, x, row, k, k + t)


@jit
def _reduce(step, packed, cell, scratch, ctx, geo, moves, slots, stores, index):  # type: ignore[no-untyped-def]  # fmt: skip
    """The sum of a whole packed plane; its gaps are zero."""
    lower = peek(cell, _ALL_ROWS) > peek(cell, _FIRST_ROWS)
    rows = peek(cell, _ALL_ROWS) + (peek(packed, _GAP_ROWS) if lower else 0)
    cols = peek(cell, _FIRST_COLS)
    if peek(cell, _SECOND_COLS):
        cols += peek(cell, _SECOND_COLS) + peek(packed, _GAP_COLS)
    slot, k = slots + peek(step, _IN0) * _SLOT_BYTES, scratch + peek(packed, _IN_AT)
    keep(
        step, ctx, geo, moves, stores, index, slot, rows, cols, 0, 0, peek(packed, _IN_ROW),
        k, k + peek(packed, _T_IN),
    )  # fmt: skip


@jit
def _wrap(packed, scratch, ctx, geo, moves):  # type: ignore[no-untyped-def]
    """The halo of a plane on a torus from its other side: columns first, then rows with corners."""
    lanes, item, copy = peek(ctx, _LANES), peek(ctx, _ITEM), peek(moves, _MOVE_COPY)
    row, t, k = peek(packed, _IN_ROW), peek(packed, _T_IN), scratch + peek(packed, _HALO_AT)
    h, w = peek(packed, _HALO_H), peek(packed, _HALO_W)
    above, below = peek(packed, _HALO_LO_Y), peek(packed, _HALO_HI_Y)
    left, right = peek(packed, _HALO_LO_X), peek(packed, _HALO_HI_X)
    wide = left + w + right
    for height, width, source, target in (
        (h, left, (w - left) * lanes, -left * lanes),
        (h, right, 0, w * lanes),
        (above, wide, (h - above) * row - left * lanes, -above * row - left * lanes),
        (below, wide, -left * lanes, h * row - left * lanes),
    ):
        a, b = k + source * item, k + target * item
        move(copy, ctx, geo, height, width, row, lanes, row, lanes, 0, a, a + t, b, b + t)


@jit
def _clear_left(packed, cell, scratch, ctx, geo, moves):  # type: ignore[no-untyped-def]
    """Zeros in the gap and below a plane written in place, where its source still stands."""
    lanes, item, row, t = (
        peek(ctx, _LANES), peek(ctx, _ITEM), peek(packed, _OUT_ROW), peek(packed, _T_OUT),
    )  # fmt: skip
    k, climbed = scratch + peek(packed, _OUT_AT), peek(packed, _CLIMBED)
    fill = peek(moves, _MOVE_FILL)
    width = peek(packed, _W) + peek(packed, _GAP_COLS)
    for at in (peek(cell, _FIRST_ROWS), peek(packed, _H) + peek(packed, _GAP_ROWS)):
        to = k + at * row * item
        move(fill, ctx, geo, climbed, width, 0, 0, row, lanes, 0, 0, 0, to, to + t)


@jit
def _clear_ahead(program, packed, cell, scratch, ctx, geo, moves):  # type: ignore[no-untyped-def]
    """Zeros in the gaps of the inputs made at once, the first of which is of ``cell``."""
    lanes, item, row = peek(ctx, _LANES), peek(ctx, _ITEM), peek(packed, _OUT_ROW)
    fill = peek(moves, _MOVE_FILL)
    tall, wide = peek(packed, _GAP_ROWS), peek(packed, _GAP_COLS)
    height, width = peek(packed, _H) + tall, peek(packed, _W) + wide
    cell_bytes = peek(program, _P_LEVELS) * _CELL_BYTES
    for n in range(peek(cell, _COUNT)):
        own = cell + n * cell_bytes
        k = scratch + peek(packed, _OUT_AT) + n * peek(program, _P_PLANE) * item
        at = k + peek(own, _FIRST_ROWS) * row * item
        move(fill, ctx, geo, tall, width, 0, 0, row, lanes, 0, 0, 0, at, at)
        at = k + peek(own, _FIRST_COLS) * lanes * item
        move(fill, ctx, geo, height, wide, 0, 0, row, lanes, 0, 0, 0, at, at)


@jit
def _inputs(step, packed, cell, program, scratch, ctx, geo, moves):  # type: ignore[no-untyped-def]
    """The inputs of one cell, or of several at once; nothing where they are made already."""
    if peek(cell, _BATCH):
        return
    _clear_ahead(program, packed, cell, scratch, ctx, geo, moves)
    if peek(cell, _COUNT) == 1:
        _compute(step, packed, cell, scratch, ctx, True)
        return
    y_at = peek(packed, _FY_AT) + peek(cell, _Y_AT) * peek(packed, _FY_PIXEL)
    call_plane(
        peek(program, _P_INPUTS), packed, cell, 0, peek(program, _P_PLANE) * peek(ctx, _ITEM),
        scratch + peek(packed, _OUT_AT), peek(ctx, _X), peek(ctx, _Y) + y_at, 0,
    )  # fmt: skip


@jit
def _step(step, packed, cell, wanted, program, scratch, ctx, geo, moves, slots, stores, index):  # type: ignore[no-untyped-def]  # fmt: skip
    """One step of one cell."""
    kind = peek(step, _KIND)
    own = cell + peek(packed, _LEVEL) * _CELL_BYTES
    if kind in (_WINDOW, _POINT):
        if peek(packed, _HALO_AT) >= 0:
            _wrap(packed, scratch, ctx, geo, moves)
        _compute(step, packed, own, scratch, ctx, False)
        if peek(packed, _CLIMBED):
            _clear_left(packed, own, scratch, ctx, geo, moves)
    elif kind == _INPUT:
        if peek(program, _P_AHEAD):
            _inputs(step, packed, own, program, scratch, ctx, geo, moves)
        else:
            _compute(step, packed, own, scratch, ctx, True)
    elif kind == _ADD:
        _add(packed, scratch, ctx, geo, moves)
    elif kind == _OUTPUT:
        k = scratch + peek(packed, _IN_AT)
        output(step, ctx, geo, moves, k, k + peek(packed, _T_IN))
    elif kind == _REDUCE and wanted == peek(own, _SEGMENTS):
        _reduce(step, packed, own, scratch, ctx, geo, moves, slots, stores, index)
    else:
        _pieces(step, packed, own, wanted, scratch, ctx, geo, moves, slots, stores, index)


@jit
def run_packed(first, program, ctx, geo, moves, slots, stores, index):  # type: ignore[no-untyped-def]  # fmt: skip
    """All cells of a program from ``first`` on."""
    if peek(program, _P_AHEAD) or not peek(program, _P_WRAPS):
        _clean(program, ctx, geo, moves, slots)
    count, scratch = peek(program, _P_STEPS), peek(ctx, _SCRATCH)
    steps = peek(ctx, _STEPS) + peek(program, _P_STEP) * _STEP_BYTES
    rows = peek(ctx, _PACKED) + peek(program, _P_PACKED) * _PACKED_BYTES
    cells = peek(ctx, _CELLS) + peek(program, _P_CELL) * _CELL_BYTES
    halt = peek(ctx, _HALT)
    for m in range(first, peek(program, _P_CELLS)):
        if peek(halt, 0):
            return
        cell = cells + m * peek(program, _P_LEVELS) * _CELL_BYTES
        if not peek(program, _P_WRAPS):
            _clear_gaps(program, cell, scratch, ctx, geo, moves, slots)
        own = rows + peek(cell, _BATCH) * count * _PACKED_BYTES
        for s in range(count):
            wanted = peek_byte(peek(ctx, _CELL_ACTIVE), peek(program, _P_ACTIVE) + m * count + s)
            if wanted:
                _step(
                    steps + s * _STEP_BYTES, own + s * _PACKED_BYTES, cell, wanted, program,
                    scratch, ctx, geo, moves, slots, stores, index,
                )  # fmt: skip
