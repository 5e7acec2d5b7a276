"""The strip form: planes in registers, from the first step of a program to the last."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from widegram.cuda.kernel import SIGNATURE, Ints, KernelText
from widegram.cuda.rolling import write_steps
from widegram.cuda.side_by_side import together
from widegram.cuda.strip_pool import StripPool
from widegram.cuda.strip_windows import StripWindows
from widegram.cuda.sums import Sums
from widegram.cuda.text_ops import activate, affine, counted, prescaled, share_pair
from widegram.plan.steps import (
    Counting,
    Keeping,
    Load,
    MakeInput,
    Point,
    Pooling,
    Reducing,
    Step,
    Sum,
    Window,
)


class StripForm(StripWindows):
    """Writes one program that :func:`~widegram.cuda.strip_fit.fits`."""

    # the kernel -------------------------------------------------------------------------------

    def kernel(self, name: str) -> KernelText:
        """The finished kernel."""
        table, self.sums = self._table(), Sums(self.context, self.steps, self.count)
        pixels, held = self.planes * self.height * self.width, self.count * len(self.cells)
        # Where no row fills up a group and no lane is idle, all that a thread holds counts.
        self.counted = "" if bool(table[:, 2].all()) and pixels == held else "alive"
        self._pair()
        self._prologue()
        self.sums.start(self.write)
        self._clear_pools()
        self.write("cuda.syncthreads()")
        with self.write.block(f"for m in range(np.int32({len(table) // self.planes})):"):
            self._read_table()
            self._displacement()
            write_steps(self.write, self.steps, self._step)
        self.sums.finish(self.write)
        text = self.write.module(f"Planes in registers: {name}.", SIGNATURE)
        return KernelText(
            name, "strip", text, self.threads, table, dynamic=self._dynamic(),
            registers=self.registers, pixels=len(self.cells), held=self.sums.held,
        )  # fmt: skip

    def _table(self) -> Ints:
        """(dy, dx, 1) of every displacement; ``planes`` consecutive rows are worked on at once.

        Rows (dy, dx, 0) that fill up such a group do not count.
        """
        return _filled(together(self.space.base, self.planes, self.steps), self.planes)

    def _pair(self) -> None:
        """Which thread this is, and the pair of images of its block."""
        self.write(
            "b = cuda.blockIdx.x",
            "tx = cuda.threadIdx.x",
            "ty = cuda.threadIdx.y",
            f"tid = ty * {self.threads[0]} + tx",
        )
        share_pair(self.write)

    def _prologue(self) -> None:
        """What a thread needs before the first displacement; shared memory."""
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

    def _clear_pools(self) -> None:
        """Stores that pools add to, zero."""
        for store in {step.store for step in self.steps if isinstance(step, Pooling)}:
            first = f"b * {self.context.stores.size} + {store.offset}"
            size = store.planes * store.shape[0] * store.shape[1] * len(self.context.fields)
            with self.write.block(f"for c in range(tid, {size}, {self.count}):"):
                self.write(f"stores[u({first} + c)] = {self.ops.const(0.0)}")

    def _read_table(self) -> None:
        """This thread's displacement in round ``m``; ``alive``: whether it counts."""
        self.write(
            f"g = (m * {self.planes} + level * {self.side} + group) * 3",
            "dy = np.int64(table[u(g)])",
            "dx = np.int64(table[u(g + 1)])",
            "alive = table[u(g + 2)] != 0",
        )

    def _displacement(self) -> None:
        """Where this thread's pixels of x' are, and which edges are dead."""
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

    def _step(self, step: Step, at: str) -> None:
        formula = step.formula if isinstance(step, Window | Point) else None
        self.write(f"# {step.kind}{f' {formula.code}' if formula else ''}")
        getattr(self, f"_{step.kind}")(step, at)

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

    def _load(self, step: Load, at: str) -> None:
        where = self._stored(step.store)
        self._clear(step)
        offsets = (step.store.offset, step.store.t_offset)[: len(self.context.fields)]
        with self.write.block("if number >= 0:"):
            for n, shift in enumerate(self.cells):
                with self._if_inside(n):
                    self._set(step, n, [f"stores[u({where} + {o + shift})]" for o in offsets])

    def _copy(self, step: Keeping, at: str) -> None:
        if step.every == (1, 1):
            self._copy_whole(step)
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

    def _copy_whole(self, step: Keeping) -> None:
        where = self._stored(step.store)
        with self.write.block("if number >= 0 and alive:"):
            for n, shift in enumerate(self.cells):
                names = self._names(step.inputs[0].slot, n)
                offsets = (step.store.offset, step.store.t_offset)
                with self._if_inside(n):
                    for name, offset in zip(names, offsets, strict=False):
                        self.write(f"stores[u({where} + {offset + shift})] = {name}")

    def _point(self, step: Point, at: str) -> None:
        factors = self._factors(step.formula, at)
        for n in range(len(self.cells)):
            found = prescaled(self.ops, step.formula, self._names(step.inputs[0].slot, n))
            self._set(step, n, activate(self.ops, step.formula, found, *factors(n)))

    def _add(self, step: Sum, at: str) -> None:
        first, second = step.inputs
        for n in range(len(self.cells)):
            both = zip(self._names(first.slot, n), self._names(second.slot, n), strict=True)
            self._set(step, n, [self.ops.add(a, b) for a, b in both])

    def _window(self, step: Window, at: str) -> None:
        (source,), formula = step.inputs, step.formula
        planes = self._planes(source.slot)
        if step.affine.window != (1, 1):
            planes = self._box(planes, step.affine)
        factors = self._factors(formula, at) if formula is not None else None
        for n, sums in enumerate(zip(*planes, strict=True)):
            found = affine(self.ops, step.affine, formula, list(sums))
            if formula is not None and factors is not None:
                found = activate(self.ops, formula, found, *factors(n))
            self._set(step, n, found)

    def _reduce(self, step: Reducing, at: str) -> None:
        found = []
        for names in self._own_planes(step.inputs[0].slot):
            while len(names) > 1:
                pairs = zip(names[::2], names[1::2], strict=False)
                odd = names[-1:] if len(names) % 2 else []
                names = [self.ops.add(a, b) for a, b in pairs] + odd
            found += names
        self.sums.add(self.write, at, found, self.counted)

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


def _filled(groups: Sequence[Any], planes: int) -> Ints:
    """Rows (dy, dx, 1) of groups of displacements, (n, 2) each, filled up to a multiple of
    ``planes`` by rows (dy, dx, 0)."""
    parts = []
    for group in groups:
        part = np.ones((len(group) + -len(group) % planes, 3), dtype=np.int32)
        part[:, :2] = group[0]
        part[: len(group), :2] = group
        part[len(group) :, 2] = 0
        parts.append(part)
    return np.concatenate(parts)
