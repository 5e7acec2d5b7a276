"""The driver's entry points, compiled once per version of the sources and cached on disk.

Numba's cache watches the file of the cached function alone, not the functions it calls. The entry
points therefore hold a key made of every source that shapes compiled code, which is part of the
cache's own key.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numba
from numba.core import types

from widegram.cpu import driver, vector_driver
from widegram.cpu.kernels import source_digest
from widegram.log import announced

_INT, _INTS = types.int64, types.int64[::1]


class Entries(NamedTuple):
    """Compiled functions; the arguments are those of the functions of the same name."""

    run_strips: Any
    run_vectors: Any
    run_program: Any
    clear: Any


@lru_cache(maxsize=1)
def entries() -> Entries:
    """The entry points of this version; the first call on a machine compiles them."""
    with announced("compiling the CPU backend for this machine (once; some 15 seconds)"):
        return _build(int(source_digest()[:15], 16) | 1)


def _build(key: int) -> Entries:
    strips = types.void(_INT, _INTS, _INTS, _INT, _INT, _INT)

    @numba.njit(strips, cache=True, nogil=True)
    def run_strips(ctx, which, rows, x_step, factor_step, out_row):  # type: ignore[no-untyped-def]
        if key:
            driver.run_strips(ctx, which, rows, x_step, factor_step, out_row)

    @numba.njit(strips, cache=True, nogil=True)
    def run_vectors(ctx, which, rows, x_step, factor_step, out_row):  # type: ignore[no-untyped-def]
        if key:
            vector_driver.run_vectors(ctx, which, rows, x_step, factor_step, out_row)

    @numba.njit(types.void(_INT, _INT), cache=True, nogil=True)
    def run_program(n, ctx):  # type: ignore[no-untyped-def]
        if key:
            driver.run_program(n, ctx)

    @numba.njit(types.void(_INT), cache=True, nogil=True)
    def clear(ctx):  # type: ignore[no-untyped-def]
        if key:
            driver.clear(ctx)

    return Entries(run_strips, run_vectors, run_program, clear)
