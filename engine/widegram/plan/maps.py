"""Two-sided maps between pixels, K -> A K A'^T, on a value that is stored.

A mixes displacements, so that no plane can go through it alone: all planes of the source are kept,
and the map makes all of its own from them at once, behind the group that keeps the source
(:attr:`~widegram.plan.operation_base.Operation.at_once`). A is sparse: a pixel of the output costs
as many planes' worth of work as its row of A has entries.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from widegram.activations import Formula
from widegram.network.maps import reads
from widegram.plan.angles import Angles
from widegram.plan.masks import Mask, Pair, displacements, empty, full
from widegram.plan.operation_base import Array, Centre, Flags, Operation, Places

Ints = NDArray[np.int64]


class Matrix:
    """A matrix (rows, columns) of float64 that compares by its numbers."""

    def __init__(self, values: Array) -> None:
        self.values = np.ascontiguousarray(values, dtype=np.float64)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Matrix) and np.array_equal(self.values, other.values)

    def __hash__(self) -> int:
        return hash((self.values.shape, self.values.tobytes()))

    def __repr__(self) -> str:
        return "Matrix({} x {})".format(*self.values.shape)


@dataclass(frozen=True)
class Entries:
    """The entries of a sparse matrix, row by row: those of row i are ``rows``[i] to ``rows``[i + 1]
    - 1 of ``columns`` and ``values``."""

    rows: Ints
    columns: Ints
    values: NDArray[Any]

    @cached_property
    def row_of(self) -> Ints:
        """The row of each entry."""
        return np.repeat(np.arange(len(self.rows) - 1), np.diff(self.rows))

    def of(self, x: Array) -> Array:
        """The product with x (columns, n)."""
        made = np.zeros((len(self.rows) - 1, x.shape[1]))
        np.add.at(made, self.row_of, self.values[:, None] * x[self.columns])
        return made


def entries(matrices: Sequence[Matrix]) -> Entries:
    """The entries of a matrix between all pixels, or of the Kronecker product of one between rows
    and one between columns."""
    parts = [np.nonzero(m.values) for m in matrices]
    row, column = parts[0]
    values = matrices[0].values[row, column]
    n = matrices[0].values.shape[0]
    if len(matrices) == 2:
        second, (other, beside) = matrices[1].values, parts[1]
        row = np.add.outer(row * second.shape[0], other).ravel()
        column = np.add.outer(column * second.shape[1], beside).ravel()
        values = np.multiply.outer(values, second[other, beside]).ravel()
        n *= second.shape[0]
    order = np.lexsort((column, row))
    row, column, values = row[order], column[order], values[order]
    return Entries(np.searchsorted(row, np.arange(n + 1)), column, values)


@dataclass(frozen=True)
class Pairs:
    """Pixel pairs of the stored planes of a value, sorted by the first pixel: those of pixel p are
    ``begin``[p] to ``begin``[p + 1] - 1 of ``second``, the other pixel, and ``place``, where their
    numbers stand, in pixels."""

    begin: Ints
    second: Ints
    place: Ints

    @property
    def first(self) -> Ints:
        """The first pixel of each pair."""
        return np.repeat(np.arange(len(self.begin) - 1), np.diff(self.begin))


@dataclass(frozen=True)
class Map(Operation):
    """A between all pixels, or two matrices, one between rows and one between columns, whose
    Kronecker product A is; ``where`` names its layer for messages."""

    stored: ClassVar[bool] = True
    at_once: ClassVar[bool] = True
    kind: ClassVar[str] = "map"
    shift: ClassVar[Matrix | None] = None
    matrices: tuple[Matrix, ...]
    where: str = field(default="", compare=False, repr=False)

    @cached_property
    def _entries(self) -> Entries:
        return entries(self.matrices)

    def entries(self, shape: Pair) -> Entries:
        """A's, between all pixels of an image of that shape."""
        return self._entries

    def listed(self, shape: Pair, source: Pairs, target: Pairs) -> Entries:
        """What its kernel reads beside the pairs of its source, of that shape, and of its own."""
        return self.entries(shape)

    @cached_property
    def _sizes(self) -> Array:
        """The sums of the absolute values of A's rows."""
        ends = [np.abs(m.values).sum(axis=1) for m in self.matrices]
        return ends[0] if len(ends) == 1 else np.multiply.outer(*ends).ravel()

    def needs(self, need: Mask, source: Pair) -> Mask:
        if len(self.matrices) == 1 or not need.any():
            return full(source) if need.any() else empty(source)
        rows, cols = (_reads(m.values != 0) for m in self.matrices)
        return np.asarray(rows.T @ need.astype(np.float64) @ cols > 0)

    def zero_at_masked(self, below: bool) -> bool:
        return False

    def masked_places(self, places: Sequence[Places]) -> Places:
        return places[0], self

    def visible(self, below: Sequence[Flags], shape: Pair) -> Flags:
        """What reads a visible pixel."""
        flat = below[0].reshape(len(below[0]), -1).T.astype(np.float64)
        support = entries([Matrix(reads(m.values).astype(np.float64)) for m in self.matrices])
        return np.asarray(support.of(flat).T > 0).reshape(-1, *shape)

    def bound(self, below: Sequence[float], source: Pair, formula: Formula | None) -> float:
        return below[0] * float(self._sizes.max()) ** 2

    def may_vanish(self, below: Sequence[bool]) -> bool:
        return True  # entries may cancel, rows may be empty

    def profile(self, q: Array, shape: Pair) -> Array:
        size = Entries(self._entries.rows, self._entries.columns, np.abs(self._entries.values))
        return np.asarray(size.of(np.sqrt(q.reshape(-1, 1))) ** 2).reshape(1, *shape)

    def at_zero(self, sources: Sequence[Centre], shape: Pair, formula: Formula | None) -> Centre:
        raise TypeError("a map needs all displacements")

    def at_angles(self, below: Sequence[Angles], source: Pair, formula: Formula | None) -> Angles:
        return below[0].times(self.bound([1.0], source, None))

    def describe(self) -> str:
        return f" map of {len(self._entries.values)} entries"


