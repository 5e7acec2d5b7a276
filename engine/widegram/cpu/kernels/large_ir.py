"""Sums over large windows at a cost that does not depend on their size.

Along an axis, the sum over ``size`` neighbours is the end of one block of ``size`` numbers plus the
beginning of the next: with the sums of each block from its end and from its start, one addition
gives each window (van Herk, Pattern Recognition Letters 13, 1992; there for maxima). Unlike a
running difference it cancels nothing. Down the columns the sums from the end are ``size`` rows of
scratch and those from the start one row; along a row both are made as the row is walked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from llvmlite import ir

from widegram.cpu.kernels import loops
from widegram.cpu.kernels.variants import ROWS_OF_SCRATCH
from widegram.cpu.kernels.vector_ops import INDEX, VectorOps


@dataclass(frozen=True)
class Field:
    """One field (K or T): the first pixel of the first window, and scratch for ``span`` pixels
    times the window's rows + ROWS_OF_SCRATCH, then the window's columns."""

    source: Any
    scratch: Any


class LargeSums:
    """Emits the sums over all windows of a rectangle, stride 1.

    ``rows`` and ``cols``: windows; ``height`` and ``width`` of each; ``row``: row stride of the
    source, in numbers. All LLVM integers.
    """

    def __init__(
        self, ops: VectorOps, rows: Any, cols: Any, height: Any, width: Any, row: Any
    ) -> None:
        self.ops, self.builder = ops, ops.builder
        self.rows, self.cols, self.height, self.width, self.row = rows, cols, height, width, row
        self.lanes, self.one = ir.Constant(INDEX, ops.lanes), ir.Constant(INDEX, 1)
        self.span = self.builder.sub(self.builder.add(cols, width), self.one)

    def scratch(self) -> Any:
        """Numbers of scratch that a field takes."""
        builder = self.builder
        rows = builder.add(self.height, ir.Constant(INDEX, ROWS_OF_SCRATCH))
        pixels = builder.add(builder.mul(rows, self.span), self.width)
        return builder.mul(pixels, self.lanes)

    def emit(self, fields: list[Field], finish: Callable[[Any, Any, list[Any]], None]) -> None:
        """Loop over blocks of rows; ``finish(row, col, sums)`` at every window."""
        builder = self.builder
        with self._blocks(self.rows, self.height) as (begin, length):
            for field in fields:
                self._ends_of_columns(field, begin)
            with loops.for_range(builder, length) as loop:
                row = builder.add(begin, loop.index)
                for field in fields:
                    self._row_of_columns(field, begin, loop.index)
                self._windows_of_row(fields, row, finish)

    def _blocks(self, count: Any, size: Any) -> Any:
        return loops.blocks(self.builder, count, size)

    def _at(self, field: Field, row: Any, col: Any) -> Any:
        """Address of a pixel of the scratch rows."""
        pixel = self.builder.add(self.builder.mul(row, self.span), col)
        return self.builder.add(field.scratch, self.ops.bytes(pixel, self.lanes))

    def _source(self, field: Field, row: Any, col: Any) -> Any:
        numbers = self.builder.add(
            self.builder.mul(row, self.row), self.builder.mul(col, self.lanes)
        )
        return self.ops.load(self.builder.add(field.source, self.ops.bytes(numbers)))

    def _ends_of_columns(self, field: Field, begin: Any) -> None:
        """Row j of the scratch: the sum of source rows begin + j to the end of the block."""
        builder = self.builder
        last = builder.sub(self.height, self.one)
        with loops.for_range(builder, self.span) as col:
            total = self.ops.variable()
            builder.store(self.ops.const(0.0), total)
            with loops.for_range(builder, self.height) as loop:
                row = builder.sub(last, loop.index)
                value = self._source(field, builder.add(begin, row), col.index)
                builder.store(self.ops.add(builder.load(total), value), total)
                self.ops.store(builder.load(total), self._at(field, row, col.index))
            self.ops.store(self.ops.const(0.0), self._at(field, self.height, col.index))

    def _row_of_columns(self, field: Field, begin: Any, j: Any) -> None:
        """The scratch's last row: sums over the windows' rows begin + j ... + height - 1."""
        builder = self.builder
        start, whole = self.height, builder.add(self.height, self.one)
        with builder.if_then(builder.icmp_signed(">", j, ir.Constant(INDEX, 0))):
            row = builder.add(begin, builder.sub(builder.add(self.height, j), self.one))
            with loops.for_range(builder, self.span) as col:
                at = self._at(field, start, col.index)
                self.ops.store(
                    self.ops.add(self.ops.load(at), self._source(field, row, col.index)), at
                )
        with loops.for_range(builder, self.span) as col:
            end, begun = (self.ops.load(self._at(field, n, col.index)) for n in (j, start))
            self.ops.store(self.ops.add(end, begun), self._at(field, whole, col.index))

    def _windows_of_row(
        self, fields: list[Field], row: Any, finish: Callable[[Any, Any, list[Any]], None]
    ) -> None:
        builder = self.builder
        whole = builder.add(self.height, self.one)
        ends = builder.add(whole, self.one)  # behind the rows: room for one block's sums
        last = builder.sub(self.width, self.one)
        with self._blocks(self.cols, self.width) as (begin, length):
            for field in fields:
                total = self.ops.variable()
                builder.store(self.ops.const(0.0), total)
                with loops.for_range(builder, self.width) as loop:
                    n = builder.sub(last, loop.index)
                    value = self.ops.load(self._at(field, whole, builder.add(begin, n)))
                    builder.store(self.ops.add(builder.load(total), value), total)
                    self.ops.store(builder.load(total), self._at(field, ends, n))
            begun = [self.ops.variable() for _ in fields]
            for variable in begun:
                builder.store(self.ops.const(0.0), variable)
            with loops.for_range(builder, length) as loop:
                col, sums = builder.add(begin, loop.index), []
                for field, variable in zip(fields, begun, strict=True):
                    end = self.ops.load(self._at(field, ends, loop.index))
                    sums.append(self.ops.add(end, builder.load(variable)))
                finish(row, col, sums)
                # The pixel that the next window of this block begins to hold; behind the row's
                # last window it is not used.
                after = builder.add(col, self.width)
                for field, variable in zip(fields, begun, strict=True):
                    value = self.ops.load(self._at(field, whole, after))
                    builder.store(self.ops.add(builder.load(variable), value), variable)
