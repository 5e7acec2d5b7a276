"""The compiled loop for networks that see vectors.

A vector is a one-pixel image, so a plane would be a single number. Instead the pairs of some x
and some blocks of x' (``REGION`` of the tables) form a plane, a row to an x and a column to a
block: x's factors then step from row to row, those of x' from column to column. The kernels are
the same.
"""

from __future__ import annotations

from typing import NamedTuple

from widegram.cpu.driver.context import At
from widegram.cpu.driver.fields import (
    REGION,
    SLOT_ROW,
    STEP_ROW,
    Kind,
    Move,
    SlotField,
    StepField,
    VectorField,
)
from widegram.cpu.driver.jit import jit
from widegram.cpu.driver.memory import call_plane, peek, poke
from widegram.cpu.driver.planes import Place, combine, copy, set_shape
from widegram.cpu.kernels.fields import Geometry

_BLOCKS = REGION[1]
_OWN_BLOCKS = 3  # where a region meets the diagonal: as many as run together


class Region(NamedTuple):
    """``rows`` x and ``cols`` blocks of x', the first of them ``begin``."""

    rows: int
    cols: int
    begin: int


@jit
def _plane(step: int, ctx: int, field: StepField, region: Region) -> Place:
    """The plane of a region in the slot that a column of a step names."""
    slot = peek(ctx, At.SLOTS) + peek(step, field) * SLOT_ROW
    item, scratch = peek(ctx, At.ITEMSIZE), peek(ctx, At.SCRATCH)
    k, t = peek(slot, SlotField.OFFSET) * item, peek(slot, SlotField.T_OFFSET) * item
    return Place(scratch + k, scratch + t, region.cols * peek(ctx, At.LANES))


@jit
def _factors(ctx: int, run: int) -> None:
    """Strides of the factors of x and of x'."""
    geo = peek(ctx, At.GEOMETRY)
    poke(geo, Geometry.FX_ROW, peek(run, VectorField.X_STEP))
    poke(geo, Geometry.FX_COL, 0)
    poke(geo, Geometry.FX_PLANE, 1)
    poke(geo, Geometry.FY_ROW, 0)
    poke(geo, Geometry.FY_COL, peek(run, VectorField.Y_STEP))
    poke(geo, Geometry.FY_PLANE, peek(ctx, At.LANES))


@jit
def _step(step: int, ctx: int, run: int, region: Region) -> None:
    """One step on a region."""
    kind, geo = peek(step, StepField.KIND), peek(ctx, At.GEOMETRY)
    source = _plane(step, ctx, StepField.IN0, region)
    target = _plane(step, ctx, StepField.OUT, region)
    if kind == Kind.OUTPUT:
        to = peek(step, StepField.STORE) * peek(ctx, At.OUT_STRIDE) * peek(ctx, At.ITEMSIZE)
        k, t, row = peek(ctx, At.OUT_K), peek(ctx, At.OUT_T), peek(run, VectorField.OUT_ROW)
        copy(ctx, Move.COPY, region.rows, region.cols, source, Place(k + to, t + to, row))
        return
    if kind == Kind.ADD or kind == Kind.MULTIPLY:
        other = _plane(step, ctx, StepField.IN1, region)
        piece = (region.rows, region.cols)
        combine(ctx, peek(step, StepField.KERNEL), piece, source, other, target)
        return
    lanes, item = peek(ctx, At.LANES), peek(ctx, At.ITEMSIZE)
    params = peek(ctx, At.PARAMS) + peek(step, StepField.PARAMS) * item
    set_shape(ctx, region.rows, region.cols)
    poke(geo, Geometry.IN_ROW, source.row)
    poke(geo, Geometry.OUT_ROW, target.row)
    poke(geo, Geometry.COUNT, peek(step, StepField.N_FACTORS))
    k_in, t_in, fx, fy = peek(ctx, At.X), peek(ctx, At.Y), 0, 0
    if kind != Kind.INPUT:
        _factors(ctx, run)
        poke(geo, Geometry.STRIDE_ROWS, 1)
        poke(geo, Geometry.STRIDE_COLS, 1)
        first = peek(step, StepField.FACTOR)
        k_in, t_in = source.k, source.t
        fx = peek(ctx, At.X_FACTORS) + first * item
        fy = peek(ctx, At.Y_FACTORS) + first * lanes * item
    kernel = peek(step, StepField.KERNEL)
    call_plane(kernel, geo, params, k_in, t_in, target.k, target.t, fx, fy)


