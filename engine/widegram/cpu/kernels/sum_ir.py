"""Vector code of attention with random weights (:class:`widegram.plan.attention.RootAttend`): the
stored planes of a value times sums over all of its pairs of pixels.

Kinds: ``summed`` (values are the source), ``summed values`` (values have the embeddings of keys).
Embeddings are the list SHIFT, by place, between visible pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from widegram.cpu.kernels import loops
from widegram.cpu.kernels.fields import MapField
from widegram.cpu.kernels.table_base import TableCode

KINDS = ("summed", "summed values")


class _Number(NamedTuple):
    """Of a pair of pixels: K and T of the keys and of the values, T None where it is not carried.
    """

    keys: Any
    keys_t: Any
    values: Any
    values_t: Any


class SumKernel(TableCode):
    """Emits one into the function under construction."""

    def emit(self) -> None:
        """Emit the kernel."""
        ops, builder = self.ops, self.builder
        totals = [ops.variable(ops.const(0.0)) for _ in range(self.fields)]
        rows = [ops.variable() for _ in totals]
        with loops.for_range(builder, self.at[MapField.OUT]) as pixel:
            for row in rows:
                builder.store(ops.const(0.0), row)
            with self._pairs(MapField.BEGIN, MapField.SECOND, pixel.index) as (at, shown):
                one = self._number(self.narrow(MapField.PLACE, at), shown)
                self._collect(one, rows)
            for total, row in zip(totals, rows, strict=True):
                builder.store(ops.add(builder.load(total), builder.load(row)), total)
        whole = [builder.load(total) for total in totals]
        with (
            loops.for_range(builder, self.at[MapField.OUT]) as pixel,
            self._pairs(MapField.TO_BEGIN, MapField.TO_SECOND, pixel.index) as (at, shown),
        ):
            one = self._number(self.narrow(MapField.COLUMNS, at), shown)
            place = self.narrow(MapField.TO_PLACE, at)
            ops.store(ops.mul(whole[0], one.keys), self.vector(self.k_out, place))
            if self.variant.ntk:
                made = ops.fma(whole[1], one.keys, ops.mul(whole[0], one.keys_t))
                ops.store(made, self.vector(self.t_out, place))

    @contextmanager
    def _pairs(self, begin: MapField, second: MapField, pixel: Any) -> Iterator[tuple[Any, Any]]:
        """The pairs of a first pixel: the number of each, and 1 where both are visible, else 0."""
        first, count = self.span(begin, pixel)
        own = self.of_first(pixel)
        with loops.for_range(self.builder, count) as pair:
            at = self.builder.add(first, pair.index)
            yield at, self.ops.mul(own, self.of_second(self.narrow(second, at)))

    def _number(self, place: Any, shown: Any) -> _Number:
        """What the source has there."""
        ops = self.ops
        shift = self.listed(MapField.SHIFT, place)
        k = ops.load(self.vector(self.k_in, place))
        keys = ops.fma(shift, shown, k)
        t = keys_t = None
        if self.variant.ntk:
            t = ops.load(self.vector(self.t_in, place))
            keys_t = ops.fma(shift, shown, t)
        if self.variant.kind == "summed values":
            return _Number(keys, keys_t, keys, keys_t)
        return _Number(keys, keys_t, k, t)

    def _collect(self, one: _Number, sums: list[Any]) -> None:
        """Add a pair to the sums."""
        ops, builder = self.ops, self.builder
        builder.store(ops.fma(one.keys, one.values, builder.load(sums[0])), sums[0])
        if self.variant.ntk:
            more = ops.fma(one.keys, one.values_t, builder.load(sums[1]))
            builder.store(ops.fma(one.values, one.keys_t, more), sums[1])
