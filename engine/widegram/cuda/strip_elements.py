"""Where planes stand in the strip form: a lane is a column, a thread holds rows of it.

A thread holds the same pixels of a plane through all steps of a program. Several warps share one
plane; where an image is narrower than a warp, several planes stand side by side, and a block holds
as many more planes of its pair as may run at once.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from widegram.activations import Formula
from widegram.cuda.context import Context
from widegram.cuda.kernel import MULTIPROCESSOR, SHARED_BYTES, WARP
from widegram.cuda.side_by_side import most_at_once
from widegram.cuda.strip_fit import fixed_bytes, strip_registers, strip_rows
from widegram.cuda.text_ops import Factors, TextOps
from widegram.cuda.window_sums import reach, windows
from widegram.cuda.writer import Writer
from widegram.plan.buffers import ANYWHERE, allocate
from widegram.plan.cells import space
from widegram.plan.program import Program
from widegram.plan.steps import Making
from widegram.plan.stores import Store
from widegram.plan.whole_planes import whole

# The factors of x and of x' at the n-th pixel of a thread.
FactorsAt = Callable[[int], tuple[Factors, Factors]]


class StripElements:
    """The pixels of a thread: their registers, factors, places in stores.

    ``threads``: (x, y) of a block; ``planes``: on how many it works at once; ``cells``: positions
    of a thread's pixels in a plane, less that of its first one; ``registers``: the most a thread
    may use. The text of a form defines ``b``, ``tid``, ``row``, ``col``, and for every displacement
    ``dy``, ``dx``, ``alive``, and ``first`` and ``j``, row and column of the first pixel in x,
    ``p`` and ``q``, those in x'.
    """

    def __init__(self, context: Context, program: Program) -> None:
        self.context = context
        self.space, steps = whole(space(program), context.steps(program))
        self.steps, _ = allocate(steps, ANYWHERE)
        (((self.height, self.width), _),) = self.space.lattices
        self.write = Writer(context.dtype)
        self.ops = TextOps(self.write)
        wide = windows(steps)
        self.circular = bool(wide) and wide[0].circular
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

    @property
    def count(self) -> int:
        """Threads of a block."""
        return self.threads[0] * self.threads[1]

    def _stacked(self) -> int:
        """How many times the planes of ``warps`` warps a block works on: all of them read the same
        factors, which then come from the first-level cache, and two blocks still run at once."""
        if self.width > WARP:
            return 1
        most = MULTIPROCESSOR // (2 * self.registers * WARP * self.warps)
        shape, threads = (self.height, self.width), WARP * self.warps
        while most > 1 and (
            fixed_bytes(self.context, self.steps, shape, most * threads) > SHARED_BYTES
        ):
            most -= 1
        return most_at_once(self.space.base, self.steps, self.side, most)

    def _factors(self, formula: Formula, at: str) -> FactorsAt:
        first, second = self.write.let(f"fa + {at}", "at"), self.write.let(f"fb + {at}", "at")
        size, count = self.context.layout.plane(self.height, self.width), formula.n_factors

        def factors(n: int) -> tuple[Factors, Factors]:
            shift = f" + {self.cells[n]}" if n else ""
            return (
                Factors(self.write, "fx", first + shift, size, count),
                Factors(self.write, "fy", second + shift, size, count),
            )

        return factors

    def _names(self, slot: int, n: int) -> list[str]:
        """K, and T, of pixel n."""
        return [f"{field}{slot}_{n}" for field in self.context.fields]

    def _planes(self, slot: int) -> list[list[str]]:
        """The names of all pixels of a buffer: for K, and T, a list."""
        names = [self._names(slot, n) for n in range(len(self.cells))]
        return [list(field) for field in zip(*names, strict=True)]

    def _own_planes(self, slot: int) -> list[list[str]]:
        """As :meth:`_planes`, zero where a pixel is not one of the image."""
        planes = self._planes(slot)
        return [[self._or_zero(name, n) for n, name in enumerate(names)] for names in planes]

    def _or_zero(self, name: str, n: int) -> str:
        """A value of pixel n where that is one of the image, else zero."""
        inside = self._inside(n)
        zero = self.ops.const(0.0)
        return self.write.let(f"{name} if {inside} else {zero}") if inside else name

    def _inside(self, n: int) -> str:
        return "whole" if n >= self.real else ""

    def _if_inside(self, n: int) -> AbstractContextManager[None]:
        """A block for what only pixels of the image do."""
        inside = self._inside(n)
        return self.write.block(f"if {inside}:") if inside else nullcontext()

    def _set(self, step: Making, n: int, found: list[str]) -> None:
        for name, value in zip(self._names(step.out.slot, n), found, strict=True):
            self.write(f"{name} = {value}")

    def _clear(self, step: Making) -> None:
        for n in range(len(self.cells)):
            self._set(step, n, [self.ops.const(0.0)] * len(self.context.fields))

    def _stored(self, store: Store) -> str:
        """Set ``number``, the plane's in the store; position of the first pixel, less offset."""
        h, w = store.shape
        self.write(f"number = np.int64(index[u({store.index} + dy * {w} + dx)])")
        inside = f"number * {h * w} + first * {w} + j"
        return self.write.let(f"b * {self.context.stores.size} + {inside}", "at")
