"""A schedule as arrays of integers: what the compiled driver reads.

The columns of each table are in :mod:`widegram.cpu.driver.fields`; addresses of kernels and offsets
into the buffers of one thread are filled in here, so that the driver only adds and calls. Kernels
have numbers until the tables are first run: what never is, such as planes of pairs where variances
alone are asked for, compiles none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
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
from widegram.cpu.handing import handed_rows
from widegram.cpu.in_cache import InCache
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
from widegram.cpu.packing import Layout, PackedSteps, Packing
from widegram.cpu.step_rows import StepRows
from widegram.machine.dtypes import ITEMSIZE
from widegram.plan.buffers import Slot
from widegram.plan.formulas import FactorLayout
from widegram.plan.masks import Mask, Pair, displacements
from widegram.plan.operations import Windowed
from widegram.plan.plan import Plan, Schedule
from widegram.plan.program import Program
from widegram.plan.steps import MakeInput, Places, resolved
from widegram.plan.stores import Store, Stores, lay_out


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
    ``of``: the store of each node that is kept. ``charts``: those that ``packed`` has the
    addresses of."""

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
    charts: tuple[NDArray[np.int32], ...]

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
    """Appends one program after the other to the tables of a schedule."""

    def __init__(
        self, plan: Plan, schedule: Schedule, layout: FactorLayout, dtype: str, paired: bool
    ) -> None:
        self.plan, self.schedule = plan, schedule
        self.lanes, self.item = LANES[dtype], ITEMSIZE[dtype]
        self.unit = self.lanes if paired else 1  # numbers of x per pixel of a factor
        fields = 1 + plan.ntk
        self.stores, self.clear = _stores(plan, schedule, fields, self.lanes)
        of = self.stores.of
        self.places = Places(layout.formulas, layout.offsets, of, plan.outputs, fields)
        self.kernels = KernelNumbers()
        variant = Variant("map", "none", bool(plan.ntk), paired, dtype)
        made = [i for p in schedule.programs for i in made_behind(plan.nodes, self.stores, p)]
        self.maps = map_tables(
            plan.nodes, made, self.stores, layout.offsets, variant, self.kernels
        )
        self.steps = StepRows(plan, dtype, paired, fields, of, self.kernels)
        self.in_cache = InCache(plan, schedule, dtype, paired)
        self.programs: list[list[int]] = []
        self.displacements: list[Ints] = []
        self.active: list[NDArray[np.uint8]] = []
        self.slots: list[list[int]] = []
        self.cells: list[Ints] = []
        self.cell_active: list[NDArray[np.uint8]] = []
        self.packed: list[list[int]] = []
        self.charts: list[NDArray[np.int32]] = []
        self.scratch = self.stores.size
        self.kept = 0
        self.hands = False

    def run(self) -> Tables:
        for program in self.schedule.programs:
            self._add(program)
        stores = [
            [store.reduced, *store.shape, store.index, store.offset, store.t_offset]
            for store in self.stores.of.values()
        ]
        return Tables(
            programs=_ints(self.programs, ProgramField),
            steps=_ints(self.steps.rows, StepField),
            displacements=np.concatenate(self.displacements),
            active=np.concatenate(self.active),
            slots=_ints(self.slots, SlotField),
            stores=_ints(stores, StoreField),
            index=self.stores.index,
            moves=self.steps.moves(self.stores, self.kept > 0, self.hands),
            params=self.steps.constants(),
            scratch=self.scratch,
            clear=self.clear,
            sums=self.stores.sums,
            kept=self.kept,
            buffer=_row_sums(self.plan) * self.lanes,
            # One row more, so that neither is empty.
            cells=np.concatenate([*self.cells, np.zeros((1, CELL_COLUMNS), np.int64)]),
            cell_active=np.concatenate([*self.cell_active, np.zeros(1, np.uint8)]),
            packed=np.array([*self.packed, [0] * PACKED_COLUMNS], dtype=np.int64),
            of=self.stores.of,
            maps=self.maps,
            kernels=self.kernels,
            charts=tuple(self.charts),
        )

    def _add(self, program: Program) -> None:
        """Append a program with its displacements, buffers and steps."""
        program = replace(program, steps=resolved(program.steps, self.places)).hiding()
        program, packing = self.in_cache.packed(program)
        row = dict.fromkeys(ProgramField, 0)
        row[ProgramField.FIRST_STEP] = len(self.steps.rows)
        row[ProgramField.N_STEPS] = len(program.steps)
        row[ProgramField.FIRST_DISPLACEMENT] = _rows(self.displacements)
        row[ProgramField.N_DISPLACEMENTS] = len(program.displacements)
        row[ProgramField.TORUS_ROWS], row[ProgramField.TORUS_COLS] = program.group.torus
        row[ProgramField.FIRST_SLOT] = len(self.slots)
        row[ProgramField.N_SLOTS] = len(program.slots)
        row[ProgramField.ACTIVE] = _rows(self.active)
        row[ProgramField.TOGETHER] = self.in_cache.together(program)
        row[ProgramField.FIRST_CELL] = _rows(self.cells)
        row[ProgramField.CELL_ACTIVE] = _rows(self.cell_active)
        row[ProgramField.FIRST_PACKED] = len(self.packed)
        made = made_behind(self.plan.nodes, self.stores, program)
        row[ProgramField.FIRST_MAP], row[ProgramField.N_MAPS] = self.maps.of(made)
        end = self._add_slots(program, packing, row[ProgramField.TOGETHER])
        if packing is not None:
            end = self._add_packed(program, packing, row, end)
        row[ProgramField.SIZE] = end - self.stores.size
        self.scratch = max(self.scratch, end)
        self.programs.append([row[field] for field in ProgramField])
        for step in program.steps:
            self.steps.add(step, row[ProgramField.FIRST_SLOT], packing.mode if packing else 0)
        self.displacements.append(program.displacements)
        self.active.append(program.active.astype(np.uint8).ravel())

    def _add_slots(self, program: Program, packing: Packing | None, together: int) -> int:
        """Append the buffers of a program, which stand behind the stores; where they end."""
        planes, at = max(program.segments, together), self.stores.size
        for slot in program.slots:
            if packing is None:
                row, at = self._slot(slot, planes, at, 0)
            else:
                row, at = self._slot(packing.slot(slot), 1, at, packing.levels.index(slot.shape))
            self.slots.append(row)
        return at

    def _slot(self, slot: Slot, planes: int, at: int, level: int) -> tuple[list[int], int]:
        """The row of a buffer of some planes that begins at number ``at``, and where it ends."""
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

    def _add_packed(
        self, program: Program, packing: Packing, row: dict[ProgramField, int], at: int
    ) -> int:
        """Append the cells and packed steps of a program, whose ``row`` gets what says so; where
        its numbers end that begin ``at``, behind the buffers."""
        row[ProgramField.N_CELLS] = len(packing.cells)
        row[ProgramField.LEVELS] = len(packing.levels)
        row[ProgramField.WRAPS] = int(packing.mode == WRAPS)
        row[ProgramField.CLIMB] = packing.climb
        ahead = self.in_cache.ahead(program, packing, at)
        if ahead is not None:
            row[ProgramField.AHEAD], row[ProgramField.AHEAD_PLANE] = 1, ahead.plane
            kernel = self.steps.number_of("inputs", "none", packing.mode)
            row[ProgramField.INPUTS_KERNEL] = kernel
            at = ahead.at + (BATCH + 1) * ahead.plane
        handed, at = handed_rows(program, packing.gap, at, self.lanes, self.item)
        self.hands |= bool(handed)
        self.cells.append(packing.cells.reshape(-1, CELL_COLUMNS))
        self.cell_active.append(packing.active.ravel())
        inputs = {
            step.node: self.steps.input(step)
            for step in program.steps
            if isinstance(step, MakeInput)
        }
        slots = tuple(
            (slot[SlotField.OFFSET], slot[SlotField.T_OFFSET] - slot[SlotField.OFFSET])
            for slot in self.slots[row[ProgramField.FIRST_SLOT] :]
        )
        sums = 8 * self.stores.sums
        layout = Layout(self.lanes, self.item, self.unit, inputs, slots, ahead, sums, handed)
        steps = PackedSteps(program, packing, layout)
        self.kept = max(self.kept, steps.kept if packing.twins else 0)
        self.packed += steps.rows()
        self.charts += steps.charts
        return at


