"""Arithmetic of single PTX instructions on NumPy arrays, to the bit where PTX defines the bits.

Source: NVIDIA, PTX ISA: floating-point instructions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import vectorize
from numba.extending import intrinsic
from numpy.typing import NDArray

Array = NDArray[Any]
_TINY = np.float32(2.0**-126)


@intrinsic
def _fused(typing_context, a, b, c):
    """a b + c rounded once: LLVM's fma, which is the processor's or the C library's."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.fma(*arguments)

    return a(a, a, a), generate


@vectorize(["float32(float32)"], cache=True)
def flush(a):
    """Subnormal numbers to zero of the same sign."""
    return a * np.float32(0.0) if abs(a) < _TINY else a


@vectorize(["float32(float32,float32,float32)", "float64(float64,float64,float64)"], cache=True)
def fma(a, b, c):
    """a b + c, rounded once."""
    return _fused(a, b, c)


def saturate(a: Array) -> Array:
    """Clamped to [0, 1]; NaN and -0 give +0."""
    return np.where(a > 0, np.minimum(a, a.dtype.type(1)), a.dtype.type(0))


def flushing(operation: Callable[..., Array]) -> Callable[..., Array]:
    """The operation with subnormal operands and results taken as zero."""
    return lambda *operands: flush(operation(*map(flush, operands)))


def high_product(a: Array, b: Array) -> Array:
    """The upper 64 bits of the product of integers of 64 bits, both signed or both unsigned."""
    low = np.uint64(0xFFFFFFFF)
    shift = np.uint64(32)
    ua, ub = a.view(np.uint64), b.view(np.uint64)
    a0, a1, b0, b1 = ua & low, ua >> shift, ub & low, ub >> shift
    middle = a1 * b0 + (a0 * b0 >> shift)
    other = a0 * b1 + (middle & low)
    unsigned = a1 * b1 + (middle >> shift) + (other >> shift)
    if a.dtype == np.uint64:
        return unsigned
    return unsigned.view(np.int64) - np.where(a < 0, b, 0) - np.where(b < 0, a, 0)


class Approximate:
    """The approximate instructions: rounded correctly, or with ``worst`` off by the documented
    error, up or down by a hash of the result."""

    def __init__(self, worst: bool = False) -> None:
        self.worst = worst

    def _off(self, value: Array, error: Any) -> Array:
        """``value`` moved by an absolute error, before it is rounded."""
        if not self.worst:
            return value
        bits = value.view(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        return value + np.where(bits >> np.uint64(63), error, -error)

    def divide(self, a: Array, b: Array) -> Array:
        """div.approx.ftz.f32: 2 units in the last place; 0 for divisors beyond 2^126."""
        a, b = flush(a), flush(b)
        exact = a.astype(np.float64) / b.astype(np.float64)
        # Rounding adds the half that is missing from two.
        exact = self._off(exact, 1.5 * np.spacing(np.abs(exact).astype(np.float32)))
        huge = (np.abs(b) > 2.0**126) & np.isfinite(b)
        zero = np.where(np.isinf(a), np.nan, np.copysign(0.0, exact))
        return flush(np.where(huge, zero, exact).astype(np.float32))

    def root(self, a: Array) -> Array:
        """sqrt.approx.ftz.f32: relative error 2^-23."""
        exact = np.sqrt(flush(a).astype(np.float64))
        # Rounding adds as much again.
        return flush(self._off(exact, exact * 2.0**-24).astype(np.float32))

    def power(self, a: Array) -> Array:
        """ex2.approx.ftz.f32: relative error 2^-22."""
        exact = np.exp2(flush(a).astype(np.float64))
        # Rounding adds the rest.
        return flush(self._off(exact, exact * 0.75 * 2.0**-22).astype(np.float32))

    def reciprocal(self, a: Array) -> Array:
        """rcp.approx.ftz.f64: from the upper 32 bits to the upper 32 bits, 20 bits right."""
        a = _normal(_upper(a))
        return _normal(_upper(self._off(1.0 / a, np.abs(2.0**-20 / a))))

    def inverse_root(self, a: Array) -> Array:
        """rsqrt.approx.ftz.f64: as the reciprocal."""
        a = _normal(_upper(a))
        return _normal(_upper(self._off(1.0 / np.sqrt(a), 2.0**-20 / np.sqrt(a))))


def _upper(a: Array) -> Array:
    """Without the lower 32 bits."""
    return (a.view(np.uint64) & np.uint64(0xFFFFFFFF00000000)).view(np.float64)


def _normal(a: Array) -> Array:
    """Subnormal numbers to zero."""
    return np.where(np.abs(a) < np.finfo(np.float64).tiny, np.copysign(0.0, a), a)
