"""Compiled plane kernels, by address: one small function per variant, kept on disk.

The driver calls them through their addresses, so a new network needs no compilation: at most a
variant (an activation with a kind of window) that no network used before.
"""

from __future__ import annotations

from functools import cache

from widegram.cpu.kernels import object_code
from widegram.cpu.kernels.processors import host
from widegram.cpu.kernels.variants import Variant


@cache
def address(variant: Variant) -> int:
    """The address of a compiled kernel, which the first call compiles or reads from disk."""
    name = f"plane_{variant.text().replace('|', '_')}"
    return object_code.address(name, lambda: _emitted(variant))


def _emitted(variant: Variant) -> tuple[str, str]:
    """LLVM IR of a variant for this machine and the name of its function."""
    from widegram.cpu.kernels.emitting import emitted

    return emitted(variant, host())