@jit
def _close(step: int, ctx: int, run: int, region: Region) -> None:
    """Add a region's nearly parallel pairs to the list."""
    geo, item = peek(ctx, At.GEOMETRY), peek(ctx, At.ITEMSIZE)
    k, found = _plane(step, ctx, StepField.OUT, region).k, peek(run, VectorField.FOUND)
    first = peek(run, VectorField.FACTOR)
    _factors(ctx, run)
    poke(geo, Geometry.BUFFER, region.begin)
    call_plane(
        peek(run, VectorField.CLOSE), geo, peek(ctx, At.PARAMS), k, 0, found, found + 8,
        peek(ctx, At.X_FACTORS) + first * item,
        peek(ctx, At.Y_FACTORS) + first * peek(ctx, At.LANES) * item,
    )  # fmt: skip


@jit
def _turn(ctx: int, run: int, region: Region) -> None:
    """Write the transpose of a region's outputs, but for the square on the diagonal, whose upper
    half stays what it is."""
    geo, row = peek(ctx, At.GEOMETRY), peek(run, VectorField.OUT_ROW)
    lanes, item = peek(ctx, At.LANES), peek(ctx, At.ITEMSIZE)
    down = region.begin * lanes * item * row
    poke(geo, Geometry.ROWS, region.rows // lanes)
    poke(geo, Geometry.COLS, region.cols)
    poke(geo, Geometry.IN_ROW, row)
    poke(geo, Geometry.OUT_ROW, row)
    for n in range(peek(run, VectorField.OUTPUTS)):
        to = n * peek(ctx, At.OUT_STRIDE) * item
        call_plane(
            peek(run, VectorField.TURN), geo, 0, peek(ctx, At.OUT_K) + to,
            peek(ctx, At.OUT_T) + to, peek(run, VectorField.TURNED_K) + down + to,
            peek(run, VectorField.TURNED_T) + down + to, 0, 0,
        )  # fmt: skip


@jit
def run_vectors(ctx: int, run: int) -> None:
    """All steps for the x and x' of ``run``, a region after the other.

    A vector network is one program without displacements, stores or sums. Where transposes are
    written the first x' are the x themselves, and what lies below the diagonal is not computed but
    for small corners.
    """
    lanes, item = peek(ctx, At.LANES), peek(ctx, At.ITEMSIZE)
    rows, blocks = peek(run, VectorField.ROWS), peek(run, VectorField.BLOCKS)
    y, factors = peek(ctx, At.Y), peek(ctx, At.Y_FACTORS)
    k, t = peek(ctx, At.OUT_K), peek(ctx, At.OUT_T)
    own = rows // lanes if peek(run, VectorField.TURN) else 0
    begin, halt = 0, peek(ctx, At.HALT)
    while begin < blocks and not peek(halt, 0):
        cols = min(_OWN_BLOCKS, own - begin) if begin < own else _BLOCKS
        cols = min(cols, blocks - begin)
        high = min(rows, (begin + cols) * lanes) if begin < own else rows
        region, first = Region(high, cols, begin), begin * lanes * item
        poke(ctx, At.Y_FACTORS, factors + begin * peek(run, VectorField.Y_STEP) * item)
        poke(ctx, At.OUT_K, k + first)
        poke(ctx, At.OUT_T, t + first)
        for s in range(peek(ctx, At.N_STEPS)):
            if peek(halt, 0):
                return
            step = peek(ctx, At.STEPS) + s * STEP_ROW
            is_input = peek(step, StepField.KIND) == Kind.INPUT
            if is_input:
                poke(ctx, At.Y, y + first * peek(step, StepField.N_FACTORS))
            _step(step, ctx, run, region)
            if is_input and peek(run, VectorField.CLOSE):
                _close(step, ctx, run, region)
        if peek(run, VectorField.TURN) and begin:
            _turn(ctx, run, Region(begin * lanes if begin < own else high, cols, begin))
        begin += cols
