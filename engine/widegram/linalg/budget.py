"""How a byte budget is shared out: pure functions."""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress
from pathlib import Path

from widegram.errors import WidegramError
from widegram.machine.budgets import PROGRAM, budget, format_size
from widegram.machine.cores import usable_cores

CHUNK = 512
_LEAST_ROWS = 64
_LEAST_ARRAYS = 32 * 10**6
# What NumPy's and SciPy's own BLAS pack panels in, both together, measured (OpenBLAS 0.3.31, AVX2):
# 14.0 MB of one thread, 17.5 MB of two.
_BLAS_SCRATCH = 16 * 10**6
_BLAS_SCRATCH_THREAD = 4 * 10**6
_M_MMAP_THRESHOLD = -3  # malloc.h


def resident() -> int:
    """Bytes this process holds at present, 0 where nothing tells."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def array_budget(memory: str | int | None, kernels: bool = False) -> int:
    """Bytes for arrays, given what the whole process may use (None: a quarter of what is free).

    The interpreter, its libraries and what BLAS works in are taken off first, down to 32 MB or
    half of ``memory``: a limit under what they need cannot be kept by anything done here. With
    ``kernels`` that includes what computes kernels, which is loaded later; what more than the
    program is resident belongs to the caller. From here on the process gives large blocks back to
    the system when they are freed.
    """
    size = budget(memory)
    _give_back_freed_blocks()
    own = PROGRAM if kernels else min(resident(), PROGRAM)
    return max(size - own - _blas_scratch(), min(size // 2, _LEAST_ARRAYS))


def _blas_scratch() -> int:
    """Bytes that BLAS works in, which starts a thread for each core."""
    return _BLAS_SCRATCH + _BLAS_SCRATCH_THREAD * (usable_cores() - 1)


def _give_back_freed_blocks() -> None:
    """Blocks of 4 MB and more get mappings of their own, for good.

    glibc raises that size up to 32 MB when such a block is freed; later ones then lie in the heap,
    which keeps what is freed inside it: 30 MB beside every budget. Other C libraries are left be.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, 4 << 20)


def block_shape(n_rows: int, n_cols: int, entry_bytes: int, limit: int) -> tuple[int, int]:
    """Rows and columns of the largest block of ``entry_bytes`` an entry that fits in ``limit``.

    Whole rows where 64 of them fit, a multiple of 512 rows where 512 fit; else 64 rows of as many
    columns as fit. Raises WidegramError when not even 64 x 64 entries fit.
    """
    entries = limit // entry_bytes
    rows = min(n_rows, entries // max(n_cols, 1))
    if rows >= min(_LEAST_ROWS, n_rows):
        if CHUNK <= rows < n_rows:
            rows -= rows % CHUNK
        return max(rows, 1), n_cols
    side = min(_LEAST_ROWS, n_rows)
    cols = entries // side
    if cols < min(_LEAST_ROWS, n_cols):
        least = 16 * side * _LEAST_ROWS * entry_bytes
        raise WidegramError(
            f"{format_size(limit)} do not hold a block of {side} x {_LEAST_ROWS} entries; "
            f"give more memory, at least {format_size(least)}"
        )
    if cols > CHUNK:
        cols -= cols % CHUNK
    return side, min(cols, n_cols)
