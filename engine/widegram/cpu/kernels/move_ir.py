"""Vector code of the kernels that move planes: copies, sums, pools and reductions.

Kinds: ``copy``; ``fill`` (zeros); ``add`` (k_out = k_in + the plane at fx, t_out = t_in + fy);
``multiply`` (k_out = k_in fx, t_out = t_in fx + k_in fy);
``gather`` (out += gain times the sum over a window whose taps are ``fx_row`` and ``fx_col`` apart,
windows ``in_row`` and ``in_col``); ``reduce`` (adds the sum of
a plane to double-precision sums at k_out, t_out); ``count`` (the same of pixels times the number of
their row at fx and that of their column at fy); ``row_sums`` (the sum of each row, of ``cols``
pixels and then of the ``count`` at fx, fy, as ``reduce`` makes it of one run); ``cast`` (writes
gain times such sums as a plane of one pixel).
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from widegram.cpu.kernels import loops
from widegram.cpu.kernels.plane_base import PlaneCode
from widegram.cpu.kernels.vector_ops import INDEX

_PART = 8  # double-precision sums are read and written eight at a time


class MoveKernel(PlaneCode):
    """Emits one moving variant into the function under construction."""

    def emit(self) -> None:
        """Emit the kernel named by the variant's kind."""
        planes = [(self.k_in, self.k_out, self.fx), (self.t_in, self.t_out, self.fy)]
        self.planes = planes[: self.fields]
        if self.variant.kind == "cast":
            for source, target, _ in self.planes:
                self._cast(source, target)
        elif self.variant.kind in ("reduce", "count"):
            self._reduce()
        elif self.variant.kind == "row_sums":
            self._row_sums()
        elif self.variant.kind == "gather":
            self._gather()
        elif self.variant.kind == "multiply":
            self._multiply()
        else:
            self._plane()

    def _plane(self) -> None:
        rows, cols = (loops.for_range(self.builder, n) for n in (self.rows, self.cols))
        with rows as row, cols as col:
            at = row.index, col.index
            for source, target, other in self.planes:
                out = self.pixel(target, at[0], self.out_row, at[1], self.out_col)
                self.ops.store(self._moved(source, other, at), out)

    def _multiply(self) -> None:
        ops = self.ops
        rows, cols = (loops.for_range(self.builder, n) for n in (self.rows, self.cols))
        with rows as row, cols as col:
            at = row.index, col.index
            ones = [
                ops.load(self.pixel(plane, at[0], self.in_row, at[1], self.in_col))
                for plane, _, _ in self.planes
            ]
            others = [
                ops.load(self.pixel(plane, at[0], self.fx_row, at[1], self.fx_col))
                for _, _, plane in self.planes
            ]
            made = [ops.mul(ones[0], others[0])]
            if self.variant.ntk:
                made.append(ops.fma(ones[1], others[0], ops.mul(ones[0], others[1])))
            for value, (_, target, _) in zip(made, self.planes, strict=True):
                ops.store(value, self.pixel(target, at[0], self.out_row, at[1], self.out_col))

    def _moved(self, source: Any, other: Any, at: tuple[Any, Any]) -> Any:
        """What one pixel becomes."""
        row, col = at
        if self.variant.kind == "fill":
            return self.ops.const(0.0)
        value = self.ops.load(self.pixel(source, row, self.in_row, col, self.in_col))
        if self.variant.kind == "add":
            second = self.pixel(other, row, self.fx_row, col, self.fx_col)
            return self.ops.add(value, self.ops.load(second))
        return value

    def _gather(self) -> None:
        """Windows of up to 2 x 2 taps, those of the usual pools, have loops without counters."""
        builder, two = self.builder, ir.Constant(INDEX, 2)
        both = builder.add(builder.mul(self.window_rows, ir.Constant(INDEX, 4)), self.window_cols)
        small = builder.and_(
            builder.icmp_signed("<=", self.window_rows, two),
            builder.icmp_signed("<=", self.window_cols, two),
        )
        with builder.if_then(builder.not_(small)):
            self._gather_plane(0, 0)
        for rows in (1, 2):
            for cols in (1, 2):
                taps = ir.Constant(INDEX, 4 * rows + cols)
                here = builder.and_(small, builder.icmp_signed("==", both, taps))
                with builder.if_then(here):
                    self._gather_plane(rows, cols)

    def _gather_plane(self, rows: int, cols: int) -> None:
        """out += gain times the sum over each window; ``rows`` x ``cols`` taps where not 0."""
        gain = self.param(0)
        with loops.for_range(self.builder, self.rows) as row:
            starts = [
                (self.offset(k, row.index, self.in_row), self.offset(to, row.index, self.out_row))
                for k, to, _ in self.planes
            ]
            with loops.for_range(self.builder, self.cols) as col:
                for start, to in starts:
                    first = self.offset(start, col.index, self.in_col)
                    out = self.offset(to, col.index, self.out_col)
                    total = self._taps(first, rows, cols) if rows else self._window(first)
                    self.ops.store(self.ops.fma(gain, total, self.ops.load(out)), out)

    def _taps(self, first: Any, rows: int, cols: int) -> Any:
        """The sum over a window of so many taps, in the order of :meth:`_window`."""
        total = self.ops.const(0.0)
        for row in range(rows):
            for col in range(cols):
                at = self.pixel(
                    first,
                    ir.Constant(INDEX, row),
                    self.fx_row,
                    ir.Constant(INDEX, col),
                    self.fx_col,
                )
                total = self.ops.add(total, self.ops.load(at))
        return total

    def _window(self, first: Any) -> Any:
        """The sum over a window of taps."""
        total = self.ops.variable(self.ops.const(0.0))
        self.builder.store(self.ops.const(0.0), total)
        sizes = self.window_rows, self.window_cols
        rows, cols = (loops.for_range(self.builder, size) for size in sizes)
        with rows as row, cols as col:
            value = self.ops.load(self.pixel(first, row.index, self.fx_row, col.index, self.fx_col))
            self.builder.store(self.ops.add(self.builder.load(total), value), total)
        return self.builder.load(total)

    def _reduce(self) -> None:
        """Sum each row in the plane's dtype, the rows in double precision."""
        counted = self.variant.kind == "count"
        with loops.for_range(self.builder, self.rows) as row:
            totals = []
            for source, _, _ in self.planes:
                start = self.offset(source, row.index, self.in_row)
                totals.append((start, self.ops.variable()))
                self.builder.store(self.ops.const(0.0), totals[-1][1])
            with loops.for_range(self.builder, self.cols) as col:
                weight = self._number(self.fy, col.index) if counted else None
                for start, total in totals:
                    value = self.ops.load(self.offset(start, col.index, self.in_col))
                    value = self.ops.mul(weight, value) if counted else value
                    self.builder.store(self.ops.add(self.builder.load(total), value), total)
            for (_, target, _), (_, total) in zip(self.planes, totals, strict=True):
                found = self._double(self.builder.load(total))
                if counted:
                    found = self.builder.fmul(self._double(self._number(self.fx, row.index)), found)
                for n, part in enumerate(self._parts(found)):
                    pointer = self._double_pointer(target, n)
                    before = self.builder.load(pointer, align=64)
                    self.builder.store(self.builder.fadd(before, part), pointer, align=64)

    def _row_sums(self) -> None:
        """Sum each row of two runs of pixels in the plane's dtype."""
        with loops.for_range(self.builder, self.rows) as row:
            for source, target, other in self.planes:
                total = self.ops.variable()
                self.builder.store(self.ops.const(0.0), total)
                for first, count in ((source, self.cols), (other, self.count)):
                    start = self.offset(first, row.index, self.in_row)
                    with loops.for_range(self.builder, count) as col:
                        value = self.ops.load(self.offset(start, col.index, self.in_col))
                        self.builder.store(self.ops.add(self.builder.load(total), value), total)
                out = self.offset(target, row.index, self.out_row)
                self.ops.store(self.builder.load(total), out)

    def _number(self, table: Any, n: Any) -> Any:
        """The n-th number of a table, in all lanes."""
        return self.ops.splat(self.offset(table, n, ir.Constant(INDEX, 1)))

    def _cast(self, source: Any, target: Any) -> None:
        gain = self.param(0)
        parts = [
            self.builder.load(self._double_pointer(source, n), align=64)
            for n in range(self.ops.lanes // _PART)
        ]
        while len(parts) > 1:
            parts = [self._join(*parts[n : n + 2]) for n in range(0, len(parts), 2)]
        sums = parts[0]
        scaled = self.builder.fmul(self._double(gain), sums)
        if self.variant.dtype == "float32":
            scaled = self.builder.fptrunc(scaled, self.ops.vector)
        self.ops.store(scaled, target)

    def _join(self, low: Any, high: Any) -> Any:
        """Two vectors as one of twice the length."""
        length = 2 * low.type.count
        mask = ir.Constant(ir.VectorType(ir.IntType(32), length), list(range(length)))
        return self.builder.shuffle_vector(low, high, mask)

    def _double(self, value: Any) -> Any:
        """A vector of the dtype in double precision."""
        if self.variant.dtype == "float64":
            return value
        return self.builder.fpext(value, ir.VectorType(ir.DoubleType(), self.ops.lanes))

    def _parts(self, value: Any) -> list[Any]:
        """A double-precision vector in pieces of eight."""
        if self.ops.lanes == _PART:
            return [value]
        undefined = ir.Constant(value.type, ir.Undefined)
        index = ir.VectorType(ir.IntType(32), _PART)
        return [
            self.builder.shuffle_vector(
                value, undefined, ir.Constant(index, list(range(lo, lo + _PART)))
            )
            for lo in range(0, self.ops.lanes, _PART)
        ]

    def _double_pointer(self, base: Any, n: int) -> Any:
        address = self.builder.add(base, ir.Constant(INDEX, 8 * _PART * n))
        return self.builder.inttoptr(address, ir.VectorType(ir.DoubleType(), _PART).as_pointer())
