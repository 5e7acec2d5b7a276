"""Products of BLAS in place that let other threads run while they compute.

SciPy's Python wrappers of these routines hold the interpreter's lock, so that no thread could
start to read or write meanwhile; ctypes releases it. The routines are those that
``scipy.linalg.cython_blas`` publishes. All arrays are float32 or float64 with contiguous rows:
to BLAS, which stores columns first, they are their transposes.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cython_blas

Array = NDArray[Any]


def subtract_product(target: Array, left: Array, right: Array) -> None:
    """target (m, n) -= left (m, k) @ right (n, k)^T."""
    m, n = target.shape
    _call("gemm", target, b"T", b"N", n, m, left.shape[1], -1.0, right, left, 1.0, target)


def subtract_square(target: Array, left: Array) -> None:
    """Lower triangle of target (m, m) -= left (m, k) @ left^T; what lies above is left alone."""
    _call("syrk", target, b"U", b"T", target.shape[0], left.shape[1], -1.0, left, 1.0, target)


def solve_right(factor: Array, block: Array) -> None:
    """block (m, w) <- block L^-T with the lower triangle L of ``factor`` (w, w)."""
    m, w = block.shape
    _call("trsm", block, b"L", b"U", b"T", b"N", w, m, 1.0, factor, block)


def _call(name: str, like: Array, *arguments: Any) -> None:
    """Call a routine; an array passes its data and, behind that, its leading dimension."""
    passed: list[Any] = []
    for value in arguments:
        array = isinstance(value, np.ndarray)
        passed += [value, _leading(value, like)] if array else [value]
    call(cython_blas, name, like, *passed)


def call(module: Any, name: str, like: Array, *arguments: Any) -> None:
    """Call the routine of ``like``'s precision; numbers go by reference, arrays as they are."""
    kind = like.dtype.char
    function, integer = routine(module, {"f": "s", "d": "d"}[kind] + name)
    scalar = {"f": ctypes.c_float, "d": ctypes.c_double}[kind]
    passed: list[Any] = []
    for value in arguments:
        if isinstance(value, bytes):
            passed.append(ctypes.c_char_p(value))
        elif isinstance(value, float):
            passed.append(ctypes.byref(scalar(value)))
        elif isinstance(value, int):
            passed.append(ctypes.byref(integer(value)))
        else:
            passed.append(ctypes.c_void_p(value.ctypes.data))
    function(*passed)


def _leading(array: Array, like: Array) -> int:
    """Entries from one row to the next."""
    rows, cols = array.shape
    if array.dtype != like.dtype or (cols > 1 and array.strides[1] != array.itemsize):
        raise ValueError(f"expected {like.dtype} with contiguous rows, found {array.dtype}")
    return max(array.strides[0] // array.itemsize if rows > 1 else 0, cols, 1)


@cache
def routine(module: Any, name: str) -> tuple[Callable[..., None], Any]:
    """A routine that ``cython_blas`` or ``cython_lapack`` publishes, and its integers' type."""
    capsule = module.__pyx_capi__[name]
    api = ctypes.pythonapi
    get_name = ctypes.PYFUNCTYPE(ctypes.c_char_p, ctypes.py_object)(("PyCapsule_GetName", api))
    get_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
        ("PyCapsule_GetPointer", api)
    )
    signature = get_name(capsule)
    integer = ctypes.c_int if b"int *" in signature.replace(b"_int *", b"") else ctypes.c_int64
    return ctypes.CFUNCTYPE(None)(get_pointer(capsule, signature)), integer
