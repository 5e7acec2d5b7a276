"""Small packed planes whose pixels have a chart: all rows are walked as one.

Sections then overlap beyond the ends of runs, which are short where planes are small. The chart,
:func:`widegram.cpu.charts.chart` has a row for each pixel of each cell; the kernel's geometry has
its address.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from llvmlite import ir

from widegram.cpu.kernels.fields import Chart, PackedGeometry
from widegram.cpu.kernels.packed_ir import PackedKernel
from widegram.cpu.kernels.recording import Leaf
from widegram.cpu.kernels.vector_ops import INDEX, Stream
from widegram.cpu.kernels.window_ir import Run

_NUMBER = ir.IntType(32)
_ROW = ir.Constant(INDEX, 4 * len(Chart))


class ChartKernel(PackedKernel):
    """Emits one arithmetic variant, of stride 1, whose planes have one shape."""

    def _read(self, args: tuple[Any, ...]) -> None:
        super()._read(args)
        builder = self.builder
        down = builder.sub(self.height, self.first_rows)
        across = builder.sub(self.width, self.first_cols)
        cell = builder.add(builder.mul(down, self.width), across)
        two = builder.icmp_signed(">", self.second_cols, ir.Constant(INDEX, 0))
        cell = builder.add(builder.mul(cell, ir.Constant(INDEX, 2)), builder.zext(two, INDEX))
        before = builder.mul(cell, builder.mul(self.height, self.width))
        table = self.integer(args[0], PackedGeometry.CHART)
        self.chart = builder.add(table, builder.mul(before, _ROW))

    def _runs(self) -> Iterator[Run]:
        cols = self.builder.add(self.first_cols, self.second_cols)
        yield Run(self.builder.mul(self.rows, cols), *[ir.Constant(INDEX, 0)] * 8)

    def _number(self, index: Any, column: Chart) -> Any:
        """A number of pixel ``index``, which may be that of a recording."""
        if isinstance(index, Leaf):
            return Leaf(lambda pixel: self._number(pixel, column))
        builder = self.builder
        at = builder.add(self.chart, builder.mul(index, _ROW))
        at = builder.add(at, ir.Constant(INDEX, 4 * column))
        return builder.sext(builder.load(builder.inttoptr(at, _NUMBER.as_pointer())), INDEX)

    def _begin(self, number: int, index: Any) -> None:
        if number >= len(self.kept):
            return
        zero, begins = ir.Constant(INDEX, 0), self._number(index, Chart.BEGINS)
        with self.builder.if_then(self.builder.icmp_signed("!=", begins, zero)):
            self._read_left(number, self._number(index, Chart.PLANE))

    def _in(self, index: Any) -> Any:
        return self._number(index, Chart.PLANE)

    def _factors_of_x(self, run: Run, index: Any) -> Stream:
        return super()._factors_of_x(run, self._number(index, Chart.X))

    def _factors_of_y(self, run: Run, index: Any) -> Stream:
        return super()._factors_of_y(run, self._number(index, Chart.Y))

    def _write(self, run: Run, index: Any, values: Sequence[Any]) -> None:
        super()._write(run, self._number(index, Chart.PLANE), values)
