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
from widegram.cuda.kernel import MULTIPROCESSOR, SHARED_BYTES
from widegram.cuda.layout import Ints
from widegram.cuda.registers import FULL, WARP, FactorsAt, RegisterForm, filled
from widegram.cuda.rounds import most_at_once, together
from widegram.cuda.steps import Context, Job
from widegram.cuda.strip_fit import fixed_bytes, spread_bytes, strip_registers, strip_rows
from widegram.cuda.strip_pool import Pool
from widegram.cuda.text_ops import Factors, PixelFactors
from widegram.plan.program import Program


class StripForm(RegisterForm):
    """Writes one program that :func:`~widegram.cuda.strip_fit.fits`."""

    form = "strip"
    counting = "np.int32"

    def __init__(self, context: Context, program: Program) -> None:
        super().__init__(context, program)
        self.rows = strip_rows(self.height, self.jobs)
        self.warps = self.height // self.rows
        # Planes side by side in a warp, and how many times as many a block has.
        self.side = max(1, WARP // self.width)
        self.registers = strip_registers(context.dtype, self.width, self.jobs)
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
            fixed_bytes(self.context, self.jobs, shape, most * threads) > SHARED_BYTES
        ):
            most -= 1
        return most_at_once(self.space.base, self.jobs, self.side, most)

    # the kernel -------------------------------------------------------------------------------

    def _dynamic(self) -> int:
        """Whole rows, where they and the rest are more than every card has."""
        shape = self.height, self.width
        fixed = fixed_bytes(self.context, self.jobs, shape, self.count)
        spread = spread_bytes(self.context, shape)
        return spread if self.wide and fixed + spread > SHARED_BYTES else 0

    def _table(self) -> Ints:
        return filled(together(self.space.base, self.planes, self.jobs), self.planes)

    def _prologue(self) -> None:
        write, w = self.write, self.width
        stacked = self.planes > self.side
        write(
            f"group = {f'min(tx // {w}, {self.side - 1})' if self.side > 1 else '0'}",
            f"j = tx % {w}",
            f"left = group * {w} + (j + {w - 1}) % {w}",
            f"right = group * {w} + (j + 1) % {w}",
            f"level = {f'ty // {self.warps}' if stacked else '0'}",
            f"strip = {f'ty % {self.warps}' if stacked else 'ty'}",
            f"first = strip * {self.rows}",
            f"fa = row * {self.context.layout.total + 1} + first * {w} + j",
        )
        if self.warps > 1 and self.wide:
            # Where rows are spread over shared memory their barrier keeps the halos apart as well.
            self.half = 2 * len(self.context.fields) * self.count if w <= WARP else 0
            size = self.half or len(self.context.fields) * self.count
            write(
                f"halo = cuda.shared.array({2 * size}, scalar)",
                "turn = 0",
                *(
                    f"{name} = (level * {self.warps} + (strip + {step}) % {self.warps}) * "
                    f"{self.across} + tx"
                    for name, step in (("above", self.warps - 1), ("below", 1))
                ),
            )
        if self.wide and self.width > WARP:
            size = self.height * self.width * len(self.context.fields)
            write(f"rows = cuda.shared.array({0 if self._dynamic() else size}, scalar)")

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
        if self.wide and not self.circular:
            self._edges("c", "j", "q", 1, w, ())
            self._edges("e", "first", "p", self.rows, h, [str(r) for r in range(1, self.rows)])

    # steps ------------------------------------------------------------------------------------

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

    def _input(self, job: Job, at: str) -> None:
        assert job.out is not None
        write, c = self.write, self.context.channels
        size = self.context.layout.plane(self.height, self.width)
        self._clear(job)
        with write.block(f"for c in range({c}):"):
            write(f"xa = (row * {c} + c) * {size} + first * {self.width} + j")
            write(f"ya = (col * {c} + c) * {size} + p * {self.width} + q")
            for n, shift in enumerate(self.cells):
                name = self._names(job.out.slot, n)[0]
                write(f"{name} += x[u(xa + {shift})] * y[u(ya + {shift})]")

    def _three_by_three(self, planes: list[list[str]]) -> list[list[str]]:
        if self.width > WARP:
            self._spread(planes)
        across = [
            [self._neighbours(name, r, n) for n, name in enumerate(names)]
            for r, names in enumerate(zip(*planes, strict=True))
        ]
        return self._down([list(field) for field in zip(*across, strict=True)])

    def _spread(self, planes: list[list[str]]) -> None:
        """All rows to shared memory, once all have read what stood there before: in a block of
        several strips they met at the halos since."""
        size = self.height * self.width
        if self.warps == 1:
            self.write("cuda.syncthreads()")
        for n, names in enumerate(planes):
            for r, name in enumerate(names):
                at = f"{n * size} + (first + {r}) * {self.width} + j"
                self.write(f"rows[u({at})] = {name}")
        self.write("cuda.syncthreads()")

    def _neighbours(self, name: str, r: int, n: int) -> str:
        """The sum of a pixel of row r and its neighbours in the row; ``n``: the field."""
        write = self.write
        if self.width > WARP:
            at = f"{n * self.height * self.width} + (first + {r}) * {self.width}"
            left, right = (write.let(f"rows[u({at} + {side})]") for side in ("left", "right"))
        else:
            left, right = (
                write.let(f"cuda.shfl_sync({FULL}, {name}, {side})") for side in ("left", "right")
            )
        return self._threes(self._names_of_edges("c", 1), [left, name, right])[0]

    def _names_of_edges(self, prefix: str, count: int) -> list[str]:
        return [f"{prefix}{n}" * (not self.circular) for n in range(count + 1)]

    def _down(self, across: list[list[str]]) -> list[list[str]]:
        """Sums over three rows, the outer ones from the neighbouring warps."""
        write, count = self.write, self.count
        above, below = [names[-1] for names in across], [names[0] for names in across]
        if self.warps > 1:
            for n, names in enumerate(across):
                for edge, name in ((0, names[0]), (1, names[-1])):
                    write(f"halo[u(turn + {(2 * n + edge) * count} + tid)] = {name}")
            write("cuda.syncthreads()")
            above, below = (
                [
                    write.let(f"halo[u(turn + {(2 * n + edge) * count} + {warp})]")
                    for n in range(len(across))
                ]
                for edge, warp in ((1, "above"), (0, "below"))
            )
            if self.half:
                write(f"turn = {self.half} - turn")
        edges = self._names_of_edges("e", self.rows)
        return [
            self._threes(edges, [a, *names, b])
            for a, names, b in zip(above, across, below, strict=True)
        ]

    def _pool(self, job: Job, at: str) -> None:
        add = Pool(self.ops, job, self.context.stores.size)
        add(self._planes(job.inputs[0].slot))
