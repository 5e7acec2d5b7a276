"""Vector code of the arithmetic kernels: window sums, affine map, activation, in one pass.

Kinds: ``point`` (activation alone), ``constant`` (a window of no source), ``tap`` (one-tap
window), ``box2`` to ``box8`` (square, stride 1, vertical sums carried in registers), ``box`` (any
window and stride, separable through a row buffer), ``large`` (any window, stride 1: see
:mod:`widegram.cpu.kernels.large_ir`), ``input`` (inner products over channels: fx is x, fy is x').
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from llvmlite import ir

from widegram.activations import FORMULAS
from widegram.cpu.kernels import loops
from widegram.cpu.kernels.bunches import Bunches
from widegram.cpu.kernels.large_ir import Field, LargeSums
from widegram.cpu.kernels.pipelined import Pipeline
from widegram.cpu.kernels.plane_base import PlaneCode
from widegram.cpu.kernels.recording import PIXEL, Recorder
from widegram.cpu.kernels.variants import N_PARAMS, PLUS, SQUARES
from widegram.cpu.kernels.vector_ops import INDEX, Stream

_UNROLLED = (1, 2, 3, 4)
Read = Callable[[Any], Any]  # a field at a pixel of a run


@dataclass(frozen=True)
class Run:
    """Neighbouring pixels of a row, as LLVM integers: ``cols`` of them from (``row``, ``col``) of
    the plane on, made from windows that begin at (``in_row``, ``in_col``); they are (``x_row``,
    ``x_col``) of x and (``y_row``, ``y_col``) of x'."""

    cols: Any
    row: Any
    col: Any
    in_row: Any
    in_col: Any
    x_row: Any
    x_col: Any
    y_row: Any
    y_col: Any

    def down(self, builder: ir.IRBuilder, rows: Any) -> Run:
        """The run ``rows`` further down, where strides are 1."""
        moved = (builder.add(at, rows) for at in (self.row, self.in_row, self.x_row, self.y_row))
        row, in_row, x_row, y_row = moved
        return replace(self, row=row, in_row=in_row, x_row=x_row, y_row=y_row)


