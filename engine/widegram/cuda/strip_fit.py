"""Which programs the strip form can hold: alike, small enough, with enough lanes at work."""

from __future__ import annotations

from collections.abc import Sequence
from math import lcm

import numpy as np

from widegram.cuda.alike import alike, slots
from widegram.cuda.kernel import MULTIPROCESSOR, SHARED_BYTES
from widegram.cuda.registers import WARP
from widegram.cuda.steps import Context, Job, in_place, jobs_of
from widegram.cuda.sums import Sums
from widegram.plan.program import Program

MOST_ROWS = 8
_MOST_WARPS = 8
_MOST_THREADS = 1024
_MOST_SLOTS = 3
# Fewer lanes at work than this, and the block form is no slower.
_FEWEST_LANES = 20
# Registers of a thread that holds one plane of K and of T, and what comes on top: for each further
# plane, for several sums, for a pool, and where a row does not fill a warp.
_REGISTERS = {"float32": 64, "float64": 128}
_PLANE = {"float32": 16, "float64": 40}
_SUMS = {"float32": 8, "float64": 0}
_POOL = {"float32": 8, "float64": 8}
_NARROW = {"float32": 8, "float64": 0}


def strip_rows(height: int, jobs: Sequence[Job] = ()) -> int:
    """Rows that a thread holds: the largest divisor of the height up to 8 that holds whole windows
    of every pool; 0 where there is none."""
    window = lcm(*(job.pool.strides[0] for job in jobs if job.pool is not None))
    rows = range(window, MOST_ROWS + 1, window)
    return max((r for r in rows if height % r == 0), default=0)


def strip_registers(dtype: str, width: int, jobs: Sequence[Job]) -> int:
    """Registers that a thread may use: enough for its planes, few enough that blocks run at once.

    ``jobs``: the steps with buffers of their own (:func:`~widegram.cuda.steps.in_place`).
    """
    kinds = [job.kind for job in jobs]
    return (
        _REGISTERS[dtype]
        + (slots(jobs) - 1) * _PLANE[dtype]
        + (kinds.count("reduce") > 1) * _SUMS[dtype]
        + ("pool" in kinds) * _POOL[dtype]
        + (width < WARP) * _NARROW[dtype]
    )


def fits(context: Context, program: Program) -> bool:
    """Whether a program can be written in this form."""
    space, jobs = jobs_of(context, program)
    if not alike(context, space, jobs):
        return False
    (((height, width), _),) = space.kinds
    rows, placed = strip_rows(height, jobs), in_place(jobs, windows=True)
    if rows < 2:
        return False
    lanes = max(1, WARP // width)
    threads = max(WARP, width) * (height // rows)
    if width <= WARP:
        large = threads <= WARP * _MOST_WARPS and lanes * width >= _FEWEST_LANES
    else:
        large = threads <= _MOST_THREADS
    return (
        large
        and threads * strip_registers(context.dtype, width, placed) <= MULTIPROCESSOR
        and _shared_fits(context, jobs, (height, width), threads)
        and len(space.base) >= lanes
        and all(_whole_windows(job, width, threads) for job in jobs)
        and slots(placed) <= _MOST_SLOTS
    )


def spread_bytes(context: Context, shape: tuple[int, int]) -> int:
    """Shared memory of the planes whose rows are wider than a warp."""
    numbers = shape[0] * shape[1] if shape[1] > WARP else 0
    return len(context.fields) * numbers * np.dtype(context.dtype).itemsize


def fixed_bytes(context: Context, jobs: Sequence[Job], shape: tuple[int, int], threads: int) -> int:
    """Shared memory that a block needs besides: halos, sums."""
    halos = len(context.fields) * 2 * threads * (2 if shape[1] <= WARP else 1)
    return halos * np.dtype(context.dtype).itemsize + Sums(context, jobs, threads).nbytes


def _shared_fits(context: Context, jobs: list[Job], shape: tuple[int, int], threads: int) -> bool:
    fixed, spread = fixed_bytes(context, jobs, shape, threads), spread_bytes(context, shape)
    return fixed <= SHARED_BYTES and fixed + spread <= context.shared


def _whole_windows(job: Job, width: int, threads: int) -> bool:
    """Whether a pool's windows lie inside warps."""
    if job.pool is None or width <= WARP:
        return True
    return WARP % job.pool.strides[1] == 0 and threads % WARP == 0
