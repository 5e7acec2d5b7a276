"""Maps between stored values, behind the program that fills their sources."""

from __future__ import annotations

from widegram.cpu.driver.context import At
from widegram.cpu.driver.jit import jit
from widegram.cpu.driver.memory import call_plane, peek
from widegram.cpu.kernels.fields import MAP_ROW, MapField


@jit
def run_maps(first: int, count: int, ctx: int) -> None:
    """Maps ``first``, ``first`` + 1, ... of the table."""
    scratch, item = peek(ctx, At.SCRATCH), peek(ctx, At.ITEMSIZE)
    lanes = peek(ctx, At.LANES)
    unit = lanes if peek(ctx, At.PAIRED) else 1
    for n in range(first, first + count):
        row = peek(ctx, At.MAPS) + n * MAP_ROW
        factor = peek(row, MapField.FACTOR) * item
        call_plane(
            peek(row, MapField.KERNEL), row, peek(ctx, At.BUFFER),
            scratch + peek(row, MapField.SOURCE) * item,
            scratch + peek(row, MapField.T_SOURCE) * item,
            scratch + peek(row, MapField.TARGET) * item,
            scratch + peek(row, MapField.T_TARGET) * item,
            peek(ctx, At.X_FACTORS) + factor * unit, peek(ctx, At.Y_FACTORS) + factor * lanes,
        )  # fmt: skip
