"""What the driver does besides integer arithmetic: calls by address, and reading tables.

Each of these is a Python function, so that the driver can run interpreted, and has its compiled
form in :mod:`widegram.cpu.driver.lowered`. Compiled code reads its tables this way because Numba's
arrays count references: views of one table in several threads would pass a cache line to and fro.
"""

from __future__ import annotations

import ctypes

_PLANE = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 8)
_PART = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 3)


def call_plane(
    address: int, geometry: int, params: int, k_in: int, t_in: int, k_out: int, t_out: int,
    fx: int, fy: int,
) -> None:  # fmt: skip
    """Call the kernel at ``address``."""
    _PLANE(address)(geometry, params, k_in, t_in, k_out, t_out, fx, fy)


def call_part(address: int, a: int, b: int, c: int) -> None:
    """Call the part of the driver at ``address``, which is compiled by itself."""
    _PART(address)(a, b, c)


def peek(base: int, n: int) -> int:
    """The n-th 64-bit integer at an address."""
    return ctypes.c_int64.from_address(base + 8 * n).value


def peek_byte(base: int, n: int) -> int:
    """The n-th byte at an address."""
    return ctypes.c_uint8.from_address(base + n).value


def poke(base: int, n: int, value: int) -> None:
    """Set the n-th 64-bit integer at an address."""
    ctypes.c_int64.from_address(base + 8 * n).value = value
