"""The facade of operations as source text: every operation writes a line and gives back a name.

Arithmetic contracts to fused multiply-adds where the compiler likes; nothing is reordered in the
text. In float32 the kernels are compiled with approximate division and square root (2 units).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from widegram.activations import Formula
from widegram.activations.mixture_sums import BLOCKS, join, pair_sums
from widegram.activations.polynomials import ARC
from widegram.cuda.writer import Writer
from widegram.machine.dtypes import FLOOR, SNAP
from widegram.plan.counted import Counted
from widegram.plan.operations import Affine

_RESOLUTION = {"float32": 2.0**-24, "float64": 2.0**-53}
# Instead of 0 under a root in float64, which is made from the root's reciprocal.
_TINY = 1e-300


class PixelFactors(Protocol):
    """The factors of one image at one pixel."""

    @property
    def count(self) -> int:
        """How many there are."""
        ...

    def __getitem__(self, n: int) -> str:
        """The name of factor number n."""
        ...

    def term(self, n: str) -> str:
        """Factor number ``n``, a variable, as an expression."""
        ...


@dataclass(frozen=True)
class Factors:
    """Factors of one image at one pixel: number n stands at ``array``[``at`` + n ``plane``]."""

    write: Writer
    array: str
    at: str
    plane: int
    count: int

    def __getitem__(self, n: int) -> str:
        shift = f" + {n * self.plane}" if n else ""
        return self.write.let(f"{self.array}[u({self.at}{shift})]", "f")

    def term(self, n: str) -> str:
        return f"{self.array}[u({self.at} + {n} * {self.plane})]"


def find_pair(write: Writer, row: str = "row", col: str = "col") -> None:
    """Set ``row`` and ``col``, the images of pair ``b``: as listed, or ``b`` steps on from the only
    pair listed, row by row."""
    with write.block("if pairs.size == 2:"):
        write(
            "step = np.uint32(pairs[1]) + np.uint32(b)",
            f"{row} = pairs[0] + np.int32(np.uint32(step) // np.uint32(columns))",
            f"{col} = np.int32(np.uint32(step) % np.uint32(columns))",
        )
    with write.block("else:"):
        write(f"{row} = pairs[u(2 * b)]", f"{col} = pairs[u(2 * b + 1)]")


def share_pair(write: Writer) -> None:
    """:func:`find_pair` once for a block. Read from shared memory, the pair costs a kernel whose
    registers are scarce none of them; in every thread it made the patch form spill."""
    write("images = cuda.shared.array(2, types.int32)")
    with write.block("if tid == 0:"):
        find_pair(write, "images[0]", "images[1]")
    write("cuda.syncthreads()", "row = np.int64(images[u(0)])", "col = np.int64(images[u(1)])")


def activate(
    ops: TextOps, formula: Formula, found: list[str], fx: PixelFactors, fy: PixelFactors
) -> list[str]:
    """K, and T where it is carried, behind an activation; ``found`` as its formula takes them."""
    constants = [ops.const(c) for c in formula.constants]
    k, slope = formula.dual(ops, found[0], fx, fy, constants)
    if len(found) == 1:
        return [k]
    return [k, ops.const(0.0) if slope is None else ops.mul(found[1], slope)]


def prescaled(ops: TextOps, formula: Formula, found: list[str]) -> list[str]:
    """Planes as a formula takes them; behind a window this is part of :func:`affine`."""
    if formula.prescale == 1.0:
        return found
    return [ops.mul(ops.const(formula.prescale), name) for name in found]


def affine(ops: TextOps, operation: Affine, formula: Formula | None, sums: list[str]) -> list[str]:
    """K = gain k + bias of window sums, and T = K + gain t or a contribution and gain t, as
    ``formula`` takes them."""
    scale = formula.prescale if formula is not None else 1.0
    gain = ops.const(scale * operation.gain)
    k = _line(ops, gain, sums[0], scale * operation.bias)
    if len(sums) == 1:
        return [k]
    if operation.contribution is None:
        return [k, ops.fma(gain, sums[1], k)]
    weights, biases = (scale * number for number in operation.contribution)
    if not weights:
        return [k, _line(ops, gain, sums[1], biases)]
    return [k, ops.fma(gain, sums[1], _line(ops, ops.const(weights), sums[0], biases))]


def _line(ops: TextOps, slope: str, x: str, constant: float) -> str:
    return ops.fma(slope, x, ops.const(constant)) if constant else ops.mul(slope, x)


def product(ops: TextOps, first: Sequence[str], second: Sequence[str]) -> list[str]:
    """K = K1 K2, and T = T1 K2 + K1 T2 where it is carried."""
    k = ops.mul(first[0], second[0])
    if len(first) == 1:
        return [k]
    return [k, ops.fma(first[1], second[0], ops.mul(first[0], second[1]))]


def counted(ops: TextOps, pairs: Counted, axis: int, i: str, p: str) -> str:
    """How many windows hold pixels ``i`` of x and ``p`` of x' along an axis, as a number. It is
    made of such numbers too, each a register, where a 64-bit integer takes two."""
    lo, window, pooled = pairs.lo[axis], pairs.window[axis], pairs.pooled[axis]
    i, p = (ops.write.let(f"real({name})") for name in (i, p))
    first = ops.maximum(ops.add(ops.maximum(i, p), ops.const(lo - window)), ops.const(-1.0))
    last = ops.minimum(ops.add(ops.minimum(i, p), ops.const(lo)), ops.const(pooled - 1))
    return ops.maximum(ops.sub(last, first), ops.const(0.0))


class TextOps:
    """Operations on names of scalars, written through ``write``."""

    def __init__(self, write: Writer) -> None:
        self.write = write
        self.dtype = write.dtype

    def const(self, value: float) -> str:
        return self.write.constant(value)

    def add(self, a: str, b: str) -> str:
        return self.write.let(f"{a} + {b}")

    def sub(self, a: str, b: str) -> str:
        return self.write.let(f"{a} - {b}")

    def mul(self, a: str, b: str) -> str:
        return self.write.let(f"{a} * {b}")

    def div(self, a: str, b: str) -> str:
        """a / b for normal b; in float64 1 / b from 20 bits by one step of third order."""
        if self.dtype == "float32":
            return self.write.let(f"{a} / {b}")
        rough = self.write.let(f"rough_reciprocal({b})")
        error = self._fused(f"-{b}", rough, self.const(1.0))
        step = self._fused(error, error, error)
        return self.mul(a, self._fused(rough, step, rough))

    def least(self) -> str:
        """The smallest product of two standard deviations."""
        return self.const(FLOOR[self.dtype] ** 2)

    def fma(self, a: str, b: str, c: str) -> str:
        return self.write.let(f"{a} * {b} + {c}")

    def sqrt(self, a: str) -> str:
        """sqrt(a) for normal a > 0; in float64 from 20 bits of 1 / sqrt(a) by a third-order step:
        sqrt(a) = y / sqrt(1 - e) with y = a r, e = 1 - y r."""
        if self.dtype == "float32":
            return self.write.let(f"math.sqrt({a})")
        rough = self.write.let(f"rough_inverse_root({a})")
        root = self.mul(a, rough)
        error = self._fused(f"-{root}", rough, self.const(1.0))
        step = self._fused(error, self.const(0.375), self.const(0.5))
        return self._fused(self.mul(root, error), step, root)

    def _fused(self, a: str, b: str, c: str) -> str:
        """a b + c, rounded once."""
        return self.write.let(f"cuda.fma({a}, {b}, {c})")

    def abs_(self, a: str) -> str:
        return self.write.let(f"abs({a})")

    def exp(self, a: str) -> str:
        return self.write.let(f"math.exp({a})")

    def expm1(self, a: str) -> str:
        return self.write.let(f"math.expm1({a})")

    def maximum(self, a: str, b: str) -> str:
        return self.write.let(f"max({a}, {b})")

    def minimum(self, a: str, b: str) -> str:
        return self.write.let(f"min({a}, {b})")

    def where_nonnegative(self, c: str, a: str, b: str) -> str:
        """a where c >= 0, else b."""
        return self.write.let(f"{a} if {c} >= {self.const(0.0)} else {b}")

    def horner(self, x: str, coefficients: Sequence[float]) -> str:
        """A polynomial, coefficients from the constant term up."""
        value = self.const(coefficients[-1])
        for coefficient in coefficients[-2::-1]:
            value = self.fma(value, x, self.const(coefficient))
        return value

    def _sine(self, c: str) -> str:
        """sqrt(1 - c^2), 0 where c is within rounding of 1 or above."""
        one = self.const(1.0 - 2 * SNAP[self.dtype])
        if self.dtype == "float32":
            return self.sqrt(self.write.let(f"saturated(-{c}, {c}, {one})"))
        rest = self.write.let(f"{one} - {c} * {c}")
        return self.sqrt(self.maximum(rest, self.const(_TINY)))

    def angle(self, c: str) -> str:
        """acos(c) / pi for c >= 0; c above 1 counts as 1."""
        return self.mul(self._sine(c), self.horner(c, ARC[self.dtype]))

    def angle_and_area(self, c: str) -> tuple[str, str]:
        """acos(c) / pi and (sqrt(1 - c^2) - c acos(c)) / pi for c >= 0; c above 1 counts as 1."""
        sine, arc = self._sine(c), self.horner(c, ARC[self.dtype])
        rest = self.write.let(f"{self.const(1 / math.pi)} - {c} * {arc}")
        # The angle goes into 1 - angle alone, which is then one fused operation.
        return self.mul(sine, arc), self.mul(sine, rest)

    def arcsine(self, z: str) -> tuple[str, str]:
        """asin(z) / pi and 1 / sqrt(1 - z^2); 1 - |z| is held above its resolution."""
        one = self.const(1.0)
        rest = self.write.let(f"{one} - {z} * {z}")
        root = self.sqrt(self.maximum(rest, self.const(_RESOLUTION[self.dtype])))
        value = self.mul(z, self.horner(root, ARC[self.dtype]))
        return value, self.div(one, root)

    def series(self, c: str, fx: PixelFactors, fy: PixelFactors) -> tuple[str, str]:
        """sum_n fx[n + 1] fy[n + 1] c^n and its derivative in c, by Horner's rule, in a loop."""
        write = self.write
        value, slope = write.let(self.const(0.0)), write.let(self.const(0.0))
        n = write.name("n")
        with write.block(f"for {n} in range({fx.count - 1}, 0, -1):"):
            write(f"{slope} = {slope} * {c} + {value}")
            write(f"{value} = {value} * {c} + {fx.term(n)} * {fy.term(n)}")
        return value, slope

    def mixture(self, k: str, fx: PixelFactors, fy: PixelFactors) -> tuple[str, str]:
        """The double sum of :class:`~widegram.activations.mixture.Mixture`: K and Kdot."""
        write, widths = self.write, (fx.count - 2) // BLOCKS
        value, slope = write.let(self.const(0.0)), write.let(self.const(0.0))
        sums = [write.name("s") for _ in range(BLOCKS - 1)]

        def factors(image: PixelFactors, n: str) -> list[str]:
            return [write.let(image.term(f"({n} + {2 + b * widths})")) for b in range(BLOCKS)]

        i, j = write.name("i"), write.name("j")
        with write.block(f"for {i} in range({widths}):"):
            narrow, *first = factors(fx, i)
            scaled = self.mul(k, narrow)
            for part in sums:
                write(f"{part} = {self.const(0.0)}")
            with write.block(f"for {j} in range({widths}):"):
                narrow, *second = factors(fy, j)
                z = self.mul(scaled, narrow)
                more = pair_sums(self, sums, *self.arcsine(z), z, second)
                for part, found in zip(sums, more, strict=True):
                    write(f"{part} = {found}")
            both = join(self, value, slope, sums, first)
            write(f"{value} = {both[0]}", f"{slope} = {both[1]}")
        return value, slope
