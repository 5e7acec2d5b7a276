"""Compiled plane kernels, by address: one small function per variant, kept on disk.

The driver calls them through their addresses, so a new network needs no compilation: at most a
variant (an activation with a kind of window) that no network used before.
"""

from __future__ import annotations

from functools import cache

from llvmlite import ir

from widegram.cpu.kernels import inner_ir, object_code
from widegram.cpu.kernels.inner_ir import InnerKernel
from widegram.cpu.kernels.move_ir import MoveKernel
from widegram.cpu.kernels.packed_ir import PackedKernel
from widegram.cpu.kernels.plane_base import Variant
from widegram.cpu.kernels.window_ir import WindowKernel

_MOVES = ("copy", "fill", "add", "gather", "reduce", "cast")


@cache
def address(variant: Variant) -> int:
    """The address of a compiled kernel, which the first call compiles or reads from disk."""
    name = f"plane_{variant.text().replace('|', '_')}"
    return object_code.address(name, lambda: _emitted(variant))


def _emitted(variant: Variant) -> tuple[str, str]:
    """LLVM IR of a variant and the name of its function."""
    module = ir.Module("plane")
    kind = ir.FunctionType(ir.VoidType(), [ir.IntType(64)] * 8)
    function = ir.Function(module, kind, "plane")
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    _emitter(variant)(builder, variant, function.args).emit()
    builder.ret_void()
    return str(module), function.name


def _emitter(variant: Variant) -> type[InnerKernel | MoveKernel | WindowKernel]:
    """What writes a kernel."""
    if variant.kind in inner_ir.KINDS:
        return InnerKernel
    if variant.kind in _MOVES:
        return MoveKernel
    return PackedKernel if variant.packed else WindowKernel
