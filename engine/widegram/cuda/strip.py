"""The strip form: planes in registers, from the first step of a program to the last."""

from __future__ import annotations

from widegram.cuda.generated import Ints
from widegram.cuda.registers import filled
from widegram.cuda.side_by_side import together
from widegram.cuda.strip_pool import StripPool
from widegram.cuda.strip_windows import StripWindows
from widegram.cuda.text_ops import counted
from widegram.plan.steps import Counting, Keeping, MakeInput, Pooling


class StripForm(StripWindows):
    """Writes one program that :func:`~widegram.cuda.strip_fit.fits`."""

    def _table(self) -> Ints:
        return filled(together(self.space.base, self.planes, self.steps), self.planes)

    def _prologue(self) -> None:
        write, w = self.write, self.width
        stacked = self.planes > self.side
        write(
            f"group = {f'min(tx // {w}, {self.side - 1})' if self.side > 1 else '0'}",
            f"j = tx % {w}",
            f"level = {f'ty // {self.warps}' if stacked else '0'}",
            f"strip = {f'ty % {self.warps}' if stacked else 'ty'}",
            f"first = strip * {self.rows}",
            f"fa = row * {self.context.layout.total + 1} + first * {w} + j",
        )
        if self.real < self.rows:
            write(f"whole = first < {self.last}")
        self._prologue_of_columns()
        self._prologue_of_rows()

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
        if not self.circular:
            self._masks_of_columns()
            self._edges_of_rows()

    # steps ------------------------------------------------------------------------------------

    def _input(self, step: MakeInput, at: str) -> None:
        write, c = self.write, self.context.channels
        size = self.context.layout.plane(self.height, self.width)
        self._clear(step)
        with write.block(f"for c in range({c}):"):
            write(f"xa = (row * {c} + c) * {size} + first * {self.width} + j")
            write(f"ya = (col * {c} + c) * {size} + p * {self.width} + q")
            for n, shift in enumerate(self.cells):
                name = self._names(step.out.slot, n)[0]
                write(f"{name} += x[u(xa + {shift})] * y[u(ya + {shift})]")

    def _copy(self, step: Keeping, at: str) -> None:
        if step.every == (1, 1):
            super()._copy(step, at)
            return
        write, store, (sy, sx), (oh, ow) = self.write, step.store, step.every, step.store.shape
        write(
            f"number = np.int64(index[u({store.index} + dy // {sy} * {ow} + dx // {sx})])",
            f"inside = number * {oh * ow} + first // {sy} * {ow} + j // {sx}",
        )
        to = write.let(f"b * {self.context.stores.size} + inside", "at")
        with write.block(f"if number >= 0 and alive and j % {sx} == 0:"):
            for r in range(0, self.rows, sy):
                names, row = self._names(step.inputs[0].slot, r), r // sy * ow
                with self._if_inside(r):
                    for name, offset in zip(names, (store.offset, store.t_offset), strict=False):
                        write(f"stores[u({to} + {offset + row})] = {name}")

    def _count(self, step: Counting, at: str) -> None:
        """A pair of pixels counts as often as there are windows that hold both."""
        write, planes = self.write, self._own_planes(step.inputs[0].slot)
        along = counted(self.ops, step.counted, 1, "j", "q")
        found: list[str] = []
        for n, names in enumerate(zip(*planes, strict=True)):
            other = f"(p + {n} if p + {n} < {self.height} else p + {n - self.height})"
            weight = counted(self.ops, step.counted, 0, f"first + {n}", other)
            found = [
                self.ops.fma(weight, name, total) if n else self.ops.mul(weight, name)
                for name, total in zip(names, found or names, strict=True)
            ]
        self.sums.add(write, at, [self.ops.mul(along, total) for total in found], self.counted)

    def _pool(self, step: Pooling, at: str) -> None:
        add = StripPool(self.ops, step, self.context.stores.size)
        add(self._planes(step.inputs[0].slot))
