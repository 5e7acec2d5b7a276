"""Sums over all planes of a pair, for global pools: accumulators in double precision.

Each thread has its own accumulator of every sum; where a network is read out so often that shared
memory would not hold them, a warp has one and adds up its lanes' values first, by shuffles. Where
these are too many as well, they are in global memory. Only one thread ever adds to an accumulator,
so that every run gives the same bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from widegram.cuda.context import Context
from widegram.cuda.generated import FULL, PAIR_BYTES, WARP
from widegram.cuda.writer import Writer
from widegram.plan.steps import Reducing, Step

# Shared memory that accumulators may take: enough blocks then run at once on a multiprocessor, and
# 32 KB of what else a block keeps there find room.
_MOST_BYTES = 15 * 1024
_DOUBLE = 8


class Sums:
    """The sums of a program's ``reduce`` steps in a block of ``threads`` threads.

    Each keeps ``width`` accumulators, of threads or of warps, all of them added up at the end.
    """

    def __init__(self, context: Context, steps: Sequence[Step], threads: int) -> None:
        self.context, self.threads = context, threads
        reducing = (step for step in steps if isinstance(step, Reducing))
        self.steps = sorted(reducing, key=lambda step: step.at)
        self.fields = len(context.fields)
        self.first = self.steps[0].at if self.steps else 0
        self.count = self.steps[-1].at + self.fields - self.first if self.steps else 0
        self.by_warps = threads % WARP == 0 and not self._fit(threads)
        self.width = threads // WARP if self.by_warps else threads
        self.size = self.count * self.width
        self.base = "" if self._fit(self.width) else "held + "

    def _fit(self, width: int) -> bool:
        return self.count * width * _DOUBLE <= _MOST_BYTES

    @property
    def nbytes(self) -> int:
        """Shared memory in bytes, with the row and column of the block's pair."""
        return PAIR_BYTES + (0 if self.base else _DOUBLE * self.size)

    @property
    def held(self) -> int:
        """Accumulators of a pair in global memory: behind the sums of all pairs of a launch."""
        return self.size if self.base else 0

    def start(self, write: Writer) -> None:
        """Make the accumulators, zero; a barrier must follow."""
        if not self.count:
            return
        if self.base:
            write("total = sums", f"held = n * {self.context.stores.sums} + b * {self.size}")
        else:
            write(f"total = cuda.shared.array({self.size}, types.float64)")
        with write.block(f"for c in range(tid, {self.size}, {self.threads}):"):
            write(f"total[u({self.base}c)] = 0.0")
        if not self.by_warps:
            write(f"own = {self.base}tid")
            return
        # The first lane of a warp has K; with T, the first of its lower half, and of its upper T.
        half = WARP // 2
        write(f"low = np.int32(tid & {WARP // self.fields - 1})")
        write(f"upper = np.int32(tid & {half})")
        field = f" + tid // {half} % 2 * {self.width}" if self.fields == 2 else ""
        write(f"own = {self.base}tid // {WARP}{field}")

    def add(self, write: Writer, at: str, names: Sequence[str], alive: str = "") -> None:
        """Add this thread's K, and T, where ``alive``, to the sums ``at`` in a pair's; all threads
        of the block come here."""
        if alive:
            zero = write.constant(0.0)
            names = [write.let(f"{name} if {alive} else {zero}") for name in names]
        place = f"own + ({at} - {self.first}) * {self.width}"
        if self.by_warps:
            found = self._over_lanes(write, names)
            with write.block("if low == 0:"):
                write(f"total[u({place})] += {found}")
            return
        for n, name in enumerate(names):
            write(f"total[u({place} + {n * self.width})] += {name}")

    def _over_lanes(self, write: Writer, names: Sequence[str]) -> str:
        """The sum over the lanes of a warp; of K and T, K's in the lower half and T's in the
        upper."""
        value, lanes = names[0], WARP
        if len(names) == 2:
            k, t = names
            kept = write.let(f"{t} if upper != 0 else {k}")
            sent = write.let(f"{k} if upper != 0 else {t}")
            lanes //= 2
            value = write.let(f"{kept} + cuda.shfl_xor_sync({FULL}, {sent}, {lanes})")
        while lanes > 1:
            lanes //= 2
            value = write.let(f"{value} + cuda.shfl_xor_sync({FULL}, {value}, {lanes})")
        return value

    def finish(self, write: Writer) -> None:
        """Write every sum to the pair's row of ``sums``."""
        if not self.count:
            return
        write("cuda.syncthreads()")
        size = self.width
        while size > 1:
            half = (size + 1) // 2
            rest = size - half
            with write.block(f"for c in range(tid, {self.count * rest}, {self.threads}):"):
                write(f"at = {self.base}c // {rest} * {self.width} + c % {rest}")
                write(f"total[u(at)] += total[u(at + {half})]")
            write("cuda.syncthreads()")
            size = half
        for run in self._runs():
            first, count = run[0].at, len(run) * self.fields
            with write.block(f"for c in range(tid, {count}, {self.threads}):"):
                found = f"total[u({self.base}(c + {first - self.first}) * {self.width})]"
                to = f"b * {self.context.stores.sums} + {first} + c"
                write(f"sums[u({to})] = {run[0].scale!r} * {found}")

    def _runs(self) -> list[list[Reducing]]:
        """The steps in groups of one scale whose sums follow each other."""
        numbered = enumerate(self.steps)
        runs = groupby(numbered, lambda pair: (pair[1].at - pair[0] * self.fields, pair[1].scale))
        return [[step for _, step in run] for _, run in runs]
