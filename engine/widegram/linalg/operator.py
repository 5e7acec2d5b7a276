"""A Gram matrix as an operator: shape, dtype, products and block reads in a byte budget.

The source is anything with ``shape``, ``dtype`` and two-dimensional slicing: a NumPy array or
memmap, or an h5py dataset. Blocks are read by a thread one ahead of the one in use. Of a
symmetric matrix only the blocks on and above the diagonal are read, each used twice, so that a
product moves half of the file and the operator is exactly symmetric. Products accumulate in
float64 whatever the file's dtype.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from widegram.errors import WidegramError
from widegram.linalg.budget import block_shape
from widegram.linalg.prefetch import prefetched
from widegram.machine import interrupts
from widegram.machine.budgets import free_memory
from widegram.machine.progress import Progress, ProgressCallback

Array = NDArray[Any]
_DIAGONAL_BLOCK = 512
_EXTREME = 100  # half the binary exponent of entries whose squares and their sums need care
_SCALED_ENTRIES = 1 << 18  # of a block that is scaled in float64 before it is rounded


@dataclass(frozen=True)
class GramOperator:
    """The operator ``S (source + shift I) S`` of shape (n1, n2), never held whole.

    * ``source``: the matrix
    * ``symmetric``: whether only its upper triangle is read
    * ``shift``: what is added to the diagonal
    * ``memory``: bytes of the blocks in flight, two as read and one converted
    * ``name``: of the matrix, for messages
    * ``scaling``: the diagonal of S, (n,), of a symmetric matrix; None is the identity. Powers of
      two, which round nothing, so that rows may be scaled before columns
    """

    source: Any
    symmetric: bool = True
    shift: float = 0.0
    memory: int = 256 * 10**6
    name: str = "matrix"
    scaling: Array | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(n1, n2)."""
        n1, n2 = self.source.shape
        return int(n1), int(n2)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of the source; products are float64."""
        return np.dtype(self.source.dtype)

    @property
    def elsewhere(self) -> bool:
        """Whether the source itself multiplies: :class:`widegram.linalg.panels.PanelMatrix`."""
        return hasattr(self.source, "product")

    def shifted(self, shift: float) -> GramOperator:
        """The same operator with ``shift`` on the diagonal."""
        return replace(self, shift=shift)

    def plain(self) -> GramOperator:
        """The source alone, without shift and scaling."""
        return replace(self, shift=0.0, scaling=None)

    def equilibrated(self) -> tuple[GramOperator, Array]:
        """(the operator scaled to a diagonal between 1/2 and 2, the scaling (n,), powers of two).

        No entry of a positive definite matrix then leaves the range of float32, whatever the
        units of its rows (van der Sluis, Numer. Math. 14, 1969: no other diagonal scaling
        conditions it much better).
        """
        diagonal = self.diagonal()
        usable = np.where(diagonal > 0, diagonal, 1.0)
        scaling = np.ldexp(1.0, -np.rint(np.log2(usable) / 2).astype(int))
        both = scaling if self.scaling is None else scaling * self.scaling
        return replace(self, scaling=both), scaling

    def raised(self, shift: float) -> GramOperator:
        """``shift`` on the diagonal of the operator as :meth:`in_units` gives it."""
        unit = 1.0 if self.scaling is None else float(self.scaling[0]) ** 2
        return self.shifted(shift / unit)

    def in_units(self) -> tuple[GramOperator, float]:
        """(the operator divided by a power of four near its largest diagonal entry, that power).

        Sums of squares of its entries then stay in the range of float64. Where they do anyway, the
        operator itself and 1.
        """
        top = float(np.max(np.abs(replace(self, scaling=None).diagonal()), initial=0.0))
        half = max(int(np.rint(np.log2(top) / 2)), -511) if top > 0 else 0
        if abs(half) < _EXTREME:
            return self, 1.0
        scaling = np.full(self.shape[0], np.ldexp(1.0, -half))
        return replace(self, scaling=scaling), float(np.ldexp(1.0, 2 * half))

    def cached(self, dtype: DTypeLike | None = None) -> GramOperator:
        """The same operator over a copy of the source in memory, of its dtype unless given."""
        whole = self.plain().load(self.dtype if dtype is None else dtype).T
        return replace(self, source=whole)

    def block(self, rows: slice, cols: slice, dtype: DTypeLike = np.float64) -> Array:
        """One block, with the shift where it crosses the diagonal, C-contiguous."""
        part = np.empty((_extent(rows), _extent(cols)), dtype=dtype)
        self.block_into(part, rows, cols)
        return part

    def block_into(self, into: Array, rows: slice, cols: slice) -> None:
        """One block, as :meth:`block` gives it, into a C-contiguous array of any float dtype."""
        if self.scaling is None:
            read_into(self.source, into, rows, cols)
            self._add_shift(into, rows.start, cols.start)
            return
        # A tile of the file is read whole for each piece of it: a block at once, where it may
        # lie in ``into`` as it is.
        at_once = np.can_cast(self.source.dtype, into.dtype)
        if at_once:
            read_into(self.source, into, rows, cols)
        entries = _SCALED_ENTRIES if at_once else max(_SCALED_ENTRIES, self.memory // 32)
        height = max(1, entries // max(into.shape[1], 1))
        for lo in range(0, into.shape[0], height):
            hi = min(into.shape[0], lo + height)
            down = slice(rows.start + lo, rows.start + hi)
            part = np.empty((hi - lo, into.shape[1]))
            if at_once:
                part[...] = into[lo:hi]
            else:
                read_into(self.source, part, down, cols)
            self._add_shift(part, down.start, cols.start)
            self._scale(part, down, cols)
            into[lo:hi] = part

    def matmat(self, x: Array, progress: ProgressCallback | None = None) -> Array:
        """(source + shift I) @ x for x of shape (n2, k), in float64; the file is read once.

        Raises WidegramError for x of another shape.
        """
        x = np.asarray(x, dtype=np.float64)
        if x.ndim != 2 or x.shape[0] != self.shape[1]:
            raise WidegramError(
                f"{self.name} has shape {self.shape}: it acts on arrays of shape "
                f"({self.shape[1]}, k), found {x.shape}"
            )
        if self.scaling is not None:
            return self._rows_scaled(
                replace(self, scaling=None).matmat(self._rows_scaled(x), progress)
            )
        if self.elsewhere:
            out = self.source.product(x, progress)
        elif type(self.source) is np.ndarray and self.source.dtype == np.float64:
            out = self.source @ x
        elif self.symmetric:
            out = self._symmetric_product(x, progress)
        else:
            out = self._product(x, progress)
        if self.shift:
            out += self.shift * x
        return np.asarray(out)

    def _rows_scaled(self, x: Array) -> Array:
        assert self.scaling is not None
        return self.scaling[:, None] * x

    def matvec(self, x: Array) -> Array:
        """The product with one vector of shape (n2,)."""
        return np.asarray(self.matmat(np.asarray(x).reshape(-1, 1))[:, 0])

    def diagonal(self) -> Array:
        """The diagonal, shift and scaling included, float64 of shape (n,).

        Raises WidegramError naming the first entry that is not finite.
        """
        n = min(self.shape)
        parts = []
        for lo in range(0, n, _DIAGONAL_BLOCK):
            part = self.source[lo : lo + _DIAGONAL_BLOCK, lo : lo + _DIAGONAL_BLOCK]
            parts.append(np.diagonal(np.asarray(part)).astype(np.float64))
        diagonal = np.concatenate(parts) + self.shift
        if not np.isfinite(diagonal).all():
            bad = int(np.flatnonzero(~np.isfinite(diagonal))[0])
            raise WidegramError(
                f"{self.name}: entry ({bad}, {bad}) is {diagonal[bad]}; compute the matrix again"
            )
        return diagonal if self.scaling is None else diagonal * self.scaling * self.scaling

    def trace(self) -> float:
        """Sum of the diagonal."""
        return float(np.sum(self.diagonal()))

    def frobenius(self) -> float:
        """Frobenius norm, shift and scaling included; the file is read once."""
        total = 0.0
        for rows, cols, part in self.blocks(upper=self.symmetric):
            if self.symmetric and cols.start >= rows.stop:
                total += 2.0 * self._sum_of_squares(part, rows, cols)
            else:
                self._add_shift(part, rows.start, cols.start)
                total += self._sum_of_squares(part, rows, cols)
        return float(np.sqrt(total))

    def require_finite(self) -> None:
        """Raise WidegramError that names the first entry that is NaN or infinite."""
        for rows, cols, part in self.plain().blocks(upper=self.symmetric):
            if not np.isfinite(part).all():
                row, col = np.argwhere(~np.isfinite(part))[0]
                raise WidegramError(
                    f"{self.name}: entry ({rows.start + row}, {cols.start + col}) is "
                    f"{part[row, col]}; compute the matrix again"
                )

    def load(
        self, dtype: DTypeLike = np.float64, progress: ProgressCallback | None = None
    ) -> Array:
        """The whole matrix as a new Fortran-ordered array that LAPACK may overwrite.

        Raises WidegramError where the matrix is not symmetric.
        """
        n1, n2 = self.shape
        out = np.empty((n2, n1), dtype=dtype)
        if not self.symmetric:
            raise WidegramError(f"{self.name} is not symmetric; only symmetric matrices are loaded")
        height, _ = block_shape(n1, n2, self.dtype.itemsize, self.memory)
        for lo in range(0, n1, height):
            interrupts.check()
            hi = min(n1, lo + height)
            if out.dtype == self.dtype or self.scaling is not None:
                self.block_into(out[lo:hi], slice(lo, hi), slice(0, n2))
            else:
                out[lo:hi] = self.source[lo:hi]
                self._add_shift(out[lo:hi], lo, 0)
            if progress:
                progress(Progress(hi, n1, what="reading"))
        return out.T

    def blocks(self, upper: bool = False) -> Iterator[tuple[slice, slice, Array]]:
        """(rows, columns, float64 block of the source), one block read ahead by a thread.

        With ``upper`` the diagonal squares and what lies right of them. A block is overwritten
        two steps later: use it at once.
        """
        places = list(self._places(upper))
        size = max((_extent(rows) * _extent(cols) for rows, cols in places), default=0)
        raw = [np.empty(size, dtype=self.dtype) for _ in range(min(2, len(places)))]
        work = np.empty(0 if self.dtype == np.float64 else size)

        def fetch(index: int) -> Array:
            rows, cols = places[index]
            shape = (_extent(rows), _extent(cols))
            into = raw[index % 2][: shape[0] * shape[1]].reshape(shape)
            read_into(self.source, into, rows, cols)
            return into

        for (rows, cols), part in zip(places, prefetched(fetch, len(places)), strict=True):
            if part.dtype != np.float64:
                converted = work[: part.size].reshape(part.shape)
                converted[...] = part
                part = converted
            yield rows, cols, part

    def _places(self, upper: bool) -> Iterator[tuple[slice, slice]]:
        n1, n2 = self.shape
        per_entry = 2 * self.dtype.itemsize + (0 if self.dtype == np.float64 else 8)
        height, width = block_shape(n1, n2, per_entry, self.memory)
        for lo in range(0, n1, height):
            rows = slice(lo, min(n1, lo + height))
            start = 0
            if upper:
                yield rows, rows
                start = rows.stop
            for left in range(start, n2, width):
                yield rows, slice(left, min(n2, left + width))

    def _symmetric_product(self, x: Array, progress: ProgressCallback | None) -> Array:
        n = self.shape[0]
        out = np.zeros((n, x.shape[1]))
        for rows, cols, part in self.blocks(upper=True):
            out[rows] += part @ x[cols]
            if cols.start >= rows.stop:
                out[cols] += part.T @ x[rows]
            if progress and cols.stop == n:
                progress(Progress(rows.stop, n, what="streaming"))
        return out

    def _product(self, x: Array, progress: ProgressCallback | None) -> Array:
        n1, n2 = self.shape
        out = np.zeros((n1, x.shape[1]))
        for rows, cols, part in self.blocks():
            out[rows] += part @ x[cols]
            if progress and cols.stop == n2:
                progress(Progress(rows.stop, n1, what="streaming"))
        return out

    def _add_shift(self, part: Array, row: int, col: int) -> None:
        if not self.shift:
            return
        lo = max(row, col)
        hi = min(row + part.shape[0], col + part.shape[1])
        if hi > lo:
            index = np.arange(lo, hi)
            part[index - row, index - col] += self.shift

    def _scale(self, part: Array, rows: slice, cols: slice) -> None:
        if self.scaling is not None:
            part *= self.scaling[rows, None]
            part *= self.scaling[cols]

    def _sum_of_squares(self, part: Array, rows: slice, cols: slice) -> float:
        self._scale(part, rows, cols)
        return float(np.vdot(part, part))


def as_operator(matrix: Any, memory: int | None = None, name: str = "matrix") -> GramOperator:
    """An operator over a NumPy array, memmap or h5py dataset (operators pass through).

    Raises WidegramError when it is not a real two-dimensional array.
    """
    if isinstance(matrix, GramOperator):
        return matrix
    if len(getattr(matrix, "shape", ())) != 2 or np.dtype(matrix.dtype).kind != "f":
        raise WidegramError(
            f"{name}: expected a floating-point array of two dimensions, found "
            f"{getattr(matrix, 'dtype', type(matrix).__name__)} of shape "
            f"{getattr(matrix, 'shape', '?')}"
        )
    symmetric = matrix.shape[0] == matrix.shape[1]
    budget = free_memory() // 8 if memory is None else memory
    return GramOperator(matrix, symmetric=symmetric, memory=budget, name=name)


def read_into(source: Any, into: Array, rows: slice, cols: slice) -> None:
    """Copy a block of ``source`` into a C-contiguous array, without a temporary for HDF5."""
    if hasattr(source, "read_direct"):
        source.read_direct(into, np.s_[rows, cols])
    else:
        into[...] = source[rows, cols]


def _extent(part: slice) -> int:
    return int(part.stop - part.start)
