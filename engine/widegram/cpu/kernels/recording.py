"""The facade of operations, recording: the operations of one pixel, as data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from llvmlite import ir

from widegram.cpu.kernels.vector_ops import VectorOps

# Cycles until a result can be used, about, on processors since 2020; of other operations 1.
_CYCLES = {
    "load": 5, "fadd": 3, "fsub": 3, "fmul": 3, "fma": 4, "fdiv": 11, "sqrt": 14,
    "fneg": 0, "add": 0, "sub": 0, "mul": 0, "inttoptr": 0,
}  # fmt: skip
_ADDRESSES = ("add", "sub", "mul", "inttoptr")


@dataclass(frozen=True, eq=False)
class Leaf:
    """What is made anew wherever it is used: ``emit(pixel)``."""

    emit: Callable[[Any], Any]


PIXEL = Leaf(lambda pixel: pixel)


@dataclass(eq=False)
class Recorded:
    """One operation: ``emit(values of args)``.

    * ``after``: nodes that must come before, although they give it no value
    * ``cycles``: until its result can be used; ``start``: when it can begin, both about
    * ``section``: of the chain, where it is written; None until it is placed
    * ``free``: depends on the pixel's place alone; ``address``: and is an integer
    * ``variables``: its values of earlier pixels, the last one first
    """

    name: str
    emit: Callable[..., Any]
    args: tuple[Any, ...]
    section: int | None = None
    after: tuple[Recorded, ...] = ()
    variables: list[Any] = field(default_factory=list)
    cycles: int = field(init=False)
    start: int = field(init=False)
    free: bool = field(init=False)
    address: bool = field(init=False)

    def __post_init__(self) -> None:
        self.cycles = _CYCLES.get(self.name, 1)
        self.start = max((node.start + node.cycles for node in self.nodes), default=0)
        self.free = self.section is None and all(node.free for node in self.nodes)
        self.address = self.name in _ADDRESSES and all(node.address for node in self.nodes)

    @property
    def nodes(self) -> list[Recorded]:
        """The arguments that are operations on this pixel."""
        return [arg for arg in self.args if isinstance(arg, Recorded)]


class _KeepingBuilder:
    """In the place of an IR builder: what depends on the pixel is kept, all else written at once.

    ``section``: where to place what is kept, None where it does not matter.
    """

    def __init__(self, builder: ir.IRBuilder) -> None:
        self.real, self.nodes = builder, list[Recorded]()
        self.section: int | None = None

    @property
    def module(self) -> ir.Module:
        """The module that is written."""
        return self.real.module

    def __getattr__(self, name: str) -> Callable[..., Any]:
        real = getattr(self.real, name)

        def call(*args: Any, **options: Any) -> Any:
            of_pixel = any(isinstance(arg, (Leaf, Recorded)) for arg in args)
            if not of_pixel and not _is_variable(name, args):
                return real(*args, **options)
            return self.keep(name, lambda *values: real(*values, **options), args)

        return call

    def keep(self, name: str, emit: Callable[..., Any], args: tuple[Any, ...]) -> Recorded:
        """A new operation. Of a variable, what was read before is read before it is written."""
        after: list[Recorded] = []
        if name == "store":
            after = [n for n in self.nodes if n.name == "load" and n.args[0] is args[1]]
        node = Recorded(name, emit, args, self.section, tuple(after))
        self.nodes.append(node)
        return node


def _is_variable(name: str, args: tuple[Any, ...]) -> bool:
    return name == "load" and isinstance(args[0], ir.AllocaInstr)


class Recorder(VectorOps):
    """Operations of ``ops``, kept in the order in which they are asked for."""

    def __init__(self, ops: VectorOps) -> None:
        self.recorded = _KeepingBuilder(ops.builder)
        super().__init__(self.recorded, ops.dtype, ops.processor, ops.form)
        self.real, self.shift = ops, ops.shift

    @property
    def nodes(self) -> list[Recorded]:
        """All that was kept."""
        return self.recorded.nodes

    @contextmanager
    def in_section(self, section: int) -> Iterator[None]:
        """What is recorded inside belongs there."""
        self.recorded.section = section
        yield
        self.recorded.section = None

    def const(self, value: float) -> Any:
        return Leaf(lambda pixel: self.real.const(value))

    def splat(self, address: Any) -> Any:
        return self.recorded.keep("load", self.real.splat, (address,))

    def maximum(self, a: Any, b: Any) -> Any:
        return self.recorded.keep("maximum", self.real.maximum, (a, b))

    def minimum(self, a: Any, b: Any) -> Any:
        return self.recorded.keep("minimum", self.real.minimum, (a, b))

    def where_nonnegative(self, c: Any, a: Any, b: Any) -> Any:
        return self.recorded.keep("where", self.real.where_nonnegative, (c, a, b))

    def _intrinsic(self, name: str, *args: Any) -> Any:
        def emit(*values: Any) -> Any:
            return self.real.intrinsic(name, *values)

        return self.recorded.keep(name, emit, args)
