"""The fast form: planes in registers through all steps of a program.

A lane is a column, a thread holds ``rows`` consecutive rows of it, the warps of a block share one
plane; where an image is narrower than a warp, several planes stand side by side. Horizontal
neighbours come by shuffles, rows above and below by shared memory, whose two halves take turns, so
that one barrier a convolution is enough. The halves never start over between planes: a warp may
still read the last half of the plane before. Rows longer than a warp find their horizontal
neighbours in a plane in shared memory, at the price of a second barrier.

With zero padding the edge between two rows is dead where it crosses the border of either image;
that is a factor of 0 or 1, which costs nothing in a multiply-add.
"""

from __future__ import annotations

import numpy as np

from widegram.cuda.kernel import SIGNATURE, Kernel
from widegram.cuda.layout import Ints
from widegram.cuda.steps import Context, Job, Loop, in_place, jobs_of, loop_over, rolled
from widegram.cuda.strip_fit import WARP, strip_rows
from widegram.cuda.strip_pool import Pool
from widegram.cuda.sums import Sums
from widegram.cuda.text_ops import Factors, TextOps, activate, affine, prescaled
from widegram.cuda.writer import Writer
from widegram.plan.program import Program

_FULL = "0xffffffff"
# Registers that a thread may use, so that enough of them run at once; planes side by side need a
# few more for their addresses.
_REGISTERS = {
    ("float32", False): 64,
    ("float32", True): 72,
    ("float64", False): 128,
    ("float64", True): 128,
}


