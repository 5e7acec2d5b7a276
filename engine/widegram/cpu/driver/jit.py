"""What Numba translates, and what runs as Python.

With ``WIDEGRAM_INTERPRET`` in the environment the driver runs as the Python that it is, some
thousand times slower, and calls the same compiled kernels: for tests, debuggers and line coverage.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeVar, cast

INTERPRETED = bool(os.environ.get("WIDEGRAM_INTERPRET"))

Function = TypeVar("Function", bound=Callable[..., object])


def jit(function: Function) -> Function:
    """A function of the driver as its callers in the driver see it."""
    if INTERPRETED:
        return function
    from widegram.cpu.driver.lowered import translated

    return cast(Function, translated(function))
