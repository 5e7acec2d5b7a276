"""Vector code of the kernels that move planes: copies, sums, pools and reductions.

Kinds: ``copy``; ``fill`` (zeros); ``add`` (k_out = k_in + the plane at fx, t_out = t_in + fy);
``gather`` (out += gain times the sum over a window whose taps are ``fx_row`` and ``fx_col`` apart,
windows ``in_row`` and ``in_col``); ``reduce`` (adds the sum of
a plane to double-precision sums at k_out, t_out); ``cast`` (writes gain times such sums as a plane
of one pixel).
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from widegram.cpu import flow
from widegram.cpu.plane_base import PlaneCode
from widegram.cpu.vector_ops import INDEX

_PART = 8  # double-precision sums are read and written eight at a time


class MoveKernel(PlaneCode):
    """Emits one moving variant into the function under construction."""

    def emit(self) -> None:
        """Emit the kernel named by the variant's kind."""
        pairs = [(self.k_in, self.k_out, self.fx), (self.t_in, self.t_out, self.fy)]
        for source, target, other in pairs[: self.fields]:
            if self.variant.kind == "cast":
                self._cast(source, target)
            elif self.variant.kind == "reduce":
                self._reduce(source, target)
            else:
                self._plane(source, target, other)

    def _plane(self, source: Any, target: Any, other: Any) -> None:
        gain = self.param(0) if self.variant.kind == "gather" else None
        rows, cols = (flow.for_range(self.builder, n) for n in (self.rows, self.cols))
        with rows as row, cols as col:
            at = row.index, col.index
            out = self.pixel(target, at[0], self.out_row, at[1], self.out_col)
            self.ops.store(self._moved(source, out, other, at, gain), out)

    def _moved(self, source: Any, out: Any, other: Any, at: tuple[Any, Any], gain: Any) -> Any:
        """What one pixel becomes."""
        row, col = at
        if self.variant.kind == "fill":
            return self.ops.const(0.0)
        first = self.pixel(source, row, self.in_row, col, self.in_col)
        if self.variant.kind == "gather":
            return self.ops.fma(gain, self._window(first), self.ops.load(out))
        value = self.ops.load(first)
        if self.variant.kind == "add":
            second = self.pixel(other, row, self.fx_row, col, self.fx_col)
            return self.ops.add(value, self.ops.load(second))
        return value

    def _window(self, first: Any) -> Any:
        """The sum over a window of taps."""
        total = self.ops.variable(self.ops.const(0.0))
        self.builder.store(self.ops.const(0.0), total)
        rows, cols = (flow.for_range(self.builder, n) for n in (self.window_rows, self.window_cols))
        with rows as row, cols as col:
            value = self.ops.load(self.pixel(first, row.index, self.fx_row, col.index, self.fx_col))
            self.builder.store(self.ops.add(self.builder.load(total), value), total)
        return self.builder.load(total)

    def _reduce(self, source: Any, target: Any) -> None:
        """Sum each row in the plane's dtype, the rows in double precision."""
        with flow.for_range(self.builder, self.rows) as row:
            start = self.offset(source, row.index, self.in_row)
            total = self.ops.variable()
            self.builder.store(self.ops.const(0.0), total)
            with flow.for_range(self.builder, self.cols) as col:
                value = self.ops.load(self.offset(start, col.index, self.in_col))
                self.builder.store(self.ops.add(self.builder.load(total), value), total)
            sums = self._double(self.builder.load(total))
            for n, part in enumerate(self._parts(sums)):
                pointer = self._double_pointer(target, n)
                before = self.builder.load(pointer, align=64)
                self.builder.store(self.builder.fadd(before, part), pointer, align=64)

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
