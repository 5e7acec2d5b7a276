"""Average pools of planes in registers, without shared memory.

The windows tile the image, so that tap (v, z) of every window meets a partner in the same pooled
plane: for base displacement d the one at pooled displacement floor((d + tap) / stride), modulo the
pooled size. Taps of a window that go to one plane are added up first, rows inside a thread and
columns by shuffles, and one thread adds what comes out to the plane in memory. Displacements that
stand side by side in a warp may meet in one plane: they add to it one after the other.
"""

from __future__ import annotations

from collections.abc import Sequence

from widegram.cuda.steps import Job
from widegram.cuda.text_ops import TextOps

WARP = 32
_FULL = "0xffffffff"


class Pool:
    """One ``pool`` step of a program; ``size``: numbers of a pair's stores; ``groups``:
    displacements side by side.

    The text uses the strip form's ``tid``, ``tx``, ``j``, ``group``, ``first``, ``dy``, ``dx``,
    ``alive``.
    """

    def __init__(self, ops: TextOps, job: Job, size: int, groups: int) -> None:
        assert job.store is not None
        assert job.pool is not None
        self.ops, self.write = ops, ops.write
        self.job, self.store, self.size, self.groups = job, job.store, size, groups
        self.strides = job.pool.strides

    def __call__(self, planes: Sequence[Sequence[str]]) -> None:
        """``planes``: for K, and T, the names of a thread's rows."""
        write, (sy, _) = self.write, self.strides
        self._columns()
        across = [[self._across(name) for name in names] for names in planes]
        self._targets()
        scale = self.ops.const(self.job.scale)
        kept = [
            [self.write.let(f"{scale} * {name}", "acc") for name in names[::sy]] for names in across
        ]
        for v in range(1, sy):
            self._store(v - 1, kept, f" and da{v} != da{v - 1}")
            with write.block(f"if da{v} != da{v - 1}:"):
                write(*(f"{name} = {self.ops.const(0.0)}" for names in kept for name in names))
            for names, sums in zip(across, kept, strict=True):
                write(*(f"{a} += {scale} * {b}" for a, b in zip(sums, names[v::sy], strict=True)))
        self._store(sy - 1, kept)
        if self.groups == 1:
            # The next displacement may add to these planes by other threads.
            write("cuda.syncthreads()")

    def _columns(self) -> None:
        """Where the other columns of this thread's window are, and which go to the same plane."""
        write, sx, columns = self.write, self.strides[1], self.store.shape[1]
        zero, one = self.ops.const(0.0), self.ops.const(1.0)
        write(f"z = tx % {sx}", f"db = (dx + z) // {sx} % {columns}")
        for k in range(1, sx):
            write(
                f"o = (z + {k}) % {sx}",
                f"side{k} = (tid - z + o) % {WARP}",
                f"same{k} = {one} if (dx + o) // {sx} % {columns} == db else {zero}",
            )
        first = f"z == 0 or (dx + z - 1) // {sx} % {columns} != db"
        write(f"adds = alive and ({first})" if sx > 1 else "adds = alive")

    def _across(self, name: str) -> str:
        """The sum over those columns of a window that go to the same plane."""
        total = name
        for k in range(1, self.strides[1]):
            other = self.write.let(f"cuda.shfl_sync({_FULL}, {name}, side{k})")
            total = self.ops.fma(f"same{k}", other, total)
        return total

    def _targets(self) -> None:
        """Number of the plane of every row of a window, and where this thread's part begins."""
        write, (sy, sx), (oh, ow) = self.write, self.strides, self.store.shape
        for v in range(sy):
            write(
                f"da{v} = (dy + {v}) // {sy} % {oh}",
                f"to{v} = np.int64(index[u({self.store.index} + da{v} * {ow} + db)])",
            )
        write(f"inside = b * {self.size} + first // {sy} * {ow} + j // {sx}")

    def _store(self, v: int, kept: list[list[str]], when: str = "") -> None:
        """Add what is kept to the planes of row v, one displacement of a warp after the other."""
        write, (oh, ow) = self.write, self.store.shape
        at = write.let(f"inside + to{v} * {oh * ow}", "at")
        offsets = (self.store.offset, self.store.t_offset)
        for group in range(self.groups):
            turn = f" and group == {group}" if self.groups > 1 else ""
            with write.block(f"if adds and to{v} >= 0{when}{turn}:"):
                for offset, names in zip(offsets, kept, strict=False):
                    for a, name in enumerate(names):
                        write(f"stores[u({at} + {offset + a * ow})] += {name}")
            if self.groups > 1:
                write("cuda.syncthreads()")
