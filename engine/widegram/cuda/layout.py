"""Where planes, stores and displacements stand on a GPU.

Every plane is a torus: pixel (i, j) of an (h, w) value at base displacement d is paired with the
pixel i' = i + D or i + D - period (and the same for columns), whichever lies in the image; where
neither does, the element is dead. So the rectangles at d and d - period, which a zero-padded
network keeps apart, share one array of h x w numbers without overlap. Only behind a circular
convolution whose input is smaller than other values of its group may both lie in the image; the
axis is then *split*: two copies of the rows (columns), one per segment.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import lcm

import numpy as np
from numpy.typing import NDArray

from widegram.plan.graph import Node
from widegram.plan.masks import Mask, Pair, displacements
from widegram.plan.operations import Copy, Gather, Reduce
from widegram.plan.plan import Schedule
from widegram.plan.program import Program

Ints = NDArray[np.int32]
FAR = 1 << 20


@dataclass(frozen=True)
class Torus:
    """The period of a program's base displacements along one axis, and whether it is split."""

    period: int
    split: bool

    @property
    def segments(self) -> int:
        """Copies of the axis that a plane holds."""
        return 1 + self.split


@dataclass(frozen=True)
class Space:
    """Displacements of one program.

    ``torus``: rows, columns. ``base`` (n, 2): base displacements in [0, period). ``active``
    (n, steps). ``kinds``: the distinct (shape, sigma) of its values; ``shifts`` (n, kinds, 4): D of
    segments 0 and 1 along rows, then along columns, FAR or -FAR where there is none.
    """

    torus: tuple[Torus, Torus]
    base: NDArray[np.int64]
    active: NDArray[np.bool_]
    kinds: tuple[tuple[Pair, Pair], ...]
    shifts: Ints

    def table(self) -> Ints:
        """Rows for the kernel: the active flag of every step, then the shifts of every kind."""
        flat = self.shifts.reshape(len(self.base), -1)
        return np.ascontiguousarray(np.concatenate([self.active, flat], axis=1), dtype=np.int32)


def space(nodes: tuple[Node, ...], program: Program) -> Space:
    """Fold a program's displacements onto tori."""
    sigma = program.group.sigma
    values = sorted({*program.slot_of, *(i for s in program.steps for i in s.inputs)})
    kinds = tuple(dict.fromkeys((nodes[i].shape, sigma[i]) for i in values))
    torus = (_torus(program, kinds, 0), _torus(program, kinds, 1))
    periods = np.array([torus[0].period, torus[1].period])
    base, at = np.unique(program.displacements % periods, axis=0, return_inverse=True)
    active = np.zeros((len(base), len(program.steps)), dtype=np.bool_)
    np.logical_or.at(active, at.ravel(), program.active)
    shifts = np.empty((len(base), len(kinds), 4), dtype=np.int32)
    for n, (_, scale) in enumerate(kinds):
        for axis in (0, 1):
            first, second = _shifts(base[:, axis], int(periods[axis]), scale[axis])
            shifts[:, n, 2 * axis], shifts[:, n, 2 * axis + 1] = first, second
    return Space(torus, base, active, kinds, shifts)


def _torus(program: Program, kinds: tuple[tuple[Pair, Pair], ...], axis: int) -> Torus:
    largest = max((shape[axis] * scale[axis] for shape, scale in kinds), default=1)
    if program.group.torus[axis]:
        period = program.group.torus[axis]
        return Torus(period, largest > period)
    step = lcm(*(scale[axis] for _, scale in kinds)) if kinds else 1
    return Torus(-(-largest // step) * step, False)


def _shifts(base: NDArray[np.int64], period: int, scale: int) -> tuple[Ints, Ints]:
    """D of segments 0 and 1 for base displacements; FAR, -FAR where they fall between pixels."""
    first = np.where(base % scale == 0, base // scale, FAR)
    rest = base - period
    second = np.where((base > 0) & (rest % scale == 0), rest // scale, -FAR)
    return first.astype(np.int32), second.astype(np.int32)


@dataclass(frozen=True)
class Store:
    """A value kept between groups: plane n of K stands at ``offset`` + n h w, of T at ``t_offset``.

    ``index``: where in the table of planes the (h, w) plane numbers of this store begin (-1: no
    such plane). Of a reduced value ``offset`` and ``t_offset`` count the pair's sums.
    """

    shape: Pair
    reduced: bool
    offset: int
    t_offset: int
    index: int = 0
    planes: int = 0


@dataclass(frozen=True)
class Stores:
    """All stores of one pair: ``size`` numbers, ``sums`` doubles; ``index``: the plane numbers."""

    of: dict[int, Store]
    size: int
    sums: int
    index: Ints


def stores(nodes: tuple[Node, ...], schedule: Schedule, ntk: bool) -> Stores:
    """Lay out what one pair keeps between groups."""
    of: dict[int, Store] = {}
    tables: list[Ints] = []
    at = sums = rows = 0
    for i, (node, mask) in enumerate(zip(nodes, schedule.masks, strict=True)):
        if not mask.any():
            continue
        if isinstance(node.operation, Reduce):
            of[i] = Store((1, 1), True, sums, sums + 1)
            sums += 1 + ntk
        elif isinstance(node.operation, Gather | Copy):
            table = _planes(mask, node.shape)
            planes, area = int(table.max()) + 1, table.size
            of[i] = Store(node.shape, False, at, at + planes * area, rows, planes)
            tables.append(table.ravel())
            rows += area
            at += planes * area * (1 + ntk)
    index = np.concatenate([*tables, np.zeros(1, np.int32)])
    return Stores(of, at, sums, index.astype(np.int32))


def _planes(mask: Mask, shape: Pair) -> Ints:
    """Plane numbers (h, w) by displacement modulo the shape, -1 where none is needed."""
    table = np.full(shape, -1, dtype=np.int32)
    d = np.unique(displacements(mask) % np.array(shape), axis=0)
    table[d[:, 0], d[:, 1]] = np.arange(len(d))
    return table
