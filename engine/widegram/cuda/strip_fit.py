"""Which programs the fast form can hold: small enough, alike enough, 3 x 3 windows at stride 1."""

from __future__ import annotations

from collections.abc import Sequence
from math import lcm

import numpy as np

from widegram.cuda.kernel import SHARED_BYTES
from widegram.cuda.steps import Context, Job, in_place, jobs_of
from widegram.cuda.sums import Sums
from widegram.plan.graph import Gather
from widegram.plan.program import Program

WARP = 32
MOST_ROWS = 8
_MOST_WARPS = 8
_MOST_THREADS = 1024
_MOST_SLOTS = 3
_MOST_SUMS = 8
# Fewer lanes at work than this, and the block form is no slower.
_FEWEST_LANES = 20
_KINDS = ("input", "load", "window", "point", "add", "reduce", "copy", "pool")


def strip_rows(height: int, jobs: Sequence[Job] = ()) -> int:
    """Rows that a thread holds: the largest divisor of the height up to 8 that holds whole windows
    of every pool; 0 where there is none."""
    window = lcm(*(job.pool.strides[0] for job in jobs if job.pool is not None))
    rows = range(window, MOST_ROWS + 1, window)
    return max((r for r in rows if height % r == 0), default=0)


def fits(context: Context, program: Program) -> bool:
    """Whether a program can be written in this form."""
    if context.plan.vector or len(program.steps) == 0:
        return False
    space, jobs = jobs_of(context, program)
    if len(space.kinds) != 1 or any(torus.split for torus in space.torus):
        return False
    (((height, width), _),) = space.kinds
    rows = strip_rows(height, jobs)
    if rows < 2:
        return False
    lanes = max(1, WARP // width)
    threads = max(WARP, width) * (height // rows)
    if width <= WARP:
        large = threads <= WARP * _MOST_WARPS and lanes * width >= _FEWEST_LANES
    else:
        large = threads <= _MOST_THREADS
    windows = [job.affine for job in jobs if job.affine is not None]
    wide = [a for a in windows if a.window != (1, 1)]
    return (
        large
        and _shared_fits(context, jobs, (height, width), threads)
        and bool(space.active.all())
        and len(space.base) >= lanes
        and (space.torus[0].period, space.torus[1].period) == (height, width)
        and all(a.strides == (1, 1) and a.window in ((1, 1), (3, 3)) for a in windows)
        and all(a.lo == (1, 1) == a.hi for a in wide)
        and len({a.circular for a in wide}) < 2
        and all(job.kind in _KINDS and _plain(job, threads) for job in jobs)
        and sum(job.kind == "reduce" for job in jobs) <= _MOST_SUMS
        and _slots(in_place(jobs, windows=True)) <= _MOST_SLOTS
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


def _plain(job: Job, threads: int) -> bool:
    """Whether a pool's windows tile the image inside warps, and a loaded value is an image."""
    if job.kind == "load":
        return job.store is not None and not job.store.reduced
    if job.pool is None:
        return True
    assert job.store is not None
    pool: Gather = job.pool
    ((height, width),) = (value.shape for value in job.inputs)
    oh, ow = job.store.shape
    tiled = (oh * pool.strides[0], ow * pool.strides[1]) == (height, width)
    whole = width <= WARP or (WARP % pool.strides[1] == 0 and threads % WARP == 0)
    return (
        tiled and whole and pool.window == pool.strides and pool.lo == (0, 0) and not pool.circular
    )


def _slots(jobs: list[Job]) -> int:
    return 1 + max((job.out.slot for job in jobs if job.out is not None), default=-1)
