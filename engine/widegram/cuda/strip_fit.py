"""Which programs the strip form can hold: alike, small enough, with enough lanes at work."""

from __future__ import annotations

from collections.abc import Sequence
from math import lcm

import numpy as np

from widegram.cuda.context import Context
from widegram.cuda.generated import MULTIPROCESSOR, SHARED_BYTES, WARP
from widegram.cuda.sums import Sums
from widegram.cuda.window_sums import reach, windows
from widegram.plan.buffers import ANYWHERE, allocate
from widegram.plan.cells import space
from widegram.plan.masks import Pair
from widegram.plan.program import Program
from widegram.plan.steps import Counting, Keeping, Pooling, Reducing, Step
from widegram.plan.whole_planes import alike, slots, whole

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
# plane, for several sums, for counted ones, for those between convolutions of several gains (which
# stand in loops of loops), for a pool, for every row or column that windows reach beyond 3 x 3,
# where a row does not fill a warp, and where a strip has rows behind the image's last one.
_REGISTERS = {"float32": 64, "float64": 128}
_PLANE = {"float32": 16, "float64": 40}
_SUMS = {"float32": 8, "float64": 8}
_COUNTED = {"float32": 16, "float64": 0}
_GAINS = {"float32": 8, "float64": 0}
_POOL = {"float32": 16, "float64": 8}
_REACH = {"float32": 4, "float64": 8}
_NARROW = {"float32": 8, "float64": 0}
_BEHIND = {"float32": 0, "float64": 8}


def strip_rows(height: int, steps: Sequence[Step] = ()) -> int:
    """Rows that a thread holds, up to 8, so that a plane takes the fewest instructions; 0 where
    none will do.

    They hold whole windows of every pool, and begin with a row that is stored. Rows of the last
    strip may lie behind the image's last one, where zeros do: not in a circular convolution, whose
    rows go on, nor under a pool.
    """
    pools = [step.pool.strides[0] for step in steps if isinstance(step, Pooling)]
    exact = bool(pools) or any(conv.circular for conv in windows(steps))
    kept = [step.every[0] for step in steps if isinstance(step, Keeping)]
    least = lcm(*pools, *kept)
    choices = [
        rows
        for rows in range(least, min(MOST_ROWS, height) + 1, least)
        if rows > 1 and not (exact and height % rows)
    ]
    cost = {rows: -(-height // rows) * (_EACH * rows + _HALO) for rows in choices}
    return min(choices, key=lambda rows: (cost[rows], -rows), default=0)


def strip_registers(dtype: str, shape: Pair, steps: Sequence[Step]) -> int:
    """Registers that a thread may use: enough for its planes, few enough that blocks run at once.

    ``shape``: of a plane; ``steps``: the steps with buffers of their own
    (:func:`~widegram.plan.buffers.allocate`).
    """
    near = reach(steps)
    gains = {(conv.gain, conv.contribution) for conv in windows(steps)}
    sums = sum(isinstance(step, Reducing) for step in steps) > 1
    counted = any(isinstance(step, Counting) for step in steps)
    pools = any(isinstance(step, Pooling) for step in steps)
    beyond = max(0, near.rows - 2) + max(0, near.columns - 2)
    return (
        _REGISTERS[dtype]
        + (slots(steps) - 1) * _PLANE[dtype]
        + sums * (_SUMS[dtype] + (len(gains) > 1) * _GAINS[dtype])
        + counted * _COUNTED[dtype]
        + pools * _POOL[dtype]
        + -(-beyond * _REACH[dtype] // 8) * 8
        + (shape[1] < WARP) * _NARROW[dtype]
        + (shape[0] % strip_rows(shape[0], steps) > 0) * _BEHIND[dtype]
    )


def fits(context: Context, program: Program) -> bool:
    """Whether a program can be written in this form."""
    planes, steps = whole(space(program), context.steps(program))
    if context.plan.vector or not alike(planes, steps):
        return False
    (((height, width), _),) = planes.lattices
    rows, near = strip_rows(height, steps), reach(steps)
    placed, _ = allocate(steps, ANYWHERE)
    farthest = max(near.up, near.down)
    if not rows or farthest > rows or max(farthest, near.left, near.right) > _MOST_REACH:
        return False
    lanes = max(1, WARP // width)
    threads = max(WARP, width) * -(-height // rows)
    return (
        threads <= (_MOST_NARROW if width <= WARP else _MOST_THREADS)
        and threads * strip_registers(context.dtype, (height, width), placed) <= MULTIPROCESSOR
        and _shared_fits(context, steps, (height, width), threads)
        and len(planes.base) * _IDLE >= lanes
        and all(_whole_windows(step, width, threads) for step in steps)
        and slots(placed) <= _MOST_SLOTS
    )


def spread_bytes(context: Context, steps: Sequence[Step], shape: Pair) -> int:
    """Shared memory of the rows of all strips, where these are wider than a warp."""
    if shape[1] <= WARP or not reach(steps).columns:
        return 0
    rows = strip_rows(shape[0], steps)
    numbers = -(-shape[0] // rows) * rows * shape[1]
    return len(context.fields) * numbers * np.dtype(context.dtype).itemsize


def halo_numbers(
    context: Context, steps: Sequence[Step], width: int, threads: int
) -> tuple[int, int]:
    """Numbers of a set of halos, and how many sets take turns.

    Where rows of every window are spread over shared memory, a barrier there keeps halos apart.
    """
    near = reach(steps)
    apart = width > WARP and near.columns_always
    return len(context.fields) * near.rows * threads, 1 if apart else 2


def fixed_bytes(context: Context, steps: Sequence[Step], shape: Pair, threads: int) -> int:
    """Shared memory that a block needs besides: halos, sums."""
    size, sets = halo_numbers(context, steps, shape[1], threads)
    return size * sets * np.dtype(context.dtype).itemsize + Sums(context, steps, threads).nbytes


def _shared_fits(context: Context, steps: Sequence[Step], shape: Pair, threads: int) -> bool:
    fixed, spread = (
        fixed_bytes(context, steps, shape, threads), spread_bytes(context, steps, shape)
    )  # fmt: skip
    return fixed <= SHARED_BYTES and fixed + spread <= context.shared


def _whole_windows(step: Step, width: int, threads: int) -> bool:
    """Whether a pool's windows lie inside warps."""
    if not isinstance(step, Pooling) or width <= WARP:
        return True
    return WARP % step.pool.strides[1] == 0 and threads % WARP == 0
