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
from widegram.cpu.kernels.plane_base import PlaneCode
from widegram.cpu.kernels.vector_ops import INDEX

KINDS = ("map", "each", "shifted")
_NARROW = ir.IntType(32)


class MapKernel(PlaneCode):
    """Emits one map into the function under construction."""

    def _read(self, args: tuple[Any, ...]) -> None:
        self.table, self.row, self.k_in, self.t_in, self.k_out, self.t_out, self.fx, self.fy = args
        self.at = {field: self.integer(self.table, field) for field in MapField}

    def emit(self) -> None:
        """Emit the kernel."""
        planes = [(self.k_in, self.k_out), (self.t_in, self.t_out)]
        for source, target in planes[: self.fields]:
            with loops.for_range(self.builder, self.at[MapField.OUT]) as pixel:
                self._pixel(pixel.index, source, target)

    def _pixel(self, pixel: Any, source: Any, target: Any) -> None:
        """All pairs of one pixel of the output."""
        builder, one = self.builder, ir.Constant(INDEX, 1)
        first, count = self._span(MapField.ROWS, pixel)
        some = builder.select(builder.icmp_signed("<", count, one), count, one)
        touched = builder.select(
            builder.icmp_signed("!=", self.at[MapField.FULL], ir.Constant(INDEX, 0)), some, count
        )
        with self._pairs_read(first, touched) as (_, _, middle):
            self.ops.store(self.ops.const(0.0), middle)
        with self._pairs_read(first, count) as (coefficient, place, middle):
            value = self.ops.load(self._vector(source, place))
            if self.variant.kind == "shifted":
                shift = self.offset(self.at[MapField.SHIFT], place, ir.Constant(INDEX, 1))
                value = self.ops.add(value, self.ops.splat(shift))
            self.ops.store(self.ops.fma(coefficient, value, self.ops.load(middle)), middle)
        begin, length = self._span(MapField.TO_BEGIN, pixel)
        with loops.for_range(builder, length) as pair:
            at = builder.add(begin, pair.index)
            other = self._narrow(MapField.TO_SECOND, at)
            total = self.ops.variable(self.ops.const(0.0))
            start, number = self._span(MapField.ROWS, other)
            # Without an entry in the row of p' nothing was summed.
            with loops.for_range(builder, builder.mul(number, some)) as entry:
                n = builder.add(start, entry.index)
                middle = self._vector(self.row, self._narrow(MapField.COLUMNS, n))
                value = self.ops.fma(self._second(n), self.ops.load(middle), builder.load(total))
                builder.store(value, total)
            out = self._vector(target, self._narrow(MapField.TO_PLACE, at))
            self.ops.store(builder.load(total), out)

    @contextmanager
    def _pairs_read(self, first: Any, count: Any) -> Iterator[tuple[Any, Any, Any]]:
        """Of every pair of the source that so many entries of a row read: the coefficient, the
        pair's place, and the address of its second pixel in the row of pixels."""
        builder = self.builder
        with loops.for_range(builder, count) as entry:
            n = builder.add(first, entry.index)
            coefficient = self._first(n)
            begin, length = self._span(MapField.BEGIN, self._narrow(MapField.COLUMNS, n))
            with loops.for_range(builder, length) as pair:
                at = builder.add(begin, pair.index)
                middle = self._vector(self.row, self._narrow(MapField.SECOND, at))
                yield coefficient, self._narrow(MapField.PLACE, at), middle

    def _first(self, n: Any) -> Any:
        """Entry n of A."""
        if self.variant.kind != "map":
            place = self._narrow(MapField.VALUES, n)
            if self.variant.paired:
                return self.ops.load(self._vector(self.fx, place))
            return self.ops.splat(self.offset(self.fx, place, ir.Constant(INDEX, 1)))
        return self.ops.splat(self.offset(self.at[MapField.VALUES], n, ir.Constant(INDEX, 1)))

    def _second(self, n: Any) -> Any:
        """Entry n of A'."""
        if self.variant.kind != "map":
            return self.ops.load(self._vector(self.fy, self._narrow(MapField.VALUES, n)))
        return self._first(n)

    def _span(self, field: MapField, n: Any) -> tuple[Any, Any]:
        """Where the n-th list of a table begins, and its length."""
        begin = self._narrow(field, n)
        end = self._narrow(field, self.builder.add(n, ir.Constant(INDEX, 1)))
        return begin, self.builder.sub(end, begin)

    def _narrow(self, field: MapField, n: Any) -> Any:
        """The n-th 32-bit integer of a table."""
        step = self.builder.mul(n, ir.Constant(INDEX, 4))
        address = self.builder.add(self.at[field], step)
        found = self.builder.load(self.builder.inttoptr(address, _NARROW.as_pointer()))
        return self.builder.sext(found, INDEX)

    def _vector(self, base: Any, n: Any) -> Any:
        """The address of the n-th vector."""
        return self.offset(base, n, ir.Constant(INDEX, self.ops.lanes))
