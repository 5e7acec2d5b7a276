"""Writes the LLVM IR of a plane kernel: imported only where one is compiled."""

from __future__ import annotations

from llvmlite import ir

from widegram.cpu.kernels import forms, inner_ir, map_ir, sum_ir
from widegram.cpu.kernels.chart_ir import ChartKernel
from widegram.cpu.kernels.forms import Form
from widegram.cpu.kernels.inner_ir import InnerKernel
from widegram.cpu.kernels.map_ir import MapKernel
from widegram.cpu.kernels.move_ir import MoveKernel
from widegram.cpu.kernels.packed_ir import PackedKernel
from widegram.cpu.kernels.pool_ir import PoolKernel
from widegram.cpu.kernels.processors import Processor
from widegram.cpu.kernels.sum_ir import SumKernel
from widegram.cpu.kernels.variants import Variant
from widegram.cpu.kernels.window_ir import WindowKernel

# What does not fit the registers lies on the stack. Where the caller left that at an odd multiple
# of 16 bytes, vectors would straddle cache lines: 2 times the time of a plane with AVX2.
_STACK = 64
_MOVES = ("copy", "fill", "add", "multiply", "gather", "reduce", "row_sums", "cast", "count")


def emitted(variant: Variant, processor: Processor, form: Form | None = None) -> tuple[str, str]:
    """LLVM IR of a variant in a form, that for a processor unless it is given, and the name of its
    function."""
    module = ir.Module("plane")
    kind = ir.FunctionType(ir.VoidType(), [ir.IntType(64)] * 8)
    function = ir.Function(module, kind, "plane")
    function.attributes.add("nounwind")
    function.attributes.alignstack = _STACK
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    form = form or forms.chosen(variant, processor)
    _emitter(variant, form)(builder, variant, processor, form, function.args).emit()
    builder.ret_void()
    return str(module), function.name


def _emitter(
    variant: Variant, form: Form
) -> type[InnerKernel | MapKernel | SumKernel | MoveKernel | PoolKernel | WindowKernel]:
    """What writes a kernel."""
    if variant.kind == "pool":
        return PoolKernel
    if variant.kind in inner_ir.KINDS:
        return InnerKernel
    if variant.kind in map_ir.KINDS:
        return MapKernel
    if variant.kind in sum_ir.KINDS:
        return SumKernel
    if variant.kind in _MOVES:
        return MoveKernel
    if variant.packed:
        return ChartKernel if form.charted else PackedKernel
    return WindowKernel
