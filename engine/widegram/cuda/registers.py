"""What the forms that keep planes in registers share.

A thread holds the same pixels of a plane through all steps of a program. Every plane is a torus:
with zero padding the edge between two rows, or two columns, is dead where it crosses the border of
either image; that is a factor of 0 or 1, which costs nothing in a multiply-add.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar

import numpy as np

from widegram.activations import Formula
from widegram.cuda.context import Context
from widegram.cuda.generated import SIGNATURE, Ints, KernelText
from widegram.cuda.rolling import write_steps
from widegram.cuda.sums import Sums
from widegram.cuda.text_ops import (
    PixelFactors,
    TextOps,
    activate,
    affine,
    prescaled,
    product,
    share_pair,
)
from widegram.cuda.window_sums import windows
from widegram.cuda.writer import Writer
from widegram.plan.buffers import ANYWHERE, allocate
from widegram.plan.cells import space
from widegram.plan.program import Program
from widegram.plan.steps import (
    Keeping,
    Load,
    Making,
    Point,
    Pooling,
    Product,
    Reducing,
    Step,
    Sum,
    Window,
)
from widegram.plan.stores import Store
from widegram.plan.whole_planes import whole

# The factors of x and of x' at the n-th pixel of a thread.
FactorsAt = Callable[[int], tuple[PixelFactors, PixelFactors]]


class RegisterForm(ABC):
    """Writes one program whose planes live in registers; a subclass says which pixels a thread has.

    A subclass sets

    * ``threads``: (x, y) of a thread block
    * ``planes``: on how many a thread block works at once
    * ``cells``: positions of a thread's pixels in a plane, less that of its first one
    * ``registers``: the most that a thread may use

    The text that it writes defines ``b``, ``tid``, ``row`` and ``col``, and for every displacement

    * ``dy``, ``dx``: the displacement; ``alive``: whether it counts
    * ``first``, ``j``: row and column of the first pixel in x
    * ``p``, ``q``: row and column of that pixel's partner in x'
    """

    form: ClassVar[str]
    # The type in which rounds are counted: which of them leaves a form more registers is up to the
    # assembler.
    counting: ClassVar[str]
    threads: tuple[int, int]
    planes: int
    cells: tuple[int, ...]
    registers: int

    def __init__(self, context: Context, program: Program) -> None:
        self.context = context
        self.space, steps = whole(space(program), context.steps(program))
        self.steps, _ = allocate(steps, ANYWHERE)
        (((self.height, self.width), _),) = self.space.lattices
        self.write = Writer(context.dtype)
        self.ops = TextOps(self.write)
        wide = windows(steps)
        self.circular = bool(wide) and wide[0].circular

    @property
    def count(self) -> int:
        """Threads of a block."""
        return self.threads[0] * self.threads[1]

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
        with self.write.block(f"for m in range({self.counting}({len(table) // self.planes})):"):
            self._read_table()
            self._displacement()
            write_steps(self.write, self.steps, self._step)
        self.sums.finish(self.write)
        text = self.write.module(f"Planes in registers: {name}.", SIGNATURE)
        return KernelText(
            name, self.form, text, self.threads, table, dynamic=self._dynamic(),
            registers=self.registers, pixels=len(self.cells), held=self.sums.held,
        )  # fmt: skip

    @abstractmethod
    def _table(self) -> Ints:
        """(dy, dx, 1) of every displacement; ``planes`` consecutive rows are worked on at once.

        Rows (dy, dx, 0) that fill up such a group do not count.
        """

    def _dynamic(self) -> int:
        """Bytes of shared memory beyond what every card has to give."""
        return 0

    def _pair(self) -> None:
        """Which thread this is, and the pair of images of its block."""
        self.write(
            "b = cuda.blockIdx.x",
            "tx = cuda.threadIdx.x",
            "ty = cuda.threadIdx.y",
            f"tid = ty * {self.threads[0]} + tx",
        )
        share_pair(self.write)

    @abstractmethod
    def _prologue(self) -> None:
        """What a thread needs before the first displacement; shared memory."""

    def _clear_pools(self) -> None:
        """Stores that pools add to, zero."""
        for store in {step.store for step in self.steps if isinstance(step, Pooling)}:
            first = f"b * {self.context.stores.size} + {store.offset}"
            size = store.planes * store.shape[0] * store.shape[1] * len(self.context.fields)
            with self.write.block(f"for c in range(tid, {size}, {self.count}):"):
                self.write(f"stores[u({first} + c)] = {self.ops.const(0.0)}")

    @abstractmethod
    def _place(self) -> str:
        """Number of this thread's plane among the ``planes`` of a block."""

    def _read_table(self) -> None:
        """This thread's displacement in round ``m``; ``alive``: whether it counts."""
        self.write(
            f"g = (m * {self.planes} + {self._place()}) * 3",
            "dy = np.int64(table[u(g)])",
            "dx = np.int64(table[u(g + 1)])",
            "alive = table[u(g + 2)] != 0",
        )

    @abstractmethod
    def _displacement(self) -> None:
        """Where this thread's pixels of x' are, and which edges are dead."""

    def _step(self, step: Step, at: str) -> None:
        formula = step.formula if isinstance(step, Window | Point) else None
        self.write(f"# {step.kind}{f' {formula.code}' if formula else ''}")
        getattr(self, f"_{step.kind}")(step, at)

    # registers --------------------------------------------------------------------------------

    def _names(self, slot: int, n: int) -> list[str]:
        """K, and T, of pixel n."""
        return [f"{field}{slot}_{n}" for field in self.context.fields]

    def _planes(self, slot: int) -> list[list[str]]:
        """The names of all pixels of a buffer: for K, and T, a list."""
        names = [self._names(slot, n) for n in range(len(self.cells))]
        return [list(field) for field in zip(*names, strict=True)]

    def _own_planes(self, slot: int) -> list[list[str]]:
        """As :meth:`_planes`, zero where a pixel is not one of the image."""
        planes = self._planes(slot)
        return [[self._or_zero(name, n) for n, name in enumerate(names)] for names in planes]

    def _or_zero(self, name: str, n: int) -> str:
        """A value of pixel n where that is one of the image, else zero."""
        inside = self._inside(n)
        zero = self.ops.const(0.0)
        return self.write.let(f"{name} if {inside} else {zero}") if inside else name

    def _inside(self, n: int) -> str:
        """The condition under which pixel n is one of the image, '' where every thread's is."""
        return ""

    def _if_inside(self, n: int) -> AbstractContextManager[None]:
        """A block for what only pixels of the image do."""
        inside = self._inside(n)
        return self.write.block(f"if {inside}:") if inside else nullcontext()

    def _set(self, step: Making, n: int, found: list[str]) -> None:
        for name, value in zip(self._names(step.out.slot, n), found, strict=True):
            self.write(f"{name} = {value}")

    def _clear(self, step: Making) -> None:
        for n in range(len(self.cells)):
            self._set(step, n, [self.ops.const(0.0)] * len(self.context.fields))

    def _stored(self, store: Store) -> str:
        """Set ``number``, the plane's in the store; position of the first pixel, less offset."""
        h, w = store.shape
        self.write(f"number = np.int64(index[u({store.index} + dy * {w} + dx)])")
        inside = f"number * {h * w} + first * {w} + j"
        return self.write.let(f"b * {self.context.stores.size} + {inside}", "at")

    # steps ------------------------------------------------------------------------------------

    @abstractmethod
    def _expect(self, formula: Formula, at: str) -> None:
        """Begin to fetch what :meth:`_factors` gives; called before a window is summed up."""

    @abstractmethod
    def _factors(self, formula: Formula, at: str) -> FactorsAt:
        """The factors of a formula, which begin at ``at``."""

    def _load(self, step: Load, at: str) -> None:
        where = self._stored(step.store)
        self._clear(step)
        offsets = (step.store.offset, step.store.t_offset)[: len(self.context.fields)]
        with self.write.block("if number >= 0:"):
            for n, shift in enumerate(self.cells):
                with self._if_inside(n):
                    self._set(step, n, [f"stores[u({where} + {o + shift})]" for o in offsets])

    def _copy(self, step: Keeping, at: str) -> None:
        where = self._stored(step.store)
        with self.write.block("if number >= 0 and alive:"):
            for n, shift in enumerate(self.cells):
                names = self._names(step.inputs[0].slot, n)
                offsets = (step.store.offset, step.store.t_offset)
                with self._if_inside(n):
                    for name, offset in zip(names, offsets, strict=False):
                        self.write(f"stores[u({where} + {offset + shift})] = {name}")

    def _point(self, step: Point, at: str) -> None:
        self._expect(step.formula, at)
        factors = self._factors(step.formula, at)
        for n in range(len(self.cells)):
            found = prescaled(self.ops, step.formula, self._names(step.inputs[0].slot, n))
            self._set(step, n, activate(self.ops, step.formula, found, *factors(n)))

    def _multiply(self, step: Product, at: str) -> None:
        first, second = step.inputs
        for n in range(len(self.cells)):
            both = self._names(first.slot, n), self._names(second.slot, n)
            self._set(step, n, product(self.ops, *both))

    def _add(self, step: Sum, at: str) -> None:
        first, second = step.inputs
        for n in range(len(self.cells)):
            both = zip(self._names(first.slot, n), self._names(second.slot, n), strict=True)
            self._set(step, n, [self.ops.add(a, b) for a, b in both])

    def _window(self, step: Window, at: str) -> None:
        (source,), formula = step.inputs, step.formula
        if formula is not None:
            self._expect(formula, at)
        planes = self._planes(source.slot)
        if step.affine.window != (1, 1):
            planes = self._box(planes, step)
        factors = self._factors(formula, at) if formula is not None else None
        for n, sums in enumerate(zip(*planes, strict=True)):
            found = affine(self.ops, step.affine, formula, list(sums))
            if formula is not None and factors is not None:
                found = activate(self.ops, formula, found, *factors(n))
            self._set(step, n, found)

    @abstractmethod
    def _box(self, planes: list[list[str]], step: Window) -> list[list[str]]:
        """Sums over the windows of all pixels of ``planes``, as :meth:`_planes` gives them."""

    def _reduce(self, step: Reducing, at: str) -> None:
        found = []
        for names in self._own_planes(step.inputs[0].slot):
            while len(names) > 1:
                pairs = zip(names[::2], names[1::2], strict=False)
                odd = names[-1:] if len(names) % 2 else []
                names = [self.ops.add(a, b) for a, b in pairs] + odd
            found += names
        self.sums.add(self.write, at, found, self.counted)


def filled(groups: Sequence[Any], planes: int) -> Ints:
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
