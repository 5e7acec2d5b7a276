"""Which steps of packed planes hand their result on to a pool some rows at a time.

The plane before a pool is written and read once. Made and added up by a few rows, it never leaves a
core's first cache. That is possible where the pool alone reads the value, in the step right behind
the one that makes it; where the maker's kernel makes every row by itself, whatever rows were made
before; and where windows of the pool stand side by side and end where the image does, so that no
row is needed twice (:mod:`widegram.cpu.driver.pool_feeds`). Each pooled number is the same sum in
the same order.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from widegram.cpu.charts import has_chart
from widegram.cpu.kernels.variants import LARGE_KIND, PLUS, kind_of_window
from widegram.plan.buffers import makers
from widegram.plan.masks import Pair
from widegram.plan.operations import Gather
from widegram.plan.program import Program
from widegram.plan.steps import Point, Pooling, Step, Window

# A core's first cache also holds what windows read, and pooled rows: rows that are handed on may
# take this much of it.
ROWS_BYTES = 24 * 1024


@dataclass(frozen=True)
class Handed:
    """Rows of one value that are handed on, as many as ``windows`` rows of a pool's windows take:
    they stand ``at``, those of T ``t`` behind, ``row`` apart, in numbers."""

    windows: int
    at: int
    t: int
    row: int


def handed_rows(
    program: Program, gap: Pair, at: int, lanes: int, item: int
) -> tuple[dict[int, Handed], int]:
    """The rows of each node that is handed on, all at the same place ``at``, and its end; ``gap``
    as of :class:`~widegram.cpu.packing.Packing`, ``item``: bytes of a number."""
    found: dict[int, Handed] = {}
    end = at
    for n in handed_on(program):
        pool = program.steps[n]
        assert isinstance(pool, Pooling)
        (value,), stride = pool.inputs, pool.pool.strides[0]
        row = (value.shape[1] + gap[1]) * lanes
        windows = max(1, ROWS_BYTES // (2 * row * item * stride))
        t = (windows * stride + gap[0]) * row
        found[value.node] = Handed(windows, at, t, row)
        end = max(end, at + 2 * t)
    return found, end


def handed_on(program: Program) -> list[int]:
    """The numbers of the pools of a program that take rows from the step before them."""
    lone = makers(program.steps)[1]
    pairs = enumerate(zip(program.steps, program.steps[1:], strict=False), 1)
    return [n for n, (maker, pool) in pairs if _hands_on(maker, pool, lone)]


def _hands_on(maker: Step, step: Step, lone: set[int]) -> bool:
    if not isinstance(step, Pooling) or maker.out is None:
        return False
    (value,) = step.inputs
    alone = value.node == maker.out.node and value.node in lone
    return alone and _covers(step.pool, value.shape, step.store.shape) and _by_rows(maker)


def _covers(pool: Gather, image: Pair, pooled: Pair) -> bool:
    """Whether windows stand side by side, each with what lies behind it, and cover the image."""
    apart = all(w <= stride for w, stride in zip(pool.window, pool.strides, strict=True))
    whole = image == tuple(np.multiply(pooled, pool.strides))
    return apart and whole and tuple(pool.lo) == (0, 0) and not pool.circular


def _by_rows(step: Step) -> bool:
    """Whether a step's kernel makes rows one by one, out of its first input alone: planes that
    have charts are walked as one row."""
    match step:
        case Window(affine=affine):
            kind = kind_of_window(affine.window, affine.strides, len(step.inputs))
            return not kind.endswith(PLUS) and kind != LARGE_KIND and not has_chart(step)
        case _:
            return isinstance(step, Point)
