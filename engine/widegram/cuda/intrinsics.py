"""Single PTX instructions that Numba has no name for; generated kernels import them.

Source: NVIDIA, PTX ISA, sections on ``fma``, ``rcp.approx.ftz.f64`` and ``rsqrt.approx.ftz.f64``.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.cuda.extending import intrinsic

_KINDS = {"f": (types.float32, ir.FloatType()), "d": (types.float64, ir.DoubleType())}


def _instruction(name: str, letter: str, count: int) -> tuple[Any, Any]:
    """Signature and code generator of an instruction on ``count`` registers ('f' or 'd')."""
    kind, llvm = _KINDS[letter]
    operands = ", ".join(f"${n}" for n in range(count + 1))
    constraints = ",".join([f"={letter}", *[letter] * count])

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        function = ir.FunctionType(llvm, [llvm] * count)
        return builder.call(ir.InlineAsm(function, f"{name} {operands};", constraints), arguments)

    return kind(*[kind] * count), generate


@intrinsic
def saturated(typing_context, a, b, c):  # type: ignore[no-untyped-def]  # Numba's
    """a b + c in float32, rounded once, clamped to [0, 1]; NaN gives 0."""
    return _instruction("fma.rn.ftz.sat.f32", "f", 3)


@intrinsic
def rough_reciprocal(typing_context, a):  # type: ignore[no-untyped-def]  # Numba's
    """1 / a in float64 to about 20 bits, for normal numbers."""
    return _instruction("rcp.approx.ftz.f64", "d", 1)


@intrinsic
def rough_inverse_root(typing_context, a):  # type: ignore[no-untyped-def]  # Numba's
    """1 / sqrt(a) in float64 to about 20 bits, for positive normal numbers."""
    return _instruction("rsqrt.approx.ftz.f64", "d", 1)


@intrinsic
def opaque(typing_context, n):  # type: ignore[no-untyped-def]  # Numba's
    """The same int64, which the compiler takes for another one: what is computed from it is
    computed here, and not kept in registers through the loops around."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = ir.IntType(64)
        function = ir.FunctionType(kind, [kind])
        asm = ir.InlineAsm(function, "mov.b64 $0, $1;", "=l,l", side_effect=True)
        return builder.call(asm, arguments)

    return types.int64(types.int64), generate


def _vector(count: int, array: Any, index: Any) -> tuple[Any, Any]:
    """Signature and code generator of a load of ``count`` numbers, aligned to their size."""
    result = types.UniTuple(array.dtype, count)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        view = context.make_array(array)(context, builder, value=arguments[0])
        first = builder.gep(view.data, [arguments[1]])
        kind = ir.VectorType(first.type.pointee, count)
        address = builder.bitcast(first, kind.as_pointer(first.type.addrspace))
        loaded = builder.load(address, align=count * array.dtype.bitwidth // 8)
        parts = [builder.extract_element(loaded, ir.IntType(32)(n)) for n in range(count)]
        return context.make_tuple(builder, signature.return_type, parts)

    return result(array, index), generate


@intrinsic
def loaded2(typing_context, array, index):  # type: ignore[no-untyped-def]  # Numba's
    """array[index], array[index + 1] by one load; their address is a multiple of their size."""
    return _vector(2, array, index)


@intrinsic
def loaded4(typing_context, array, index):  # type: ignore[no-untyped-def]  # Numba's
    """Four numbers of an array from ``index`` on, as :func:`loaded2` gives two."""
    return _vector(4, array, index)
