"""What the driver does besides integer arithmetic: calls of plane kernels, and reading tables."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic


@intrinsic
def call_plane(typingctx, address, geometry, params, k_in, t_in, k_out, t_out, fx, fy):  # type: ignore[no-untyped-def]
    """Call the kernel at ``address`` from compiled code."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(ir.VoidType(), [ir.IntType(64)] * 8)
        function = builder.inttoptr(args[0], kind.as_pointer())
        builder.call(function, args[1:])
        return context.get_dummy_value()

    return types.void(*[types.int64] * 9), codegen


def _element(builder: ir.IRBuilder, base: Any, n: Any, bits: int) -> Any:
    """Pointer to the n-th integer of ``bits`` bits at an address."""
    size = ir.Constant(ir.IntType(64), bits // 8)
    address = builder.add(base, builder.mul(n, size))
    return builder.inttoptr(address, ir.IntType(bits).as_pointer())


@intrinsic
def peek(typingctx, base, n):  # type: ignore[no-untyped-def]
    """The n-th 64-bit integer at an address.

    Compiled code reads its tables this way because Numba's arrays count references: views of one
    table in several threads would pass a cache line to and fro.
    """

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        return builder.load(_element(builder, args[0], args[1], 64))

    return types.int64(types.int64, types.int64), codegen


@intrinsic
def peek_byte(typingctx, base, n):  # type: ignore[no-untyped-def]
    """The n-th byte at an address."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        return builder.zext(builder.load(_element(builder, args[0], args[1], 8)), ir.IntType(64))

    return types.int64(types.int64, types.int64), codegen


@intrinsic
def poke(typingctx, base, n, value):  # type: ignore[no-untyped-def]
    """Set the n-th 64-bit integer at an address."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        builder.store(args[2], _element(builder, args[0], args[1], 64))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), codegen
