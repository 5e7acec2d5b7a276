"""The driver's entry points, compiled once per version of the sources and kept on disk.

Numba translates the driver; what is kept is the machine code of its LLVM IR, so that later
processes need not load Numba. Nothing in the driver raises or allocates: its IR calls nothing.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

from widegram.cpu.kernels import object_code
from widegram.machine import codecache
from widegram.machine.log import announced

_ARGUMENTS = {"run_strips": 7, "run_vectors": 13, "run_program": 2, "clear": 1}


@cache
def entry(name: str) -> Any:
    """A compiled function of 64-bit integers, arrays by address.

    Its arguments are those of the driver's function of the same name. It lets other threads run.
    The first call on a machine compiles it.
    """
    count = _ARGUMENTS[name]
    # Where code cannot be kept that is said instead, and once.
    kept = codecache.problem(object_code.PART) is None
    note = "compiling the CPU backend for this machine (once; some 15 seconds)" if kept else ""
    with announced(note):
        address = object_code.address(name, lambda: _translated(name, count))
    return ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * count)(address)


def _translated(name: str, count: int) -> tuple[str, str]:
    """LLVM IR of a function of the driver and its name there."""
    import numba
    from numba.core import types

    from widegram.cpu.driver import strips, vectors

    module = vectors if name == "run_vectors" else strips
    signature = types.void(*[types.int64] * count)
    compiled = numba.cfunc(signature, error_model="numpy")(getattr(module, name).py_func)
    return compiled.inspect_llvm(), compiled.native_name
