"""The facade of operations on LLVM vectors: one lane per pair of images.

Values are ``<lanes x float>`` or ``<lanes x double>``; LLVM maps them to whatever registers the
machine has. Flags: 'contract' alone (a fused multiply-add where it likes); never 'reassoc' or
'nnan', so that every lane gives the same bits wherever it stands.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from llvmlite import ir

from widegram.activations.mixture_sums import BLOCKS, join, pair_sums
from widegram.activations.polynomials import ARC
from widegram.cpu.kernels import loops
from widegram.cpu.kernels.forms import PLAIN, Form
from widegram.cpu.kernels.processors import Processor
from widegram.cpu.kernels.variants import LANES
from widegram.machine.dtypes import FLOOR, ITEMSIZE, SNAP

INDEX = ir.IntType(64)
_HELD = 64  # numbers in a kernel of a form that holds them, at most


@dataclass(frozen=True)
class Stream:
    """Factors of one image in memory: factor n of this pixel stands at ``address`` + n ``plane``.

    ``broadcast``: one number for all lanes.
    """

    ops: VectorOps
    address: Any
    plane: Any
    count: Any
    broadcast: bool

    def __getitem__(self, n: int) -> Any:
        return self.at(ir.Constant(INDEX, n))

    def at(self, n: Any) -> Any:
        """Factor n, n an LLVM integer."""
        address = self.ops.builder.add(self.address, self.ops.bytes(n, self.plane))
        return self.ops.splat(address) if self.broadcast else self.ops.load(address)


class VectorOps:
    """Operations on vectors, emitted through ``builder`` for one dtype ('float32', 'float64') and
    the instructions of a ``processor``, in a ``form``.

    ``lanes`` of a pixel; vectors are ``width`` of them, in bytes ``size``. ``shift``: the bytes
    from a pixel's address to the slice that is read and written.
    """

    def __init__(self, builder: Any, dtype: str, processor: Processor, form: Form = PLAIN) -> None:
        self.builder = builder
        self.dtype, self.processor, self.form = dtype, processor, form
        self.lanes = LANES[dtype]
        self.width = self.lanes // form.slices
        self.size = ITEMSIZE[dtype] * self.width
        self.scalar = ir.FloatType() if dtype == "float32" else ir.DoubleType()
        self.vector = ir.VectorType(self.scalar, self.width)
        self.shift: Any = None
        self._held: dict[float, int] = {}

    @contextmanager
    def each_slice(self) -> Iterator[None]:
        """A loop over the slices of a pixel's lanes: inside, one of them is read and written."""
        if self.form.slices == 1:
            yield
            return
        with loops.for_range(self.builder, ir.Constant(INDEX, self.form.slices)) as loop:
            self.shift = self.builder.mul(loop.index, ir.Constant(INDEX, self.size))
            yield
            self.shift = None

    # memory -----------------------------------------------------------------------------------

    def bytes(self, *factors: Any) -> Any:
        """The product of LLVM integers, in bytes."""
        size: Any = ir.Constant(INDEX, ITEMSIZE[self.dtype])
        for factor in factors:
            size = self.builder.mul(size, factor)
        return size

    def load(self, address: Any) -> Any:
        """The vector at a pixel's address (aligned to the pixel)."""
        return self.builder.load(self._pointer(address), align=self.size)

    def store(self, value: Any, address: Any) -> None:
        """Write a vector."""
        self.builder.store(value, self._pointer(address), align=self.size)

    def _pointer(self, address: Any) -> Any:
        if self.shift is not None:
            address = self.builder.add(address, self.shift)
        return self.builder.inttoptr(address, self.vector.as_pointer())

    def splat(self, address: Any) -> Any:
        """The number at an address, in all lanes."""
        pointer = self.builder.inttoptr(address, self.scalar.as_pointer())
        value = self.builder.load(pointer, align=ITEMSIZE[self.dtype])
        undefined = ir.Constant(self.vector, ir.Undefined)
        zero = ir.Constant(ir.IntType(32), 0)
        one = self.builder.insert_element(undefined, value, zero)
        mask = ir.Constant(ir.VectorType(ir.IntType(32), self.width), [0] * self.width)
        return self.builder.shuffle_vector(one, undefined, mask)

    def variable(self, value: Any | None = None) -> Any:
        """A mutable vector (LLVM keeps it in a register)."""
        slot = loops.alloca_once(self.builder, self.vector)
        if value is not None:
            self.builder.store(value, slot)
        return slot

    # arithmetic -------------------------------------------------------------------------------

    def const(self, value: float) -> Any:
        """A number in all lanes."""
        constant = ir.Constant(self.vector, [value] * self.width)
        if not self.form.held or value == 0.0:
            return constant
        if not self._held:
            self._table, self._base = self._made_table()
        if value not in self._held:
            self._held[value] = len(self._held)
            with self.builder.goto_entry_block():
                at = ir.Constant(INDEX, 0), ir.Constant(INDEX, self._held[value])
                self.builder.store(constant, self.builder.gep(self._table, at), align=self.size)
        assert len(self._held) <= _HELD
        place = ir.Constant(INDEX, self.size * self._held[value])
        pointer = self.builder.inttoptr(
            self.builder.add(self._base, place), self.vector.as_pointer()
        )
        return self.builder.load(pointer, align=self.size)

    def _made_table(self) -> tuple[Any, Any]:
        """Room on the stack for the numbers that are held, and its address. LLVM is told nothing of
        that: for all it knows a plane may be written there, so that it reads a number where one is
        used, as part of an instruction, and keeps none in a register."""
        byte, line = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(INDEX, [INDEX, byte, byte, line])
        hide = loops.get_or_insert_function(self.builder.module, kind, "llvm.annotation.i64.p0")
        with self.builder.goto_entry_block():
            table = self.builder.alloca(ir.ArrayType(self.vector, _HELD))
            table.align = 64
            nothing = ir.Constant(byte, None)
            args = [self.builder.ptrtoint(table, INDEX), nothing, nothing, ir.Constant(line, 0)]
            return table, self.builder.call(hide, args)

    def barrier(self) -> None:
        """LLVM moves no instruction from one side to the other. Nothing is written for it."""
        module = self.builder.module
        kind = ir.FunctionType(ir.VoidType(), [ir.MetaDataType()])
        label = loops.get_or_insert_function(module, kind, "llvm.codeview.annotation")
        self.builder.call(label, [module.add_metadata([ir.MetaDataString(module, "here")])])

    def neg(self, a: Any) -> Any:
        """-a, which costs nothing as a factor of a multiply-add."""
        return self.builder.fneg(a)

    def add(self, a: Any, b: Any) -> Any:
        return self.builder.fadd(a, b)

    def sub(self, a: Any, b: Any) -> Any:
        return self.builder.fsub(a, b)

    def mul(self, a: Any, b: Any) -> Any:
        return self.builder.fmul(a, b)

    def div(self, a: Any, b: Any) -> Any:
        return self.builder.fdiv(a, b)

    def least(self) -> Any:
        """The smallest product of two standard deviations."""
        return self.const(FLOOR[self.dtype] ** 2)

    def fma(self, a: Any, b: Any, c: Any) -> Any:
        """a b + c, rounded once where the processor can."""
        if not self.processor.fuses:
            return self.add(self.mul(a, b), c)
        return self._intrinsic("fma", a, b, c)

    def from_square(self, c: Any, least: float = 0.0) -> Any:
        """1 - c^2 - ``least``; near |c| = 1 what rounding leaves of it is c's own."""
        if not self.processor.fuses:
            one = self.const(1.0)
            rest = self.mul(self.sub(one, c), self.add(one, c))
            return self.sub(rest, self.const(least))
        return self.fma(self.neg(c), c, self.const(1.0 - least))

    def sqrt(self, a: Any) -> Any:
        return self._intrinsic("sqrt", a)

    def abs_(self, a: Any) -> Any:
        return self._intrinsic("fabs", a)

    def maximum(self, a: Any, b: Any) -> Any:
        """The larger; b where a is NaN (one machine instruction)."""
        return self.builder.select(self.builder.fcmp_ordered(">", a, b), a, b)

    def minimum(self, a: Any, b: Any) -> Any:
        """The smaller; b where a is NaN."""
        return self.builder.select(self.builder.fcmp_ordered("<", a, b), a, b)

    def where_nonnegative(self, c: Any, a: Any, b: Any) -> Any:
        """a where c >= 0, else b."""
        return self.builder.select(self.builder.fcmp_ordered(">=", c, self.const(0.0)), a, b)

    def polynomial(self, x: Any, coefficients: Sequence[float]) -> Any:
        """A polynomial, coefficients from the constant term up.

        Every n-th term forms a Horner scheme in x^n of its own, n the form's ``chains``: a pixel's
        work is one chain of dependent operations, and this shortens its longest link.
        """
        ways = self.form.chains
        powers = [x]
        while len(powers) < ways.bit_length():
            powers.append(self.mul(powers[-1], powers[-1]))
        parts = [self._horner(powers[-1], coefficients[n::ways]) for n in range(ways)]
        # Pairs of neighbours join with x, then pairs of those with x^2, ...
        for power in powers[:-1]:
            parts = [self.fma(parts[n + 1], power, parts[n]) for n in range(0, len(parts), 2)]
        return parts[0]

    def _horner(self, x: Any, coefficients: Sequence[float]) -> Any:
        value = self.const(coefficients[-1])
        for coefficient in coefficients[-2::-1]:
            value = self.fma(value, x, self.const(coefficient))
        return value

    # functions --------------------------------------------------------------------------------

    def _sine(self, c: Any) -> Any:
        """sqrt(1 - c^2), 0 where c is within rounding of 1 or above."""
        rest = self.from_square(c, 2 * SNAP[self.dtype])
        return self.sqrt(self.maximum(rest, self.const(0.0)))

    def angle(self, c: Any) -> Any:
        """acos(c) / pi for c >= 0; c above 1 counts as 1."""
        return self.mul(self._sine(c), self.polynomial(c, ARC[self.dtype]))

    def angle_and_area(self, c: Any) -> tuple[Any, Any]:
        """acos(c) / pi and (sqrt(1 - c^2) - c acos(c)) / pi for c >= 0; c above 1 counts as 1."""
        sine = self._sine(c)
        angle = self.mul(sine, self.polynomial(c, ARC[self.dtype]))
        scaled = self.mul(sine, self.const(1 / math.pi))
        return angle, self.fma(self.neg(c), angle, scaled)

    def arcsine(self, z: Any) -> tuple[Any, Any]:
        """asin(z) / pi and 1 / sqrt(1 - z^2); 1 - |z| is held above its resolution."""
        resolution = 2.0**-24 if self.dtype == "float32" else 2.0**-53
        root = self.sqrt(self.maximum(self.from_square(z), self.const(resolution)))
        value = self.mul(z, self.polynomial(root, ARC[self.dtype]))
        return value, self.div(self.const(1.0), root)

    def exp(self, x: Any) -> Any:
        """exp, by 2^n exp(r) with |r| <= ln(2)/2; relative error within 2 units; 0 below range."""
        limit = self._exp_limit()
        inside = self.minimum(self.maximum(x, self.const(-limit)), self.const(limit))
        power, r = self._reduced(inside)
        scaled = self.mul(self.polynomial(r, self._exp_coefficients(0)), power)
        below = self.builder.fcmp_ordered("<", x, self.const(-limit))
        return self.builder.select(below, self.const(0.0), scaled)

    def expm1(self, x: Any) -> Any:
        """exp(x) - 1 for x <= 0, by 2^n (exp(r) - 1) + (2^n - 1); relative error within 3 units."""
        power, r = self._reduced(self.maximum(x, self.const(-self._exp_limit())))
        part = self.mul(r, self.polynomial(r, self._exp_coefficients(1)))
        return self.fma(power, part, self.sub(power, self.const(1.0)))

    def _exp_limit(self) -> float:
        return 87.0 if self.dtype == "float32" else 708.0

    def _exp_coefficients(self, skip: int) -> list[float]:
        """Taylor coefficients of exp, of exp(r) - 1 over r with ``skip`` 1."""
        degree = 7 if self.dtype == "float32" else 13
        return [1 / math.factorial(k) for k in range(skip, degree + 1)]

    def _reduced(self, x: Any) -> tuple[Any, Any]:
        """2^n and r = x - n ln(2) with |r| <= ln(2)/2, for 2^n within range.

        Beside ``shift`` a number has no fraction left, and its last bits are those of the integer:
        no conversion, of which some processors have none for vectors of doubles.
        """
        single = self.dtype == "float32"
        bits, bias, mantissa = (32, 127, 23) if single else (64, 1023, 52)
        shift = self.const(1.5 * 2.0**mantissa)
        shifted = self.add(self.mul(x, self.const(1.4426950408889634)), shift)
        n = self.sub(shifted, shift)
        high, low = (
            (0.693359375, -2.12194440e-4)
            if single
            else (6.93147180369123816490e-01, 1.90821492927058770002e-10)
        )
        r = self.fma(n, self.const(-low), self.fma(n, self.const(-high), x))
        integers = ir.VectorType(ir.IntType(bits), self.width)
        whole = self.builder.bitcast(shifted, integers)
        exponent = self.builder.shl(
            self.builder.add(whole, ir.Constant(integers, [bias] * self.width)),
            ir.Constant(integers, [mantissa] * self.width),
        )
        return self.builder.bitcast(exponent, self.vector), r

    def series(self, c: Any, fx: Stream, fy: Stream) -> tuple[Any, Any]:
        """sum_n fx[n + 1] fy[n + 1] c^n and its derivative in c, by Horner's rule."""
        builder = self.builder
        value, slope = self.variable(self.const(0.0)), self.variable(self.const(0.0))
        one = ir.Constant(INDEX, 1)
        terms = builder.sub(fx.count, one)
        with loops.for_range(builder, terms) as loop:
            n = builder.sub(terms, loop.index)
            before = builder.load(value)
            builder.store(self.fma(builder.load(slope), c, before), slope)
            term = self.mul(fx.at(n), fy.at(n))
            builder.store(self.fma(before, c, term), value)
        return builder.load(value), builder.load(slope)

    def mixture(self, k: Any, fx: Stream, fy: Stream) -> tuple[Any, Any]:
        """The double sum of :class:`~widegram.activations.mixture.Mixture`: K and Kdot."""
        builder = self.builder
        totals = [self.variable(self.const(0.0)) for _ in range(2)]
        sums = [self.variable() for _ in range(BLOCKS - 1)]
        two, blocks = ir.Constant(INDEX, 2), ir.Constant(INDEX, BLOCKS)
        widths = builder.sdiv(builder.sub(fx.count, two), blocks)

        def factors(image: Stream, n: Any) -> list[Any]:
            at = [builder.add(two, n)]
            while len(at) < BLOCKS:
                at.append(builder.add(at[-1], widths))
            return [image.at(number) for number in at]

        for total in totals:
            builder.store(self.const(0.0), total)
        with loops.for_range(builder, widths) as outer:
            narrow, *first = factors(fx, outer.index)
            scaled = self.mul(k, narrow)
            for part in sums:
                builder.store(self.const(0.0), part)
            with loops.for_range(builder, widths) as inner:
                narrow, *second = factors(fy, inner.index)
                z = self.mul(scaled, narrow)
                found = [builder.load(part) for part in sums]
                more = pair_sums(self, found, *self.arcsine(z), z, second)
                for part, value in zip(sums, more, strict=True):
                    builder.store(value, part)
            value, slope = (builder.load(total) for total in totals)
            found = [builder.load(part) for part in sums]
            joined = join(self, value, slope, found, first)
            for total, value in zip(totals, joined, strict=True):
                builder.store(value, total)
        return builder.load(totals[0]), builder.load(totals[1])

    def _intrinsic(self, name: str, *args: Any) -> Any:
        return self.intrinsic(name, *args)

    def intrinsic(self, name: str, *args: Any) -> Any:
        """A function of LLVM's own."""
        vector = args[0].type
        kind = ir.FunctionType(vector, [vector] * len(args))
        suffix = f"v{vector.count}{vector.element.intrinsic_name}"
        module = self.builder.module
        function = loops.get_or_insert_function(module, kind, f"llvm.{name}.{suffix}")
        return self.builder.call(function, args)