class WindowKernel(PlaneCode):
    """Emits one arithmetic variant into the function under construction."""

    def emit(self) -> None:
        """Emit the loops over rows and pixels."""
        if self.kind != "input":
            self._constants()
        if self.kind == "large":
            self._large()
            return
        rows = self._carried_row if self.kind in SQUARES else getattr(self, f"_{self.kind}_row")
        for run in self._runs():
            with self.ops.each_slice():
                self.kept: list[tuple[Any, list[Any]]] = []
                rows(run)

    @property
    def kind(self) -> str:
        """The variant's kind, whatever is added."""
        return self.variant.kind.removesuffix(PLUS)

    # rows of each kind ------------------------------------------------------------------------

    def _point_row(self, run: Run) -> None:
        self._pixels(run, self._reads(run, self.in_col), self._prescaled)

    def _tap_row(self, run: Run) -> None:
        step = self.builder.mul(self.in_col, self.stride_cols)
        self._pixels(run, self._reads(run, step), self._affine)

    def _reads(self, run: Run, step: Any) -> list[Read]:
        """Each field, one number of a pixel's window read."""
        return [
            lambda index, start=start: self._at(start, self._in(index), step)  # type: ignore[misc]  # a default of a lambda
            for start in self._starts(run)
        ]

    def _constant_row(self, run: Run) -> None:
        self._pixels(run, [lambda index: self.ops.const(0.0)] * self.fields, self._affine)

    def _carried_row(self, run: Run) -> None:
        """A square window, one vertical sum made and the others kept in registers."""
        size = SQUARES[self.kind]
        self._pixels(run, [self._carried(at, size) for at in self._starts(run)], self._affine)

    def _carried(self, start: Any, size: int) -> Read:
        """The windows of one field, read from left to right."""
        kept = [self.ops.variable() for _ in range(size - 1)]
        self.kept.append((start, kept))
        self._read_left(len(self.kept) - 1)

        def window(index: Any) -> Any:
            values = [self.builder.load(v) for v in kept]
            ahead = self.builder.add(self._in(index), ir.Constant(INDEX, size - 1))
            values.append(self._vertical(start, ahead, size))
            for variable, value in zip(kept, values[1:], strict=True):
                self.builder.store(value, variable)
            return self._total(values)

        return window

    def _read_left(self, number: int, at: Any = None) -> None:
        """What windows of field ``number`` keep of what stands left of a run's first pixel, which
        is pixel ``at``."""
        for start, kept in self.kept[number : number + 1]:
            begin = start if at is None else self.offset(start, at, self.in_col)
            for n, variable in enumerate(kept):
                self.builder.store(self._vertical_left(begin, n, len(kept) + 1), variable)

    def _in(self, index: Any) -> Any:
        """How far the source of pixel ``index`` of a run is from that of the first."""
        return index

    def _begin(self, number: int, index: Any) -> None:
        """What comes before field ``number`` of a pixel is read."""

    def _total(self, values: list[Any]) -> Any:
        """The outermost two first, the middle last: a window turned round gives the same bits."""
        while len(values) > 1:
            outer = self.ops.add(values[0], values[-1])
            values = [outer, *values[1:-1]] if len(values) > 2 else [outer]
        return values[0]

    def _box_row(self, run: Run) -> None:
        builder = self.builder
        starts = self._starts(run)
        one = ir.Constant(INDEX, 1)
        span = builder.add(
            builder.mul(builder.sub(run.cols, one), self.stride_cols), self.window_cols
        )
        lanes = ir.Constant(INDEX, self.ops.lanes)
        half = self.ops.bytes(span, lanes)
        buffers = [self.buffer, builder.add(self.buffer, half)][: len(starts)]
        with loops.for_range(builder, span) as col:
            for start, buffer in zip(starts, buffers, strict=True):
                first = self.offset(start, col.index, self.in_col)
                total = self._sum(first, self.window_rows, self.in_row)
                self.ops.store(total, self.offset(buffer, col.index, lanes))

        def window(buffer: Any) -> Read:
            def read(index: Any) -> Any:
                begin = builder.mul(index, self.stride_cols)
                return self._sum(self.offset(buffer, begin, lanes), self.window_cols, lanes)

            return read

        self._pixels(run, [window(buffer) for buffer in buffers], self._affine)

    def _input_row(self, run: Run) -> None:
        """K = <x, x'> over ``count`` channels, T = 0; x is scaled by 1 / C beforehand."""
        for channels, count in self._channels():
            x_row = self.pixel(self.fx, run.x_row, self.fx_row, run.x_col, self._lanes_of_x(count))
            y_row = self.pixel(self.fy, run.y_row, self.fy_row, run.y_col, self._lanes_of_y(count))
            with loops.for_range(self.builder, run.cols) as loop:
                x_at = self.offset(x_row, loop.index, self._lanes_of_x(count))
                y_at = self.offset(y_row, loop.index, self._lanes_of_y(count))
                (total,) = self._products([x_at], y_at, count, channels)
                self._write(run, loop.index, [total, self.ops.const(0.0)][: self.fields])

    def _channels(self) -> Iterator[tuple[int, Any]]:
        """(channels, or 0 for any number; their number as an LLVM integer), each in a branch of its
        own: the usual numbers of channels have loops without a counter."""
        for channels in _UNROLLED:
            count = ir.Constant(INDEX, channels)
            with self.builder.if_then(self.builder.icmp_signed("==", self.count, count)):
                yield channels, count
        most = ir.Constant(INDEX, max(_UNROLLED))
        with self.builder.if_then(self.builder.icmp_signed(">", self.count, most)):
            yield 0, self.count

    def _lanes_of_x(self, count: Any) -> Any:
        """Numbers of x per pixel of ``count`` channels."""
        return self.builder.mul(count, self._x_lanes)

    def _lanes_of_y(self, count: Any) -> Any:
        return self.builder.mul(count, ir.Constant(INDEX, self.ops.lanes))

    @property
    def _x_lanes(self) -> Any:
        return ir.Constant(INDEX, self.ops.lanes if self.variant.paired else 1)

    def _products(self, x_at: list[Any], y_at: Any, count: Any, unrolled: int) -> list[Any]:
        """Inner products of the pixels of x at ``x_at`` with one of x', channel by channel."""
        builder, ops = self.builder, self.ops
        y_lanes = ir.Constant(INDEX, ops.lanes)

        def step(channel: Any, before: list[Any]) -> list[Any]:
            y = ops.load(self.offset(y_at, channel, y_lanes))
            at = [self.offset(x, channel, self._x_lanes) for x in x_at]
            xs = [ops.load(a) if self.variant.paired else ops.splat(a) for a in at]
            return [ops.fma(x, y, total) for x, total in zip(xs, before, strict=True)]

        totals = [ops.const(0.0) for _ in x_at]
        for n in range(unrolled):
            totals = step(ir.Constant(INDEX, n), totals)
        if unrolled:
            return totals
        sums = [ops.variable() for _ in x_at]
        for variable in sums:
            builder.store(ops.const(0.0), variable)
        with loops.for_range(builder, count) as channel:
            found = step(channel.index, [builder.load(v) for v in sums])
            for variable, value in zip(sums, found, strict=True):
                builder.store(value, variable)
        return [builder.load(v) for v in sums]

    def _large(self) -> None:
        for rows, run in self._rectangles():
            window = self.window_rows, self.window_cols
            sums = LargeSums(self.ops, rows, run.cols, *window, self.in_row)
            fields, scratch = [], self.buffer
            for start in self._starts(run):
                fields.append(Field(start, scratch))
                scratch = self.builder.add(scratch, self.ops.bytes(sums.scratch()))

            def finish(row: Any, col: Any, found: list[Any], run: Run = run) -> None:
                self._finish(run.down(self.builder, row), col, self._affine(found))

            with self.ops.each_slice():
                sums.emit(fields, finish)

    # pieces -----------------------------------------------------------------------------------

    def _rectangles(self) -> Iterator[tuple[Any, Run]]:
        """The number of rows and the first run of everything that is one rectangle."""
        yield self.rows, Run(self.cols, *[ir.Constant(INDEX, 0)] * 8)

    def _runs(self) -> Iterator[Run]:
        """Inside the loop over all rows: each run of a row."""
        zero = ir.Constant(INDEX, 0)
        with loops.for_range(self.builder, self.rows) as loop:
            row = loop.index
            first = row
            if self.kind in ("tap", "box"):
                first = self.builder.mul(row, self.stride_rows)
            yield Run(self.cols, row, zero, first, zero, row, zero, row, zero)

    def _pixels(
        self, run: Run, fields: list[Read], begin: Callable[[Sequence[Any]], Sequence[Any]]
    ) -> None:
        """A row: each field is read at a pixel; ``begin``: the arguments of the activation."""

        def alone(index: Any) -> None:
            for number in range(len(fields)):
                self._begin(number, index)
            self._finish(run, index, begin([read(index) for read in fields]))

        def write(pixel: Any, values: Sequence[Any]) -> None:
            self._write(run, pixel, values)

        if not self.ops.form.behind:
            with loops.for_range(self.builder, run.cols) as col:
                alone(col.index)
            return
        with self._recording() as recorder:
            values = []
            # K is what the chain begins with, T what it ends with.
            sections = (0, self.ops.form.behind)[: len(fields)]
            for read, section in zip(fields, sections, strict=True):
                with recorder.in_section(section):
                    values.append(read(PIXEL))
            outputs = self._activated(run, PIXEL, begin(values))

        def before(section: int, pixel: Any) -> None:
            if section in sections:
                self._begin(sections.index(section), pixel)

        if self.ops.form.bunch:
            Bunches(recorder, outputs).emit(run.cols, write, before)
        else:
            Pipeline(recorder, outputs).emit(run.cols, write, alone, before)

    @contextmanager
    def _recording(self) -> Iterator[Recorder]:
        """Operations inside are recorded, not written."""
        ops, builder = self.ops, self.builder
        recorder = Recorder(ops)
        self.ops, self.builder = recorder, recorder.builder
        try:
            yield recorder
        finally:
            self.ops, self.builder = ops, builder

    def _finish(self, run: Run, index: Any, values: Sequence[Any]) -> None:
        """Activation at one pixel, then the stores."""
        self._write(run, index, self._activated(run, index, values))

    def _activated(self, run: Run, index: Any, values: Sequence[Any]) -> Sequence[Any]:
        """K, and T where it is carried, behind the activation."""
        if self.variant.code == "none":
            return values
        formula, ops, both = FORMULAS[self.variant.code], self.ops, None
        fx, fy = self._factors_of_x(run, index), self._factors_of_y(run, index)
        if self.variant.hides:
            last = self.builder.sub(self.count, ir.Constant(INDEX, 1))
            both = ops.mul(fx.at(last), fy.at(last))
            fx, fy = replace(fx, count=last), replace(fy, count=last)
        k, slope = formula.dual(ops, values[0], fx, fy, self.constants)
        made = [k]
        if self.variant.ntk:
            made.append(ops.const(0.0) if slope is None else ops.mul(values[1], slope))
        return made if both is None else [ops.mul(value, both) for value in made]

    def _write(self, run: Run, index: Any, values: Sequence[Any]) -> None:
        for base, value in zip((self.k_out, self.t_out), values, strict=False):
            first = self.pixel(base, run.row, self.out_row, run.col, self.out_col)
            self.ops.store(value, self.offset(first, index, self.out_col))

    def _prescaled(self, values: Sequence[Any]) -> Sequence[Any]:
        """Fields as the formula takes them; windows have this in their gain."""
        scale = FORMULAS[self.variant.code].prescale
        if scale == 1.0:
            return values
        return [self.ops.mul(self.ops.const(scale), value) for value in values]

    def _affine(self, sums: Sequence[Any]) -> list[Any]:
        """K = gain k + bias, T = K + gain t, or the contribution w k + b and gain t; t is 0 where
        it is not read."""
        made = [self.ops.fma(self.gain, sums[0], self.bias)]
        if self.variant.ntk:
            own = made[0]
            if self.variant.contribution:
                own = self.ops.fma(self.weights, sums[0], self.biases)
            t = self.ops.const(0.0) if self.variant.fresh else sums[1]
            made.append(self.ops.fma(self.gain, t, own))
        return made

    def _constants(self) -> None:
        values = [self.param(n) for n in range(N_PARAMS)]
        self.gain, self.bias = values[:2]
        if self.variant.contribution:
            self.weights, self.biases = self.param(N_PARAMS), self.param(N_PARAMS + 1)
        code = self.variant.code
        count = 0 if code == "none" else FORMULAS[code].n_constants
        self.constants = values[2 : 2 + count]

    def _factors_of_x(self, run: Run, index: Any) -> Stream:
        start = self.pixel(self.fx, run.x_row, self.fx_row, run.x_col, self.fx_col)
        at = self.offset(start, index, self.fx_col)
        return Stream(self.ops, at, self.fx_plane, self.count, not self.variant.paired)

    def _factors_of_y(self, run: Run, index: Any) -> Stream:
        start = self.pixel(self.fy, run.y_row, self.fy_row, run.y_col, self.fy_col)
        at = self.offset(start, index, self.fy_col)
        return Stream(self.ops, at, self.fy_plane, self.count, False)

    def _vertical_left(self, field: Any, n: int, size: int) -> Any:
        """Sum of ``size`` rows at pixel n of the first window."""
        return self._vertical(field, ir.Constant(INDEX, n), size)

    def _vertical(self, field: Any, col: Any, size: int) -> Any:
        """Sum of ``size`` rows at one pixel."""
        at = [self.offset(field, col, self.in_col)]
        row = self.ops.bytes(self.in_row)
        while len(at) < size:
            at.append(self.builder.add(at[-1], row))
        return self._total([self.ops.load(address) for address in at])

    def _sum(self, first: Any, count: Any, step: Any) -> Any:
        """Sum of ``count`` vectors, ``step`` numbers apart."""
        total = self.ops.variable(self.ops.const(0.0))
        self.builder.store(self.ops.const(0.0), total)
        with loops.for_range(self.builder, count) as loop:
            value = self.ops.load(self.offset(first, loop.index, step))
            self.builder.store(self.ops.add(self.builder.load(total), value), total)
        return self.builder.load(total)

    def _starts(self, run: Run) -> list[Any]:
        """Addresses of the first input pixel of a run, of each field that is read."""
        bases = self.k_in, self.t_in
        return [
            self.pixel(base, run.in_row, self.in_row, run.in_col, self.in_col)
            for base in bases[: 1 if self.variant.fresh else self.fields]
        ]

    def _at(self, base: Any, n: Any, step: Any) -> Any:
        return self.ops.load(self.offset(base, n, step))
