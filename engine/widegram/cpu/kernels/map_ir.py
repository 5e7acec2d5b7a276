"""Vector code of two-sided maps, K -> A K A'^T, on the stored planes of a value.

For each pixel p' of the output: the row of A sums the pairs (p, q) of the source into a row of
pixels q, which the rows of A' then take to the pairs (p', q') of the output. A is sparse.

Kinds: ``map`` (A = A' is the network's), ``each`` (each image has its own; values are places among
its coefficients), ``shifted`` (the same, of the source plus a table's numbers). The arguments are
the map's row of the table (:class:`~widegram.cpu.kernels.fields.MapField`), room for a row of
pixels, the first numbers of K and T in both stores, and the images' own coefficients.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from llvmlite import ir

from widegram.cpu.kernels import loops
from widegram.cpu.kernels.fields import MapField
from widegram.cpu.kernels.table_base import TableCode
from widegram.cpu.kernels.vector_ops import INDEX

KINDS = ("map", "each", "shifted")


class MapKernel(TableCode):
    """Emits one map into the function under construction."""

    def emit(self) -> None:
        """Emit the kernel."""
        planes = [(self.k_in, self.k_out), (self.t_in, self.t_out)]
        for source, target in planes[: self.fields]:
            with loops.for_range(self.builder, self.at[MapField.OUT]) as pixel:
                self._pixel(pixel.index, source, target)

    def _pixel(self, pixel: Any, source: Any, target: Any) -> None:
        """All pairs of one pixel of the output."""
        builder, one = self.builder, ir.Constant(INDEX, 1)
        first, count = self.span(MapField.ROWS, pixel)
        some = builder.select(builder.icmp_signed("<", count, one), count, one)
        touched = builder.select(
            builder.icmp_signed("!=", self.at[MapField.FULL], ir.Constant(INDEX, 0)), some, count
        )
        with self._pairs_read(first, touched) as (_, _, middle):
            self.ops.store(self.ops.const(0.0), middle)
        with self._pairs_read(first, count) as (coefficient, place, middle):
            value = self.ops.load(self.vector(source, place))
            if self.variant.kind == "shifted":
                value = self.ops.add(value, self.listed(MapField.SHIFT, place))
            self.ops.store(self.ops.fma(coefficient, value, self.ops.load(middle)), middle)
        begin, length = self.span(MapField.TO_BEGIN, pixel)
        with loops.for_range(builder, length) as pair:
            at = builder.add(begin, pair.index)
            other = self.narrow(MapField.TO_SECOND, at)
            total = self.ops.variable(self.ops.const(0.0))
            start, number = self.span(MapField.ROWS, other)
            # Without an entry in the row of p' nothing was summed.
            with loops.for_range(builder, builder.mul(number, some)) as entry:
                n = builder.add(start, entry.index)
                middle = self.vector(self.row, self.narrow(MapField.COLUMNS, n))
                value = self.ops.fma(self._second(n), self.ops.load(middle), builder.load(total))
                builder.store(value, total)
            out = self.vector(target, self.narrow(MapField.TO_PLACE, at))
            self.ops.store(builder.load(total), out)

    @contextmanager
    def _pairs_read(self, first: Any, count: Any) -> Iterator[tuple[Any, Any, Any]]:
        """Of every pair of the source that so many entries of a row read: the coefficient, the
        pair's place, and the address of its second pixel in the row of pixels."""
        builder = self.builder
        with loops.for_range(builder, count) as entry:
            n = builder.add(first, entry.index)
            coefficient = self._first(n)
            begin, length = self.span(MapField.BEGIN, self.narrow(MapField.COLUMNS, n))
            with loops.for_range(builder, length) as pair:
                at = builder.add(begin, pair.index)
                middle = self.vector(self.row, self.narrow(MapField.SECOND, at))
                yield coefficient, self.narrow(MapField.PLACE, at), middle

    def _first(self, n: Any) -> Any:
        """Entry n of A."""
        if self.variant.kind == "map":
            return self.listed(MapField.VALUES, n)
        return self.of_first(self.narrow(MapField.VALUES, n))

    def _second(self, n: Any) -> Any:
        """Entry n of A'."""
        if self.variant.kind == "map":
            return self.listed(MapField.VALUES, n)
        return self.of_second(self.narrow(MapField.VALUES, n))
