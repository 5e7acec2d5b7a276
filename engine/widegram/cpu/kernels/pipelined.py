"""The pixels of a row, overlapped: while one is finished, the next ones are begun.

A pixel is one chain of dependent operations, longer than the window of instructions in which a
processor looks for independent ones. It is cut into sections; a turn of the loop holds the first
section of one pixel, the second of the pixel before it, and so on. What a later section needs is
carried from turn to turn. Operations are those of the pixel alone, so bits are too.

A compiler would put a turn in order to save registers, one section after another. Its order is
made here (:mod:`widegram.cpu.kernels.sections`), and kept by barriers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir

from widegram.cpu.kernels import loops
from widegram.cpu.kernels.recording import Leaf, Recorded, Recorder
from widegram.cpu.kernels.sections import UNITS, cuts, ordered, place
from widegram.cpu.kernels.vector_ops import INDEX


class Pipeline:
    """A recorded pixel with the values that it ends with, ``outputs``."""

    def __init__(self, recorder: Recorder, outputs: Sequence[Any]) -> None:
        self.ops, self.outputs, form = recorder.real, outputs, recorder.form
        self.builder, self.last = self.ops.builder, form.behind
        until = place(recorder.nodes, outputs, cuts(recorder.nodes, form))
        self.order = ordered(recorder.nodes)
        for node in self.order:
            distance = until[node] - (node.section or 0)
            node.variables = [self.ops.variable() for _ in range(distance)]
        self.carried = [node for node in self.order if node.variables]

    def emit(
        self,
        cols: Any,
        write: Callable[[Any, Sequence[Any]], None],
        alone: Callable[[Any], None],
        before: Callable[[int, Any], None],
    ) -> None:
        """A row of ``cols`` pixels: ``write(pixel, outputs)``; ``alone(pixel)`` is all of a pixel,
        in rows too short to overlap; ``before(section, pixel)`` comes before a pixel's section."""
        self.write, self.before = write, before
        builder, last = self.builder, ir.Constant(INDEX, self.last)
        with builder.if_else(builder.icmp_signed(">=", cols, last)) as (then, otherwise):
            with then:
                for n in range(self.last):
                    self._turn(range(n + 1), ir.Constant(INDEX, n))
                with loops.for_range(builder, builder.sub(cols, last)) as loop:
                    every = range(self.last + 1)
                    self._turn(every, builder.add(loop.index, last), barriers=True)
                for n in range(self.last):
                    ahead = builder.add(cols, ir.Constant(INDEX, n))
                    self._turn(range(n + 1, self.last + 1), ahead)
            with otherwise, loops.for_range(builder, cols) as loop:
                alone(loop.index)

    def _turn(self, sections: range, ahead: Any, barriers: bool = False) -> None:
        """Some sections, the first of pixel ``ahead``, each other of the pixel before it."""
        builder = self.builder
        pixels = {n: builder.sub(ahead, ir.Constant(INDEX, n)) for n in sections}
        for n, pixel in pixels.items():
            self.before(n, pixel)
        before = {node: [builder.load(v) for v in node.variables] for node in self.carried}
        now: dict[Any, Any] = {}

        def value(arg: Any, section: int) -> Any:
            if isinstance(arg, Leaf):
                return arg.emit(pixels[section])
            if not isinstance(arg, Recorded):
                return arg
            if arg.address:
                if (arg, section) not in now:
                    now[arg, section] = made(arg, section)
                return now[arg, section]
            behind = section - (arg.section or 0)
            return before[arg][behind - 1] if behind else now[arg]

        def made(node: Recorded, section: int) -> Any:
            return node.emit(*(value(arg, section) for arg in node.args))

        for node in self.order:
            section = node.section or 0
            if section in sections:
                now[node] = made(node, section)
                if barriers and node.name in UNITS:
                    self.ops.barrier()
        if self.last in sections:
            self.write(pixels[self.last], [value(output, self.last) for output in self.outputs])
        for node in self.carried:
            newest = [now.get(node), *before[node]]
            for found, variable in zip(newest, node.variables, strict=False):
                if found is not None:
                    builder.store(found, variable)
