"""Which planes of a program a core's second-level cache holds, and so how the program runs: on
packed planes, several displacements together, inputs of several cells at once."""

from __future__ import annotations

from dataclasses import dataclass

from widegram.cpu.kernels.variants import BATCH, LANES
from widegram.cpu.packing import Ahead, Packing, batch_inputs, climb, pack
from widegram.cpu.twins import with_twins
from widegram.machine.dtypes import ITEMSIZE
from widegram.plan.plan import Plan, Schedule
from widegram.plan.program import Program
from widegram.plan.steps import MakeInput, Reducing

# Planes of several displacements at once may take this much of a core's second-level cache.
PLANES_BYTES = 768 * 1024
MOST_TOGETHER = 2
# What cells keep for their twins is read once: it may lie in memory.
KEPT_BYTES = 32 * 1024 * 1024


@dataclass(frozen=True)
class InCache:
    """How programs of a ``schedule`` of ``plan`` run on numbers of ``dtype``; ``paired``: whether x
    differs from lane to lane."""

    plan: Plan
    schedule: Schedule
    dtype: str
    paired: bool

    def packed(self, program: Program) -> tuple[Program, Packing | None]:
        """The program with fewer buffers and its packed planes, where these are possible and fit;
        else the program as it is, and None."""
        if self.plan.vector:
            return program, None
        fused = program.fused()
        packing = pack(fused)
        if packing is None:
            return program, None
        if self.schedule is not self.plan.cross:
            packing = self._with_twins(fused, packing)
        if self._planes_bytes(fused, packing) <= PLANES_BYTES:
            return fused, packing
        smaller = fused.in_place()
        packing = climb(smaller, packing)
        if packing is not None and self._planes_bytes(smaller, packing) <= PLANES_BYTES:
            return smaller, packing
        return program, None

    def together(self, program: Program) -> int:
        """Displacements that run through the steps together, so that each step's factors, too
        many for a core's own cache, are fetched once for all of them; their planes must fit."""
        if any(program.group.torus) or self.paired or self.plan.vector:
            return 1
        size = max(1, self._planes_bytes(program, None))
        return max(1, min(MOST_TOGETHER, PLANES_BYTES // size))

    def ahead(self, program: Program, packing: Packing, at: int) -> Ahead | None:
        """Where the inputs of several cells are made at once, from number ``at`` on, if they fit
        beside the planes; the cells of ``packing`` are then numbered."""
        made = [step.out for step in program.steps if isinstance(step, MakeInput)]
        if not made or self.schedule is not self.plan.cross:
            return None
        plane = packing.slot(program.slots[made[0].slot]).pixels * LANES[self.dtype]
        size = (BATCH + 1) * plane * ITEMSIZE[self.dtype] + self._planes_bytes(program, packing)
        if size > PLANES_BYTES or not batch_inputs(program, packing):
            return None
        return Ahead(made[0].node, at, plane)

    def _with_twins(self, program: Program, packing: Packing) -> Packing:
        """Packed planes of images with themselves, half of them where the others follow."""
        rows = sum(step.inputs[0].shape[0] for step in program.steps if isinstance(step, Reducing))
        size = 2 * rows * LANES[self.dtype] * ITEMSIZE[self.dtype]
        return with_twins(program, packing, KEPT_BYTES // size) if rows else packing

    def _planes_bytes(self, program: Program, packing: Packing | None) -> int:
        """Bytes of all buffers of a program, for one displacement or packed plane."""
        slots = [packing.slot(slot) if packing else slot for slot in program.slots]
        pixels = sum(slot.pixels for slot in slots)
        return pixels * LANES[self.dtype] * (1 + self.plan.ntk) * ITEMSIZE[self.dtype]
