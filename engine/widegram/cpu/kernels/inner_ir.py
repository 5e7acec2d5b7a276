"""Vector code for networks that see vectors: packing inputs, inner products, nearly parallel pairs.

Vectors stand in blocks of ``lanes``, feature by feature: number k of input i is at
block i / lanes, position k lanes + i % lanes. One layout serves both factors of a product: x' is
loaded a block at a time, x one number at a time, for all lanes.

Features are summed in chunks, each from zero: float32 then loses no more than a chunk's rounding.
An inner product is the same bits wherever its inputs stand, and, in float64, the same as the
mean square that ``pack`` makes where both inputs are equal.

Kinds, with the arguments of :mod:`~widegram.cpu.kernels.plane_base`:

    pack   k_in: ``rows`` inputs, ``in_row`` numbers apart, ``rows`` at most ``lanes``; k_out: their
           block (the last is repeated); t_out: mean squares, ``lanes`` doubles
    inner  k_in, t_in: first block of x and of x'; K (rows, cols blocks) = gain <x, x'>, T = 0;
           ``rows`` is rounded up to whole groups of fewer x (:class:`Together`), so that k_out and
           t_out have room for them
    close  appends (row, ``buffer`` + block, bits of lanes) to the int64 at t_out where
           |k| > fx fy, and adds to their number at k_out
    turn   the transpose of ``rows`` blocks of rows and ``cols`` blocks of columns, K and T
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from llvmlite import ir

from widegram.cpu.kernels import loops
from widegram.cpu.kernels.plane_base import PlaneCode
from widegram.cpu.kernels.processors import Processor
from widegram.cpu.kernels.vector_ops import INDEX

KINDS = ("pack", "inner", "close", "turn")
CHUNK = 256
_ONE = ir.Constant(INDEX, 1)


class Together(NamedTuple):
    """What has its sums in registers at once: ``rows`` x with ``blocks`` blocks of x'; of rows that
    are no multiple of that the last ones ``fewer`` at a time."""

    rows: int
    blocks: int
    fewer: int


# By number and bytes of the registers, of which sums and what they are made of take 28 or 15.
_TOGETHER = {(32, 64): Together(8, 3, 8), (16, 32): Together(6, 1, 4)}


def together(processor: Processor) -> Together:
    """What suits the registers."""
    return _TOGETHER.get(processor.registers, Together(4, 1, 4))


class InnerKernel(PlaneCode):
    """Emits one of the kinds into the function under construction."""

    def emit(self) -> None:
        """Emit the kernel named by the variant's kind."""
        getattr(self, f"_{self.variant.kind}")()

    # inner products ---------------------------------------------------------------------------

    def _inner(self) -> None:
        builder = self.builder
        shape = together(self.ops.processor)
        least = ir.Constant(INDEX, shape.fewer)
        whole = builder.mul(
            builder.udiv(builder.add(self.rows, ir.Constant(INDEX, shape.fewer - 1)), least), least
        )
        few = self._left(whole, shape)
        begin_few = builder.sub(whole, builder.mul(few, least))
        many = builder.udiv(begin_few, ir.Constant(INDEX, shape.rows))
        with self._chunks() as chunk:
            with loops.for_range(builder, many) as group:
                row = builder.mul(group.index, ir.Constant(INDEX, shape.rows))
                self._group(row, shape.rows, shape, chunk)
            if shape.fewer < shape.rows:
                with loops.for_range(builder, few) as group:
                    row = builder.add(begin_few, builder.mul(group.index, least))
                    self._group(row, shape.fewer, shape, chunk)
        if self.variant.ntk:
            with (
                loops.for_range(builder, whole) as row,
                loops.for_range(builder, self.cols) as col,
            ):
                at = self.pixel(self.t_out, row.index, self.out_row, col.index, self.out_col)
                self.ops.store(self.ops.const(0.0), at)

    def _left(self, whole: Any, shape: Together) -> Any:
        """How many groups of fewer x the rows end with, so that what is before is whole groups."""
        builder, found = self.builder, ir.Constant(INDEX, 0)
        over = builder.urem(whole, ir.Constant(INDEX, shape.rows))
        for count in range(1, shape.rows // math.gcd(shape.rows, shape.fewer)):
            left = ir.Constant(INDEX, count * shape.fewer % shape.rows)
            fits = builder.icmp_unsigned("==", over, left)
            found = builder.select(fits, ir.Constant(INDEX, count), found)
        return found

    def _group(self, row: Any, rows: int, shape: Together, chunk: tuple[Any, Any]) -> None:
        """Add a chunk of features to the products of some x with all x'."""
        builder = self.builder
        x = self._numbers(row, rows, chunk)
        size = ir.Constant(INDEX, shape.blocks)
        many = builder.udiv(self.cols, size)
        done = builder.mul(many, size)
        with loops.for_range(builder, many) as col:
            self._products(x, row, builder.mul(col.index, size), shape.blocks, chunk)
        if shape.blocks > 1:
            with loops.for_range(builder, builder.sub(self.cols, done)) as col:
                self._products(x, row, builder.add(done, col.index), 1, chunk)

    def _numbers(self, row: Any, rows: int, chunk: tuple[Any, Any]) -> list[Any]:
        """The address of the first number of a chunk of each of some x."""
        builder, lanes = self.builder, ir.Constant(INDEX, self.ops.lanes)
        size, skipped = builder.mul(self.count, lanes), builder.mul(chunk[0], lanes)
        at: list[Any] = []
        for n in range(rows):
            if n and self.ops.lanes % rows == 0:  # all in one block
                at.append(self.offset(at[0], ir.Constant(INDEX, n), _ONE))
                continue
            x = builder.add(row, ir.Constant(INDEX, n))
            block = self.offset(self.k_in, builder.udiv(x, lanes), size)
            at.append(self.offset(block, builder.add(skipped, builder.urem(x, lanes)), _ONE))
        return at

    def _products(
        self, x: list[Any], row: Any, col: Any, blocks: int, chunk: tuple[Any, Any]
    ) -> None:
        """Add one chunk of features to the products of some x with ``blocks`` blocks of x'."""
        builder, ops = self.builder, self.ops
        lanes, (begin, length) = ir.Constant(INDEX, ops.lanes), chunk
        size = builder.mul(self.count, lanes)
        y_first = self.offset(self.offset(self.t_in, col, size), builder.mul(begin, lanes), _ONE)
        y_blocks = [self.offset(y_first, ir.Constant(INDEX, n), size) for n in range(blocks)]
        sums = [[ops.variable(ops.const(0.0)) for _ in range(blocks)] for _ in x]
        with loops.for_range(builder, length) as loop:
            ys = [ops.load(self.offset(y, loop.index, lanes)) for y in y_blocks]
            for at, totals in zip(x, sums, strict=True):
                number = ops.splat(self.offset(at, loop.index, lanes))
                for y, total in zip(ys, totals, strict=True):
                    builder.store(ops.fma(number, y, builder.load(total)), total)
        for n, totals in enumerate(sums):
            line = self.offset(self.k_out, builder.add(row, ir.Constant(INDEX, n)), self.out_row)
            for m, total in enumerate(totals):
                to = self.offset(line, builder.add(col, ir.Constant(INDEX, m)), self.out_col)
                before = self._unless_first(begin, ops.load(to), ops.const(0.0))
                ops.store(ops.fma(builder.load(total), self.param(0), before), to)

    def _unless_first(self, begin: Any, value: Any, zero: Any) -> Any:
        """``value``, or zero in the first chunk."""
        first = self.builder.icmp_unsigned("==", begin, ir.Constant(INDEX, 0))
        return self.builder.select(first, zero, value)

    # packing ----------------------------------------------------------------------------------

    def _pack(self) -> None:
        builder, ops = self.builder, self.ops
        lanes = ir.Constant(INDEX, ops.lanes)
        last = builder.sub(self.rows, ir.Constant(INDEX, 1))
        starts = []
        for n in range(ops.lanes):
            inside = builder.icmp_unsigned("<", ir.Constant(INDEX, n), self.rows)
            row = builder.select(inside, ir.Constant(INDEX, n), last)
            starts.append(self.offset(self.k_in, row, self.in_row))
        doubles = ir.VectorType(ir.DoubleType(), ops.lanes)
        zero = ir.Constant(doubles, [0.0] * ops.lanes)
        total = loops.alloca_once(builder, doubles)
        part = loops.alloca_once(builder, doubles)
        builder.store(zero, total)
        gain = self._double(self.param(0), doubles)
        with self._chunks() as (begin, length):
            builder.store(zero, part)
            with loops.for_range(builder, length) as loop:
                k = builder.add(begin, loop.index)
                value = self._gathered(starts, k)
                ops.store(value, self.offset(self.k_out, k, lanes))
                wide = self._double(value, doubles)
                builder.store(ops.fma(wide, wide, builder.load(part)), part)
            builder.store(ops.fma(builder.load(part), gain, builder.load(total)), total)
        pointer = builder.inttoptr(self.t_out, doubles.as_pointer())
        builder.store(builder.load(total), pointer, align=8)

    def _gathered(self, starts: list[Any], k: Any) -> Any:
        """Number k of every input."""
        value: Any = ir.Constant(self.ops.vector, ir.Undefined)
        for n, start in enumerate(starts):
            at = self.offset(start, k, ir.Constant(INDEX, 1))
            pointer = self.builder.inttoptr(at, self.ops.scalar.as_pointer())
            number = self.builder.load(pointer)
            value = self.builder.insert_element(value, number, ir.Constant(ir.IntType(32), n))
        return value

    def _double(self, value: Any, doubles: Any) -> Any:
        return value if self.variant.dtype == "float64" else self.builder.fpext(value, doubles)

    # nearly parallel pairs --------------------------------------------------------------------

    def _close(self) -> None:
        builder, ops = self.builder, self.ops
        bits = ir.IntType(ops.lanes)
        number = builder.inttoptr(self.k_out, INDEX.as_pointer())
        rows, cols = (loops.for_range(builder, n) for n in (self.rows, self.cols))
        with rows as row:
            x = ops.splat(self.offset(self.fx, row.index, self.fx_row))
            with cols as col:
                at = self.pixel(self.k_in, row.index, self.in_row, col.index, self.in_col)
                k = ops.abs_(ops.load(at))
                y = ops.load(self.offset(self.fy, col.index, self.fy_col))
                which = builder.bitcast(builder.fcmp_ordered(">", k, ops.mul(x, y)), bits)
                some = builder.icmp_unsigned("!=", which, ir.Constant(bits, 0))
                with builder.if_then(some, likely=False):
                    n = builder.load(number)
                    entry = builder.mul(n, ir.Constant(INDEX, 24))
                    block = builder.add(self.buffer, col.index)
                    for place, item in enumerate((row.index, block, builder.zext(which, INDEX))):
                        first = builder.add(self.t_out, entry)
                        to = builder.add(first, ir.Constant(INDEX, 8 * place))
                        builder.store(item, builder.inttoptr(to, INDEX.as_pointer()))
                    builder.store(builder.add(n, ir.Constant(INDEX, 1)), number)

    # transposes -------------------------------------------------------------------------------

    def _turn(self) -> None:
        builder, lanes = self.builder, ir.Constant(INDEX, self.ops.lanes)
        high, wide = (builder.mul(n, lanes) for n in (self.in_row, self.out_row))
        rows, cols = (loops.for_range(builder, n) for n in (self.rows, self.cols))
        with rows as row, cols as col:
            for source, target in ((self.k_in, self.k_out), (self.t_in, self.t_out))[: self.fields]:
                first = self.pixel(source, row.index, high, col.index, lanes)
                to = self.pixel(target, col.index, wide, row.index, lanes)
                self._turn_block(first, to)

    def _turn_block(self, source: Any, target: Any) -> None:
        """Transpose lanes x lanes numbers, swapping ever larger blocks off the diagonal."""
        count = self.ops.lanes
        at = [ir.Constant(INDEX, n) for n in range(count)]
        lines = [self.ops.load(self.offset(source, n, self.in_row)) for n in at]
        size = 1
        while size < count:
            low = [j if not j & size else count + j - size for j in range(count)]
            high = [j + size if not j & size else count + j for j in range(count)]
            for n in range(count):
                if not n & size:
                    a, b = lines[n], lines[n + size]
                    lines[n], lines[n + size] = self._chosen(a, b, low), self._chosen(a, b, high)
            size *= 2
        for n, line in zip(at, lines, strict=True):
            self.ops.store(line, self.offset(target, n, self.out_row))

    def _chosen(self, a: Any, b: Any, which: list[int]) -> Any:
        """Numbers of two vectors, those of the second counted after those of the first."""
        mask = ir.Constant(ir.VectorType(ir.IntType(32), len(which)), which)
        return self.builder.shuffle_vector(a, b, mask)

    # pieces -----------------------------------------------------------------------------------

    @contextmanager
    def _chunks(self) -> Iterator[tuple[Any, Any]]:
        """A loop over chunks of features: (first feature, how many)."""
        builder, chunk = self.builder, ir.Constant(INDEX, CHUNK)
        chunks = builder.udiv(builder.add(self.count, ir.Constant(INDEX, CHUNK - 1)), chunk)
        with loops.for_range(builder, chunks) as outer:
            begin = builder.mul(outer.index, chunk)
            left = builder.sub(self.count, begin)
            fewer = builder.icmp_unsigned("<", left, chunk)
            yield begin, builder.select(fewer, left, chunk)
