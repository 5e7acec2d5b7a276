"""Rectangles of planes and what surrounds them, in compiled integer arithmetic.

At base displacement d a value on an (h, w) image has the rectangle of pixels (i, j) with
(i, j) + D inside the image, D = d / sigma: (h - |D|) x (w - |D|) pixels. On a torus the plane d is
made of up to four such rectangles ("segments"), d or d - torus along each axis; segment (1, 0) is
number 2. Around a rectangle lies a halo that convolutions read: zeros, or, for circular padding,
copies from the neighbouring segments.
"""

from __future__ import annotations

import numba

from widegram.cpu.driver.context import At
from widegram.cpu.driver.fields import MOVES, SlotField
from widegram.cpu.driver.memory import call_plane, peek, poke

# Without checks of divisors: what raises would call the interpreter.
jit = numba.njit(error_model="numpy")

# Numba freezes these as constants.
_H, _W = int(SlotField.ROWS), int(SlotField.COLS)
_SIGMA_Y, _SIGMA_X = int(SlotField.SIGMA_ROWS), int(SlotField.SIGMA_COLS)
_LO_Y, _HI_Y = int(SlotField.LO_ROWS), int(SlotField.HI_ROWS)
_LO_X, _HI_X = int(SlotField.LO_COLS), int(SlotField.HI_COLS)
_OFFSET, _QUADRANT = int(SlotField.OFFSET), int(SlotField.QUADRANT)
_T_OFFSET = int(SlotField.T_OFFSET)
_LANES, _ITEM = int(At.LANES), int(At.ITEMSIZE)
_SCRATCH, _GEOMETRY = int(At.SCRATCH), int(At.GEOMETRY)
_COPY, _FILL = MOVES.index("copy"), MOVES.index("fill")


@jit
def move(  # type: ignore[no-untyped-def]
    kernel, ctx, geo, rows, cols, in_row, in_col, out_row, out_col, params, k_in, t_in, k_out, t_out
):
    """Run a moving kernel on a rectangle; strides in numbers."""
    poke(geo, 0, rows)
    poke(geo, 1, cols)
    poke(geo, 2, in_row)
    poke(geo, 3, in_col)
    poke(geo, 4, out_row)
    poke(geo, 5, out_col)
    call_plane(kernel, peek(ctx, _GEOMETRY), params, k_in, t_in, k_out, t_out, 0, 0)


@jit
def rectangle(slot, dy, dx):  # type: ignore[no-untyped-def]
    """(rows, cols, D rows, D cols) of a value at segment displacement (dy, dx); rows 0: none."""
    sy, sx = peek(slot, _SIGMA_Y), peek(slot, _SIGMA_X)
    if dy % sy != 0 or dx % sx != 0:
        return 0, 0, 0, 0
    y, x = dy // sy, dx // sx
    rows, cols = peek(slot, _H) - abs(y), peek(slot, _W) - abs(x)
    if rows <= 0 or cols <= 0:
        return 0, 0, 0, 0
    return rows, cols, y, x


@jit
def row_stride(slot, cols, lanes):  # type: ignore[no-untyped-def]
    """Row stride of a rectangle inside its slot, in numbers."""
    return (cols + peek(slot, _LO_X) + peek(slot, _HI_X)) * lanes


@jit
def place(ctx, slot, segment, cols):  # type: ignore[no-untyped-def]
    """Address of the rectangle's first pixel (K), and the distance to T, in bytes."""
    lanes, item = peek(ctx, _LANES), peek(ctx, _ITEM)
    inside = peek(slot, _LO_Y) * row_stride(slot, cols, lanes) + peek(slot, _LO_X) * lanes
    at = peek(slot, _OFFSET) + segment * peek(slot, _QUADRANT) + inside
    return peek(ctx, _SCRATCH) + at * item, (peek(slot, _T_OFFSET) - peek(slot, _OFFSET)) * item


