"""Sums over all planes of a pair, for global pools: accumulators in double precision.

Each thread has its own accumulator of every sum, or, where a network is read out so often that
shared memory would not hold them, a few threads have one, and the others hand them their values.
"""

from __future__ import annotations

from collections.abc import Sequence

from widegram.cuda.kernel import PAIR_BYTES
from widegram.cuda.steps import Context, Job
from widegram.cuda.writer import Writer

# Shared memory that accumulators may take: enough blocks then run at once on a multiprocessor.
_MOST_BYTES = 16 * 1024
_DOUBLE = 8


class Sums:
    """The sums of a program's ``reduce`` steps in a block of ``threads`` threads.

    Sum ``n`` keeps ``width`` accumulators, all of them added up at the end.
    """

    def __init__(self, context: Context, jobs: Sequence[Job], threads: int) -> None:
        self.context, self.threads = context, threads
        self.jobs = [job for job in jobs if job.kind == "reduce"]
        self.fields = len(context.fields)
        self.first = {job.number: n * self.fields for n, job in enumerate(self.jobs)}
        self.count = len(self.jobs) * self.fields
        self.width = threads
        while self.width > 1 and self.count * self.width * _DOUBLE > _MOST_BYTES:
            self.width = (self.width + 1) // 2

    @property
    def shared(self) -> bool:
        """Whether several threads share an accumulator."""
        return self.width < self.threads

    @property
    def nbytes(self) -> int:
        """Shared memory in bytes, with the row and column of the block's pair."""
        numbers = self.count * self.width + self.shared * self.fields * self.threads
        return PAIR_BYTES + _DOUBLE * numbers

    def start(self, write: Writer) -> None:
        """Make the accumulators, zero; a barrier must follow."""
        if not self.count:
            return
        size = self.count * self.width
        write(f"total = cuda.shared.array({size}, types.float64)")
        with write.block(f"for c in range(tid, {size}, {self.threads}):"):
            write("total[u(c)] = 0.0")
        if self.shared:
            write(f"part = cuda.shared.array({self.fields * self.threads}, types.float64)")

    def add(self, write: Writer, job: Job, names: Sequence[str], alive: str = "") -> None:
        """Add this thread's K, and T, where ``alive``; all threads of the block come here."""
        first = self.first[job.number]
        if not self.shared:
            for n, name in enumerate(names):
                value = f"({name} if {alive} else 0.0)" if alive else name
                write(f"total[u({(first + n) * self.width} + tid)] += {value}")
            return
        for n, name in enumerate(names):
            value = f"{name} if {alive} else 0.0" if alive else name
            write(f"part[u({n * self.threads} + tid)] = {value}")
        write("cuda.syncthreads()")
        with write.block(f"if tid < {self.width}:"):
            for n in range(len(names)):
                write("found = 0.0")
                with write.block(f"for c in range(tid, {self.threads}, {self.width}):"):
                    write(f"found += part[u({n * self.threads} + c)]")
                write(f"total[u({(first + n) * self.width} + tid)] += found")
        write("cuda.syncthreads()")

    def finish(self, write: Writer) -> None:
        """Write every sum to the pair's row of ``sums``."""
        if not self.count:
            return
        write("cuda.syncthreads()")
        size = self.width
        while size > 1:
            half = (size + 1) // 2
            with (
                write.block(f"if tid < {size - half}:"),
                write.block(f"for c in range({self.count}):"),
            ):
                write(f"at = c * {self.width} + tid")
                write(f"total[u(at)] += total[u(at + {half})]")
            write("cuda.syncthreads()")
            size = half
        with write.block("if tid == 0:"):
            for job in self.jobs:
                assert job.store is not None
                offsets = (job.store.offset, job.store.t_offset)
                for n, offset in enumerate(offsets[: self.fields]):
                    source = (self.first[job.number] + n) * self.width
                    to = f"b * {self.context.stores.sums} + {offset}"
                    write(f"sums[u({to})] = {job.scale!r} * total[u({source})]")
