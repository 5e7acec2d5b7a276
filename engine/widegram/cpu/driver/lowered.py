"""The compiled forms of :mod:`widegram.cpu.driver.memory`, and how Numba translates the driver."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numba
from llvmlite import ir
from numba.core import types
from numba.extending import lower_builtin, type_callable

from widegram.cpu.driver import memory

_INTEGER = ir.IntType(64)
# Without checks of divisors: what raises would call the interpreter. Nor does Python call these.
translated = numba.njit(error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)


def _compiled_form(function: Callable[..., Any], result: Any) -> Callable[..., Any]:
    """Register what writes the code of ``function``, whose arguments are 64-bit integers."""
    count = len(inspect.signature(function).parameters)
    signature = result(*[types.int64] * count)

    def typed(context: Any) -> Any:
        def of(*args: Any) -> Any:
            return signature

        of.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]  # an attribute of a function
        return of

    def register(write: Callable[[ir.IRBuilder, Any], Any]) -> Callable[..., Any]:
        def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
            value = write(builder, args)
            return context.get_dummy_value() if result is types.void else value

        type_callable(function)(typed)
        lower_builtin(function, *[types.int64] * count)(codegen)
        return write

    return register


def _element(builder: ir.IRBuilder, base: Any, n: Any, bits: int) -> Any:
    """Pointer to the n-th integer of ``bits`` bits at an address."""
    address = builder.add(base, builder.mul(n, ir.Constant(_INTEGER, bits // 8)))
    return builder.inttoptr(address, ir.IntType(bits).as_pointer())


@_compiled_form(memory.call_plane, types.void)
@_compiled_form(memory.call_part, types.void)
def _call(builder: ir.IRBuilder, args: Any) -> None:
    kind = ir.FunctionType(ir.VoidType(), [_INTEGER] * (len(args) - 1))
    builder.call(builder.inttoptr(args[0], kind.as_pointer()), args[1:])


@_compiled_form(memory.peek, types.int64)
def _peek(builder: ir.IRBuilder, args: Any) -> Any:
    base, n = args
    return builder.load(_element(builder, base, n, 64))


@_compiled_form(memory.peek_byte, types.int64)
def _peek_byte(builder: ir.IRBuilder, args: Any) -> Any:
    base, n = args
    return builder.zext(builder.load(_element(builder, base, n, 8)), _INTEGER)


@_compiled_form(memory.poke, types.void)
def _poke(builder: ir.IRBuilder, args: Any) -> None:
    base, n, value = args
    builder.store(value, _element(builder, base, n, 64))
