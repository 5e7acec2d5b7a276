"""What a packed plane feeds to pooled planes, where windows stand side by side and cover the image.

At displacement d = s D + o, 0 <= o < s, the first w - o taps along an axis go to D and those from
s - o on to D + 1; where o = 0 all go to D. Each of these is a feed along that axis, and a feed of
the plane is one along rows with one along columns. The image has s W pixels, so that d - s W has
the same o: what goes to D from one rectangle of a packed plane goes to D - W from the other, the
windows before W - D from the first. The border between them cuts no taps of a feed.
"""

from __future__ import annotations

from typing import NamedTuple

from widegram.cpu.driver.context import At
from widegram.cpu.driver.fields import STORE_ROW, StepField, StoreField
from widegram.cpu.driver.jit import jit
from widegram.cpu.driver.memory import peek, poke
from widegram.cpu.driver.packed_fields import CellField
from widegram.cpu.driver.stores import plane_at
from widegram.cpu.kernels.fields import POOL_ROW, PackedGeometry, PoolFeed


class Along(NamedTuple):
    """A feed along one axis: ``taps`` from ``begin`` on; the pooled displacement ``d`` of the
    windows before ``border``, of all of which there are ``size``."""

    begin: int
    taps: int
    d: int
    border: int
    size: int


@jit
def _along(d: int, stride: int, window: int, size: int, second: int) -> Along:
    """The first or the second feed along an axis, of 0 taps where there is none."""
    pooled, offset = d // stride, d % stride
    begin = stride - offset if second else 0
    taps = window - begin if second else window - offset
    if second and offset == 0:
        taps = 0
    pooled += second
    return Along(begin, max(taps, 0), pooled, size - pooled, size)


@jit
def _plane(store: int, ctx: int, rows: Along, cols: Along, segment: int) -> int:
    """Where K of the window (0, 0) of a pooled plane would stand, in the given half of rows and of
    columns; 0 where there is no such plane."""
    y = rows.d - rows.size * (segment >> 1)
    x = cols.d - cols.size * (segment & 1)
    if abs(y) >= rows.size or abs(x) >= cols.size:
        return 0
    plane = plane_at(store, ctx, y, x)
    if plane < 0:
        return 0
    before = max(0, -y) * (cols.size - abs(x)) + max(0, -x)
    numbers = peek(store, StoreField.OFFSET) + (plane - before) * peek(ctx, At.LANES)
    return peek(ctx, At.SCRATCH) + numbers * peek(ctx, At.ITEMSIZE)


@jit
def _set_half(
    ctx: int, store: int, feed: int, rows: Along, cols: Along, wanted: int, lower: int
) -> None:
    """Set where the windows of one half of the rows go."""
    left = right = 0
    if wanted & (1 << (2 * lower)):
        left = _plane(store, ctx, rows, cols, 2 * lower)
    if wanted & (2 << (2 * lower)):
        right = _plane(store, ctx, rows, cols, 2 * lower + 1)
    at = PoolFeed.LOWER_LEFT if lower else PoolFeed.UPPER_LEFT
    poke(feed, at, left)
    poke(feed, at + 1, right)
    poke(feed, at + 2, 0 if left else cols.border)
    poke(feed, at + 3, cols.size if right else cols.border)


@jit
def _set_feed(
    step: int, packed: int, ctx: int, store: int, feed: int, rows: Along, cols: Along
) -> None:
    """Set the taps of a feed, and the strides of what it reads and writes."""
    lanes, item = peek(ctx, At.LANES), peek(ctx, At.ITEMSIZE)
    poke(feed, PoolFeed.ROW, rows.begin)
    poke(feed, PoolFeed.COL, cols.begin)
    poke(feed, PoolFeed.TAP_ROWS, rows.taps)
    poke(feed, PoolFeed.TAP_COLS, cols.taps)
    poke(feed, PoolFeed.BORDER_ROWS, rows.border)
    poke(feed, PoolFeed.BORDER_COLS, cols.border)
    poke(feed, PoolFeed.LEFT_ROW, cols.border * lanes)
    poke(feed, PoolFeed.RIGHT_ROW, (cols.size - cols.border) * lanes)
    poke(feed, PoolFeed.STRIDE_ROWS, peek(step, StepField.STRIDE_ROWS))
    poke(feed, PoolFeed.STRIDE_COLS, peek(step, StepField.STRIDE_COLS))
    poke(feed, PoolFeed.IN_ROW, peek(packed, PackedGeometry.IN_ROW))
    poke(feed, PoolFeed.GAP_ROWS, peek(packed, PackedGeometry.GAP_ROWS))
    poke(feed, PoolFeed.GAP_COLS, peek(packed, PackedGeometry.GAP_COLS))
    poke(feed, PoolFeed.T_IN, peek(packed, PackedGeometry.T_IN))
    t = peek(store, StoreField.T_OFFSET) - peek(store, StoreField.OFFSET)
    poke(feed, PoolFeed.T_OUT, t * item)


@jit
def pool_feeds(step: int, packed: int, cell: int, wanted: int, ctx: int) -> int:
    """Fill the table with the feeds of a cell; how many there are."""
    store = peek(ctx, At.STORES) + peek(step, StepField.STORE) * STORE_ROW
    count = 0
    for below in range(2):
        rows = _along(
            peek(cell, CellField.DY), peek(step, StepField.STRIDE_ROWS),
            peek(step, StepField.ROWS), peek(store, StoreField.ROWS), below,
        )  # fmt: skip
        for beside in range(2):
            cols = _along(
                peek(cell, CellField.DX), peek(step, StepField.STRIDE_COLS),
                peek(step, StepField.COLS), peek(store, StoreField.COLS), beside,
            )  # fmt: skip
            if rows.taps and cols.taps:
                feed = peek(ctx, At.POOL_FEEDS) + count * POOL_ROW
                _set_feed(step, packed, ctx, store, feed, rows, cols)
                for lower in range(2):
                    _set_half(ctx, store, feed, rows, cols, wanted, lower)
                count += 1
    return count