def _stores(
    plan: Plan, schedule: Schedule, fields: int, lanes: int
) -> tuple[Stores, tuple[int, int]]:
    """What is kept, pools first, because they must be cleared; where those lie."""
    pools = {i for i, node in enumerate(plan.nodes) if node.operation.accumulates}
    order = sorted(range(len(plan.nodes)), key=lambda i: i not in pools)
    stores = lay_out(plan.nodes, schedule.masks, order, _rectangles, fields, lanes)
    # ``fields`` times the numbers of K: those of T too, where that is carried.
    ends = [
        s.offset + fields * (s.t_offset - s.offset) for i, s in stores.of.items() if i in pools
    ]
    return stores, (0, ends[-1] if ends else 0)


def _row_sums(plan: Plan) -> int:
    """Numbers of scratch, in one lane, for the row sums of the widest value and the largest
    window, or for what a map reads."""
    widest = max((node.shape[1] for node in plan.nodes), default=1)
    operations = [node.operation for node in plan.nodes]
    windows = [o.window for o in operations if isinstance(o, Windowed) and not o.stored]
    a, b = (max((w[n] for w in windows), default=1) for n in (0, 1))
    pixels = (a + ROWS_OF_SCRATCH) * (widest + 2 * b) + b
    mapped = [
        math.prod(plan.nodes[node.inputs[0]].shape)
        for node in plan.nodes
        if node.operation.at_once
    ]
    return max(2 * pixels, *mapped, 0)


def _rectangles(mask: Mask, shape: Pair) -> tuple[Ints, int]:
    """Where the rectangle of each displacement stands in a store, in pixels; the size of all."""
    areas = np.prod(np.array(shape) - np.abs(displacements(mask)), axis=1)
    index = np.full(mask.shape, -1, dtype=np.int64)
    index[mask] = np.concatenate([[0], np.cumsum(areas)[:-1]])
    return index, int(areas.sum())


def _ints(rows: list[list[int]], fields: type[Field]) -> Ints:
    return np.array(rows, dtype=np.int64).reshape(len(rows), len(fields))


def _rows(arrays: Sequence[NDArray[Any]]) -> int:
    """How many rows there are so far."""
    return sum(map(len, arrays))
