"""Cells of an image with itself whose planes another cell has too.

K(x, x) at -d are the numbers that it has at d: pixel (i, i + d) seen from its other end. So the
plane of -d is that of d with its halves of rows and of columns exchanged (see
:mod:`~widegram.plan.cells`), to the last bit where every step treats both images alike, and what is
summed over all displacements needs one plane of the two. The sums of both are added where the
planes would have been, so that they are the same bits too.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from widegram.cpu.driver.packed_fields import CellField
from widegram.cpu.kernels.variants import LARGE
from widegram.cpu.packing import Packing
from widegram.plan.masks import Ints
from widegram.plan.program import Program
from widegram.plan.steps import Counting, MakeInput, Point, Product, Reducing, Step, Sum, Window


def with_twins(program: Program, packing: Packing, most: int) -> Packing:
    """The packing of a resolved program of images with themselves, in which cells that another one
    makes are numbered; ``most``: so many of them, or none."""
    if not all(_alike(step) for step in program.steps):
        return packing
    pairs = _pairs(program, packing)
    if not 0 < len(pairs) <= most:
        return packing
    cells = packing.cells.copy()
    numbers = 1 + np.arange(len(pairs))
    cells[pairs[:, 0], :, CellField.MAKES] = numbers[:, None]
    cells[pairs[:, 1], :, CellField.MADE] = numbers[:, None]
    return replace(packing, cells=cells, twins=len(pairs))


def _alike(step: Step) -> bool:
    """Whether a step makes the same bits of both images exchanged, wherever in a plane they stand,
    and keeps nothing but sums of whole planes."""
    match step:
        case Window(affine=affine, formula=formula):
            # Sums of blocks begin where the plane does.
            return max(affine.window) < LARGE and (formula is None or formula.commutes)
        case Point(formula=formula):
            return formula is None or formula.commutes
        case Counting():
            return False
        case _:
            return isinstance(step, MakeInput | Sum | Product | Reducing)


def _pairs(program: Program, packing: Packing) -> Ints:
    """Numbers (n, 2) of cells d and -d, the first one made first, that hold and do the same."""
    size = np.multiply(program.slots[0].shape, program.slots[0].sigma)
    base = packing.cells[:, 0, [CellField.DY, CellField.DX]]
    number = {tuple(d): n for n, d in enumerate(base.tolist())}
    twin = np.array([number.get(tuple(d), 0) for d in (-base % size).tolist()], dtype=np.int64)
    turned = _turned(packing.active, base > 0)
    same = (turned == packing.active[twin]).all(axis=1)
    whole = packing.cells[:, 0, CellField.SEGMENTS, None]
    sums = [isinstance(step, Reducing) for step in program.steps]
    summed = packing.active[:, sums]
    same &= ((summed == 0) | (summed == whole)).all(axis=1)
    first = np.flatnonzero(same & (twin > np.arange(len(base))))
    return np.stack([first, twin[first]], axis=1)


def _turned(active: NDArray[np.uint8], two: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Rectangles (n, steps), a bit each, with halves exchanged along axes (n, 2) that have
    ``two``."""
    turned = active
    for axis, shift in ((0, 2), (1, 1)):
        low = (0b0011, 0b0101)[axis]
        other = ((turned & low) << shift) | ((turned >> shift) & low)
        turned = np.where(two[:, axis, None], other, turned).astype(np.uint8)
    return turned
