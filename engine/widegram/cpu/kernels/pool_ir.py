"""Vector code of pools that take rows of packed planes.

Kind ``pool``: rows of windows are added to pooled planes, out += gain times the sum over the taps
of a window, feed by feed (:mod:`widegram.cpu.driver.pool_feeds`). The arguments, addresses as
64-bit integers:

    feeds    int64, rows of :class:`~widegram.cpu.kernels.fields.PoolFeed`
    params   the gain
    count    feeds
    first, end  the rows of windows that are wanted
    source   K at row 0 and column 0 of the packed plane
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from widegram.cpu.kernels import loops
from widegram.cpu.kernels.fields import PoolFeed
from widegram.cpu.kernels.plane_base import PlaneCode
from widegram.cpu.kernels.vector_ops import INDEX

# Feeds of so many taps have loops without counters: those of the usual pools.
_UNROLLED = [(rows, cols) for rows in (1, 2) for cols in (1, 2)]
_ZERO = ir.Constant(INDEX, 0)


class PoolKernel(PlaneCode):
    """Emits one into the function under construction."""

    def _read(self, args: tuple[Any, ...]) -> None:
        self.feeds, self.params, self.count, self.first, self.end, self.source = args[:6]

    def emit(self) -> None:
        """Emit the loop over feeds."""
        self.gain = self.param(0)
        with loops.for_range(self.builder, self.count) as loop:
            size = ir.Constant(INDEX, 8 * len(PoolFeed))
            feed = self.builder.add(self.feeds, self.builder.mul(loop.index, size))
            self.at = {field: self.integer(feed, field) for field in PoolFeed}
            self._feed()

    def _feed(self) -> None:
        builder = self.builder
        done = builder.append_basic_block("done")
        taps = self.at[PoolFeed.TAP_ROWS], self.at[PoolFeed.TAP_COLS]
        for size in _UNROLLED:
            same = [builder.icmp_signed("==", n, ir.Constant(INDEX, m))
                    for n, m in zip(taps, size, strict=True)]  # fmt: skip
            with builder.if_then(builder.and_(*same)):
                self._rows(size)
                builder.branch(done)
                builder.position_at_end(builder.append_basic_block("behind"))
        self._rows(None)
        builder.branch(done)
        builder.position_at_end(done)

    def _rows(self, size: tuple[int, int] | None) -> None:
        """The rows of windows, of ``size`` taps where that is known."""
        builder, at = self.builder, self.at
        with loops.for_range(builder, builder.sub(self.end, self.first)) as loop:
            row = builder.add(self.first, loop.index)
            lower = builder.icmp_signed(">=", row, at[PoolFeed.BORDER_ROWS])

            def half(upper: PoolFeed, below: PoolFeed, lower: Any = lower) -> Any:
                return builder.select(lower, at[below], at[upper])

            begin = half(PoolFeed.UPPER_BEGIN, PoolFeed.LOWER_BEGIN)
            end = half(PoolFeed.UPPER_END, PoolFeed.LOWER_END)
            left = self.offset(half(PoolFeed.UPPER_LEFT, PoolFeed.LOWER_LEFT), row,
                               at[PoolFeed.LEFT_ROW])  # fmt: skip
            right = self.offset(half(PoolFeed.UPPER_RIGHT, PoolFeed.LOWER_RIGHT), row,
                                at[PoolFeed.RIGHT_ROW])  # fmt: skip
            first = builder.add(builder.mul(row, at[PoolFeed.STRIDE_ROWS]), at[PoolFeed.ROW])
            first = builder.add(first, builder.select(lower, at[PoolFeed.GAP_ROWS], _ZERO))
            source = self.offset(self.source, first, at[PoolFeed.IN_ROW])
            self._windows(begin, end, source, (left, right), size)

    def _windows(
        self, begin: Any, end: Any, source: Any, sides: tuple[Any, Any],
        size: tuple[int, int] | None,
    ) -> None:  # fmt: skip
        """A row of windows; ``sides``: where those left and right of the border go."""
        builder, at, lanes = self.builder, self.at, ir.Constant(INDEX, self.ops.lanes)
        with loops.for_range(builder, builder.sub(end, begin)) as loop:
            self.ops.barrier()  # rows are short: turns of several windows would cost more
            col = builder.add(begin, loop.index)
            right = builder.icmp_signed(">=", col, at[PoolFeed.BORDER_COLS])
            first = builder.add(builder.mul(col, at[PoolFeed.STRIDE_COLS]), at[PoolFeed.COL])
            first = builder.add(first, builder.select(right, at[PoolFeed.GAP_COLS], _ZERO))
            read = self.offset(source, first, lanes)
            write = self.offset(builder.select(right, sides[1], sides[0]), col, lanes)
            for n in range(self.fields):
                total = self._taps(read, size) if size else self._window(read)
                self.ops.store(self.ops.fma(self.gain, total, self.ops.load(write)), write)
                if n + 1 < self.fields:
                    read = builder.add(read, at[PoolFeed.T_IN])
                    write = builder.add(write, at[PoolFeed.T_OUT])

    def _taps(self, first: Any, size: tuple[int, int]) -> Any:
        """The sum over so many taps, in the order of :meth:`_window`."""
        total = self.ops.const(0.0)
        for row in range(size[0]):
            for col in range(size[1]):
                place = ir.Constant(INDEX, row), ir.Constant(INDEX, col)
                total = self.ops.add(total, self._tap(first, *place))
        return total

    def _window(self, first: Any) -> Any:
        """The sum over all taps of a feed."""
        total = self.ops.variable(self.ops.const(0.0))
        self.builder.store(self.ops.const(0.0), total)
        sizes = self.at[PoolFeed.TAP_ROWS], self.at[PoolFeed.TAP_COLS]
        rows, cols = (loops.for_range(self.builder, size) for size in sizes)
        with rows as row, cols as col:
            value = self._tap(first, row.index, col.index)
            self.builder.store(self.ops.add(self.builder.load(total), value), total)
        return self.builder.load(total)

    def _tap(self, first: Any, row: Any, col: Any) -> Any:
        """The number that a tap reads."""
        lanes = ir.Constant(INDEX, self.ops.lanes)
        return self.ops.load(self.pixel(first, row, self.at[PoolFeed.IN_ROW], col, lanes))