def _reads(support: NDArray[np.bool_]) -> Array:
    """Along an axis, which displacements (columns) of the source each of the output's (rows) reads:
    1 where it does. ``support`` (out, size): which pixels each pixel reads."""
    out, size = support.shape
    reads = np.zeros((2 * out - 1, 2 * size - 1))
    at = [np.flatnonzero(row) for row in support]
    for i in range(out):
        for j in range(out):
            d = np.subtract.outer(at[j], at[i]).ravel() + size - 1
            reads[j - i + out - 1, d] = 1.0
    return reads


@dataclass(frozen=True)
class EachMap(Operation):
    """A map whose matrix is each image's own, of its pattern where it is ``patterned``.

    * ``size``: the vertices that it maps to each other, pixels along some axes
    * ``along``: those axes (0 rows, 1 columns); pixels along the others are mapped alike
    * ``most``: the largest sum of the absolute values of a row
    """

    stored: ClassVar[bool] = True
    at_once: ClassVar[bool] = True
    patterned: ClassVar[bool] = True
    shift: ClassVar[Matrix | None] = None
    size: int
    along: tuple[int, ...]
    most: float
    where: str = field(default="", compare=False, repr=False)

    @property
    def kind(self) -> str:
        """Which plane kernel makes it (:mod:`widegram.cpu.kernels.map_ir`)."""
        return "each" if self.shift is None else "shifted"

    @property
    def numbers(self) -> int:
        return self.size**2

    def listed(self, shape: Pair, source: Pairs, target: Pairs) -> Entries:
        """What its kernel reads beside the pairs of its source, of that shape, and of its own."""
        return self.entries(shape)

    def entries(self, shape: Pair) -> Entries:
        """The matrix between all pixels of an image of that shape, with the place of each entry
        among the image's coefficients as its value: those of a matrix from each vertex to each."""
        pixel = np.indices(shape).reshape(2, -1)
        sizes = [shape[axis] for axis in self.along]
        vertex = np.ravel_multi_index(tuple(pixel[list(self.along)]), sizes)
        others = pixel[[axis for axis in (0, 1) if axis not in self.along]]
        alike = (others[:, :, None] == others[:, None, :]).all(axis=0)
        row, column = np.nonzero(alike)
        rows = np.searchsorted(row, np.arange(len(vertex) + 1))
        return Entries(rows, column, vertex[column] * self.size + vertex[row])

    def needs(self, need: Mask, source: Pair) -> Mask:
        return full(source) if need.any() else empty(source)

    def zero_at_masked(self, below: bool) -> bool:
        return False

    def bound(self, below: Sequence[float], source: Pair, formula: Formula | None) -> float:
        return below[0] * self.most**2

    def may_vanish(self, below: Sequence[bool]) -> bool:
        return True

    def profile(self, q: Array, shape: Pair) -> Array:
        return np.full((1, *shape), q.max() * self.most**2)

    def at_angles(self, below: Sequence[Angles], source: Pair, formula: Formula | None) -> Angles:
        return below[0].times(self.most**2)

    def describe(self) -> str:
        return f" map of {self.size} vertices"


def pairs(planes: Ints, shape: Pair) -> Pairs:
    """The pixel pairs of a stored value.

    ``planes`` says by displacement where each plane begins, in pixels, -1 where there is none, as
    :class:`~widegram.plan.stores.Stores` has them.
    """
    h, w = shape
    first, second, place = [], [], []
    for y, x in displacements(planes >= 0):
        rows, cols = (np.arange(max(0, -d), n - max(0, d)) for d, n in ((y, h), (x, w)))
        p = np.add.outer(rows * w, cols).ravel()
        first.append(p)
        second.append(p + y * w + x)
        place.append(planes[y + h - 1, x + w - 1] + np.arange(len(p)))
    ones, others, places = (np.concatenate(part) for part in (first, second, place))
    order = np.lexsort((others, ones))
    begin = np.searchsorted(ones[order], np.arange(h * w + 1))
    return Pairs(begin, others[order], places[order])
