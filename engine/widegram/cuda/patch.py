"""The patch form: a warp holds whole planes, a lane a patch of R x C pixels.

Neighbours in other patches come by shuffles alone. Factors of both images pass through shared
memory: a block works on displacements that are equal modulo (R, C) at once, so that all of its
patches of x' are the same patches, in another order, of x' turned by the remainders; that is how
the block's threads put a step's factors there, and a lane reads its patch in vectors. Two halves of
that memory take turns, so that one barrier a step is enough.
"""

from __future__ import annotations

from collections.abc import Sequence

from widegram.activations import Formula
from widegram.cuda.context import Context
from widegram.cuda.generated import FULL, WARP, Ints
from widegram.cuda.patch_fit import REGISTERS, choose, grouped, most_factors
from widegram.cuda.patch_pool import PatchPool
from widegram.cuda.patch_stage import Stage
from widegram.cuda.registers import FactorsAt, RegisterForm
from widegram.cuda.window_sums import sums_along, windows
from widegram.plan.program import Program
from widegram.plan.steps import MakeInput, Pooling, Window


class PatchForm(RegisterForm):
    """Writes one program that :func:`~widegram.cuda.patch_fit.fits`."""

    form = "patch"
    counting = "np.int64"

    def __init__(self, context: Context, program: Program) -> None:
        super().__init__(context, program)
        patch = choose(context, program)
        assert patch is not None
        self.patch, self.rows, self.columns = patch, patch.rows, patch.columns
        self.registers = REGISTERS[context.dtype]
        self.threads, self.planes = (WARP, patch.warps), patch.planes
        self.cells = tuple(
            r * self.width + c for r in range(self.rows) for c in range(self.columns)
        )
        size = context.layout.plane(self.height, self.width)
        self.stage = Stage(self.write, patch, (self.height, self.width), size)
        # Numbers of one half of shared memory: factors of both images, or a channel of them.
        most = most_factors(self.steps)
        self.half = 2 * most * self.height * self.width

    # the kernel -------------------------------------------------------------------------------

    def _table(self) -> Ints:
        return grouped(self.space.base, self.patch)

    def _prologue(self) -> None:
        write, patch, w = self.write, self.patch, self.width
        down, along, lanes = patch.down, patch.along, patch.lanes
        # The compiler sees that no number of a lane is negative, or takes more than 32 bits.
        write(
            f"lane = tx & {WARP - 1}",
            f"group = min(lane // {lanes}, {patch.side_by_side - 1})",
            f"ly = lane % {lanes} // {along}",
            f"lx = lane % {lanes} % {along}",
            f"left = group * {lanes} + ly * {along} + (lx + {along - 1}) % {along}",
            f"right = group * {lanes} + ly * {along} + (lx + 1) % {along}",
            f"above = group * {lanes} + (ly + {down - 1}) % {down} * {along} + lx",
            f"below = group * {lanes} + (ly + 1) % {down} * {along} + lx",
            f"first = ly * {self.rows}",
            f"j = lx * {self.columns}",
            f"mine = first * {w} + j",
        )
        self.stage.start(self.half)

    def _place(self) -> str:
        return f"ty * {self.patch.side_by_side} + group"

    def _displacement(self) -> None:
        write, h, w, patch = self.write, self.height, self.width, self.patch
        # A block's displacements leave the same remainders; from the first of them the compiler
        # knows that, too.
        write(
            f"over = np.int64(table[u(m * {3 * self.planes})]) % {self.rows}",
            f"aside = np.int64(table[u(m * {3 * self.planes} + 1)]) % {self.columns}",
        )
        if patch.lanes * patch.side_by_side != WARP:
            write(f"alive = alive and lane < {patch.lanes * patch.side_by_side}")
        write(
            f"p = (ly + dy // {self.rows}) % {patch.down} * {self.rows}",
            f"q = (lx + dx // {self.columns}) % {patch.along} * {self.columns}",
            f"theirs = p * {w} + q",
        )
        self.stage.turn("over", "aside")
        total = self.context.layout.total + 1
        write(f"fa = row * {total} + sa", f"fb = col * {total} + sb")
        write("p += over", "q += aside")
        if windows(self.steps) and not self.circular:
            self._cuts("c", ("j", "q"), "aside", self.columns, w)
            self._cuts("e", ("first", "p"), "over", self.rows, h)

    def _cuts(self, prefix: str, starts: tuple[str, str], rest: str, count: int, size: int) -> None:
        """Which edges are dead. Inside a patch these are edges of one parity, where x' turned by
        ``rest`` begins: ``prefix``_odd; only they have factors."""
        self.write(f"{prefix}_odd = ({count} - {rest}) % 2")
        inner = [f"({2 * n} - {prefix}_odd)" for n in range(1, count // 2 + 1)]
        self._edges(prefix, *starts, count, size, inner)

    def _edges(
        self, prefix: str, first: str, other: str, count: int, size: int, inner: Sequence[str]
    ) -> None:
        """Factors 0 or 1 of edges of ``count`` rows or columns, from ``first`` on in x and from
        ``other`` on in x': number 0 before them, then those at ``inner``, the last behind them;
        ``size``: all rows or columns."""
        zero, one = self.ops.const(0.0), self.ops.const(1.0)
        self.write(f"{prefix}0 = {zero} if {first} == 0 or {other} == 0 else {one}")
        for n, at in enumerate(inner, 1):
            self.write(f"{prefix}{n} = {zero} if {other} == {size} - {at} else {one}")
        last = f"{first} == {size - count} or {other} == {size - count}"
        self.write(f"{prefix}{len(inner) + 1} = {zero} if {last} else {one}")

    # steps ------------------------------------------------------------------------------------

    def _expect(self, formula: Formula, at: str) -> None:
        self.stage.fetch(("fx", f"fa + {at}"), ("fy", f"fb + {at}"), formula.n_factors)

    def _factors(self, formula: Formula, at: str) -> FactorsAt:
        return self.stage.done()

    def _input(self, step: MakeInput, at: str) -> None:
        channels, size = self.context.channels, self.stage.plane
        self._clear(step)
        with self.write.block(f"for c in range({channels}):"):
            x, y = (
                (name, f"({image} * {channels} + c) * {size} + {place}")
                for name, image, place in (("x", "row", "sa"), ("y", "col", "sb"))
            )
            self.stage.fetch(x, y, 1)
            pixels = self.stage.done()
            for n in range(len(self.cells)):
                one, other = pixels(n)
                name = self._names(step.out.slot, n)[0]
                self.write(f"{name} += {one[0]} * {other[0]}")

    def _box(self, planes: list[list[str]], step: Window) -> list[list[str]]:
        found = []
        for names, out in zip(planes, self._planes(step.out.slot), strict=True):
            rows, made = (
                [plane[at : at + self.columns] for at in range(0, len(plane), self.columns)]
                for plane in (names, out)
            )
            rows = self._lines("c", rows, made, ("left", "right"), self.patch.along)
            self._copy_factors()
            columns, made = (
                [list(column) for column in zip(*plane, strict=True)] for plane in (rows, made)
            )
            columns = self._lines("e", columns, made, ("above", "below"), self.patch.down)
            self._copy_factors()
            found.append([name for row in zip(*columns, strict=True) for name in row])
        return found

    def _copy_factors(self) -> None:
        """One plane of factors further; the last stays on its way while others are summed up."""
        if len(self.stage.waiting) > 1:
            self.stage.advance()

    def _lines(
        self, prefix: str, lines: list[list[str]], made: list[list[str]], lanes: tuple[str, str],
        patches: int,
    ) -> list[list[str]]:  # fmt: skip
        """Sums of three along all lines of a patch; ``lanes``: where they go on, ``patches`` of
        them make a line of the plane. Sums that are made in two ways go to the registers ``made``:
        each further variable that is assigned more than once costs Numba another pass."""
        whole = [[names[-1], *names, names[0]] for names in lines]
        if patches > 1:
            for names in whole:
                for n, lane in zip((0, -1), lanes, strict=True):
                    names[n] = self.write.let(f"cuda.shfl_sync({FULL}, {names[n]}, {lane})")
        count = len(lines[0])
        if self.circular:
            return [sums_along(self.ops, names, [""] * (count + 1)) for names in whole]
        for odd, head in enumerate((f"if {prefix}_odd == 0:", "else:")):
            # Of the edges inside, numbers 2 n - odd have the factors ``prefix``n.
            last = f"{prefix}{count // 2 + 1}"
            inner = [f"{prefix}{(n + odd) // 2}" * ((n + odd) % 2 == 0) for n in range(1, count)]
            with self.write.block(head):
                for names, sums in zip(made, whole, strict=True):
                    values = sums_along(self.ops, sums, [f"{prefix}0", *inner, last])
                    self.write(*(f"{a} = {b}" for a, b in zip(names, values, strict=True)))
        return made

    def _pool(self, step: Pooling, at: str) -> None:
        add = PatchPool(self.ops, step, self.context.stores.size)
        add(self._planes(step.inputs[0].slot), self.columns)
