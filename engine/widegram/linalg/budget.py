"""How much memory there is, and how it is shared out: pure functions of a byte budget."""

from __future__ import annotations

import os
from pathlib import Path

from widegram.errors import WidegramError

CHUNK = 512
_LEAST_ROWS = 64


def free_memory() -> int:
    """Bytes that can be taken without swapping (MemAvailable), 4 GB where nothing tells."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 4 * 10**9


def resident() -> int:
    """Bytes this process holds at present, 0 where nothing tells."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def array_budget(memory: int | None) -> int:
    """Bytes for arrays, given what the whole process may use (None: half of what is free).

    The interpreter and its libraries are taken off first, down to half of ``memory``: a limit
    under what they need cannot be kept by anything done here.
    """
    if memory is None:
        return free_memory() // 2
    return max(memory - resident(), memory // 2)


def block_shape(n_rows: int, n_cols: int, entry_bytes: int, budget: int) -> tuple[int, int]:
    """Rows and columns of the largest block of ``entry_bytes`` an entry that fits in ``budget``.

    Whole rows where 64 of them fit, a multiple of 512 rows where 512 fit; else 64 rows or more
    of as many columns as fit. Raises WidegramError when not even 64 x 64 entries fit.
    """
    entries = budget // entry_bytes
    rows = min(n_rows, entries // max(n_cols, 1))
    if rows >= min(_LEAST_ROWS, n_rows):
        if CHUNK <= rows < n_rows:
            rows -= rows % CHUNK
        return max(rows, 1), n_cols
    side = min(_LEAST_ROWS, n_rows)
    cols = entries // side
    if cols < min(_LEAST_ROWS, n_cols):
        raise WidegramError(
            f"a memory budget of {budget} bytes does not hold a block of {side} x {_LEAST_ROWS} "
            f"entries; give at least --memory {_readable(4 * side * _LEAST_ROWS * entry_bytes)}"
        )
    if cols > CHUNK:
        cols -= cols % CHUNK
    return side, min(cols, n_cols)


def _readable(size: int) -> str:
    return f"{max(1, -(-size // 10**6))}MB"
