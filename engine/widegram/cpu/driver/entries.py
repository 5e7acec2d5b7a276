"""The driver's parts, compiled once per version of the sources and kept on disk.

Each part is compiled by itself where a network first needs it. Numba translates it; what is kept is
the machine code of its LLVM IR, so that later processes need not load Numba. Nothing in the driver
raises or allocates: its IR calls nothing but addresses that it is given.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any

from widegram.cpu.driver.jit import INTERPRETED
from widegram.cpu.kernels import object_code

# The module of each part and the number of its arguments, 64-bit integers.
_PARTS = {
    "run_bundles": ("bundles", 8),
    "run_program": ("bundles", 2),
    "clear": ("bundles", 1),
    "run_plain": ("plain", 3),
    "run_packed": ("packed", 3),
    "load": ("stores", 3),
    "keep": ("stores", 3),
    "pool": ("pooling", 3),
    "run_maps": ("maps", 3),
    "run_vectors": ("vectors", 2),
}


@cache
def entry(name: str) -> Any:
    """A part as a function of 64-bit integers, arrays by address, which lets other threads run.

    The first call on a machine compiles it.
    """
    kind = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * _PARTS[name][1])
    if INTERPRETED:
        return kind(_function(name))
    with object_code.announced():
        return kind(object_code.address(name, lambda: _translated(name)))


def address(name: str) -> int:
    """The address of a part."""
    return ctypes.cast(entry(name), ctypes.c_void_p).value or 0


def _function(name: str) -> Callable[..., None]:
    """A part as it stands in its module."""
    module = import_module(f"widegram.cpu.driver.{_PARTS[name][0]}")
    function: Callable[..., None] = getattr(module, name)
    return function


def _translated(name: str) -> tuple[str, str]:
    """LLVM IR of a part and its name there."""
    import numba
    from numba.core import types

    signature = types.void(*[types.int64] * _PARTS[name][1])
    function: Any = _function(name)
    compiled = numba.cfunc(signature, error_model="numpy")(function.py_func)
    return compiled.inspect_llvm(), compiled.native_name
