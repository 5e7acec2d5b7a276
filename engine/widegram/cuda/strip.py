"""The strip form: a lane is a column, a thread holds ``rows`` consecutive rows of it.

Several warps share one plane; where an image is narrower than a warp, several planes stand side by
side, and a block holds as many more planes of its pair as may run at once. Horizontal neighbours
come by shuffles, rows above and below by shared memory, whose two halves take turns, so that one
barrier a convolution is enough. The halves never start over between planes: a warp may still read
the last half of the plane before. Rows longer than a warp find their horizontal neighbours in a
plane in shared memory, at the price of a second barrier.
"""

from __future__ import annotations

from widegram.activations import Formula
from widegram.cuda.context import Context
from widegram.cuda.kernel import MULTIPROCESSOR, SHARED_BYTES, WARP, Ints
from widegram.cuda.registers import FULL, FactorsAt, RegisterForm, filled
from widegram.cuda.side_by_side import most_at_once, together
from widegram.cuda.strip_fit import (
    fixed_bytes,
    halo_numbers,
    spread_bytes,
    strip_registers,
    strip_rows,
)
from widegram.cuda.strip_pool import Pool
from widegram.cuda.text_ops import Factors
from widegram.cuda.window_sums import over_edge, reach, sums_along
from widegram.plan.operations import Affine
from widegram.plan.program import Program
from widegram.plan.steps import Keeping, MakeInput, Pooling


