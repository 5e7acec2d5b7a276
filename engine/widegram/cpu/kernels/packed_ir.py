"""The arithmetic kernels on packed planes: all displacements that are equal modulo the image.

At displacement d a value on an (h, w) image has (h - |d_y|) x (w - |d_x|) pixels; d and d - h along
an axis have h rows together. A packed plane holds both, with a gap of zeros between them that
serves as the halo of each: rows of w pixels in place of w / 2, a quarter of the calls. Where
convolutions are circular both are neighbours on a torus: there is no gap, and the plane's halo is
copied from its other side.

The arguments of a packed kernel, addresses as 64-bit integers:

    geometry  int64, the columns of :class:`~widegram.cpu.kernels.fields.PackedGeometry`
    cell      int64, those of :class:`~widegram.cpu.kernels.fields.Cell`, of this plane
    params    gain, bias, the activation's constants; number 8 and 9: the contribution
    k_in, k_out   the first pixel read and written; T stands ``t_in``, ``t_out`` bytes behind
    fx, fy    factors (for ``input``: pixels) of the first output pixel, of x and of x'; in kinds
              that end in '+' fx is the first pixel of a plane that is added to the result
    buffer    a row of scratch
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from llvmlite import ir

from widegram.cpu.kernels import loops
from widegram.cpu.kernels.fields import Cell, PackedGeometry
from widegram.cpu.kernels.variants import BATCH, GAPS, PLUS
from widegram.cpu.kernels.vector_ops import INDEX
from widegram.cpu.kernels.window_ir import Run, WindowKernel


class PackedKernel(WindowKernel):
    """Emits one arithmetic variant for packed planes."""

    def _read(self, args: tuple[Any, ...]) -> None:
        geometry, cell, self.params, self.k_in, self.k_out, self.fx, self.fy, self.buffer = args
        value = {field.name.lower(): self.integer(geometry, field) for field in PackedGeometry}
        (self.first_rows, self.rows, self.first_cols, self.second_cols) = (
            self.integer(cell, n) for n in Cell
        )
        self.t_in = self.builder.add(self.k_in, value["t_in"])
        self.t_out = self.builder.add(self.k_out, value["t_out"])
        self.in_row, self.out_row = value["in_row"], value["out_row"]
        self.in_col = self.out_col = ir.Constant(INDEX, self.ops.lanes)
        self.stride_rows, self.stride_cols = value["stride_rows"], value["stride_cols"]
        self.fx_row, self.fx_col, self.fx_plane = (value[f"fx_{n}"] for n in _STEPS)
        self.fy_row, self.fy_col, self.fy_plane = (value[f"fy_{n}"] for n in _STEPS)
        self.window_rows, self.window_cols = value["window_rows"], value["window_cols"]
        self.count = value["count"]
        self.height, self.width = value["height"], value["width"]
        self.gap_rows, self.gap_cols = value["gap_rows"], value["gap_cols"]

    def emit(self) -> None:
        """Emit the loops over rows and pixels."""
        if self.kind != "inputs":
            super().emit()
            return
        for channels, count in self._channels():
            self._inputs(count, channels)

    def _inputs(self, count: Any, unrolled: int) -> None:
        """Inner products of BATCH neighbouring displacements: each pixel of x' is loaded once."""
        builder, zero = self.builder, ir.Constant(INDEX, 0)
        shift = builder.sub(self.width, self.first_cols)
        start = builder.sub(self.fy, self.ops.bytes(builder.mul(shift, count), self.fy_col))
        with loops.for_range(builder, self.rows) as loop:
            run = self._run(loop.index, zero)
            x_row = self.offset(self.fx, run.x_row, self.fx_row)
            y_row = self.offset(start, run.y_row, self.fy_row)
            out = self.offset(self.k_out, run.row, self.out_row)
            with loops.for_range(builder, self.width) as col:
                y_at = self.offset(y_row, builder.mul(col.index, count), self.fy_col)
                places = [self._met(col.index, shift, n) for n in range(BATCH)]
                x_at = [
                    self.offset(x_row, builder.mul(x_col, count), self.fx_col)
                    for x_col, _ in places
                ]
                sums = self._products(x_at, y_at, count, unrolled)
                for n, (_, plane_col) in enumerate(places):
                    plane = builder.add(out, builder.mul(self.k_in, ir.Constant(INDEX, n)))
                    self.ops.store(sums[n], self.offset(plane, plane_col, self.out_col))

    def _met(self, y_col: Any, shift: Any, n: int) -> tuple[Any, Any]:
        """Which column of x a column of x' meets ``shift`` + n further, and its place in the row
        of the plane."""
        builder, zero = self.builder, ir.Constant(INDEX, 0)
        straight = builder.sub(y_col, builder.add(shift, ir.Constant(INDEX, n)))
        right = builder.icmp_signed("<", straight, zero)
        x_col = builder.add(straight, builder.select(right, self.width, zero))
        return x_col, builder.add(x_col, builder.select(right, self.gap_cols, zero))

    def _runs(self) -> Iterator[Run]:
        """The rectangles' rows, left and right of the gap."""
        with loops.for_range(self.builder, self.rows) as loop, self._parts() as part:
            yield self._run(loop.index, part)

    def _rectangles(self) -> Iterator[tuple[Any, Run]]:
        builder, zero = self.builder, ir.Constant(INDEX, 0)
        with self._halves(builder.sub(self.rows, self.first_rows)) as half:
            lower = builder.icmp_signed(">", half, zero)
            rows = builder.select(lower, builder.sub(self.rows, self.first_rows), self.first_rows)
            with self._parts() as part:
                yield rows, self._run(builder.select(lower, self.first_rows, zero), part)

    @contextmanager
    def _halves(self, second: Any) -> Iterator[Any]:
        """A loop over the first part, and the second where it is not empty."""
        builder = self.builder
        one, two = (ir.Constant(INDEX, n) for n in (1, 2))
        both = builder.icmp_signed(">", second, ir.Constant(INDEX, 0))
        with loops.for_range(builder, builder.select(both, two, one)) as loop:
            yield loop.index

    def _parts(self) -> AbstractContextManager[Any]:
        return self._halves(self.second_cols)

    def _run(self, row: Any, part: Any) -> Run:
        """Row ``row`` of both halves together, left (``part`` 0) or right."""
        builder, zero = self.builder, ir.Constant(INDEX, 0)
        lower = builder.icmp_signed(">=", row, self.first_rows)
        gap_rows = builder.select(lower, self.gap_rows, zero)
        right = builder.icmp_signed(">", part, zero)
        gap_cols = builder.select(right, self.gap_cols, zero)
        first = builder.select(right, self.first_cols, zero)
        turned = builder.sub(self.first_cols, self.width)
        return Run(
            builder.select(right, self.second_cols, self.first_cols),
            builder.add(row, gap_rows),
            builder.add(first, gap_cols),
            builder.add(self._strided(row, self.stride_rows), gap_rows),
            builder.add(self._strided(first, self.stride_cols), gap_cols),
            row,
            first,
            builder.sub(row, builder.select(lower, self.height, zero)),
            builder.select(right, turned, zero),
        )

    def _strided(self, index: Any, stride: Any) -> Any:
        """Only ``tap`` and ``box`` have strides."""
        return self.builder.mul(index, stride) if self.kind in _STRIDED else index

    def _write(self, run: Run, index: Any, values: Sequence[Any]) -> None:
        if self.variant.kind.endswith(PLUS):
            t_other = self.builder.add(self.fx, self.builder.sub(self.t_out, self.k_out))
            others = [
                self._at(self.pixel(base, run.row, self.out_row, run.col, self.out_col), index,
                         self.out_col)
                for base in (self.fx, t_other)
            ]  # fmt: skip
            values = [
                self.ops.add(value, other) for value, other in zip(values, others, strict=False)
            ]
        super()._write(run, index, values)

    def _vertical_left(self, field: Any, n: int, size: int) -> Any:
        """Only zeros stand left of a rectangle with gaps, for a window of 3 one pixel."""
        if self.variant.packed == GAPS and size == 3 and n == 0:
            return self.ops.const(0.0)
        return super()._vertical_left(field, n, size)


_STEPS = ("row", "col", "plane")
_STRIDED = ("tap", "box")
