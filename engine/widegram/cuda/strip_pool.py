"""Average pools of strips: rows inside a thread, columns by shuffles, without shared memory.

The windows tile the image, so that tap (v, z) of every window meets a partner in the same pooled
plane: for base displacement d the one at pooled displacement floor((d + tap) / stride), modulo the
pooled size. Taps of a window that go to one plane are added up first, and one thread adds what
comes out to the plane in memory.
"""

from __future__ import annotations

from collections.abc import Sequence

from widegram.cuda.kernel import FULL, WARP
from widegram.cuda.text_ops import TextOps
from widegram.plan.steps import Pooling


class StripPool:
    """One ``pool`` step of a program; ``size``: numbers of a pair's stores.

    The text uses the names that :class:`~widegram.cuda.strip_elements.StripElements` defines.
    """

    def __init__(self, ops: TextOps, step: Pooling, size: int) -> None:
        self.ops, self.write = ops, ops.write
        self.store, self.size = step.store, size
        self.strides = step.pool.strides
        self.scale = ops.const(step.pool.scale)

    def __call__(self, planes: Sequence[Sequence[str]]) -> None:
        """``planes``: for K, and T, the names of a thread's rows."""
        write, (sy, sx), (oh, ow) = self.write, self.strides, self.store.shape
        self._columns()
        across = [[self._across(name) for name in names] for names in planes]
        write(*(f"da{v} = (dy + {v}) // {sy} % {oh}" for v in range(sy)))
        # Number of the pooled plane of every tap, negative where there is none.
        first = self.store.index
        write(*(f"to{v} = np.int64(index[u({first} + da{v} * {ow} + db)])" for v in range(sy)))
        # Where this thread's part of a pooled plane begins, less plane.
        write(f"inside = b * {self.size} + first // {sy} * {ow} + j // {sx}")
        self._rows(
            [
                [f"{self.scale} * {name}" for names in across for name in names[v::sy]]
                for v in range(sy)
            ],
            len(planes),
        )
        # The next displacement may add to these planes by other threads.
        write("cuda.syncthreads()")

    def _rows(self, taps: Sequence[Sequence[str]], fields: int) -> None:
        """Add up ``taps``, lists of equal length, while da0, da1, ... do not change, and the sums
        up to there to the pooled plane."""
        write, zero = self.write, self.ops.const(0.0)
        sums = [write.let(name, "acc") for name in taps[0]]
        for n, names in enumerate(taps[1:], 1):
            with write.block(f"if da{n} != da{n - 1}:"):
                self._add(f"to{n - 1}", sums, fields)
                write(*(f"{total} = {zero}" for total in sums))
            write(*(f"{a} += {b}" for a, b in zip(sums, names, strict=True)))
        self._add(f"to{len(taps) - 1}", sums, fields)

    def _add(self, number: str, sums: Sequence[str], fields: int) -> None:
        """Add to the plane ``number`` where it is one and this thread adds: for each field, a
        pixel in every pooled row."""
        (oh, ow), each = self.store.shape, len(sums) // fields
        with self.write.block(f"if adds and {number} >= 0:"):
            at = self.write.let(f"inside + {number} * {oh * ow}", "at")
            for n, name in enumerate(sums):
                offset = (self.store.offset, self.store.t_offset)[n // each]
                self.write(f"stores[u({at} + {offset + n % each * ow})] += {name}")

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
            other = self.write.let(f"cuda.shfl_sync({FULL}, {name}, side{k})")
            total = self.ops.fma(f"same{k}", other, total)
        return total
