"""Which programs run on packed planes (:mod:`widegram.cpu.kernels.packed_ir`), and their tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TypeGuard

import numpy as np
from numpy.typing import NDArray

from widegram.cpu.charts import chart, has_chart
from widegram.cpu.driver.packed_fields import CELL_COLUMNS, CellField, PackedField
from widegram.cpu.handing import Handed, handed_on
from widegram.cpu.kernels.fields import Cell, PackedGeometry
from widegram.cpu.kernels.variants import BATCH, GAPS, SQUARES, WRAPS
from widegram.plan.buffers import Slot
from widegram.plan.cells import fold
from widegram.plan.masks import Ints, Pair
from widegram.plan.operations import Affine
from widegram.plan.program import Program
from widegram.plan.steps import MakeInput, Making, Point, Reducing, Step, Value, Window

# Kernels that have read all they need of a row before they write one.
_CLIMBING = {(1, 1), *((n, n) for n in SQUARES.values())}


@dataclass(frozen=True)
class Packing:
    """``gap`` between rectangles (rows, columns), ``halo`` on each side of all, ``mode`` GAPS or
    WRAPS, without gaps; ``levels``: the shapes of values, finest first;
    ``cells`` (n, levels, CELL_COLUMNS), the first is d = 0; ``active`` (n, steps): the rectangles
    (bits as in SEGMENTS) that each step is wanted for. ``drift``: the rows by which each value
    stands higher than the first in its buffer, where values are written in place. ``twins``: the
    cells that another one makes (:mod:`widegram.cpu.twins`)."""

    mode: int
    gap: Pair
    halo: Pair
    levels: tuple[Pair, ...]
    cells: Ints
    active: NDArray[np.uint8]
    drift: dict[int, int] = field(default_factory=dict)
    twins: int = 0

    @property
    def climb(self) -> int:
        """The rows above a plane that values written in place climb into."""
        return max(self.drift.values(), default=0)

    def slot(self, slot: Slot) -> Slot:
        """The slot with room for a packed plane."""
        (y, x), gap = self.halo, self.gap
        return Slot(slot.shape, slot.sigma, (y + self.climb, x), (y + gap[0], x + gap[1]))


def pack(program: Program) -> Packing | None:
    """The packed planes of a program; None where shapes are not the finest one divided by their
    strides, where a plain 3 x 3 window is not centred, where some windows wrap and others do not,
    or where no two displacements would share a plane."""
    sizes = {tuple(np.multiply(slot.shape, slot.sigma)) for slot in program.slots}
    if len(sizes) != 1:
        return None
    windows = [step.affine for step in program.steps if isinstance(step, Window)]
    halo = tuple(max((max(a.lo[n], a.hi[n]) for a in windows), default=0) for n in (0, 1))
    if any(program.group.torus):
        return _wrapped(program, windows, (halo[0], halo[1]))
    if not all(a.lo == (1, 1) for a in windows if a.window == (3, 3) and a.strides == (1, 1)):
        return None
    cells = fold(program, *sizes)
    if len(cells.base) == len(program.displacements):
        return None
    gap = (halo[0], halo[1])
    return Packing(GAPS, gap, gap, *_levels(program, cells.base, cells.there), cells.wanted)


def climb(program: Program, packing: Packing) -> Packing | None:
    """Packing for a program that writes in place; None where a window cannot.

    Row i of a window's result needs rows i - lo ... of its source, and takes the place of row
    i - lo: each window moves its plane up by lo rows. What is handed on takes no place.
    """
    handed = {program.steps[n].inputs[0].node for n in handed_on(program)}
    drift: dict[int, int] = {}
    now: dict[int, int] = {}
    for step in program.steps:
        if not isinstance(step, Making):
            continue
        slot = step.out.slot
        if _replaces(step) and step.out.node not in handed:
            if step.affine.window not in _CLIMBING or step.affine.strides != (1, 1):
                return None
            now[slot] += step.affine.lo[0]
        drift[step.out.node] = now.setdefault(slot, 0)
    return replace(packing, drift=drift) if packing.mode == GAPS else None


def _replaces(step: Step) -> TypeGuard[Window]:
    """Whether it is a window whose result takes the place of its source."""
    return isinstance(step, Window) and step.out.slot in [v.slot for v in step.inputs[:1]]


def _wrapped(program: Program, windows: list[Affine], halo: Pair) -> Packing | None:
    """Planes of a torus, where every window wraps around both its axes, once at most."""
    (height, width), slots = program.group.torus, program.slots
    wide = [a for a in windows if a.window != (1, 1)]
    least = [min(slot.shape[n] for slot in slots) for n in (0, 1)]
    sizes = {tuple(np.multiply(slot.shape, slot.sigma)) for slot in slots}
    if sizes != {(height, width)} or not all(a.circular for a in wide):
        return None
    if halo[0] > least[0] or halo[1] > least[1]:
        return None
    keys = program.displacements
    lower, right = keys.T > 0
    segments = 1 + 2 * right + 4 * lower + 8 * (lower & right)
    active = (segments[:, None] * program.active).astype(np.uint8)
    return Packing(WRAPS, (0, 0), halo, *_levels(program, keys, segments), active)


def _levels(program: Program, keys: Ints, segments: Ints) -> tuple[tuple[Pair, ...], Ints]:
    levels = sorted({(slot.sigma, slot.shape) for slot in program.slots})
    tables = [_cells(keys // np.array(sigma), segments, shape) for sigma, shape in levels]
    return tuple(shape for _, shape in levels), np.stack(tables, axis=1)


def _cells(keys: Ints, segments: Ints, shape: Pair) -> Ints:
    rows = np.zeros((len(keys), CELL_COLUMNS), dtype=np.int64)
    (h, w), (dy, dx) = shape, keys.T
    lower, right = (segments & 0b1100) != 0, (segments & 0b1010) != 0
    rows[:, Cell.FIRST_ROWS] = h - dy
    rows[:, Cell.ROWS] = np.where(lower, h, h - dy)
    rows[:, Cell.FIRST_COLS] = w - dx
    rows[:, Cell.SECOND_COLS] = np.where(right, dx, 0)
    rows[:, CellField.DY], rows[:, CellField.DX] = dy, dx
    rows[:, CellField.SEGMENTS] = segments
    rows[:, CellField.Y_AT] = dy * w + dx
    return rows


def batch_inputs(program: Program, packing: Packing) -> int:
    """Number the cells whose inputs are made at once; how many at most, 0 where none are.

    They are BATCH neighbours along a row of displacements: the same rows of x' meet x, one column
    further each. Only windows and activations may read such an input, whose T is a plane of zeros.
    """
    made = [n for n, step in enumerate(program.steps) if isinstance(step, MakeInput)]
    if len(made) != 1:
        return 0
    value = program.steps[made[0]].node
    for step in program.steps:
        reads = value in [read.node for read in step.inputs]
        if reads and (not isinstance(step, Window | Point) or len(step.inputs) > 1):
            return 0
    cells, wanted = packing.cells, packing.active[:, made[0]] != 0
    cells[:, :, CellField.COUNT] = 1
    steps = np.diff(cells[:, 0, [CellField.DY, Cell.ROWS, CellField.DX]], axis=0)
    goes_on = ((steps == [0, 0, 1]).all(axis=1) & wanted[1:] & wanted[:-1]).tolist()
    found, n = 0, 0
    while n + BATCH <= len(cells):
        if all(goes_on[n : n + BATCH - 1]):
            cells[n : n + BATCH, :, CellField.BATCH] = np.arange(BATCH)[:, None]
            cells[n, :, CellField.COUNT] = found = BATCH
            n += BATCH
        else:
            n += 1
    return found


@dataclass(frozen=True)
class Ahead:
    """Planes of inputs made at once: their ``node``, where they start and the distance from one to
    the next, in numbers; a plane of zeros, the T of all, is behind the last."""

    node: int
    at: int
    plane: int


@dataclass(frozen=True)
class Layout:
    """What the tables of packed steps are made of: ``lanes``, bytes of a number ``item``, numbers
    of x per pixel of a factor ``unit`` (``lanes`` where x differs per lane); ``inputs``: of each
    node that is an input, its channels and its first number; the offset of each slot and the
    distance to its T, in numbers; where inputs are made; bytes from the sums to what cells keep for
    their twins (:meth:`PackedSteps.kept`); the rows that go to a pool, by the node whose they
    are."""

    lanes: int
    item: int
    unit: int
    inputs: Mapping[int, tuple[int, int]]
    slots: tuple[tuple[int, int], ...]
    ahead: Ahead | None = None
    kept: int = 0
    handed: Mapping[int, Handed] = field(default_factory=dict)


class PackedSteps:
    """Makes the table of packed steps of one program. ``charts``: those that the rows which were
    made have the addresses of."""

    def __init__(self, program: Program, packing: Packing, layout: Layout) -> None:
        self.program, self.packing, self.layout = program, packing, layout
        self.charts: list[NDArray[np.int32]] = []

    def rows(self) -> list[list[int]]:
        """One row per step, for each position among inputs that are made at once."""
        positions, steps = range(BATCH if self.layout.ahead else 1), range(len(self.program.steps))
        return [self._row(n, batch) for batch in positions for n in steps]

    @property
    def kept(self) -> int:
        """Bytes of what all cells keep for their twins."""
        return self._kept_before(len(self.program.steps))

    def _kept_before(self, n: int) -> int:
        """Those of the first n steps."""
        steps = [step for step in self.program.steps[:n] if isinstance(step, Reducing)]
        return sum((1 + self.packing.twins) * self._row_sums(step) for step in steps)

    def _row_sums(self, step: Step) -> int:
        """Bytes of the row sums, of K and of T, of one plane that a step sums up."""
        return 2 * step.inputs[0].shape[0] * self.layout.lanes * self.layout.item

    def _place(self, value: Value, batch: int) -> tuple[int, int, int]:
        """First pixel, row stride and distance to T of a value, in numbers."""
        ahead, handed = self.layout.ahead, self.layout.handed.get(value.node)
        if handed is not None:
            return handed.at, handed.row, handed.t
        slot = self.packing.slot(self.program.slots[value.slot])
        row = (slot.shape[1] + slot.lo[1] + slot.hi[1]) * self.layout.lanes
        at, t = self.layout.slots[value.slot]
        if ahead is not None and value.node == ahead.node:
            at, t = ahead.at + batch * ahead.plane, (BATCH - batch) * ahead.plane
        top = slot.lo[0] - self.packing.drift.get(value.node, 0)
        return at + top * row + slot.lo[1] * self.layout.lanes, row, t

    def _row(self, n: int, batch: int) -> list[int]:
        step, layout = self.program.steps[n], self.layout
        h, w = (step.out or step.inputs[0]).shape
        lanes, unit, item = layout.lanes, layout.unit, layout.item
        count, at = layout.inputs.get(step.node, (0, 0)) if isinstance(step, MakeInput) else (0, 0)
        each = count or 1
        if isinstance(step, Window | Point):
            at, count = step.at, step.n_factors
        named = {
            "fx_row": w * unit * each, "fx_col": unit, "fx_plane": h * w * unit,
            "fy_row": w * lanes * each, "fy_col": lanes, "fy_plane": h * w * lanes,
            "count": count,
            "height": h, "width": w, "gap_rows": self.packing.gap[0],
            "gap_cols": self.packing.gap[1], "stride_rows": 1, "stride_cols": 1,
        }  # fmt: skip
        out = dict.fromkeys(PackedField, 0)
        out[PackedField.LEVEL] = self.packing.levels.index((h, w))
        out[PackedField.OTHER_AT] = out[PackedField.HALO_AT] = -1
        if len(step.inputs) > 1:
            out[PackedField.OTHER_AT] = self._place(step.inputs[1], batch)[0] * item
        if step.inputs:
            first, named["in_row"], named["t_in"] = self._place(step.inputs[0], batch)
            out[PackedField.IN_AT] = first * item
        if step.out is not None:
            first, named["out_row"], named["t_out"] = self._place(step.out, batch)
            out[PackedField.OUT_AT] = first * item
        if self.packing.twins and isinstance(step, Reducing):
            out[PackedField.ROWS_AT] = layout.kept + self._kept_before(n)
            out[PackedField.ROWS_SIZE] = self._row_sums(step)
        if isinstance(step, Window):
            named["window_rows"], named["window_cols"] = step.affine.window
            named["stride_rows"], named["stride_cols"] = step.affine.strides
            before = step.affine.lo[0] * named.get("in_row", 0) + step.affine.lo[1] * lanes
            self._halo(step, out)
            if self.packing.drift and step.node not in layout.handed:
                out[PackedField.CLIMBED] = step.affine.lo[0] if _replaces(step) else 0
            out[PackedField.IN_AT] -= before * item
            if has_chart(step):
                pitch = named["out_row"] // lanes
                self.charts.append(chart((h, w), self.packing.gap, pitch))
                named["chart"] = self.charts[-1].ctypes.data
        for value in (step.out, *step.inputs):
            if value is not None and value.node in layout.handed:
                out[PackedField.HANDED] = layout.handed[value.node].windows
        for name in ("t_in", "t_out"):
            named[name] = named.get(name, 0) * item
        out[PackedField.FX_AT], out[PackedField.FY_AT] = at * unit * item, at * lanes * item
        out[PackedField.FY_PIXEL] = lanes * each * item
        geometry = [named.get(field.name.lower(), 0) for field in PackedGeometry]
        return geometry + [out[field] for field in PackedField]

    def _halo(self, step: Window, out: dict[PackedField, int]) -> None:
        """What a window reads around its source on a torus."""
        affine = step.affine
        if self.packing.mode != WRAPS or affine.window == (1, 1):
            return
        shape = step.inputs[0].shape
        out[PackedField.HALO_AT] = out[PackedField.IN_AT]
        out[PackedField.HALO_LO_ROWS], out[PackedField.HALO_LO_COLS] = affine.lo
        out[PackedField.HALO_HI_ROWS], out[PackedField.HALO_HI_COLS] = affine.hi
        out[PackedField.HALO_ROWS], out[PackedField.HALO_COLS] = shape
