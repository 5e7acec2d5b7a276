"""The form for values of one pixel: a thread per pair takes K and T through all steps in registers.

Vectors, and everything behind Flatten or a global pool. Inner products of vectors come from
:func:`product_kernel`, a tiled matrix product.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from widegram.activations import Formula
from widegram.cuda.context import Context
from widegram.cuda.generated import SIGNATURE, KernelText
from widegram.cuda.rolling import write_steps
from widegram.cuda.text_ops import Factors, TextOps, activate, affine, find_pair, prescaled, product
from widegram.cuda.writer import Writer
from widegram.plan.program import Program
from widegram.plan.steps import (
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

_THREADS = 128
_NO_TABLE = np.zeros((1, 1), dtype=np.int32)


def fits(context: Context, program: Program) -> bool:
    """Whether a program consists of values of one pixel, each from one pixel."""
    values = [v for step in program.steps for v in (step.out, *step.inputs) if v is not None]
    one = all(value.shape == (1, 1) for value in values)
    return one and all(_is_pixel(context, step) for step in program.steps)


def _is_pixel(context: Context, step: Step) -> bool:
    match step:
        case MakeInput():
            return context.plan.vector
        case Load(store=store):
            return store.reduced
        case Window(affine=affine):
            return affine.window == (1, 1)
        case Keeping() | Pooling():
            return False
    return True


class PointForm:
    """Writes programs of single pixels that run one after the other, as those behind the readouts
    of a depth sweep do."""

    def __init__(self, context: Context, programs: Sequence[Program]) -> None:
        self.context = context
        self.steps = [step for program in programs for step in context.steps(program)]
        self.write = Writer(context.dtype)
        self.ops = TextOps(self.write)

    def kernel(self, name: str) -> KernelText:
        """The finished kernel."""
        write = self.write
        stride = self.context.layout.total + 1
        write(f"b = cuda.blockIdx.x * {_THREADS} + cuda.threadIdx.x")
        with write.block("if b < n:"):
            find_pair(write)
            write(f"fa = np.int64(row) * {stride}", f"fb = np.int64(col) * {stride}")
            write_steps(write, self.steps, self._step)
        text = write.module(f"One pixel a pair: {name}.", SIGNATURE)
        return KernelText(name, "point", text, (_THREADS, 1), _NO_TABLE)

    def _names(self, value: Value) -> list[str]:
        return [f"{field}{value.slot}_" for field in self.context.fields]

    def _step(self, step: Step, at: str) -> None:
        found: list[str] = []
        read = [self._names(value) for value in step.inputs]
        zero = self.ops.const(0.0)
        match step:
            case MakeInput():
                found = [self.write.let("x[u(row * columns + col)]"), zero]
            case Load():
                found = self._load(at)
            case Sum():
                found = [self.ops.add(a, b) for a, b in zip(*read, strict=True)]
            case Product():
                found = product(self.ops, *read)
            case Point(formula=formula):
                found = self._dual(formula, at, prescaled(self.ops, formula, read[0]))
            case Window(affine=conv, formula=formula):
                found = self._dual(formula, at, affine(self.ops, conv, formula, read[0]))
            case Result():
                for n, value in enumerate(read[0]):
                    self.write(f"out[u(({at} + {n}) * n + b)] = {value}")
            case Reducing(scale=scale):
                for n, value in enumerate(read[0]):
                    self.write(f"sums[u({self._sums(at)} + {n})] = {scale!r} * {value}")
        if isinstance(step, Making):
            for name, value in zip(self._names(step.out), found, strict=False):
                self.write(f"{name} = {value}")

    def _load(self, at: str) -> list[str]:
        places = [f"{self._sums(at)} + {n}" for n in range(len(self.context.fields))]
        return [self.write.let(f"real(sums[u({place})])") for place in places]

    def _sums(self, at: str) -> str:
        """Where a reduced value stands."""
        return f"b * {self.context.stores.sums} + {at}"

    def _dual(self, formula: Formula | None, at: str, read: list[str]) -> list[str]:
        if formula is None:
            return read
        count = formula.n_factors
        fx, fy = (
            Factors(self.write, array, self.write.let(f"{base} + {at}", "at"), 1, count)
            for array, base in (("fx", "fa"), ("fy", "fb"))
        )
        return activate(self.ops, formula, read, fx, fy)


# The matrix product: a block of 16 x 16 threads makes 64 x 64 products, 4 x 4 each.
PRODUCT_SIGNATURE = "rows, columns, features, x, y, out"
PRODUCT_TILE = 64
_SIDE, _EACH, _DEPTH = 16, 4, 16
_CHUNK = 8
# One more than a tile: threads that write a column of it meet different banks.
_PITCH = PRODUCT_TILE + 1


def product_kernel(dtype: str) -> KernelText:
    """out (rows, columns) = x y^T of x (rows, features), y (columns, features), row-major.

    Sums run over chunks of 128 features, each from zero, so that float32 loses no more than a
    chunk's rounding; the order is the same for every entry.
    """
    write = Writer(dtype)
    zero, pairs = write.constant(0.0), [(i, j) for i in range(_EACH) for j in range(_EACH)]
    _product_start(write)
    write(*(f"{name}{i}{j} = {zero}" for name in "sp" for i, j in pairs))
    write("chunk = 0", "begin = 0")
    with write.block("while begin < features:"):
        _product_fill(write, zero)
        write("cuda.syncthreads()")
        for f in range(_DEPTH):
            for i in range(_EACH):
                at = f * _PITCH + i * _SIDE
                write(f"a{i} = left[u(ty + {at})]", f"b{i} = right[u(tx + {at})]")
            write(*(f"p{i}{j} = a{i} * b{j} + p{i}{j}" for i, j in pairs))
        write("cuda.syncthreads()", f"begin += {_DEPTH}", "chunk += 1")
        with write.block(f"if chunk == {_CHUNK}:"):
            write("chunk = 0", *(f"s{i}{j} += p{i}{j}" for i, j in pairs))
            write(*(f"p{i}{j} = {zero}" for i, j in pairs))
    for i, j in pairs:
        row, col = f"first + ty + {i * _SIDE}", f"second + tx + {j * _SIDE}"
        with write.block(f"if {row} < rows and {col} < columns:"):
            write(f"out[u(({row}) * columns + {col})] = s{i}{j} + p{i}{j}")
    text = write.module("Inner products of vectors.", PRODUCT_SIGNATURE)
    return KernelText("product", "product", text, (_SIDE, _SIDE), _NO_TABLE)


def _product_start(write: Writer) -> None:
    """Where a thread reads: feature f of four rows of x and of y. Rows past the end read the last
    one; nothing of theirs is stored."""
    write(
        "tx = cuda.threadIdx.x",
        "ty = cuda.threadIdx.y",
        f"f = (ty * {_SIDE} + tx) % {_DEPTH}",
        f"r = (ty * {_SIDE} + tx) // {_DEPTH}",
        f"first = cuda.blockIdx.y * {PRODUCT_TILE}",
        f"second = cuda.blockIdx.x * {PRODUCT_TILE}",
        f"left = cuda.shared.array({_DEPTH * _PITCH}, scalar)",
        f"right = cuda.shared.array({_DEPTH * _PITCH}, scalar)",
        f"to = f * {_PITCH} + r",
    )
    for i in range(_EACH):
        for name, start, size in (("xa", "first", "rows"), ("ya", "second", "columns")):
            row = f"min({start} + r + {i * _SIDE}, {size} - 1)"
            write(f"{name}{i} = np.int64({row}) * features + f")


def _product_fill(write: Writer, zero: str) -> None:
    """The next features of both tiles to shared memory; 0 past the last one."""
    for n in range(_EACH):
        write(f"v{n} = {zero}", f"w{n} = {zero}")
    with write.block("if begin + f < features:"):
        for n in range(_EACH):
            write(f"v{n} = x[u(xa{n} + begin)]", f"w{n} = y[u(ya{n} + begin)]")
    for n in range(_EACH):
        at = f"u(to + {n * _SIDE})"
        write(f"left[{at}] = v{n}", f"right[{at}] = w{n}")
