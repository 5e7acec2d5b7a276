"""What kernels share that make all planes of a value at once, by a row of the table of maps.

The arguments are that row (:class:`~widegram.cpu.kernels.fields.MapField`), room for a row of
pixels, the first numbers of K and T in both stores, and the images' own coefficients.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from widegram.cpu.kernels.fields import MapField
from widegram.cpu.kernels.plane_base import PlaneCode
from widegram.cpu.kernels.vector_ops import INDEX

_NARROW = ir.IntType(32)
_ONE = ir.Constant(INDEX, 1)


class TableCode(PlaneCode):
    """A kernel under construction that reads lists."""

    def _read(self, args: tuple[Any, ...]) -> None:
        self.table, self.row, self.k_in, self.t_in, self.k_out, self.t_out, self.fx, self.fy = args
        self.at = {field: self.integer(self.table, field) for field in MapField}

    def of_first(self, n: Any) -> Any:
        """Coefficient n of x."""
        if self.variant.paired:
            return self.ops.load(self.vector(self.fx, n))
        return self.ops.splat(self.offset(self.fx, n, _ONE))

    def of_second(self, n: Any) -> Any:
        """Coefficient n of x'."""
        return self.ops.load(self.vector(self.fy, n))

    def listed(self, field: MapField, n: Any) -> Any:
        """The n-th number of a list, in all lanes."""
        return self.ops.splat(self.offset(self.at[field], n, _ONE))

    def span(self, field: MapField, n: Any) -> tuple[Any, Any]:
        """Where the n-th list of a table begins, and its length."""
        begin = self.narrow(field, n)
        end = self.narrow(field, self.builder.add(n, ir.Constant(INDEX, 1)))
        return begin, self.builder.sub(end, begin)

    def narrow(self, field: MapField, n: Any) -> Any:
        """The n-th 32-bit integer of a table."""
        step = self.builder.mul(n, ir.Constant(INDEX, 4))
        address = self.builder.add(self.at[field], step)
        found = self.builder.load(self.builder.inttoptr(address, _NARROW.as_pointer()))
        return self.builder.sext(found, INDEX)

    def vector(self, base: Any, n: Any) -> Any:
        """The address of the n-th vector."""
        return self.offset(base, n, ir.Constant(INDEX, self.ops.lanes))
