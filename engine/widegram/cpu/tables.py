"""A schedule as arrays of integers: what the compiled driver reads.

The columns of each table are in :mod:`widegram.cpu.driver.fields`; addresses of kernels and offsets
into the buffers of one thread are filled in here, so that the driver only adds and calls.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from widegram.cpu.driver.fields import (
    REGION,
    Ints,
    Kind,
    Move,
    ProgramField,
    SlotField,
    StepField,
    StoreField,
)
from widegram.cpu.driver.packed_fields import CELL_COLUMNS, PACKED_COLUMNS
from widegram.cpu.kernels import compiled
from widegram.cpu.kernels.fields import Field
from widegram.cpu.kernels.large_ir import ROWS_OF_SCRATCH
from widegram.cpu.kernels.packed_ir import BATCH
from widegram.cpu.kernels.plane_base import N_PARAMS, WRAPS, Variant
from widegram.cpu.kernels.vector_ops import LANES
from widegram.cpu.kernels.window_ir import PLUS, SQUARES
from widegram.cpu.packing import (
    Ahead,
    Layout,
    PackedSteps,
    Packing,
    batch_inputs,
    climb,
    pack,
)
from widegram.machine.dtypes import ITEMSIZE
from widegram.plan.formulas import FactorLayout
from widegram.plan.graph import Node
from widegram.plan.masks import displacements
from widegram.plan.operations import Affine, Copy, Gather, Reduce
from widegram.plan.plan import Plan, Schedule
from widegram.plan.program import STORING, Program, Slot, Step, fuse_sums, in_place

# Planes of several displacements at once may take this much of a core's second-level cache.
PLANES_BYTES = 768 * 1024
MOST_TOGETHER = 2
# Windows of this many rows or columns are summed at a cost that does not depend on their size.
LARGE = 5


@dataclass(frozen=True)
class Tables:
    """Arrays for the driver. ``scratch``: numbers of plane buffers and stores one thread needs;
    the stores that must start from zero lie at [``clear``[0], ``clear``[1]). ``sums``: doubles."""

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
    buffer: int
    cells: Ints
    cell_active: NDArray[np.uint8]
    packed: Ints


def encode(
    plan: Plan, schedule: Schedule, layout: FactorLayout, dtype: str, paired: bool
) -> Tables:
    """The tables of a schedule for one dtype; compiles kernels that were never used before."""
    return _Encoder(plan, schedule, layout, dtype, paired).run()


class _Encoder:
    def __init__(
        self, plan: Plan, schedule: Schedule, layout: FactorLayout, dtype: str, paired: bool
    ) -> None:
        self.plan, self.schedule, self.layout = plan, schedule, layout
        self.dtype, self.paired, self.lanes = dtype, paired, LANES[dtype]
        self.store_of: dict[int, int] = {}
        self.steps: list[list[int]] = []
        self.params: list[float] = []
        self.index: list[Ints] = []
        self.index_size = 0
        self.cells: list[Ints] = []
        self.cell_active: list[NDArray[np.uint8]] = []
        self.packed: list[list[int]] = []

    def run(self) -> Tables:
        stores, clear, store_end, sums = self._stores()
        programs: list[list[int]] = []
        slots: list[list[int]] = []
        shifts, active = [], []
        n_shifts = n_active = 0
        most = store_end
        for program in self.schedule.programs:
            first_slot, at = len(slots), store_end
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
            most = max(most, at)
            programs.append(
                [
                    len(self.steps), len(program.steps), n_shifts, len(program.displacements),
                    *program.group.torus, first_slot, len(program.slots), n_active,
                    self._together(program), *self._cells(packing), at - store_end,
                    len(self.packed), *self._inputs(ahead, mode), mode == WRAPS,
                    packing.climb if packing else 0,
                ]
            )  # fmt: skip
            self._packed_steps(program, packing, slots[first_slot:], ahead)
            for step in program.steps:
                self.steps.append(self._step(program, step, first_slot, mode))
            shifts.append(program.displacements)
            active.append(program.active.astype(np.uint8).ravel())
            n_shifts += len(program.displacements)
            n_active += active[-1].size
        return Tables(
            _ints(programs, ProgramField), _ints(self.steps, StepField),
            np.concatenate(shifts), np.concatenate(active), _ints(slots, SlotField),
            _ints(stores, StoreField), np.concatenate([*self.index, np.zeros(1, np.int64)]),
            np.array([self._address(move.name.lower(), "none") for move in Move], dtype=np.int64),
            self._constants(),
            most, clear, sums, self._buffer(),
            np.concatenate([*self.cells, np.zeros((1, CELL_COLUMNS), np.int64)]),
            np.concatenate([*self.cell_active, np.zeros(1, np.uint8)]),
            np.array([*self.packed, [0] * PACKED_COLUMNS], dtype=np.int64),
        )  # fmt: skip

    @np.errstate(over="ignore")  # Constants are out of range where variances are: refused as such.
    def _constants(self) -> NDArray[Any]:
        return np.array([*self.params, 0.0], dtype=self.dtype)

    def _buffer(self) -> int:
        """Numbers of scratch for the row sums of the widest value and the largest window."""
        widest = max((n.shape[1] for n in self.plan.nodes), default=1)
        windows = [n.operation.window for n in self.plan.nodes if isinstance(n.operation, Affine)]
        a, b = (max((w[n] for w in windows), default=1) for n in (0, 1))
        pixels = (a + ROWS_OF_SCRATCH) * (widest + 2 * b) + b
        return 2 * pixels * self.lanes

    def _address(self, kind: str, code: str, packed: int = 0) -> int:
        variant = Variant(kind, code, self.plan.ntk, self.paired, self.dtype, packed)
        return compiled.address(variant)

    def _packing(self, program: Program) -> tuple[Program, Packing | None]:
        """Packed planes where they are possible and fit into a core's second-level cache."""
        if self.plan.vector:
            return program, None
        fused = fuse_sums(self.plan.nodes, program)
        packing = pack(fused)
        if packing is None:
            return program, None
        if self._plane_bytes(fused, packing) <= PLANES_BYTES:
            return fused, packing
        smaller = in_place(self.plan.nodes, fused)
        packing = climb(smaller, packing)
        if packing is not None and self._plane_bytes(smaller, packing) <= PLANES_BYTES:
            return smaller, packing
        return program, None

    def _plane_bytes(self, program: Program, packing: Packing | None) -> int:
        """Bytes of all buffers of a program, for one displacement or packed plane."""
        slots = [packing.slot(slot) if packing else slot for slot in program.slots]
        fields = 1 + self.plan.ntk
        return sum(map(_slot_pixels, slots)) * self.lanes * fields * ITEMSIZE[self.dtype]

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
        if packing is None or self.paired:
            return None
        made = [step.out for step in program.steps if step.kind == "input"]
        if not made:
            return None
        plane = _slot_pixels(packing.slot(program.slots[program.slot_of[made[0]]])) * self.lanes
        size = (BATCH + 1) * plane * ITEMSIZE[self.dtype] + self._plane_bytes(program, packing)
        if size > PLANES_BYTES or not batch_inputs(program, packing):
            return None
        return Ahead(made[0], at, plane)

    def _inputs(self, ahead: Ahead | None, mode: int) -> tuple[int, int, int]:
        if ahead is None:
            return 0, 0, 0
        return 1, ahead.plane, self._address("inputs", "none", mode)

    def _packed_steps(
        self, program: Program, packing: Packing | None, slots: list[list[int]],
        ahead: Ahead | None,
    ) -> None:  # fmt: skip
        """Append rows of the table of packed steps."""
        if packing is None:
            return
        factors = tuple(
            (self.layout.offsets[s.act], self.layout.formulas[s.act].n_factors)
            if s.act >= 0 else (0, 0)
            for s in program.steps
        )  # fmt: skip
        places = tuple(
            (row[SlotField.OFFSET], row[SlotField.T_OFFSET] - row[SlotField.OFFSET])
            for row in slots
        )
        layout = Layout(
            self.lanes, ITEMSIZE[self.dtype], self.lanes if self.paired else 1, self._channels(),
            places, factors, ahead,
        )  # fmt: skip
        self.packed += PackedSteps(program, packing, layout).rows()

    def _stores(self) -> tuple[list[list[int]], tuple[int, int], int, int]:
        """Rows of the store table; pools first, because they must be cleared."""
        rows: list[list[int]] = []
        at = sums = 0
        fields = 1 + self.plan.ntk
        everything = list(zip(range(len(self.plan.nodes)), self.plan.nodes, strict=True))
        cleared = 0
        for kind in (Gather, Copy, Reduce):
            for i, node in everything:
                mask = self.schedule.masks[i]
                if not isinstance(node.operation, kind) or not mask.any():
                    continue
                self.store_of[i] = len(rows)
                if kind is Reduce:
                    rows.append([1, 1, 1, 0, sums, sums + self.lanes])
                    sums += fields * self.lanes
                    continue
                pixels = self._index(node, mask)
                size = pixels * self.lanes
                rows.append([0, *node.shape, self.index_size - mask.size, at, at + size])
                at += fields * size
            if kind is Gather:
                cleared = at
        return rows, (0, cleared), at, sums

    def _index(self, node: Node, mask: NDArray[np.bool_]) -> int:
        """Append the plane positions of a store (-1 where absent); its size; both in pixels."""
        d = np.abs(displacements(mask))
        areas = np.prod(np.array(node.shape) - d, axis=1)
        index = np.full(mask.shape, -1, dtype=np.int64)
        index[mask] = np.concatenate([[0], np.cumsum(areas)[:-1]])
        self.index.append(index.ravel())
        self.index_size += index.size
        return int(areas.sum())

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

    def _step(self, program: Program, step: Step, first_slot: int, packed: int) -> list[int]:
        row = dict.fromkeys(StepField, 0)
        row[StepField.KIND] = Kind[step.kind.upper()]
        if step.out in program.slot_of:
            row[StepField.OUT] = first_slot + program.slot_of[step.out]
        for field, value in zip((StepField.IN0, StepField.IN1), step.inputs, strict=False):
            row[field] = first_slot + program.slot_of[value]
        sources = self.plan.nodes[step.out].inputs
        row[StepField.NODE] = sources[0] if sources else step.out
        if step.kind in (*STORING, "load"):
            row[StepField.STORE] = self.store_of[step.out]
        row[StepField.PARAMS] = len(self.params)
        operation = self.plan.nodes[step.out].operation
        gain, bias = 1.0, 0.0
        constants: tuple[float, ...] = ()
        if isinstance(operation, Gather):
            gain = operation.scale
            self._window(row, operation.window, operation.strides, operation.lo, operation.circular)
        elif isinstance(operation, Reduce):
            gain = operation.scale
        elif step.kind == "output":
            row[StepField.STORE] = self.plan.outputs.index(step.out)
        if step.affine is not None:
            a = step.affine
            gain, bias = a.gain, a.bias
            self._window(row, a.window, a.strides, a.lo, a.circular)
        code = "none"
        if step.act >= 0:
            formula = self.layout.formulas[step.act]
            code, constants = formula.code, formula.constants
            if step.affine is not None:
                gain, bias = gain * formula.prescale, bias * formula.prescale
            row[StepField.FACTOR] = self.layout.offsets[step.act]
            row[StepField.N_FACTORS] = formula.n_factors
        if step.kind == "input":
            row[StepField.N_FACTORS] = self._channels()
            if self.plan.vector and not self.paired:
                gain = 1.0 / self._channels()
        row[StepField.KERNEL] = self._kernel(step, code, packed)
        values = [gain, bias, *constants]
        self.params += values + [0.0] * (N_PARAMS - len(values))
        return [row[field] for field in StepField]

    @staticmethod
    def _window(row: dict[StepField, int], window: Any, strides: Any, lo: Any, circ: bool) -> None:
        row[StepField.ROWS], row[StepField.COLS] = window
        row[StepField.STRIDE_ROWS], row[StepField.STRIDE_COLS] = strides
        row[StepField.LO_ROWS], row[StepField.LO_COLS] = lo
        row[StepField.CIRCULAR] = int(circ)

    def _channels(self) -> int:
        """Numbers summed by one inner product."""
        shape = self.plan.network.input_shape
        return int(np.prod(shape)) if self.plan.vector else shape[-1]

    def _kernel(self, step: Step, code: str, packed: int) -> int:
        if step.kind == "input" and self.plan.vector and not self.paired:
            return self._address("inner", code)
        if step.kind in ("point", "input"):
            return self._address(step.kind, code, packed)
        if step.affine is None:
            return 0
        window, strides = step.affine.window, step.affine.strides
        plus = PLUS if len(step.inputs) > 1 else ""
        if window == (1, 1):
            kind = "tap"
        elif strides == (1, 1) and window[0] == window[1] <= max(SQUARES.values()):
            kind = f"box{window[0]}"
        elif strides == (1, 1) and max(window) >= LARGE:
            kind = "large"
        else:
            kind = "box"
        return self._address(kind + plus, code, packed)


def _slot_pixels(slot: Slot) -> int:
    height = slot.shape[0] + slot.lo[0] + slot.hi[0]
    return height * (slot.shape[1] + slot.lo[1] + slot.hi[1])


def _ints(rows: list[list[int]], fields: type[Field]) -> Ints:
    return np.array(rows, dtype=np.int64).reshape(len(rows), len(fields))