class StripForm(RegisterForm):
    """Writes one program that :func:`~widegram.cuda.strip_fit.fits`."""

    form = "strip"

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

    # the kernel -------------------------------------------------------------------------------

    def _dynamic(self) -> int:
        """Whole rows, where they and the rest are more than every card has."""
        shape = self.height, self.width
        fixed = fixed_bytes(self.context, self.steps, shape, self.count)
        spread = spread_bytes(self.context, self.steps, shape)
        return spread if fixed + spread > SHARED_BYTES else 0

    def _table(self) -> Ints:
        return filled(together(self.space.base, self.planes, self.steps), self.planes)

    def _prologue(self) -> None:
        write, w = self.write, self.width
        stacked = self.planes > self.side
        write(
            f"group = {f'min(tx // {w}, {self.side - 1})' if self.side > 1 else '0'}",
            f"j = tx % {w}",
            f"level = {f'ty // {self.warps}' if stacked else '0'}",
            f"strip = {f'ty % {self.warps}' if stacked else 'ty'}",
            f"first = strip * {self.rows}",
            f"fa = row * {self.context.layout.total + 1} + first * {w} + j",
        )
        if self.real < self.rows:
            write(f"whole = first < {self.last}")
        self._prologue_of_columns()
        if self.warps > 1 and self.reach.rows:
            size, sets = halo_numbers(self.context, self.steps, w, self.count)
            self.half = size * (sets - 1)
            write(
                f"halo = cuda.shared.array({sets * size}, scalar)",
                "turn = 0",
                *(
                    f"{name} = (level * {self.warps} + (strip + {step}) % {self.warps}) * "
                    f"{self.across} + tx"
                    for name, step in (("above", self.warps - 1), ("below", 1))
                ),
            )

    def _prologue_of_columns(self) -> None:
        """Where neighbours in the row are: lanes, or places in the row in shared memory."""
        w = self.width
        for name, count, step in (("left", self.reach.left, -1), ("right", self.reach.right, 1)):
            for k in range(1, count + 1):
                self.write(f"{name}{k} = group * {w} + (j + {step * k % w}) % {w}")
        if self.reach.columns and w > WARP:
            size = self.warps * self.rows * w * len(self.context.fields)
            self.write(f"rows = cuda.shared.array({0 if self._dynamic() else size}, scalar)")

    def _place(self) -> str:
        return f"level * {self.side} + group"

    def _displacement(self) -> None:
        write, h, w = self.write, self.height, self.width
        if w * self.side != self.across:
            write(f"alive = alive and tx < {w * self.side}")
        write("q = j + dx")
        with write.block(f"if q >= {w}:"):
            write(f"q -= {w}")
        write("p = first + dy")
        with write.block(f"if p >= {h}:"):
            write(f"p -= {h}")
        write(f"fb = col * {self.context.layout.total + 1} + p * {w} + q")
        if not self.circular:
            self._masks_of_columns()
            self._edges_of_rows()

    def _masks_of_columns(self) -> None:
        """Factors 0 or 1 of neighbours in the row, by their distance."""
        w, zero, one = self.width, self.ops.const(0.0), self.ops.const(1.0)
        for k in range(1, self.reach.left + 1):
            self.write(f"cl{k} = {zero} if j < {k} or q < {k} else {one}")
        for k in range(1, self.reach.right + 1):
            self.write(f"cr{k} = {zero} if j >= {w - k} or q >= {w - k} else {one}")

    def _edges_of_rows(self) -> None:
        """Factors 0 or 1 of the edges between a thread's rows, those above and those below."""
        h, zero, one = self.height, self.ops.const(0.0), self.ops.const(1.0)
        count = self.rows + self.reach.rows - 1 if self.reach.rows else 0
        for m in range(count):
            # Before row n of the strip.
            n = m + 1 - self.reach.up
            firsts = [r for r in range(0, h, self.rows) if (r + n) % h == 0]
            dead = [f"first == {r}" for r in firsts] + [f"p == {-n % h}"]
            self.write(f"e{m} = {zero} if {' or '.join(dead)} else {one}")

    def _inside(self, n: int) -> str:
        return "whole" if n >= self.real else ""

    # steps ------------------------------------------------------------------------------------

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

    def _input(self, step: MakeInput, at: str) -> None:
        write, c = self.write, self.context.channels
        size = self.context.layout.plane(self.height, self.width)
        self._clear(step)
        with write.block(f"for c in range({c}):"):
            write(f"xa = (row * {c} + c) * {size} + first * {self.width} + j")
            write(f"ya = (col * {c} + c) * {size} + p * {self.width} + q")
            for n, shift in enumerate(self.cells):
                name = self._names(step.out.slot, n)[0]
                write(f"{name} += x[u(xa + {shift})] * y[u(ya + {shift})]")

    def _box(self, planes: list[list[str]], conv: Affine) -> list[list[str]]:
        if conv.window[1] > 1:
            if self.width > WARP:
                self._spread(planes)
            planes = [
                [self._neighbours(name, r, n, conv) for r, name in enumerate(names)]
                for n, names in enumerate(planes)
            ]
        return self._down(planes, conv) if conv.window[0] > 1 else planes

    def _spread(self, planes: list[list[str]]) -> None:
        """All rows to shared memory, once all have read what stood there before: in a block of
        several strips they met at the halos since, if every window has those."""
        size = self.warps * self.rows * self.width
        if self.warps == 1 or not self.reach.rows_always:
            self.write("cuda.syncthreads()")
        for n, names in enumerate(planes):
            for r, name in enumerate(names):
                at = f"{n * size} + (first + {r}) * {self.width} + j"
                self.write(f"rows[u({at})] = {name}")
        self.write("cuda.syncthreads()")

    def _neighbours(self, name: str, r: int, n: int, conv: Affine) -> str:
        """The sum of a pixel of row r and its neighbours in the row; ``n``: the field."""
        row = n * self.warps * self.rows + r
        at, total = f"(first + {row}) * {self.width}", name
        for side, mask, count in (("left", "cl", conv.lo[1]), ("right", "cr", conv.hi[1])):
            for k in range(1, count + 1):
                if self.width > WARP:
                    other = self.write.let(f"rows[u({at} + {side}{k})]")
                else:
                    other = self.write.let(f"cuda.shfl_sync({FULL}, {name}, {side}{k})")
                edge = "" if self.circular else f"{mask}{k}"
                total = over_edge(self.ops, edge, other, total)
        return total

    def _down(self, across: list[list[str]], conv: Affine) -> list[list[str]]:
        """Sums over the rows of a window, the outer ones from the neighbouring warps."""
        up, down = sides = conv.lo[0], conv.hi[0]
        above, below = self._halos(across, up, down)
        skip = self.reach.up - up
        edges = ["" if self.circular else f"e{m + skip}" for m in range(self.rows + up + down - 1)]
        found = [
            sums_along(self.ops, [*a, *names, *b], edges, sides)
            for a, names, b in zip(above, across, below, strict=True)
        ]
        # Sums behind the image's last row mean nothing, and zeros keep them finite.
        return [[self._or_zero(name, r) for r, name in enumerate(names)] for names in found]

    def _halos(
        self, across: list[list[str]], up: int, down: int
    ) -> tuple[list[list[str]], list[list[str]]]:
        """For every field the ``up`` rows above a strip and the ``down`` rows below it."""
        write, count = self.write, self.count
        last = [names[self.rows - up :] for names in across]
        first = [names[:down] for names in across]
        if self.warps == 1:
            return last, first

        def place(field: int, row: int) -> int:
            return (field * self.reach.rows + row) * count

        for n, names in enumerate(zip(first, last, strict=True)):
            for row, name in enumerate(names[0] + names[1]):
                write(f"halo[u(turn + {place(n, row)} + tid)] = {name}")
        write("cuda.syncthreads()")

        def read(rows: range, strip: str) -> list[list[str]]:
            return [
                [write.let(f"halo[u(turn + {place(n, row)} + {strip})]") for row in rows]
                for n in range(len(across))
            ]

        found = read(range(down, down + up), "above"), read(range(down), "below")
        if self.half:
            write(f"turn = {self.half} - turn")
        return found

    def _copy(self, step: Keeping, at: str) -> None:
        if step.every == (1, 1):
            super()._copy(step, at)
            return
        write, store, (sy, sx), (oh, ow) = self.write, step.store, step.every, step.store.shape
        write(
            f"number = np.int64(index[u({store.index} + dy // {sy} * {ow} + dx // {sx})])",
            f"inside = number * {oh * ow} + first // {sy} * {ow} + j // {sx}",
        )
        to = write.let(f"b * {self.context.stores.size} + inside", "at")
        with write.block(f"if number >= 0 and alive and j % {sx} == 0:"):
            for r in range(0, self.rows, sy):
                names, row = self._names(step.inputs[0].slot, r), r // sy * ow
                with self._if_inside(r):
                    for name, offset in zip(names, (store.offset, store.t_offset), strict=False):
                        write(f"stores[u({to} + {offset + row})] = {name}")

    def _pool(self, step: Pooling, at: str) -> None:
        add = Pool(self.ops, step, self.context.stores.size)
        add(self._planes(step.inputs[0].slot))