@jit
def zero_halo(ctx, geo, moves, slot, segment, rows, cols):  # type: ignore[no-untyped-def]
    """Zeros around a rectangle."""
    lanes, item = peek(ctx, _LANES), peek(ctx, _ITEM)
    row = row_stride(slot, cols, lanes)
    k, t = place(ctx, slot, segment, cols)
    left, right = peek(slot, _LO_X), peek(slot, _HI_X)
    above, below = peek(slot, _LO_Y), peek(slot, _HI_Y)
    fill = peek(moves, _FILL)
    wide = cols + left + right
    for at, height, width in (
        (-above * row - left * lanes, above, wide),
        (rows * row - left * lanes, below, wide),
        (-left * lanes, rows, left),
        (cols * lanes, rows, right),
    ):
        if height > 0 and width > 0:
            to = k + at * item
            move(fill, ctx, geo, height, width, 0, 0, row, lanes, 0, 0, 0, to, to + t)


@jit
def _piece(position, end, size, first):  # type: ignore[no-untyped-def]
    """Where a run of a torus axis comes from: (segment, local start, length).

    ``position``: torus coordinate; ``first``: length of segment 0; the run ends at ``end``
    positions further at most.
    """
    wrapped = position % size
    if wrapped < first:
        return 0, wrapped, min(end, first - wrapped)
    return 1, wrapped - first, min(end, size - wrapped)


@jit
def _wrap_halo(ctx, geo, moves, slot, dy, dx, sy, sx, ty, tx):  # type: ignore[no-untyped-def]
    """Fill the halo of segment (sy, sx) of plane (dy, dx) from its neighbours on the torus.

    Along an axis whose torus is not the image's (behind a stride that does not divide it) no window
    wraps: a segment is its own and only neighbour there.
    """
    lanes, item = peek(ctx, _LANES), peek(ctx, _ITEM)
    rows, cols, _, _ = rectangle(slot, dy - sy * ty, dx - sx * tx)
    if rows == 0:
        return
    h, w = peek(slot, _H), peek(slot, _W)
    whole_y, whole_x = ty == h * peek(slot, _SIGMA_Y), tx == w * peek(slot, _SIGMA_X)
    first_rows = h - dy // peek(slot, _SIGMA_Y) if whole_y else rows
    first_cols = w - dx // peek(slot, _SIGMA_X) if whole_x else cols
    size_y, size_x = (h if whole_y else rows), (w if whole_x else cols)
    start_y, start_x = (sy * first_rows if whole_y else 0), (sx * first_cols if whole_x else 0)
    own_y, own_x = (0 if whole_y else sy), (0 if whole_x else sx)
    row = row_stride(slot, cols, lanes)
    k, t = place(ctx, slot, 2 * sy + sx, cols)
    r = -peek(slot, _LO_Y)
    while r < rows + peek(slot, _HI_Y):
        # Runs stop where the halo turns into the rectangle itself and where a segment ends.
        end = (0 if r < 0 else (rows if r < rows else rows + peek(slot, _HI_Y))) - r
        from_y, local_y, height = _piece(start_y + r, end, size_y, first_rows)
        own_rows = r >= 0 and r < rows
        c = -peek(slot, _LO_X)
        while c < cols + peek(slot, _HI_X):
            end = (0 if c < 0 else (cols if c < cols else cols + peek(slot, _HI_X))) - c
            from_x, local_x, width = _piece(start_x + c, end, size_x, first_cols)
            if not (own_rows and c >= 0 and c < cols):
                there_cols = first_cols if from_x == 0 else size_x - first_cols
                there_row = row_stride(slot, there_cols, lanes)
                segment = 2 * (from_y + own_y) + from_x + own_x
                source, _ = place(ctx, slot, segment, there_cols)
                source += (local_y * there_row + local_x * lanes) * item
                target = k + (r * row + c * lanes) * item
                move(
                    peek(moves, _COPY), ctx, geo, height, width, there_row, lanes, row, lanes,
                    0, source, source + t, target, target + t,
                )  # fmt: skip
            c += width
        r += height


@jit
def halos(ctx, geo, moves, slot, dy, dx, ty, tx, circular):  # type: ignore[no-untyped-def]
    """Set the halos of all segments of one value: wrapped or zero."""
    for sy in range(2 if ty and dy else 1):
        for sx in range(2 if tx and dx else 1):
            if circular:
                _wrap_halo(ctx, geo, moves, slot, dy, dx, sy, sx, ty, tx)
            else:
                rows, cols, _, _ = rectangle(slot, dy - sy * ty, dx - sx * tx)
                if rows:
                    zero_halo(ctx, geo, moves, slot, 2 * sy + sx, rows, cols)
