"""Products of matrices whose bits depend on their numbers alone: not on the order of rows, on how
many of them there are, on threads or processors.

Both matrices are written as sums of integers times powers of two, so short that every sum of their
products is an integer below 2^53: floating point adds those exactly, in whichever order a library
likes (Ozaki, Ogita, Oishi, Rump, Numer. Algorithms 59, 2012). What is left out is below the
rounding of float64.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from widegram.machine import interrupts

Array = NDArray[Any]
_MANTISSA = 53
_SLICES = 3  # of 20 bits each where rows have 3072 numbers: more than a mantissa
_PANEL = 256  # columns of the right matrix that are cut up at once


def exact_product(a: Array, b: Array) -> Array:
    """a (n, k) times b (k, m), float64, where row i of the result depends on row i of ``a`` and on
    ``b`` alone.

    Its error relative to the largest numbers of that row and of each column is below k 2^-52.
    """
    bits = (_MANTISSA - (b.shape[0] - 1).bit_length()) // 2
    left, rows = _cut(a, 1, bits)
    out = np.empty((len(a), b.shape[1]))
    for lo in range(0, b.shape[1], _PANEL):
        interrupts.check()
        right, columns = _cut(b[:, lo : lo + _PANEL], 0, bits)
        total = np.zeros((len(a), columns.shape[1]))
        for order in reversed(range(_SLICES)):
            total = np.ldexp(total, -bits)
            for i in range(order + 1):
                total += left[i] @ right[order - i]
        out[:, lo : lo + _PANEL] = np.ldexp(total, rows + columns - 2 * bits)
    return out


def _cut(a: Array, axis: int, bits: int) -> tuple[list[Array], Array]:
    """Integers a_0, a_1, ... of at most 2^bits, and exponents e of each row or column, such that
    a = 2^(e - bits) (a_0 + 2^-bits a_1 + ...)."""
    exponents = np.frexp(abs(a).max(axis=axis, keepdims=True))[1]
    return list(_integers(np.ldexp(a, bits - exponents), bits)), exponents


def _integers(rest: Array, bits: int) -> Iterator[Array]:
    for _ in range(_SLICES):
        whole = np.rint(rest)
        yield whole
        rest = np.ldexp(rest - whole, bits)
