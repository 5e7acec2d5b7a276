"""Loops, branches and stack variables in LLVM IR."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from llvmlite import ir


@dataclass(frozen=True)
class Loop:
    """``index``: the number of the turn."""

    index: Any


@contextmanager
def for_range(builder: ir.IRBuilder, count: Any) -> Iterator[Loop]:
    """A loop over 0 .. ``count`` - 1, an LLVM integer; the builder stands in its body."""
    check, body, end = (builder.append_basic_block(f"for.{n}") for n in ("check", "body", "end"))
    before = builder.block
    builder.branch(check)
    builder.position_at_end(check)
    index = builder.phi(count.type)
    index.add_incoming(ir.Constant(count.type, 0), before)
    builder.cbranch(builder.icmp_signed("<", index, count), body, end)
    builder.position_at_end(body)
    yield Loop(index)
    index.add_incoming(builder.add(index, ir.Constant(count.type, 1)), builder.block)
    builder.branch(check)
    builder.position_at_end(end)


@contextmanager
def blocks(builder: ir.IRBuilder, count: Any, size: Any) -> Iterator[tuple[Any, Any]]:
    """A loop over blocks of ``size`` of ``count`` numbers: the first of each block and how many."""
    one = ir.Constant(count.type, 1)
    turns = builder.sdiv(builder.sub(builder.add(count, size), one), size)
    with for_range(builder, turns) as loop:
        begin = builder.mul(loop.index, size)
        left = builder.sub(count, begin)
        yield begin, builder.select(builder.icmp_signed("<", left, size), left, size)


def alloca_once(builder: ir.IRBuilder, kind: Any) -> Any:
    """A variable of the function, which LLVM keeps in a register where it can."""
    with builder.goto_entry_block():
        return builder.alloca(kind)


def get_or_insert_function(module: ir.Module, kind: Any, name: str) -> Any:
    """The declaration of a function."""
    return module.globals.get(name) or ir.Function(module, kind, name)
