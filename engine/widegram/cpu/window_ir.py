"""Vector code of the arithmetic kernels: window sums, affine map, activation, in one pass.

Kinds: ``point`` (activation alone), ``tap`` (one-tap window), ``box3`` (3 x 3, stride 1, vertical
sums carried in registers), ``box`` (any window and stride, separable through a row buffer),
``input`` (inner products over channels: k_in is x, t_in is x'; cols counts pixels).
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from widegram.activations import KERNELS
from widegram.cpu import flow
from widegram.cpu.plane_base import N_PARAMS, PlaneCode
from widegram.cpu.vector_ops import INDEX, Stream


class WindowKernel(PlaneCode):
    """Emits one arithmetic variant into the function under construction."""

    def emit(self) -> None:
        """Emit the loops over rows and pixels."""
        if self.variant.kind == "input":
            self._input()
            return
        self._constants()
        with flow.for_range(self.builder, self.rows) as row:
            getattr(self, f"_{self.variant.kind}_row")(row.index)

    # rows of each kind ------------------------------------------------------------------------

    def _point_row(self, row: Any) -> None:
        k_in, t_in = self._start(row, None)
        with flow.for_range(self.builder, self.cols) as col:
            k = self._prescaled(self._at(k_in, col.index, self.in_col))
            t = None
            if self.variant.ntk:
                t = self._prescaled(self._at(t_in, col.index, self.in_col))
            self._finish(row, col.index, k, t)

    def _tap_row(self, row: Any) -> None:
        k_in, t_in = self._start(row, self.stride_rows)
        step = self.builder.mul(self.in_col, self.stride_cols)
        with flow.for_range(self.builder, self.cols) as col:
            k = self._at(k_in, col.index, step)
            t = self._at(t_in, col.index, step) if self.variant.ntk else None
            self._finish(row, col.index, *self._affine(k, t))

    def _box3_row(self, row: Any) -> None:
        starts = self._start(row, None)
        fields = starts[: self.fields]
        zero, one, two = (ir.Constant(INDEX, n) for n in (0, 1, 2))
        older = [self.ops.variable(self._vertical3(f, zero)) for f in fields]
        newer = [self.ops.variable(self._vertical3(f, one)) for f in fields]
        with flow.for_range(self.builder, self.cols) as col:
            sums: list[Any] = []
            ahead = self.builder.add(col.index, two)
            for field, old, new in zip(fields, older, newer, strict=True):
                last = self._vertical3(field, ahead)
                middle = self.builder.load(new)
                first = self.builder.load(old)
                sums.append(self.ops.add(self.ops.add(first, last), middle))
                self.builder.store(middle, old)
                self.builder.store(last, new)
            self._finish(row, col.index, *self._affine(sums[0], sums[1] if len(sums) > 1 else None))

    def _box_row(self, row: Any) -> None:
        builder = self.builder
        starts = self._start(row, self.stride_rows)
        fields = starts[: self.fields]
        one = ir.Constant(INDEX, 1)
        span = builder.add(
            builder.mul(builder.sub(self.cols, one), self.stride_cols), self.window_cols
        )
        lanes = ir.Constant(INDEX, self.ops.lanes)
        half = self.ops.bytes(span, lanes)
        buffers = [self.buffer, builder.add(self.buffer, half)][: len(fields)]
        with flow.for_range(builder, span) as col:
            for field, buffer in zip(fields, buffers, strict=True):
                first = self.offset(field, col.index, self.in_col)
                total = self._sum(first, self.window_rows, self.in_row)
                self.ops.store(total, self.offset(buffer, col.index, lanes))
        with flow.for_range(builder, self.cols) as col:
            begin = builder.mul(col.index, self.stride_cols)
            sums = [
                self._sum(self.offset(buffer, begin, lanes), self.window_cols, lanes)
                for buffer in buffers
            ]
            self._finish(row, col.index, *self._affine(sums[0], sums[1] if len(sums) > 1 else None))

    def _input(self) -> None:
        """K = <x, x'> over ``count`` channels, T = 0; x is scaled by 1 / C beforehand."""
        builder = self.builder
        x_lanes = ir.Constant(INDEX, self.ops.lanes if self.variant.paired else 1)
        y_lanes = ir.Constant(INDEX, self.ops.lanes)
        with flow.for_range(builder, self.rows) as row:
            x_row = self.offset(self.k_in, row.index, self.fx_row)
            y_row = self.offset(self.t_in, row.index, self.fy_row)
            with flow.for_range(builder, self.cols) as col:
                first = builder.mul(col.index, self.count)
                total = self.ops.variable(self.ops.const(0.0))
                with flow.for_range(builder, self.count) as channel:
                    n = builder.add(first, channel.index)
                    x_at = self.offset(x_row, n, x_lanes)
                    x = self.ops.load(x_at) if self.variant.paired else self.ops.splat(x_at)
                    y = self.ops.load(self.offset(y_row, n, y_lanes))
                    builder.store(self.ops.fma(x, y, builder.load(total)), total)
                self._write(row.index, col.index, builder.load(total), self.ops.const(0.0))

    # pieces -----------------------------------------------------------------------------------

    def _finish(self, row: Any, col: Any, k: Any, t: Any) -> None:
        """Activation at one pixel, then both stores."""
        if self.variant.code != "none":
            formula = KERNELS[self.variant.code]
            fx = self._factors(self.fx, row, self.fx_row, col, self.fx_col, self.fx_plane, True)
            fy = self._factors(self.fy, row, self.fy_row, col, self.fy_col, self.fy_plane, False)
            k, slope = formula.dual(self.ops, k, fx, fy, self.constants)
            if t is not None:
                t = self.ops.const(0.0) if slope is None else self.ops.mul(t, slope)
        self._write(row, col, k, t)

    def _write(self, row: Any, col: Any, k: Any, t: Any) -> None:
        self.ops.store(k, self.pixel(self.k_out, row, self.out_row, col, self.out_col))
        if self.variant.ntk:
            self.ops.store(t, self.pixel(self.t_out, row, self.out_row, col, self.out_col))

    def _prescaled(self, value: Any) -> Any:
        """A plane as the formula takes it; windows have this in their gain."""
        scale = KERNELS[self.variant.code].prescale
        return value if scale == 1.0 else self.ops.mul(self.ops.const(scale), value)

    def _affine(self, k: Any, t: Any) -> tuple[Any, Any]:
        """K = gain k + bias, T = K + gain t."""
        k = self.ops.fma(self.gain, k, self.bias)
        return k, None if t is None else self.ops.fma(self.gain, t, k)

    def _constants(self) -> None:
        values = [self.param(n) for n in range(N_PARAMS)]
        self.gain, self.bias = values[:2]
        code = self.variant.code
        count = 0 if code == "none" else KERNELS[code].n_constants
        self.constants = values[2 : 2 + count]

    def _factors(
        self, base: Any, row: Any, row_step: Any, col: Any, col_step: Any, plane: Any, is_x: bool
    ) -> Stream:
        at = self.pixel(base, row, row_step, col, col_step)
        broadcast = is_x and not self.variant.paired
        return Stream(self.ops, at, plane, self.count, broadcast)

    def _vertical3(self, field: Any, col: Any) -> Any:
        """Sum of three rows at one pixel."""
        first = self.offset(field, col, self.in_col)
        row = self.ops.bytes(self.in_row)
        second = self.builder.add(first, row)
        third = self.builder.add(second, row)
        outer = self.ops.add(self.ops.load(first), self.ops.load(third))
        return self.ops.add(outer, self.ops.load(second))

    def _sum(self, first: Any, count: Any, step: Any) -> Any:
        """Sum of ``count`` vectors, ``step`` numbers apart."""
        total = self.ops.variable(self.ops.const(0.0))
        self.builder.store(self.ops.const(0.0), total)
        with flow.for_range(self.builder, count) as loop:
            value = self.ops.load(self.offset(first, loop.index, step))
            self.builder.store(self.ops.add(self.builder.load(total), value), total)
        return self.builder.load(total)

    def _start(self, row: Any, stride: Any) -> tuple[Any, Any]:
        """Addresses of the first input pixel of an output row."""
        if stride is not None:
            row = self.builder.mul(row, stride)
        return self.offset(self.k_in, row, self.in_row), self.offset(self.t_in, row, self.in_row)

    def _at(self, base: Any, n: Any, step: Any) -> Any:
        return self.ops.load(self.offset(base, n, step))
