"""Compiled plane kernels, by address: one small function per variant, cached on disk.

The driver calls them through their addresses, so a new network needs no compilation: at most a
variant (an activation with a kind of window) that no network used before.
"""

from __future__ import annotations

import hashlib
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numba
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from widegram.cpu.move_ir import MoveKernel
from widegram.cpu.plane_base import Variant
from widegram.cpu.window_ir import WindowKernel

_MOVES = ("copy", "fill", "add", "gather", "reduce", "cast")
_SIGNATURE = types.void(*[types.int64] * 8)


@intrinsic(prefer_literal=True)
def _plane(typingctx, variant, geometry, params, k_in, t_in, k_out, t_out, fx, fy):  # type: ignore[no-untyped-def]
    """The body of one variant, named by a literal string."""
    text = variant.literal_value

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        variant = Variant.parse(text)
        kernel = MoveKernel if variant.kind in _MOVES else WindowKernel
        kernel(builder, variant, tuple(args[1:])).emit()
        return context.get_dummy_value()

    return types.void(variant, *[types.int64] * 8), codegen


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


@lru_cache(maxsize=1)
def source_digest() -> str:
    """Changes whenever code that shapes a kernel does: part of every cache key."""
    here = Path(__file__).parent
    sources = sorted([*here.glob("*.py"), *(here.parent / "activations").glob("*.py")])
    digest = hashlib.sha256()
    for path in sources:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


@cache
def _compiled(text: str) -> Any:
    def plane_kernel(geometry, params, k_in, t_in, k_out, t_out, fx, fy):  # type: ignore[no-untyped-def]
        _plane(text, geometry, params, k_in, t_in, k_out, t_out, fx, fy)

    # Numba's cache has one index per function name. Under one name, two processes that compile
    # different variants at the same time could each take the other's file.
    variant = text.rpartition("|")[0]
    plane_kernel.__qualname__ = f"plane_kernel_{variant.replace('|', '_')}"
    return numba.cfunc(_SIGNATURE, nopython=True, cache=True)(plane_kernel)


def address(variant: Variant) -> int:
    """The address of a compiled kernel, which the first call compiles or reads from the cache."""
    return int(_compiled(f"{variant.text()}|{source_digest()}").address)
