"""The compiled loop over bundles of pairs; parts of the driver compiled apart run its programs.

A bundle is one x (or, paired, ``lanes`` of them) against ``lanes`` x'.
"""

from __future__ import annotations

from widegram.cpu.driver.context import At
from widegram.cpu.driver.fields import (
    PROGRAM_ROW,
    SLOT_ROW,
    STEP_ROW,
    Kind,
    ProgramField,
    SlotField,
    StepField,
)
from widegram.cpu.driver.jit import jit
from widegram.cpu.driver.memory import call_part, peek, peek_byte, poke
from widegram.cpu.driver.planes import Place, Rectangle, fill, hand_over


@jit
def _own(step: int, ctx: int) -> None:
    """A storing step at d = 0 of an image with itself, from values computed beforehand."""
    kind = peek(step, StepField.KIND)
    if kind != Kind.COPY and kind != Kind.POOL and kind != Kind.REDUCE and kind != Kind.COUNT:
        return
    slot = peek(ctx, At.SLOTS) + peek(step, StepField.IN0) * SLOT_ROW
    lanes = peek(ctx, At.LANES)
    at = peek(peek(ctx, At.OWN), peek(step, StepField.NODE)) * lanes * peek(ctx, At.ITEMSIZE)
    rows, cols = peek(slot, SlotField.ROWS), peek(slot, SlotField.COLS)
    values = Place(peek(ctx, At.OWN_K) + at, peek(ctx, At.OWN_T) + at, cols * lanes)
    hand_over(ctx, At.KEEP, step, Rectangle(rows, cols, 0, 0), values)


@jit
def run_program(n: int, ctx: int) -> None:
    """Run program n at all its displacements; the first, also of packed planes, is d = 0.

    Behind them maps of what it keeps, but those of images with themselves, which wait for these.
    Once the word at HALT is set it returns early, with results to be thrown away.
    """
    program = peek(ctx, At.PROGRAMS) + n * PROGRAM_ROW
    first = 0
    if peek(ctx, At.ITSELF):
        active = peek(ctx, At.ACTIVE) + peek(program, ProgramField.ACTIVE)
        steps = peek(ctx, At.STEPS) + peek(program, ProgramField.FIRST_STEP) * STEP_ROW
        for s in range(peek(program, ProgramField.N_STEPS)):
            if peek_byte(active, s):
                _own(steps + s * STEP_ROW, ctx)
        first = 1
    packed = peek(program, ProgramField.N_CELLS)
    part = peek(ctx, At.RUN_PACKED) if packed else peek(ctx, At.RUN_PLAIN)
    call_part(part, program, ctx, first)
    maps = peek(program, ProgramField.N_MAPS)
    if maps and not peek(ctx, At.ITSELF):
        call_part(peek(ctx, At.RUN_MAPS), peek(program, ProgramField.FIRST_MAP), maps, ctx)


@jit
def clear(ctx: int) -> None:
    """Zero the sums and the stores that accumulate."""
    sums = peek(ctx, At.SUMS)
    for n in range(peek(ctx, At.N_SUMS)):
        poke(sums, n, 0)  # the bits of 0.0
    begin, end = peek(ctx, At.CLEAR_BEGIN), peek(ctx, At.CLEAR_END)
    if end > begin:
        at = peek(ctx, At.SCRATCH) + begin * peek(ctx, At.ITEMSIZE)
        fill(ctx, 1, (end - begin) // peek(ctx, At.LANES), Place(at, at, 0))


@jit
def run_bundles(
    ctx: int, which: int, count: int, x_step: int, x_factors_step: int, y_step: int,
    y_factors_step: int, out_row: int,
) -> None:  # fmt: skip
    """Every program for each of the ``count`` x of ``which`` against the x' of the context.

    Bytes from each to the next: of x and its factors, of x' and theirs, 0 where all meet the same,
    and of rows of the outputs.
    """
    x, x_factors = peek(ctx, At.X), peek(ctx, At.X_FACTORS)
    y, y_factors = peek(ctx, At.Y), peek(ctx, At.Y_FACTORS)
    k, t = peek(ctx, At.OUT_K), peek(ctx, At.OUT_T)
    halt = peek(ctx, At.HALT)
    for n in range(count):
        if peek(halt, 0):
            return
        image = peek(which, n)
        poke(ctx, At.X, x + image * x_step)
        poke(ctx, At.X_FACTORS, x_factors + image * x_factors_step)
        poke(ctx, At.Y, y + image * y_step)
        poke(ctx, At.Y_FACTORS, y_factors + image * y_factors_step)
        poke(ctx, At.OUT_K, k + image * out_row)
        poke(ctx, At.OUT_T, t + image * out_row)
        clear(ctx)
        for p in range(peek(ctx, At.N_PROGRAMS)):
            run_program(p, ctx)
