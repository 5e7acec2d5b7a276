"""The general form: a thread block per pair of images walks the displacements of one program.

Planes lie in shared memory, or in global scratch where they are too large; a thread owns pixels.
Between steps all threads of the block meet, so that windows may read what others wrote. Everything
about a step is a constant in the text; runs of equal steps are loops.
"""

from __future__ import annotations

from contextlib import ExitStack, nullcontext

import numpy as np

from widegram.cuda.block_elements import MOST_THREADS, Elements, Pixel
from widegram.cuda.generated import MULTIPROCESSOR, SHARED_BYTES, SIGNATURE, KernelText
from widegram.cuda.rolling import write_steps
from widegram.cuda.text_ops import affine, counted, prescaled, product, share_pair
from widegram.plan.steps import (
    Counting,
    Keeping,
    Load,
    MakeInput,
    Making,
    Point,
    Pooling,
    Product,
    Reducing,
    Result,
    Step,
    Sum,
    Value,
    Window,
)


class BlockForm(Elements):
    """Writes one program."""

    # the kernel -------------------------------------------------------------------------------

    def kernel(self, name: str) -> KernelText:
        """The finished kernel."""
        planes = self.numbers * np.dtype(self.context.dtype).itemsize
        nbytes = planes + self.sums.nbytes
        shared = nbytes <= self.context.shared
        dynamic = planes if shared and nbytes > SHARED_BYTES else 0
        self.base = "" if shared else "at + "
        self._prologue(shared, 0 if dynamic else self.numbers)
        with self.write.block(f"for m in range({len(self.space.base)}):"):
            self.write(f"g = m * {self.row}")
            for n in range(len(self.space.lattices)):
                for s, text in enumerate(("ya", "yb", "xa", "xb")):
                    column = len(self.steps) + 4 * n + s
                    self.write(f"{text}{n} = table[u(g + {column})]")
            self.write("flag = g")
            write_steps(self.write, self.steps, self._step)
        self.sums.finish(self.write)
        text = self.write.module(f"Planes in blocks: {name}.", SIGNATURE)
        scratch = 0 if shared else self.numbers
        threads, table = (self.bx, self.by), self.space.table()
        registers = MULTIPROCESSOR // self.threads if self.threads > MOST_THREADS else 0
        return KernelText(
            name, "block", text, threads, table, scratch, dynamic, registers, held=self.sums.held
        )

    def _prologue(self, shared: bool, size: int) -> None:
        """``size`` of the array of planes in shared memory, 0 where it is given at launch."""
        write, stores = self.write, self.context.stores
        write(
            "b = cuda.blockIdx.x",
            "tx = np.int64(cuda.threadIdx.x)",
            "ty = np.int64(cuda.threadIdx.y)",
            f"tid = ty * {self.bx} + tx",
        )
        share_pair(write)
        write(
            f"fa = row * {self.context.layout.total + 1}",
            f"fb = col * {self.context.layout.total + 1}",
        )
        if self.numbers and shared:
            write(f"planes = cuda.shared.array({size}, scalar)")
        elif self.numbers:
            write("planes = scratch", f"at = b * {self.numbers}")
        self.sums.start(write)
        for store in {step.store for step in self.steps if isinstance(step, Pooling)}:
            first = f"b * {stores.size} + {store.offset}"
            size = store.planes * store.shape[0] * store.shape[1] * len(self.context.fields)
            with write.block(f"for c in range(tid, {size}, {self.threads}):"):
                write(f"stores[u({first} + c)] = {self.ops.const(0.0)}")
        write("cuda.syncthreads()")

    def _step(self, step: Step, at: str) -> None:
        with self.write.block("if table[u(flag)] != 0:"):
            # Positions of every step, kept from one displacement to the next, took 130 registers.
            self.write(f"# {_title(step)}", "tx = opaque(tx)", "ty = opaque(ty)")
            getattr(self, f"_{step.kind}")(step, at)
        if isinstance(step, Making | Pooling):
            self.write("cuda.syncthreads()")
        self.write("flag += 1")

    # steps ------------------------------------------------------------------------------------

    def _input(self, step: MakeInput, at: str) -> None:
        write, (h, w), c = self.write, step.out.shape, self.context.channels
        with self._pixels(step.out) as pixel:
            zero = self.ops.const(0.0)
            write(f"k = {zero}")
            size = self.context.layout.plane(h, w)
            first = write.let(f"row * {c * size} + {pixel.i} * {w} + {pixel.j}", "at")
            second = write.let(f"col * {c * size} + {pixel.p} * {w} + {pixel.q}", "at")
            with write.block(f"for c in range({c}):"):
                write(f"k += x[u({first} + c * {size})] * y[u({second} + c * {size})]")
            self._put(step.out, pixel, ["k", zero][: len(self.context.fields)])

    def _load(self, step: Load, at: str) -> None:
        write, store = self.write, step.store
        with self._pixels(step.out) as pixel:
            if store.reduced:
                first = f"b * {self.context.stores.sums} + {at}"
                fields = range(len(self.context.fields))
                found = [write.let(f"real(sums[u({first} + {n})])") for n in fields]
                self._put(step.out, pixel, found)
                return
            for name in self.context.fields:
                write(f"{name} = {self.ops.const(0.0)}")
            where = self._stored(store, pixel)
            with write.block("if plane >= 0:"):
                for name, offset in zip(
                    self.context.fields, (store.offset, store.t_offset), strict=False
                ):
                    write(f"{name} = stores[u({where} + {offset})]")
            self._put(step.out, pixel, list(self.context.fields))

    def _point(self, step: Point, at: str) -> None:
        with self._pixels(step.out) as pixel:
            found = self._get(step.inputs[0], self._at(step.inputs[0], pixel))
            found = prescaled(self.ops, step.formula, found)
            self._put(step.out, pixel, self._dual(step.out, step.formula, pixel, at, found))

    def _add(self, step: Sum, at: str) -> None:
        with self._pixels(step.out) as pixel:
            first, second = (self._get(v, self._at(v, pixel)) for v in step.inputs)
            found = [self.ops.add(a, b) for a, b in zip(first, second, strict=True)]
            self._put(step.out, pixel, found)

    def _multiply(self, step: Product, at: str) -> None:
        with self._pixels(step.out) as pixel:
            first, second = (self._get(v, self._at(v, pixel)) for v in step.inputs)
            self._put(step.out, pixel, product(self.ops, first, second))

    def _window(self, step: Window, at: str) -> None:
        if not step.inputs:
            self._constant(step, at)
            return
        write, conv, (source,) = self.write, step.affine, step.inputs
        fields = self.context.fields
        with self._pixels(step.out) as pixel:
            for name in fields:
                write(f"{name} = {self.ops.const(0.0)}")
            columns = [self._column(step, pixel, tap) for tap in range(conv.window[1])]
            with ExitStack() as stack:
                i, e = self._rows(stack, step, pixel)
                for inside, j, f in columns:
                    with write.block(f"if {inside}:") if inside else nullcontext():
                        place = write.let(self._place(source, i, j, e, f), "at")
                        for name, value in zip(fields, self._get(source, place), strict=True):
                            write(f"{name} += {value}")
            found = affine(self.ops, conv, step.formula, list(fields))
            self._put(step.out, pixel, self._dual(step.out, step.formula, pixel, at, found))

    def _constant(self, step: Window, at: str) -> None:
        """A window of no source."""
        zero = self.ops.const(0.0)
        with self._pixels(step.out) as pixel:
            sums = [zero] * len(self.context.fields)
            found = affine(self.ops, step.affine, step.formula, sums)
            self._put(step.out, pixel, self._dual(step.out, step.formula, pixel, at, found))

    def _rows(self, stack: ExitStack, step: Window, pixel: Pixel) -> tuple[str, str]:
        """A loop over the rows of a window: the source row of x, and its segment."""
        write, conv, (source,) = self.write, step.affine, step.inputs
        window, stride, lo, size = conv.window[0], conv.strides[0], conv.lo[0], source.shape[0]
        if window == 1 and lo == 0:
            return _times(pixel.i, stride), pixel.e
        stack.enter_context(write.block(f"for a in range({window}):"))
        for name, of in (("s", pixel.i), ("o", pixel.p)):
            write(f"{name} = {_times(of, stride)} + a - {lo}")
        if conv.circular:
            return self._wrapped(source, 0, "s", "o")
        if lo or conv.hi[0]:
            inside = f"s >= 0 and s < {size} and o >= 0 and o < {size}"
            stack.enter_context(write.block(f"if {inside}:"))
        return "s", pixel.e

    def _column(self, step: Window, pixel: Pixel, tap: int) -> tuple[str, str, str]:
        """A column of a window: when it counts ('' always), the source column, its segment."""
        write, conv, (source,) = self.write, step.affine, step.inputs
        stride, shift, size = conv.strides[1], tap - conv.lo[1], source.shape[1]
        places = [f"{_times(name, stride)} + {shift}" for name in (pixel.j, pixel.q)]
        if conv.circular:
            z, w = (write.let(place, "z") for place in places)
            return "", *self._wrapped(source, 1, z, w)
        last = (step.out.shape[1] - 1) * stride + shift
        outside = [f"{place} >= 0" for place in places] if shift < 0 else []
        outside += [f"{place} < {size}" for place in places] if last >= size else []
        inside = write.let(" and ".join(outside), "inside") if outside else ""
        return inside, places[0] if shift or stride > 1 else pixel.j, pixel.f

    def _wrapped(self, source: Value, axis: int, s: str, o: str) -> tuple[str, str]:
        """Source pixels of x and x' brought back into the image; that of x, and its segment."""
        size = source.shape[axis]
        self.write(f"{s} = {s} % {size}", f"{o} = {o} % {size}")
        if not self.space.torus[axis].split:
            return s, "0"
        lattice = self.space.number(source)
        self.write(f"{s}e = 0 if {o} - {s} == {'yx'[axis]}a{lattice} else 1")
        return s, f"{s}e"

    def _copy(self, step: Keeping, at: str) -> None:
        write, store, (source,) = self.write, step.store, step.inputs
        with self._pixels(source) as pixel:
            where = self._stored(store, pixel)
            with write.block("if plane >= 0:"):
                found = self._get(source, self._at(source, pixel))
                for value, offset in zip(found, (store.offset, store.t_offset), strict=False):
                    write(f"stores[u({where} + {offset})] = {value}")

    def _reduce(self, step: Reducing, at: str) -> None:
        write, (source,) = self.write, step.inputs
        for name in self.context.fields:
            write(f"{name} = {self.ops.const(0.0)}")
        with self._pixels(source) as pixel:
            found = self._get(source, self._at(source, pixel))
            for name, value in zip(self.context.fields, found, strict=True):
                write(f"{name} += {value}")
        self.sums.add(write, at, self.context.fields)

    def _count(self, step: Counting, at: str) -> None:
        """A pair of pixels counts as often as there are windows that hold both."""
        write, (source,), pairs = self.write, step.inputs, step.counted
        for name in self.context.fields:
            write(f"{name} = {self.ops.const(0.0)}")
        with self._pixels(source) as pixel:
            rows = counted(self.ops, pairs, 0, pixel.i, pixel.p)
            weight = self.ops.mul(rows, counted(self.ops, pairs, 1, pixel.j, pixel.q))
            found = self._get(source, self._at(source, pixel))
            for name, value in zip(self.context.fields, found, strict=True):
                write(f"{name} += {weight} * {value}")
        self.sums.add(write, at, self.context.fields)

    def _output(self, step: Result, at: str) -> None:
        (source,) = step.inputs
        with self.write.block("if tid == 0:"):
            found = self._get(source, self.write.let(self._place(source, "0", "0", "0", "0"), "at"))
            for n, value in enumerate(found):
                self.write(f"out[u(({at} + {n}) * n + b)] = {value}")

    def _pool(self, step: Pooling, at: str) -> None:
        """Pooled pixel P = (i, j) belongs to one thread, which adds what its window holds."""
        write, store, (source,) = self.write, step.store, step.inputs
        oh, ow = store.shape
        with ExitStack() as stack:
            enter = stack.enter_context
            for name, thread, by, size in (("i", "ty", self.by, oh), ("j", "tx", self.bx, ow)):
                enter(write.block(f"for {name} in range({thread}, {size}, {by}):"))
            s, e, dy = self._pooled(stack, step, 0)
            z, f, dx = self._pooled(stack, step, 1)
            write(f"plane = np.int64(index[u({store.index} + {dy} * {ow} + {dx})])")
            enter(write.block("if plane >= 0:"))
            found = self._get(source, write.let(self._place(source, s, z, e, f), "at"))
            inside = f"plane * {oh * ow} + i * {ow} + j"
            where = write.let(f"b * {self.context.stores.size} + {inside}", "at")
            for value, offset in zip(found, (store.offset, store.t_offset), strict=False):
                scale = self.ops.const(step.pool.scale)
                write(f"stores[u({where} + {offset})] += {scale} * {value}")

    def _pooled(self, stack: ExitStack, step: Pooling, axis: int) -> tuple[str, str, str]:
        """Loops along one axis over taps of P and of the windows P' of x' that meet their partner.

        Gives the source pixel, its segment, and P' - P modulo the pooled size.
        """
        write, pool, (source,) = self.write, step.pool, step.inputs
        enter = stack.enter_context
        size, pooled = source.shape[axis], step.store.shape[axis]
        window, stride, lo = pool.window[axis], pool.strides[axis], pool.lo[axis]
        own, tap, s, o, other, turn, to, d = (
            ("i", "a", "s", "o", "v", "r", "p", "dy"),
            ("j", "c", "z", "w", "l", "h", "q", "dx"),
        )[axis]
        letter, lattice = "yx"[axis], self.space.number(source)
        first, second = f"{letter}a{lattice}", f"{letter}b{lattice}"
        enter(write.block(f"for {tap} in range({window}):"))
        write(f"{s} = {own} * {stride} + {tap} - {lo}")
        if pool.circular:
            write(f"{s} = {s} % {size}")
        else:
            enter(write.block(f"if {s} >= 0 and {s} < {size}:"))
        segment = "0"
        if self.space.torus[axis].split:
            segment = "ef"[axis]
            enter(write.block(f"for {segment} in range(2):"))
            write(f"{o} = {s} + ({first} if {segment} == 0 else {second})")
        else:
            write(f"{o} = {s} + {first}")
            with write.block(f"if {o} >= {size}:"):
                write(f"{o} = {s} + {second}")
        enter(write.block(f"if {o} >= 0 and {o} < {size}:"))
        enter(write.block(f"for {other} in range({window}):"))
        place = f"{o} + {lo} - {other}"
        if pool.circular:
            turns = 1 + window // size
            enter(write.block(f"for {turn} in range({-turns}, {turns + 1}):"))
            place += f" + {turn} * {size}"
        write(f"{to} = {place}")
        enter(write.block(f"if {to} >= 0 and {to} % {stride} == 0 and {to} < {stride * pooled}:"))
        write(f"{d} = {to} // {stride} - {own}")
        with write.block(f"if {d} < 0:"):
            write(f"{d} += {pooled}")
        return s, segment, d


def _times(name: str, stride: int) -> str:
    return name if stride == 1 else f"{name} * {stride}"


def _title(step: Step) -> str:
    """What a step is, for the reader of the text."""
    parts = [step.kind]
    if isinstance(step, Window):
        parts.append("x".join(map(str, step.affine.window)))
    if isinstance(step, Window | Point) and step.formula is not None:
        parts.append(step.formula.code)
    return " ".join(parts)
