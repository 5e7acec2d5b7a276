"""Which programs the strip form can hold: alike, small enough, with enough lanes at work."""

from __future__ import annotations

from collections.abc import Sequence
from math import lcm

import numpy as np

from widegram.cuda.kernel import MULTIPROCESSOR, SHARED_BYTES, WARP
from widegram.cuda.steps import Context, Job, in_place
from widegram.cuda.sums import Sums
from widegram.cuda.whole_planes import alike, slots, whole_jobs
from widegram.cuda.window_sums import reach, windows
from widegram.plan.masks import Pair
from widegram.plan.program import Program

MOST_ROWS = 8
# Threads of a plane: strips that wait for each other at every step, and what a block may have.
_MOST_NARROW = 512
_MOST_THREADS = 1024
_MOST_SLOTS = 3
# Pixels that a window may take in beyond its own to each side.
_MOST_REACH = 4
# Instructions of a layer for a row of a strip, and for what strips exchange, about.
_EACH, _HALO = 36, 12
# Idle lanes that the block form's instructions, some four times as many, would make up for: of all
# planes side by side, so many times as many as a program has.
_IDLE = 2
# Registers of a thread that holds one plane of K and of T, and what comes on top: for each further
# plane, for several sums, for those between convolutions of several gains (which stand in loops of
# loops), for a pool, for every row or column that windows reach beyond 3 x 3, where a row does not
# fill a warp, and where a strip has rows behind the image's last one.
_REGISTERS = {"float32": 64, "float64": 128}
_PLANE = {"float32": 16, "float64": 40}
_SUMS = {"float32": 8, "float64": 8}
_GAINS = {"float32": 8, "float64": 0}
_POOL = {"float32": 16, "float64": 8}
_REACH = {"float32": 4, "float64": 8}
_NARROW = {"float32": 8, "float64": 0}
_BEHIND = {"float32": 0, "float64": 8}


def strip_rows(height: int, jobs: Sequence[Job] = ()) -> int:
    """Rows that a thread holds, up to 8, so that a plane takes the fewest instructions; 0 where
    none will do.

    They hold whole windows of every pool, and begin with a row that is stored. Rows of the last
    strip may lie behind the image's last one, where zeros do: not in a circular convolution, whose
    rows go on, nor under a pool.
    """
    pools = [job.pool.strides[0] for job in jobs if job.pool is not None]
    exact = bool(pools) or any(conv.circular for conv in windows(jobs))
    step = lcm(*pools, *(job.every[0] for job in jobs))
    choices = [
        rows
        for rows in range(step, min(MOST_ROWS, height) + 1, step)
        if rows > 1 and not (exact and height % rows)
    ]
    cost = {rows: -(-height // rows) * (_EACH * rows + _HALO) for rows in choices}
    return min(choices, key=lambda rows: (cost[rows], -rows), default=0)


def strip_registers(dtype: str, shape: Pair, jobs: Sequence[Job]) -> int:
    """Registers that a thread may use: enough for its planes, few enough that blocks run at once.

    ``shape``: of a plane; ``jobs``: the steps with buffers of their own
    (:func:`~widegram.cuda.steps.in_place`).
    """
    kinds, near = [job.kind for job in jobs], reach(jobs)
    gains = {conv.gain for conv in windows(jobs)}
    sums = kinds.count("reduce") > 1
    beyond = max(0, near.rows - 2) + max(0, near.columns - 2)
    return (
        _REGISTERS[dtype]
        + (slots(jobs) - 1) * _PLANE[dtype]
        + sums * (_SUMS[dtype] + (len(gains) > 1) * _GAINS[dtype])
        + ("pool" in kinds) * _POOL[dtype]
        + -(-beyond * _REACH[dtype] // 8) * 8
        + (shape[1] < WARP) * _NARROW[dtype]
        + (shape[0] % strip_rows(shape[0], jobs) > 0) * _BEHIND[dtype]
    )


def fits(context: Context, program: Program) -> bool:
    """Whether a program can be written in this form."""
    space, jobs = whole_jobs(context, program)
    if not alike(context, space, jobs):
        return False
    (((height, width), _),) = space.kinds
    rows, placed, near = strip_rows(height, jobs), in_place(jobs, windows=True), reach(jobs)
    farthest = max(near.up, near.down)
    if not rows or farthest > rows or max(farthest, near.left, near.right) > _MOST_REACH:
        return False
    lanes = max(1, WARP // width)
    threads = max(WARP, width) * -(-height // rows)
    return (
        threads <= (_MOST_NARROW if width <= WARP else _MOST_THREADS)
        and threads * strip_registers(context.dtype, (height, width), placed) <= MULTIPROCESSOR
        and _shared_fits(context, jobs, (height, width), threads)
        and len(space.base) * _IDLE >= lanes
        and all(_whole_windows(job, width, threads) for job in jobs)
        and slots(placed) <= _MOST_SLOTS
    )


def spread_bytes(context: Context, jobs: Sequence[Job], shape: Pair) -> int:
    """Shared memory of the rows of all strips, where these are wider than a warp."""
    if shape[1] <= WARP or not reach(jobs).columns:
        return 0
    rows = strip_rows(shape[0], jobs)
    numbers = -(-shape[0] // rows) * rows * shape[1]
    return len(context.fields) * numbers * np.dtype(context.dtype).itemsize


def halo_numbers(
    context: Context, jobs: Sequence[Job], width: int, threads: int
) -> tuple[int, int]:
    """Numbers of a set of halos, and how many sets take turns.

    Where rows of every window are spread over shared memory, a barrier there keeps halos apart.
    """
    near = reach(jobs)
    apart = width > WARP and near.columns_always
    return len(context.fields) * near.rows * threads, 1 if apart else 2


def fixed_bytes(context: Context, jobs: Sequence[Job], shape: Pair, threads: int) -> int:
    """Shared memory that a block needs besides: halos, sums."""
    size, sets = halo_numbers(context, jobs, shape[1], threads)
    return size * sets * np.dtype(context.dtype).itemsize + Sums(context, jobs, threads).nbytes


def _shared_fits(context: Context, jobs: list[Job], shape: Pair, threads: int) -> bool:
    fixed, spread = (
        fixed_bytes(context, jobs, shape, threads), spread_bytes(context, jobs, shape)
    )  # fmt: skip
    return fixed <= SHARED_BYTES and fixed + spread <= context.shared


def _whole_windows(job: Job, width: int, threads: int) -> bool:
    """Whether a pool's windows lie inside warps."""
    if job.pool is None or width <= WARP:
        return True
    return WARP % job.pool.strides[1] == 0 and threads % WARP == 0