class StripForm:
    """Writes one program that :func:`~widegram.cuda.strip_fit.fits`."""

    def __init__(self, context: Context, program: Program) -> None:
        self.context = context
        self.space, jobs = jobs_of(context, program)
        self.jobs = in_place(jobs, windows=True)
        (((self.height, self.width), _),) = self.space.kinds
        self.rows = strip_rows(self.height, jobs)
        self.warps = self.height // self.rows
        self.lanes = max(1, WARP // self.width)
        # Threads along x: a warp, or all columns of a wider image.
        self.across = max(WARP, self.width)
        self.threads = self.across * self.warps
        self.write = Writer(context.dtype)
        self.ops = TextOps(self.write)
        wide = [j.affine for j in jobs if j.affine is not None and j.affine.window != (1, 1)]
        self.circular = bool(wide) and wide[0].circular
        self.wide = bool(wide)
        self.sums = Sums(context, self.jobs, self.threads)

    # the kernel -------------------------------------------------------------------------------

    def kernel(self, name: str) -> Kernel:
        """The finished kernel."""
        table = self._table()
        self._prologue()
        with self.write.block(f"for m in range({len(table) // self.lanes}):"):
            self._displacement()
            for item in rolled(self.jobs):
                self._item(item)
        self.sums.finish(self.write)
        text = self.write.module(f"Planes in registers: {name}.", SIGNATURE)
        threads, most = (self.across, self.warps), _REGISTERS[self.context.dtype, self.lanes > 1]
        return Kernel(name, "strip", text, threads, table, registers=most)

    def _table(self) -> Ints:
        """(dy, dx, 1) of every displacement, filled up to whole warps by ones that do not count."""
        base = self.space.base
        missing = -len(base) % self.lanes
        table = np.ones((len(base) + missing, 3), dtype=np.int32)
        table[:, :2] = np.concatenate([base, np.repeat(base[:1], missing, axis=0)])
        table[len(base) :, 2] = 0
        return table

    def _prologue(self) -> None:
        write, w = self.write, self.width
        write(
            "b = cuda.blockIdx.x",
            "tx = cuda.threadIdx.x",
            "ty = cuda.threadIdx.y",
            f"tid = ty * {self.across} + tx",
            f"group = {f'min(tx // {w}, {self.lanes - 1})' if self.lanes > 1 else '0'}",
            f"j = tx % {w}",
            f"left = group * {w} + (j + {w - 1}) % {w}",
            f"right = group * {w} + (j + 1) % {w}",
            f"first = ty * {self.rows}",
            "row = np.int64(pairs[u(2 * b)])",
            "col = np.int64(pairs[u(2 * b + 1)])",
            f"fa = row * {self.context.layout.total + 1} + first * {w} + j",
        )
        if self.warps > 1 and self.wide:
            # Where rows are spread over shared memory their barrier keeps the halos apart as well.
            self.half = 2 * len(self.context.fields) * self.threads if w <= WARP else 0
            size = self.half or len(self.context.fields) * self.threads
            write(
                f"halo = cuda.shared.array({2 * size}, scalar)",
                "turn = 0",
                f"above = (ty + {self.warps - 1}) % {self.warps} * {self.across} + tx",
                f"below = (ty + 1) % {self.warps} * {self.across} + tx",
            )
        if self.wide and self.width > WARP:
            size = self.height * self.width * len(self.context.fields)
            write(f"rows = cuda.shared.array({size}, scalar)")
        self.sums.start(write)
        for store in {job.store for job in self.jobs if job.kind == "pool" and job.store}:
            first = f"b * {self.context.stores.size} + {store.offset}"
            size = store.planes * store.shape[0] * store.shape[1] * len(self.context.fields)
            with write.block(f"for c in range(tid, {size}, {self.threads}):"):
                write(f"stores[u({first} + c)] = {self.ops.const(0.0)}")
        write("cuda.syncthreads()")

    def _displacement(self) -> None:
        """Where this thread's pixels of x' are, and which edges are dead."""
        write, h, w = self.write, self.height, self.width
        zero, one = self.ops.const(0.0), self.ops.const(1.0)
        inside = "" if w * self.lanes == self.across else f" and tx < {w * self.lanes}"
        write(
            f"g = (m * {self.lanes} + group) * 3",
            "dy = np.int64(table[u(g)])",
            "dx = np.int64(table[u(g + 1)])",
            f"alive = table[u(g + 2)] != 0{inside}",
            "q = j + dx",
        )
        with write.block(f"if q >= {w}:"):
            write(f"q -= {w}")
        write("p = first + dy")
        with write.block(f"if p >= {h}:"):
            write(f"p -= {h}")
        write(f"fb = col * {self.context.layout.total + 1} + p * {w} + q")
        if self.circular or not self.wide:
            return
        write(
            f"cl = {zero} if j == 0 or q == 0 else {one}",
            f"cr = {zero} if j == {w - 1} or q == {w - 1} else {one}",
            f"e0 = {zero} if first == 0 or p == 0 else {one}",
        )
        for r in range(1, self.rows + 1):
            last = f"first == {h - r} or " if r == self.rows else ""
            write(f"e{r} = {zero} if {last}p == {h - r} else {one}")

    def _item(self, item: Job | Loop) -> None:
        if isinstance(item, Job):
            self._job(item, str(item.at))
            return
        with loop_over(self.write, item) as places:
            for job, at in zip(item.jobs, places, strict=True):
                self._job(job, at)

    def _job(self, job: Job, at: str) -> None:
        self.write(f"# {job.kind}{f' {job.formula.code}' if job.formula else ''}")
        getattr(self, f"_{job.kind}")(job, at)

    # registers --------------------------------------------------------------------------------

    def _names(self, slot: int, r: int) -> list[str]:
        """K, and T, of row r."""
        return [f"{field}{slot}_{r}" for field in self.context.fields]

    def _set(self, job: Job, r: int, found: list[str]) -> None:
        assert job.out is not None
        for name, value in zip(self._names(job.out.slot, r), found, strict=True):
            self.write(f"{name} = {value}")

    def _dual(self, job: Job, at: tuple[str, str], r: int, found: list[str]) -> list[str]:
        if job.formula is None:
            return found
        shift = f" + {r * self.width}" if r else ""
        size, count = self.context.layout.plane(self.height, self.width), job.formula.n_factors
        fx = Factors(self.write, "fx", at[0] + shift, size, count)
        fy = Factors(self.write, "fy", at[1] + shift, size, count)
        return activate(self.ops, job.formula, found, fx, fy)

    def _factors_at(self, job: Job, at: str) -> tuple[str, str]:
        """Positions of the first row's factors of x and of x'."""
        if job.formula is None:
            return "", ""
        return self.write.let(f"fa + {at}", "at"), self.write.let(f"fb + {at}", "at")

    # steps ------------------------------------------------------------------------------------

    def _input(self, job: Job, at: str) -> None:
        assert job.out is not None
        write, c = self.write, self.context.channels
        size = self.context.layout.plane(self.height, self.width)
        for r in range(self.rows):
            self._set(job, r, [self.ops.const(0.0)] * len(self.context.fields))
        with write.block(f"for c in range({c}):"):
            write(f"xa = (row * {c} + c) * {size} + first * {self.width} + j")
            write(f"ya = (col * {c} + c) * {size} + p * {self.width} + q")
            for r in range(self.rows):
                name, shift = self._names(job.out.slot, r)[0], r * self.width
                write(f"{name} += x[u(xa + {shift})] * y[u(ya + {shift})]")

    def _stored(self, job: Job) -> str:
        """Set ``number``, the plane's in the store; position of the first pixel, less offset."""
        assert job.store is not None
        store, (h, w) = job.store, job.store.shape
        self.write(f"number = np.int64(index[u({store.index} + dy * {w} + dx)])")
        inside = f"number * {h * w} + first * {w} + j"
        return self.write.let(f"b * {self.context.stores.size} + {inside}", "at")

    def _load(self, job: Job, at: str) -> None:
        assert job.store is not None
        write, where = self.write, self._stored(job)
        for r in range(self.rows):
            self._set(job, r, [self.ops.const(0.0)] * len(self.context.fields))
        with write.block("if number >= 0:"):
            for r in range(self.rows):
                offsets = (job.store.offset, job.store.t_offset)[: len(self.context.fields)]
                shift = r * self.width
                self._set(job, r, [f"stores[u({where} + {n + shift})]" for n in offsets])

    def _copy(self, job: Job, at: str) -> None:
        assert job.store is not None
        write, where = self.write, self._stored(job)
        with write.block("if number >= 0 and alive:"):
            for r in range(self.rows):
                names = self._names(job.inputs[0].slot, r)
                offsets = (job.store.offset, job.store.t_offset)
                for name, n in zip(names, offsets, strict=False):
                    write(f"stores[u({where} + {n + r * self.width})] = {name}")

    def _point(self, job: Job, at: str) -> None:
        assert job.formula is not None
        where = self._factors_at(job, at)
        for r in range(self.rows):
            found = prescaled(self.ops, job.formula, self._names(job.inputs[0].slot, r))
            self._set(job, r, self._dual(job, where, r, found))

    def _add(self, job: Job, at: str) -> None:
        first, second = job.inputs
        for r in range(self.rows):
            both = zip(self._names(first.slot, r), self._names(second.slot, r), strict=True)
            self._set(job, r, [self.ops.add(a, b) for a, b in both])

    def _window(self, job: Job, at: str) -> None:
        assert job.affine is not None
        (source,) = job.inputs
        sums = [self._names(source.slot, r) for r in range(self.rows)]
        if job.affine.window != (1, 1):
            if self.width > WARP:
                self._spread(sums)
            across = [
                [self._neighbours(name, r, n) for n, name in enumerate(names)]
                for r, names in enumerate(sums)
            ]
            sums = self._down(across)
        where = self._factors_at(job, at)
        for r in range(self.rows):
            found = affine(self.ops, job.affine, job.formula, sums[r])
            self._set(job, r, self._dual(job, where, r, found))

    def _spread(self, sums: list[list[str]]) -> None:
        """All rows to shared memory, once all have read what stood there before: in a block of
        several strips they met at the halos since."""
        size = self.height * self.width
        if self.warps == 1:
            self.write("cuda.syncthreads()")
        for r, names in enumerate(sums):
            for n, name in enumerate(names):
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
                write.let(f"cuda.shfl_sync({_FULL}, {name}, {side})") for side in ("left", "right")
            )
        if self.circular:
            return write.let(f"{left} + {right} + {name}")
        return write.let(f"cr * {right} + (cl * {left} + {name})")

    def _down(self, across: list[list[str]]) -> list[list[str]]:
        """Sums over three rows, the outer ones from the neighbouring warps."""
        write, fields = self.write, len(self.context.fields)
        above, below = across[-1], across[0]
        if self.warps > 1:
            for n in range(fields):
                for edge, names in ((0, across[0]), (1, across[-1])):
                    shift = (2 * n + edge) * self.threads
                    write(f"halo[u(turn + {shift} + tid)] = {names[n]}")
            write("cuda.syncthreads()")
            above, below = (
                [
                    write.let(f"halo[u(turn + {(2 * n + edge) * self.threads} + {warp})]")
                    for n in range(fields)
                ]
                for edge, warp in ((1, "above"), (0, "below"))
            )
            if self.half:
                write(f"turn = {self.half} - turn")
        padded = [above, *across, below]
        found = []
        for r in range(self.rows):
            three = zip(*padded[r : r + 3], strict=True)
            found.append([self._three(a, b, c, r) for a, b, c in three])
        return found

    def _three(self, above: str, middle: str, below: str, r: int) -> str:
        if self.circular:
            return self.write.let(f"{above} + {below} + {middle}")
        return self.write.let(f"e{r + 1} * {below} + (e{r} * {above} + {middle})")

    def _reduce(self, job: Job, at: str) -> None:
        (source,), found = job.inputs, []
        for n in range(len(self.context.fields)):
            names = [self._names(source.slot, r)[n] for r in range(self.rows)]
            while len(names) > 1:
                pairs = zip(names[::2], names[1::2], strict=False)
                odd = names[-1:] if len(names) % 2 else []
                names = [self.ops.add(a, b) for a, b in pairs] + odd
            found += names
        self.sums.add(self.write, job, found, "alive")

    def _pool(self, job: Job, at: str) -> None:
        rows = [self._names(job.inputs[0].slot, r) for r in range(self.rows)]
        add = Pool(self.ops, job, self.context.stores.size, self.lanes)
        add([list(names) for names in zip(*rows, strict=True)])
