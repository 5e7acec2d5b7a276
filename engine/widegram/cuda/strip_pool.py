"""Average pools of strips: rows inside a thread, columns by shuffles, without shared memory."""

from __future__ import annotations

from collections.abc import Sequence

from widegram.cuda.generated import FULL, WARP
from widegram.cuda.plane_pool import PlanePool


class StripPool(PlanePool):
    """One ``pool`` step of the strip form."""

    def __call__(self, planes: Sequence[Sequence[str]]) -> None:
        """``planes``: for K, and T, the names of a thread's rows."""
        write, (sy, _) = self.write, self.strides
        self._columns()
        across = [[self._across(name) for name in names] for names in planes]
        self.rows()
        write(*(f"to{v} = {self.plane(f'da{v}', 'db')}" for v in range(sy)))
        self.inside()
        taps = [
            [f"{self.scale} * {name}" for names in across for name in names[v::sy]]
            for v in range(sy)
        ]

        def add(v: int, sums: list[str]) -> None:
            self.add("adds", f"to{v}", sums, len(planes), 1)

        self.runs("da", taps, add)
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
            other = self.write.let(f"cuda.shfl_sync({FULL}, {name}, side{k})")
            total = self.ops.fma(f"same{k}", other, total)
        return total
