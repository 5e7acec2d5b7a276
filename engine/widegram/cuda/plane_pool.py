"""What the average pools of planes in registers share.

The windows tile the image, so that tap (v, z) of every window meets a partner in the same pooled
plane: for base displacement d the one at pooled displacement floor((d + tap) / stride), modulo the
pooled size. Taps of a window that go to one plane are added up first, and one thread adds what
comes out to the plane in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from widegram.cuda.text_ops import TextOps
from widegram.plan.steps import Pooling


class PlanePool:
    """One ``pool`` step of a program; ``size``: numbers of a pair's stores.

    The text uses the names that :class:`~widegram.cuda.registers.RegisterForm` defines.
    """

    def __init__(self, ops: TextOps, step: Pooling, size: int) -> None:
        self.ops, self.write = ops, ops.write
        self.store, self.size = step.store, size
        self.strides = step.pool.strides
        self.scale = ops.const(step.pool.scale)

    def runs(
        self, key: str, taps: Sequence[Sequence[str]], done: Callable[[int, list[str]], None]
    ) -> None:
        """Add up ``taps``, lists of equal length, where the variables ``key``0, ``key``1, ... do
        not change; ``done`` writes what becomes of the sums up to a tap, which it gets too."""
        write, zero = self.write, self.ops.const(0.0)
        sums = [write.let(name, "acc") for name in taps[0]]
        for n, names in enumerate(taps[1:], 1):
            with write.block(f"if {key}{n} != {key}{n - 1}:"):
                done(n - 1, sums)
                write(*(f"{total} = {zero}" for total in sums))
            write(*(f"{a} += {b}" for a, b in zip(sums, names, strict=True)))
        done(len(taps) - 1, sums)

    def rows(self) -> None:
        """Set da0, da1, ...: displacements of the pooled rows that the taps of a window go to."""
        (sy, _), (oh, _) = self.strides, self.store.shape
        self.write(*(f"da{v} = (dy + {v}) // {sy} % {oh}" for v in range(sy)))

    def plane(self, row: str, column: str) -> str:
        """The number of the pooled plane at a displacement, negative where there is none."""
        return f"np.int64(index[u({self.store.index} + {row} * {self.store.shape[1]} + {column})])"

    def inside(self) -> None:
        """Set ``inside``, where this thread's part of a pooled plane begins, less plane."""
        (sy, sx), ow = self.strides, self.store.shape[1]
        self.write(f"inside = b * {self.size} + first // {sy} * {ow} + j // {sx}")

    def add(
        self, condition: str, number: str, sums: Sequence[str], fields: int, across: int
    ) -> None:
        """Add to the plane ``number`` where it is one and ``condition`` holds: for each field,
        rows of ``across`` pooled pixels."""
        (oh, ow), each = self.store.shape, len(sums) // fields
        with self.write.block(f"if {condition} and {number} >= 0:"):
            at = self.write.let(f"inside + {number} * {oh * ow}", "at")
            for n, name in enumerate(sums):
                row, column = divmod(n % each, across)
                offset = (self.store.offset, self.store.t_offset)[n // each]
                self.write(f"stores[u({at} + {offset + row * ow + column})] += {name}")
