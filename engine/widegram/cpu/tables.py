"""A schedule as arrays of integers: what the compiled driver reads.

The columns of each table are in :mod:`widegram.cpu.driver.fields`; addresses of kernels and offsets
into the buffers of one thread are filled in here, so that the driver only adds and calls. Kernels
have numbers until the tables are first run: what never is, such as planes of pairs where variances
alone are asked for, compiles none.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from widegram.cpu.driver.fields import (
    REGION,
    Ints,
    ProgramField,
    SlotField,
    StepField,
    StoreField,
)
from widegram.cpu.driver.packed_fields import CELL_COLUMNS, PACKED_COLUMNS
from widegram.cpu.handing import Handed, handed_rows
from widegram.cpu.kernel_numbers import KernelNumbers
from widegram.cpu.kernels.fields import Field, MapField
from widegram.cpu.kernels.variants import (
    BATCH,
    LANES,
    ROWS_OF_SCRATCH,
    WRAPS,
    Variant,
)
from widegram.cpu.map_tables import MapTables, made_behind, map_tables
from widegram.cpu.packing import (
    Ahead,
    Layout,
    PackedSteps,
    Packing,
    batch_inputs,
    climb,
    pack,
)
from widegram.cpu.step_rows import StepRows
from widegram.cpu.twins import with_twins
from widegram.machine.dtypes import ITEMSIZE
from widegram.plan.buffers import Slot
from widegram.plan.formulas import FactorLayout
from widegram.plan.masks import Mask, Pair, displacements
from widegram.plan.operations import Windowed
from widegram.plan.plan import Plan, Schedule
from widegram.plan.program import Program
from widegram.plan.steps import (
    MakeInput,
    Places,
    Reducing,
    resolved,
)
from widegram.plan.stores import Store, Stores, lay_out

# Planes of several displacements at once may take this much of a core's second-level cache.
PLANES_BYTES = 768 * 1024
MOST_TOGETHER = 2
# What cells keep for their twins is read once: it may lie in memory.
KEPT_BYTES = 32 * 1024 * 1024


class Linked(NamedTuple):
    """The tables that name kernels, with their addresses."""

    programs: Ints
    steps: Ints
    moves: Ints
    maps: Ints


@dataclass(frozen=True)
class Tables:
    """Arrays for the driver, those of :class:`Linked` with the numbers of ``kernels``.
    ``scratch``: numbers of plane buffers and stores one thread needs;
    the stores that must start from zero lie at [``clear``[0], ``clear``[1]). ``sums``: doubles,
    and behind them ``kept`` bytes of what planes leave for their twins.
    ``of``: the store of each node that is kept."""

    programs: Ints
    steps: Ints
    displacements: Ints
    active: NDArray[np.uint8]
    slots: Ints
    stores: Ints
    index: Ints
    moves: Ints
    params: NDArray[Any]
    scratch: int
    clear: tuple[int, int]
    sums: int
    kept: int
    buffer: int
    cells: Ints
    cell_active: NDArray[np.uint8]
    packed: Ints
    of: dict[int, Store]
    maps: MapTables
    kernels: KernelNumbers

    @cached_property
    def linked(self) -> Linked:
        """With addresses of kernels, of which those are compiled that were never used before."""
        address = self.kernels.addresses()
        programs, steps, maps = (
            table.copy() for table in (self.programs, self.steps, self.maps.rows)
        )
        for table, column in (
            (programs, ProgramField.INPUTS_KERNEL), (steps, StepField.KERNEL),
            (maps, MapField.KERNEL),
        ):  # fmt: skip
            table[:, column] = address[table[:, column]]
        return Linked(programs, steps, address[self.moves], maps)


def encode(
    plan: Plan, schedule: Schedule, layout: FactorLayout, dtype: str, paired: bool
) -> Tables:
    """The tables of a schedule for one dtype."""
    return _Encoder(plan, schedule, layout, dtype, paired).run()


class _Encoder:
    def __init__(
        self, plan: Plan, schedule: Schedule, layout: FactorLayout, dtype: str, paired: bool
    ) -> None:
        self.plan, self.schedule = plan, schedule
        self.dtype, self.paired, self.lanes = dtype, paired, LANES[dtype]
        self.fields = 1 + plan.ntk
        self.stores, self.clear = self._stores()
        of = self.stores.of
        self.places = Places(layout.formulas, layout.offsets, of, plan.outputs, self.fields)
        self.kernels = KernelNumbers()
        variant = Variant("map", "none", bool(plan.ntk), paired, dtype)
        made = [i for p in schedule.programs for i in made_behind(plan.nodes, self.stores, p)]
        self.maps = map_tables(
            plan.nodes, made, self.stores, layout.offsets, variant, self.kernels
        )
        self.steps = StepRows(plan, dtype, paired, self.fields, of, self.kernels)
        self.cells: list[Ints] = []
        self.cell_active: list[NDArray[np.uint8]] = []
        self.packed: list[list[int]] = []
        self.kept = 0
        self.hands = False

    def run(self) -> Tables:
        programs: list[list[int]] = []
        slots: list[list[int]] = []
        shifts, active = [], []
        n_shifts = n_active = 0
        most = self.stores.size
        for program in self.schedule.programs:
            program = replace(program, steps=resolved(program.steps, self.places)).hiding()
            first_slot, at = len(slots), self.stores.size
            program, packing = self._packing(program)
            planes = max(program.segments, self._together(program))
            for slot in program.slots:
                if packing is None:
                    row, at = self._slot(slot, planes, at, 0)
                else:
                    level = packing.levels.index(slot.shape)
                    row, at = self._slot(packing.slot(slot), 1, at, level)
                slots.append(row)
            mode = packing.mode if packing else 0
            ahead = self._ahead(program, packing, at)
            at = ahead.at + (BATCH + 1) * ahead.plane if ahead else at
            handed, at = self._handed(program, packing, at)
            most = max(most, at)
            programs.append(
                [
                    len(self.steps.rows), len(program.steps), n_shifts, len(program.displacements),
                    *program.group.torus, first_slot, len(program.slots), n_active,
                    self._together(program), *self._cells(packing), at - self.stores.size,
                    len(self.packed), *self._inputs(ahead, mode), mode == WRAPS,
                    packing.climb if packing else 0,
                    *self.maps.of(made_behind(self.plan.nodes, self.stores, program)),
                ]
            )  # fmt: skip
            self._packed_steps(program, packing, slots[first_slot:], ahead, handed)
            for step in program.steps:
                self.steps.add(step, first_slot, mode)
            shifts.append(program.displacements)
            active.append(program.active.astype(np.uint8).ravel())
            n_shifts += len(program.displacements)
            n_active += active[-1].size
        rows = [
            [store.reduced, *store.shape, store.index, store.offset, store.t_offset]
            for store in self.stores.of.values()
        ]
        return Tables(
            _ints(programs, ProgramField), _ints(self.steps.rows, StepField),
            np.concatenate(shifts), np.concatenate(active), _ints(slots, SlotField),
            _ints(rows, StoreField), self.stores.index,
            self.steps.moves(self.stores, self.kept > 0, self.hands), self.steps.constants(),
            most, self.clear, self.stores.sums, self.kept, self._buffer(),
            np.concatenate([*self.cells, np.zeros((1, CELL_COLUMNS), np.int64)]),
            np.concatenate([*self.cell_active, np.zeros(1, np.uint8)]),
            np.array([*self.packed, [0] * PACKED_COLUMNS], dtype=np.int64),
            self.stores.of, self.maps, self.kernels,
        )  # fmt: skip

    def _stores(self) -> tuple[Stores, tuple[int, int]]:
        """What is kept, pools first, because they must be cleared; where those lie."""
        nodes = self.plan.nodes
        pools = [i for i, n in enumerate(nodes) if n.operation.accumulates]
        rest = [i for i in range(len(nodes)) if i not in set(pools)]
        stores = lay_out(
            nodes, self.schedule.masks, [*pools, *rest], _rectangles, self.fields, self.lanes
        )
        size = self.fields  # of T too, where that is carried
        ends = [
            s.offset + size * (s.t_offset - s.offset)
            for i, s in stores.of.items()
            if i in set(pools)
        ]
        return stores, (0, ends[-1] if ends else 0)

    def _buffer(self) -> int:
        """Numbers of scratch for the row sums of the widest value and the largest window."""
        widest = max((n.shape[1] for n in self.plan.nodes), default=1)
        operations = [node.operation for node in self.plan.nodes]
        windows = [o.window for o in operations if isinstance(o, Windowed) and not o.stored]
        a, b = (max((w[n] for w in windows), default=1) for n in (0, 1))
        pixels = (a + ROWS_OF_SCRATCH) * (widest + 2 * b) + b
        mapped = [math.prod(self.plan.nodes[n.inputs[0]].shape) for n in self.plan.nodes
                  if n.operation.at_once]  # fmt: skip
        return max(2 * pixels, *mapped, 0) * self.lanes

    def _packing(self, program: Program) -> tuple[Program, Packing | None]:
        """Packed planes where they are possible and fit into a core's second-level cache."""
        if self.plan.vector:
            return program, None
        fused = program.fused()
        packing = pack(fused)
        if packing is None:
            return program, None
        if self.schedule is not self.plan.cross:
            packing = self._twins(fused, packing)
        if self._plane_bytes(fused, packing) <= PLANES_BYTES:
            return fused, packing
        smaller = fused.in_place()
        packing = climb(smaller, packing)
        if packing is not None and self._plane_bytes(smaller, packing) <= PLANES_BYTES:
            return smaller, packing
        return program, None

    def _twins(self, program: Program, packing: Packing) -> Packing:
        """Packed planes of images with themselves, half of them where the others follow."""
        rows = sum(step.inputs[0].shape[0] for step in program.steps if isinstance(step, Reducing))
        size = 2 * rows * self.lanes * ITEMSIZE[self.dtype]
        return with_twins(program, packing, KEPT_BYTES // size) if rows else packing

    def _plane_bytes(self, program: Program, packing: Packing | None) -> int:
        """Bytes of all buffers of a program, for one displacement or packed plane."""
        slots = [packing.slot(slot) if packing else slot for slot in program.slots]
        pixels = sum(slot.pixels for slot in slots)
        return pixels * self.lanes * self.fields * ITEMSIZE[self.dtype]

    def _cells(self, packing: Packing | None) -> tuple[int, int, int, int]:
        """Append the cells of a program: the first, their number, the first activity, levels."""
        cells, active = sum(map(len, self.cells)), sum(map(len, self.cell_active))
        if packing is None:
            return cells, 0, active, 0
        self.cells.append(packing.cells.reshape(-1, CELL_COLUMNS))
        self.cell_active.append(packing.active.ravel())
        return cells, len(packing.cells), active, len(packing.levels)

    def _ahead(self, program: Program, packing: Packing | None, at: int) -> Ahead | None:
        """Where the inputs of several cells are made at once, if they fit beside the planes."""
        if packing is None or self.schedule is not self.plan.cross:
            return None
        made = [step.out for step in program.steps if isinstance(step, MakeInput)]
        if not made:
            return None
        plane = packing.slot(program.slots[made[0].slot]).pixels * self.lanes
        size = (BATCH + 1) * plane * ITEMSIZE[self.dtype] + self._plane_bytes(program, packing)
        if size > PLANES_BYTES or not batch_inputs(program, packing):
            return None
        return Ahead(made[0].node, at, plane)

    def _inputs(self, ahead: Ahead | None, mode: int) -> tuple[int, int, int]:
        if ahead is None:
            return 0, 0, 0
        return 1, ahead.plane, self.steps.number_of("inputs", "none", mode)

    def _handed(
        self, program: Program, packing: Packing | None, at: int
    ) -> tuple[dict[int, Handed], int]:
        """The rows that pools take some at a time, from ``at`` on, and where they end."""
        if packing is None:
            return {}, at
        found, end = handed_rows(program, packing.gap, at, self.lanes, ITEMSIZE[self.dtype])
        self.hands |= bool(found)
        return found, end

    def _packed_steps(
        self, program: Program, packing: Packing | None, slots: list[list[int]],
        ahead: Ahead | None, handed: dict[int, Handed],
    ) -> None:  # fmt: skip
        """Append rows of the table of packed steps."""
        if packing is None:
            return
        places = tuple(
            (row[SlotField.OFFSET], row[SlotField.T_OFFSET] - row[SlotField.OFFSET])
            for row in slots
        )
        layout = Layout(
            self.lanes, ITEMSIZE[self.dtype], self.lanes if self.paired else 1,
            {s.node: self.steps.input(s) for s in program.steps if isinstance(s, MakeInput)},
            places, ahead, 8 * self.stores.sums, handed,
        )  # fmt: skip
        steps = PackedSteps(program, packing, layout)
        self.kept = max(self.kept, steps.kept if packing.twins else 0)
        self.packed += steps.rows()

    def _slot(self, slot: Slot, planes: int, at: int, level: int) -> tuple[list[int], int]:
        height = slot.shape[0] + slot.lo[0] + slot.hi[0]
        width = slot.shape[1] + slot.lo[1] + slot.hi[1]
        if self.plan.vector:
            width *= REGION[0] * REGION[1]
        quadrant = height * width * self.lanes
        size = quadrant * planes
        row = [
            *slot.shape, *slot.sigma, slot.lo[0], slot.hi[0], slot.lo[1], slot.hi[1],
            at, quadrant, at + size, level,
        ]  # fmt: skip
        return row, at + size * (1 + self.plan.ntk)

    def _together(self, program: Program) -> int:
        """Displacements that run through the steps together, so that each step's factors, too
        many for a core's own cache, are fetched once for all of them; their planes must fit."""
        if any(program.group.torus) or self.paired or self.plan.vector:
            return 1
        size = max(1, self._plane_bytes(program, None))
        return max(1, min(MOST_TOGETHER, PLANES_BYTES // size))

def _rectangles(mask: Mask, shape: Pair) -> tuple[Ints, int]:
    """Where the rectangle of each displacement stands in a store, in pixels; the size of all."""
    areas = np.prod(np.array(shape) - np.abs(displacements(mask)), axis=1)
    index = np.full(mask.shape, -1, dtype=np.int64)
    index[mask] = np.concatenate([[0], np.cumsum(areas)[:-1]])
    return index, int(areas.sum())


def _ints(rows: list[list[int]], fields: type[Field]) -> Ints:
    return np.array(rows, dtype=np.int64).reshape(len(rows), len(fields))
