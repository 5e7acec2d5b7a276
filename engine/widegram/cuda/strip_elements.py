"""Where planes stand in the strip form: a lane is a column, a thread holds rows of it.

A thread holds the same pixels of a plane through all steps of a program. Several warps share one
plane; where an image is narrower than a warp, several planes stand side by side, and a block holds
as many more planes of its pair as may run at once.
"""

from __future__ import annotations

from widegram.activations import Formula
from widegram.cuda.context import Context
from widegram.cuda.generated import MULTIPROCESSOR, SHARED_BYTES, WARP
from widegram.cuda.registers import FactorsAt, RegisterForm
from widegram.cuda.side_by_side import most_at_once
from widegram.cuda.strip_fit import fixed_bytes, strip_registers, strip_rows
from widegram.cuda.text_ops import Factors, PixelFactors
from widegram.cuda.window_sums import reach
from widegram.plan.program import Program

_MOST_WARPS = 8


class StripElements(RegisterForm):
    """The pixels of a thread, and their factors."""

    form = "strip"
    counting = "np.int32"

    def __init__(self, context: Context, program: Program) -> None:
        super().__init__(context, program)
        self.rows, self.reach = strip_rows(self.height, self.steps), reach(self.steps)
        self.warps = -(-self.height // self.rows)
        # First row of the last strip, and how many of its rows are the image's.
        self.last = (self.warps - 1) * self.rows
        self.real = self.height - self.last
        # Planes side by side in a warp, and how many times as many a block has.
        self.side = max(1, WARP // self.width)
        self.registers = strip_registers(context.dtype, (self.height, self.width), self.steps)
        stacked = self._stacked()
        self.planes = stacked * self.side
        # Threads along x: a warp, or all columns of a wider image.
        self.across = max(WARP, self.width)
        self.threads = (self.across, self.warps * stacked)
        self.cells = tuple(r * self.width for r in range(self.rows))

    def _stacked(self) -> int:
        """How many times the planes of ``warps`` warps a block works on: all of them read the same
        factors, which then come from the first-level cache. Two blocks still run at once, and few
        warps wait for each other: 21 layers of 32 x 32 took 36.8 us an entry on an H200 with 16
        warps a block, 34.7 with 8, 36.3 with 4."""
        if self.width > WARP:
            return 1
        most = MULTIPROCESSOR // (2 * self.registers * WARP * self.warps)
        most = min(most, max(1, _MOST_WARPS // self.warps))
        shape, threads = (self.height, self.width), WARP * self.warps
        while most > 1 and (
            fixed_bytes(self.context, self.steps, shape, most * threads) > SHARED_BYTES
        ):
            most -= 1
        return most_at_once(self.space.base, self.steps, self.side, most)

    def _expect(self, formula: Formula, at: str) -> None:
        """Factors are read where they are used."""

    def _factors(self, formula: Formula, at: str) -> FactorsAt:
        first, second = self.write.let(f"fa + {at}", "at"), self.write.let(f"fb + {at}", "at")
        size, count = self.context.layout.plane(self.height, self.width), formula.n_factors

        def factors(n: int) -> tuple[PixelFactors, PixelFactors]:
            shift = f" + {self.cells[n]}" if n else ""
            return (
                Factors(self.write, "fx", first + shift, size, count),
                Factors(self.write, "fy", second + shift, size, count),
            )

        return factors

    def _inside(self, n: int) -> str:
        return "whole" if n >= self.real else ""
