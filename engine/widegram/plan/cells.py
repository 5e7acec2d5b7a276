"""Displacements folded onto planes: what stands side by side in one array.

At displacement d a value on an (h, w) image has the rectangle of pixels (i, j) with (i, j) + d
inside the image. The rectangles at d and d - period, along rows and along columns, share one plane
without overlap: a *cell* is up to four of them, numbered 2 (row half) + column half, and its base
displacement is that of the first.

Seen as a torus, pixel (i, j) of a value is paired with i' = i + D or i + D - period, whichever lies
in the image; where neither does, the element is dead. Only behind a circular convolution whose
input is smaller than other values of its group may both lie in the image; the axis is then *split*:
two copies of the rows (columns), one per half.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import lcm

import numpy as np
from numpy.typing import NDArray

from widegram.plan.masks import Ints, Pair
from widegram.plan.program import Program
from widegram.plan.steps import Value

FAR = 1 << 20
Lattice = tuple[Pair, Pair]


@dataclass(frozen=True)
class Cells:
    """The cells of a program.

    * ``base`` (n, 2): displacements, in order.
    * ``there`` (n,): the rectangles that any step is wanted for, a bit for each.
    * ``wanted`` (n, steps): those that each step is wanted for.
    """

    base: Ints
    there: Ints
    wanted: NDArray[np.uint8]


def fold(program: Program, period: Pair) -> Cells:
    """A program's displacements modulo ``period``."""
    halves = (program.displacements < 0).astype(np.int64)
    keys = program.displacements % np.array(period)
    numbers, where = np.unique(keys @ np.array([period[1], 1]), return_inverse=True)
    base = np.stack(np.divmod(numbers, period[1]), axis=1)
    bits = 1 << (2 * halves[:, 0] + halves[:, 1])
    there = np.zeros(len(base), dtype=np.int64)
    np.bitwise_or.at(there, where.ravel(), bits)
    wanted = np.zeros((len(base), len(program.steps)), dtype=np.uint8)
    each = bits.astype(np.uint8)[:, None] * program.active.astype(np.uint8)
    np.bitwise_or.at(wanted, where.ravel(), each)
    return Cells(base, there, wanted)


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
    """The planes of a program, each a torus.

    * ``torus``: along rows and columns.
    * ``base`` (n, 2): base displacements in [0, period).
    * ``active`` (n, steps).
    * ``lattices``: the distinct (shape, sigma) of its values.
    * ``shifts`` (n, lattices, 4): D of segments 0 and 1 along rows, then along columns, FAR or -FAR
      where there is none.
    """

    torus: tuple[Torus, Torus]
    base: Ints
    active: NDArray[np.bool_]
    lattices: tuple[Lattice, ...]
    shifts: NDArray[np.int32]

    def number(self, value: Value) -> int:
        """Which of ``lattices`` a value lives on."""
        return self.lattices.index(value.lattice)

    def table(self) -> NDArray[np.int32]:
        """Rows for a kernel: the active flag of every step, then the shifts of every lattice."""
        flat = self.shifts.reshape(len(self.base), -1)
        return np.ascontiguousarray(np.concatenate([self.active, flat], axis=1), dtype=np.int32)


def space(program: Program) -> Space:
    """The planes of a program as tori."""
    values = {value.node: value for step in program.steps for value in step.inputs}
    values |= {step.out.node: step.out for step in program.steps if step.out is not None}
    lattices = tuple(dict.fromkeys(values[i].lattice for i in sorted(values)))
    torus = (_torus(program, lattices, 0), _torus(program, lattices, 1))
    cells = fold(program, (torus[0].period, torus[1].period))
    shifts = np.empty((len(cells.base), len(lattices), 4), dtype=np.int32)
    for n, (_, scale) in enumerate(lattices):
        for axis in (0, 1):
            first, second = _shifts(cells.base[:, axis], torus[axis].period, scale[axis])
            shifts[:, n, 2 * axis], shifts[:, n, 2 * axis + 1] = first, second
    return Space(torus, cells.base, cells.wanted != 0, lattices, shifts)


def _torus(program: Program, lattices: tuple[Lattice, ...], axis: int) -> Torus:
    largest = max((shape[axis] * scale[axis] for shape, scale in lattices), default=1)
    if program.group.torus[axis]:
        period = program.group.torus[axis]
        return Torus(period, largest > period)
    step = lcm(*(scale[axis] for _, scale in lattices)) if lattices else 1
    return Torus(-(-largest // step) * step, False)


def _shifts(base: Ints, period: int, scale: int) -> tuple[Ints, Ints]:
    """D of segments 0 and 1 for base displacements; FAR, -FAR where they fall between pixels."""
    first = np.where(base % scale == 0, base // scale, FAR)
    rest = base - period
    second = np.where((base > 0) & (rest % scale == 0), rest // scale, -FAR)
    return first, second
