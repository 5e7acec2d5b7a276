"""Sums over windows in the strip form.

Horizontal neighbours come by shuffles, rows above and below by shared memory, whose two halves take
turns, so that one barrier a convolution is enough. The halves never start over between planes: a
warp may still read the last half of the plane before. Rows longer than a warp find their horizontal
neighbours in a plane in shared memory, at the price of a second barrier.

Every plane is a torus: with zero padding the edge between two rows, or two columns, is dead where
it crosses the border of either image; that is a factor of 0 or 1, which costs nothing in a
multiply-add.
"""

from __future__ import annotations

from widegram.cuda.generated import FULL, SHARED_BYTES, WARP
from widegram.cuda.strip_elements import StripElements
from widegram.cuda.strip_fit import fixed_bytes, halo_numbers, spread_bytes
from widegram.cuda.window_sums import over_edge, sums_along
from widegram.plan.operations import Affine
from widegram.plan.steps import Window


class StripWindows(StripElements):
    """Writes where neighbours are, and sums over them."""

    def _dynamic(self) -> int:
        """Whole rows, where they and the rest are more than every card has."""
        shape = self.height, self.width
        fixed = fixed_bytes(self.context, self.steps, shape, self.count)
        spread = spread_bytes(self.context, self.steps, shape)
        return spread if fixed + spread > SHARED_BYTES else 0

    def _prologue_of_columns(self) -> None:
        """Where neighbours in the row are: lanes, or places in the row in shared memory."""
        w = self.width
        for name, count, step in (("left", self.reach.left, -1), ("right", self.reach.right, 1)):
            for k in range(1, count + 1):
                self.write(f"{name}{k} = group * {w} + (j + {step * k % w}) % {w}")
        if self.reach.columns and w > WARP:
            size = self.warps * self.rows * w * len(self.context.fields)
            self.write(f"rows = cuda.shared.array({0 if self._dynamic() else size}, scalar)")

    def _prologue_of_rows(self) -> None:
        """Shared memory for the rows that strips exchange, and whose they are."""
        write, w = self.write, self.width
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

    def _box(self, planes: list[list[str]], step: Window) -> list[list[str]]:
        conv = step.affine
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
