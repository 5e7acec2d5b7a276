"""Elements of planes in the block form: which ones a thread owns, and where they stand."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from widegram.activations import Formula
from widegram.cuda.context import Context
from widegram.cuda.generated import WARP
from widegram.cuda.sums import Sums
from widegram.cuda.text_ops import Factors, TextOps, activate
from widegram.cuda.writer import Writer
from widegram.plan.buffers import BUT_WINDOWS, allocate
from widegram.plan.cells import space
from widegram.plan.program import Program
from widegram.plan.steps import Making, Value
from widegram.plan.stores import Store

MOST_THREADS = 256
# Pixels of a step that a thread should have.
_PIXELS = 4


@dataclass(frozen=True)
class Pixel:
    """Names of one element: pixel (i, j) of x, (p, q) of x', segments e (rows) and f (columns)."""

    i: str
    j: str
    p: str
    q: str
    e: str
    f: str


def _power(n: int) -> int:
    """The smallest power of two that is at least n."""
    return 1 << (n - 1).bit_length()


class Elements:
    """The space of one program and the text that reaches its elements; ``threads``: at most so many
    in a block (a power of two)."""

    def __init__(self, context: Context, program: Program, threads: int = MOST_THREADS) -> None:
        self.context = context
        self.space = space(program)
        self.steps, _ = allocate(context.steps(program), BUT_WINDOWS)
        self.write = Writer(context.dtype)
        self.ops = TextOps(self.write)
        rows = max((shape[0] for shape, _ in self.space.lattices), default=1)
        cols = max((shape[1] for shape, _ in self.space.lattices), default=1)
        self.bx = min(WARP, threads, _power(cols))
        # What a thread finds out of a step is worth some pixels; a block has a warp at least.
        by = max(_power(rows) // _PIXELS, WARP // self.bx)
        self.by = max(1, min(threads // self.bx, by))
        self.threads = self.bx * self.by
        self.row = len(program.steps) + 4 * len(self.space.lattices)
        self.slot_at, self.plane_of, at = {}, {}, 0
        segments = self.space.torus[0].segments * self.space.torus[1].segments
        made = [step.out for step in self.steps if isinstance(step, Making)]
        for slot, (h, w) in sorted({value.slot: value.shape for value in made}.items()):
            self.plane_of[slot] = h * w * segments
            self.slot_at[slot] = at
            at += self.plane_of[slot] * len(context.fields)
        self.numbers = at
        self.sums = Sums(context, self.steps, self.threads)
        self.base = ""

    @contextmanager
    def _pixels(self, value: Value) -> Iterator[Pixel]:
        """Loops over the living elements of a value that this thread owns."""
        with ExitStack() as stack:
            i, p, e = self._axis(stack, 0, value, "ty", self.by, "y")
            j, q, f = self._axis(stack, 1, value, "tx", self.bx, "x")
            yield Pixel(i, j, p, q, e, f)

    def _axis(
        self, stack: ExitStack, axis: int, value: Value, thread: str, step: int, letter: str
    ) -> tuple[str, str, str]:
        write, size = self.write, value.shape[axis]
        lattice = self.space.number(value)
        first, second = f"{letter}a{lattice}", f"{letter}b{lattice}"
        i, p = ("i", "p") if axis == 0 else ("j", "q")
        if not self.space.torus[axis].split:
            stack.enter_context(write.block(f"for {i} in range({thread}, {size}, {step}):"))
            write(f"{p} = {i} + {first}")
            with write.block(f"if {p} >= {size}:"):
                write(f"{p} = {i} + {second}")
            stack.enter_context(write.block(f"if {p} >= 0:"))
            return i, p, "0"
        e = "e" if axis == 0 else "f"
        stack.enter_context(write.block(f"for {e} in range(2):"))
        stack.enter_context(write.block(f"for {i} in range({thread}, {size}, {step}):"))
        write(f"{p} = {i} + ({first} if {e} == 0 else {second})")
        stack.enter_context(write.block(f"if {p} >= 0 and {p} < {size}:"))
        return i, p, e

    def _place(self, value: Value, i: str, j: str, e: str, f: str) -> str:
        """Position of K's element in ``planes``."""
        h, w = value.shape
        across = w * self.space.torus[1].segments
        row = i if e == "0" else f"({e} * {h} + {i})"
        col = j if f == "0" else f"{f} * {w} + {j}"
        return f"{self.base}{self.slot_at[value.slot]} + {row} * {across} + {col}"

    def _at(self, value: Value, pixel: Pixel) -> str:
        return self.write.let(self._place(value, pixel.i, pixel.j, pixel.e, pixel.f), "at")

    def _get(self, value: Value, at: str) -> list[str]:
        """K, and T, at a position."""
        size = self.plane_of[value.slot]
        shifts = ["", f" + {size}"][: len(self.context.fields)]
        return [self.write.let(f"planes[u({at}{shift})]") for shift in shifts]

    def _put(self, value: Value, pixel: Pixel, found: list[str]) -> None:
        at = self._at(value, pixel)
        size = self.plane_of[value.slot]
        for shift, name in zip(["", f" + {size}"], found, strict=False):
            self.write(f"planes[u({at}{shift})] = {name}")

    def _dual(
        self, value: Value, formula: Formula | None, pixel: Pixel, at: str, found: list[str]
    ) -> list[str]:
        """The activation, if any, applied to K and T."""
        if formula is None:
            return found
        h, w = value.shape
        count = formula.n_factors
        fx, fy = (
            Factors(
                self.write, array, self.write.let(f"{base} + {at} + {i} * {w} + {j}", "at"),
                self.context.layout.plane(h, w), count,
            )
            for array, base, i, j in (
                ("fx", "fa", pixel.i, pixel.j),
                ("fy", "fb", pixel.p, pixel.q),
            )
        )  # fmt: skip
        return activate(self.ops, formula, found, fx, fy)

    def _stored(self, store: Store, pixel: Pixel) -> str:
        """Set ``plane``; the position of the element in the pair's store, without its offset."""
        write, (h, w) = self.write, store.shape
        write(f"dy = {pixel.p} - {pixel.i}", f"dx = {pixel.q} - {pixel.j}")
        with write.block("if dy < 0:"):
            write(f"dy += {h}")
        with write.block("if dx < 0:"):
            write(f"dx += {w}")
        write(f"plane = np.int64(index[u({store.index} + dy * {w} + dx)])")
        inside = f"plane * {h * w} + {pixel.i} * {w} + {pixel.j}"
        return self.write.let(f"b * {self.context.stores.size} + {inside}", "at")
