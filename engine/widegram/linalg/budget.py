"""How a byte budget is shared out: pure functions."""

from __future__ import annotations

import ctypes
import math
import os
from contextlib import suppress
from pathlib import Path

from widegram.errors import WidegramError
from widegram.machine.budgets import PROGRAM, budget, format_size
from widegram.machine.cores import schedulable_cores

CHUNK = 512
_LEAST_ROWS = 64
_LEAST_ARRAYS = 32 * 10**6
# What NumPy's and SciPy's own BLAS pack panels in, both together, measured (OpenBLAS 0.3.31, AVX2),
# in MB, of 1, 2, 4, 8 and 16 threads: products 4,000 wide 19.1, 21.3, 25.6, 33.9, 51.0; 12,000 wide
# 51.0, 52.3, 54.9, 60.1, 70.8. A panel is as wide as the product, up to some 12,000, and 256 deep.
_BLAS_SCRATCH = 16 * 10**6
_BLAS_PANEL, _BLAS_WIDEST = 2 * 256 * 8, 12_000
_BLAS_SCRATCH_THREAD = 4 * 10**6
# Of fewer threads than there are cores, in OpenBLAS' order.
_BLAS_THREADS = ("OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS", "OMP_NUM_THREADS")
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
    return max(size - own - _blas_scratch(size - own), min(size // 2, _LEAST_ARRAYS))


def stream_share(arrays: int) -> int:
    """Bytes for blocks of a matrix that are read, of so many for arrays: an eighth."""
    return max(arrays // 8, 1 << 20)


def _blas_scratch(arrays: int) -> int:
    """Bytes that BLAS works in beside so many bytes of arrays: panels of the widest matrix that
    they hold, and what each further thread has of its own."""
    wide = min(math.isqrt(max(arrays, 0) // 8), _BLAS_WIDEST)
    return max(_BLAS_SCRATCH, _BLAS_PANEL * wide) + _BLAS_SCRATCH_THREAD * (_blas_threads() - 1)


def _blas_threads() -> int:
    """Threads that OpenBLAS starts: as many as this process may run on, whatever quota of their
    time it has, or fewer where its variables say so."""
    cores = schedulable_cores()
    given = (os.environ.get(name, "") for name in _BLAS_THREADS)
    said = next((int(text) for text in given if text.isdecimal() and int(text)), cores)
    return min(said, cores)


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
