"""The pixels of a row in bunches: each section of the chain goes over a bunch, then the next.

What a later section needs of a pixel stands in memory, on the stack, not in registers. A section by
itself is a short chain with few values, so that a processor with few registers finds independent
operations by itself, in the next pixels. Operations are those of the pixel alone, so bits are too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir

from widegram.cpu.kernels import loops
from widegram.cpu.kernels.recording import Leaf, Recorded, Recorder
from widegram.cpu.kernels.sections import cuts, place
from widegram.cpu.kernels.vector_ops import INDEX


class Bunches:
    """A recorded pixel with the values that it ends with, ``outputs``."""

    def __init__(self, recorder: Recorder, outputs: Sequence[Any]) -> None:
        self.ops, self.outputs, self.form = recorder.real, outputs, recorder.form
        self.builder, self.last = self.ops.builder, self.form.behind
        until = place(recorder.nodes, outputs, cuts(recorder.nodes, self.form))
        self.nodes = [node for node in recorder.nodes if not node.address]
        kept = (node for node in self.nodes if until[node] > (node.section or 0))
        self.kept = {node: number for number, node in enumerate(kept)}

    def emit(
        self,
        cols: Any,
        write: Callable[[Any, Sequence[Any]], None],
        before: Callable[[int, Any], None],
    ) -> None:
        """A row of ``cols`` pixels: ``write(pixel, outputs)``; ``before(section, pixel)`` comes
        before a pixel's section."""
        builder, room = self.builder, self._room()
        with loops.blocks(builder, cols, ir.Constant(INDEX, self.form.bunch)) as (first, count):
            for section in range(self.last + 1):
                with loops.for_range(builder, count) as loop:
                    inside = builder.mul(loop.index, ir.Constant(INDEX, self.ops.size))
                    pixel = builder.add(first, loop.index)
                    before(section, pixel)
                    self._section(section, pixel, builder.add(room, inside), write)

    def _room(self) -> Any:
        """Address of what a bunch keeps, one value of all its pixels after the other."""
        with self.builder.goto_entry_block():
            count = max(1, len(self.kept)) * self.form.bunch
            room = self.builder.alloca(ir.ArrayType(self.ops.vector, count))
            room.align = 64
            return self.builder.ptrtoint(room, INDEX)

    def _section(
        self, section: int, pixel: Any, room: Any, write: Callable[[Any, Sequence[Any]], None]
    ) -> None:
        """One section of a pixel, of which earlier ones keep values at ``room`` and further on."""
        builder, ops = self.builder, self.ops
        now: dict[Recorded, Any] = {}

        def pointer(node: Recorded) -> Any:
            place = ir.Constant(INDEX, self.kept[node] * self.form.bunch * ops.size)
            return builder.inttoptr(builder.add(room, place), ops.vector.as_pointer())

        def value(arg: Any) -> Any:
            if isinstance(arg, Leaf):
                return arg.emit(pixel)
            if not isinstance(arg, Recorded):
                return arg
            if arg not in now:
                if arg.address:
                    now[arg] = arg.emit(*map(value, arg.args))
                else:
                    now[arg] = builder.load(pointer(arg), align=ops.size)
            return now[arg]

        for node in self.nodes:
            if node.section != section:
                continue
            now[node] = node.emit(*map(value, node.args))
            if node in self.kept:
                builder.store(now[node], pointer(node), align=ops.size)
        if section == self.last:
            write(pixel, [value(output) for output in self.outputs])
