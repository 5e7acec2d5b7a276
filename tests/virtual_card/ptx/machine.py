"""Runs one PTX kernel: all threads of many blocks at once, each register a NumPy array.

Threads that are at the same instruction go on together, those that are furthest behind first: where
the code is structured, they meet again after every branch. A barrier waits for all threads of the
block, a shuffle for all threads of the warp, at one and the same instruction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from virtual_card.ptx.memory import Fault, Memory, Shared
from virtual_card.ptx.numbers import Approximate
from virtual_card.ptx.steps import Array, Decoded, decode
from virtual_card.ptx.text import Program

WARP = 32
# Threads that run at once: enough that NumPy's own time counts, few enough for its registers.
_MOST_THREADS = 8192


@dataclass(frozen=True)
class Launch:
    """Numbers of blocks and threads (x, y), the bytes of the parameters, and how many bytes of
    shared memory there are beside those that the kernel declares."""

    grid: tuple[int, int]
    block: tuple[int, int]
    parameters: bytes
    dynamic: int = 0

    @property
    def threads(self) -> int:
        return self.block[0] * self.block[1]


class Machine:
    """``worst``: approximate instructions as wrong as documented; ``check``: look for races."""

    def __init__(self, program: Program, worst: bool = False, check: bool = True) -> None:
        self.program, self.check = program, check
        self.decoded: Decoded = decode(program, Approximate(worst))

    def run(self, launch: Launch, memory: Memory) -> None:
        """Run every block.

        Raises :class:`~virtual_card.ptx.memory.Fault` with the kernel's name and the instruction.
        """
        memory.begin()
        blocks = launch.grid[0] * launch.grid[1]
        most = max(1, _MOST_THREADS // launch.threads)
        with np.errstate(all="ignore"):
            for first in range(0, blocks, most):
                count = min(most, blocks - first)
                _Wave(self, launch, memory, first, count).run()


class _Wave:
    """Some blocks of a launch."""

    def __init__(
        self, machine: Machine, launch: Launch, memory: Memory, first: int, blocks: int
    ) -> None:
        self.program, self.decoded = machine.program, machine.decoded
        self.launch, self.memory = launch, memory
        sizes = machine.program.shared.items()
        sizes_here = {name: launch.dynamic if size < 0 else size for name, size in sizes}
        self.shared = Shared(sizes_here, blocks, machine.check)
        self.size = size = launch.threads
        self.total = blocks * size
        threads = np.arange(self.total, dtype=np.int64)
        self.slots, within = threads // size, threads % size
        self.lanes = within % WARP
        per_block = -(-size // WARP)
        self.warps = self.slots * per_block + within // WARP
        self.who = (threads + first * size).astype(np.int32)
        self.epoch = np.zeros(self.total, dtype=np.int32)
        self.alive = np.ones(self.total, dtype=np.bool_)
        self.index = self._indices(first, within)
        self.registers: list[Array | None] = [None] * len(machine.decoded.kinds)
        # The threads that an instruction is for: all of them where this is None.
        self.active: Array | None = None

    def _indices(self, first: int, within: Array) -> dict[str, Array]:
        width, columns = self.launch.block[0], self.launch.grid[0]
        block = first + self.slots
        found = {
            "%tid.x": within % width, "%tid.y": within // width,
            "%ctaid.x": block % columns, "%ctaid.y": block // columns,
            "%ntid.x": np.full(self.total, width),
            "%ntid.y": np.full(self.total, self.launch.block[1]),
            "%nctaid.x": np.full(self.total, columns),
            "%nctaid.y": np.full(self.total, self.launch.grid[1]),
        }  # fmt: skip
        return {name: value.astype(np.uint32) for name, value in found.items()}

    def run(self) -> None:
        """Run until no thread is left. Keys of ``waiting``: positions in the code."""
        waiting: dict[int, Array] = {0: np.arange(self.total)}
        while waiting:
            for position in sorted(waiting):
                ready, held = self._ready(position, waiting[position])
                if len(ready):
                    break
            else:
                raise self._fault(min(waiting), Fault("threads wait for ever here"))
            if len(held):
                waiting[position] = held
            else:
                del waiting[position]
            for target, threads in self._go(position, ready):
                if target in waiting:
                    threads = np.sort(np.concatenate([waiting[target], threads]))
                waiting[target] = threads

    def _ready(self, position: int, threads: Array) -> tuple[Array, Array]:
        """Which of the threads at an instruction may run it, and which wait for others."""
        wait = self.decoded.waits.get(position)
        if wait is None or len(threads) == self.total:
            return threads, threads[:0]
        # A barrier that some threads of a block never reach is an error, as the manual has it.
        group, needed = (
            (self.slots, np.ones_like(self.alive)) if wait == "block" else (self.warps, self.alive)
        )
        count = int(group[-1]) + 1
        complete = np.bincount(group[threads], minlength=count) == np.bincount(
            group, needed, minlength=count
        )
        there = complete[group[threads]]
        return threads[there], threads[~there]

    def _go(self, position: int, threads: Array) -> Sequence[tuple[int, Array]]:
        """Run from an instruction to the next place where threads part, meet or wait."""
        self.active = None if len(threads) == self.total else threads
        end = self.decoded.ends[position]
        steps = self.decoded.steps
        here = position
        try:
            for here in range(position, end):
                steps[here](self)
        except Exception as error:  # Of a step: told with the line of PTX that it is at.
            raise self._fault(here, error) from error
        branch = self.decoded.branches.get(end)
        if branch is None:
            return [(end, threads)]
        if branch.target is None:
            self.alive[threads] = False
            return []
        if branch.guard is None:
            return [(branch.target, threads)]
        taken = self.fetch(branch.guard) != branch.negated
        parts = [(branch.target, threads[taken]), (end + 1, threads[~taken])]
        return [(target, part) for target, part in parts if len(part)]

    def _fault(self, position: int, error: Exception) -> Exception:
        text = f"{self.program.name[:60]}, {self.program.code[position]}: {error}"
        return type(error)(text) if isinstance(error, Fault) else RuntimeError(text)

    def pick(self, values: Array) -> Array:
        """Values of the active threads."""
        return values if self.active is None else values[self.active]

    def fetch(self, register: int) -> Array:
        """A register of the active threads, in the type in which it was written.

        What nobody wrote is NaN or -1.
        """
        values = self.registers[register]
        if values is None:
            values = self.registers[register] = self._unwritten(register)
        return self.pick(values)

    def _unwritten(self, register: int) -> Array:
        kind = self.decoded.kinds[register]
        return np.full(self.total * kind.itemsize, 0xFF, dtype=np.uint8).view(kind)

    def keep(self, register: int, values: Array) -> None:
        """Write a register of the active threads."""
        count = self.total if self.active is None else len(self.active)
        if len(values) != count:
            values = np.repeat(values, count)
        if self.active is None:
            self.registers[register] = values
            return
        whole = self.registers[register]
        if whole is None:
            whole = self._unwritten(register)
        if whole.dtype != values.dtype:
            whole = whole.view(values.dtype)
        whole[self.active] = values
        self.registers[register] = whole
