"""Cholesky factorisation of matrices larger than memory, on tiles in an HDF5 work file.

Left-looking by groups of block columns: a group is held in memory, every finished block column
is streamed past it once, read one ahead of the product in use; then the group's columns of A are
added, which are read ahead too, and the group is factored and written while the next one begins.
Finished block columns are flagged after their data is on disk, so that a killed run continues at
the first unflagged one, to the same bits: what is computed for a column does not depend on the
group it is in.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray
from scipy.linalg import lapack

from widegram.closing import ClosedOnFailure
from widegram.errors import WidegramError
from widegram.linalg.blas import solve_right, subtract_product, subtract_square
from widegram.linalg.definite import FailedPivot, not_definite
from widegram.linalg.equilibrated import EquilibratedFactor
from widegram.linalg.factorfile import FactorFile
from widegram.linalg.operator import GramOperator
from widegram.linalg.prefetch import prefetched
from widegram.linalg.refine import Factor, refined_solve
from widegram.linalg.solution import Solution
from widegram.machine import interrupts
from widegram.machine.budgets import format_size
from widegram.machine.progress import Progress, ProgressCallback

Array = NDArray[Any]
_WIDTHS = (512, 384, 256, 192, 128, 96, 64, 32, 16)
_STRIPS = 3  # two read buffers and one column that is still being written


@dataclass(frozen=True)
class ColumnPlan:
    """Block columns of ``width`` of an n x n lower triangle, in groups that fit in memory."""

    n: int
    width: int
    groups: tuple[range, ...]

    @property
    def columns(self) -> int:
        """Number of block columns."""
        return -(-self.n // self.width)

    def peak(self, itemsize: int) -> int:
        """Bytes of the largest group and of the strips streamed past it."""
        held = max(sum(self.n - c * self.width for c in group) for group in self.groups)
        return (held + _STRIPS * self.n) * self.width * itemsize


def plan_columns(n: int, budget: int, itemsize: int) -> ColumnPlan:
    """Widest columns, then largest groups, whose peak stays under ``budget`` bytes.

    Raises WidegramError when not even columns of 16 fit.
    """
    for width in _WIDTHS:
        if (_STRIPS + 2) * n * width * itemsize <= budget or n <= width:
            break
    else:
        least = (_STRIPS + 2) * n * _WIDTHS[-1] * itemsize
        raise WidegramError(
            f"a factorisation of {n} rows does not fit in {format_size(budget)} of arrays; it "
            f"needs {format_size(least)} and the program itself"
        )
    return grouped(n, min(width, n), budget, itemsize)


def grouped(n: int, width: int, budget: int, itemsize: int) -> ColumnPlan:
    """Columns of a given width in the largest groups that fit; one column where none does."""
    room = budget // (width * itemsize) - _STRIPS * n
    columns, groups, first, held = -(-n // width), [], 0, 0
    for column in range(columns):
        rows = n - column * width
        if column > first and held + rows > room:
            groups.append(range(first, column))
            first, held = column, 0
        held += rows
    groups.append(range(first, columns))
    return ColumnPlan(n, width, tuple(groups))


class OutOfCoreCholesky:
    """L L^T = A with L in the work file ``path``; continues an unfinished file of the same A.

    * ``memory``: bytes of the arrays held at once
    * ``key``: the name of the matrix (fingerprints, regulariser); a work file of another is
      refused, or removed with ``discard_other``
    * ``resumed``: the number of block columns found done

    Raises :class:`FailedPivot` when A is not positive definite.
    """

    method = "cholesky-ooc"

    def __init__(
        self,
        operator: GramOperator,
        path: str | os.PathLike[str],
        *,
        memory: int,
        key: str = "",
        dtype: DTypeLike = np.float64,
        discard_other: bool = False,
        progress: ProgressCallback | None = None,
    ) -> None:
        self.n = operator.shape[0]
        self._operator = operator
        self._progress = progress
        self._plan = plan_columns(self.n, memory, np.dtype(dtype).itemsize)
        self._memory = memory
        self._file = FactorFile(
            Path(path), self.n, self._plan.width, np.dtype(dtype), key, discard_other
        )
        if self._file.width != self._plan.width:
            self._plan = grouped(self.n, self._file.width, memory, np.dtype(dtype).itemsize)
        self.resumed = self._columns_done = self._file.finished()
        (self._potrf,) = lapack.get_lapack_funcs(("potrf",), (np.empty((1, 1), dtype=dtype),))
        self._writes: dict[int, Future[None]] = {}
        with ClosedOnFailure(self):
            try:
                self._factor()
            except FailedPivot:
                self.close(delete=True)
                raise

    @property
    def dtype(self) -> np.dtype[Any]:
        """Precision of the factor."""
        return self._file.dtype

    def close(self, delete: bool = False) -> None:
        """Close the work file; ``delete`` removes it."""
        self._file.close(discard=delete)

    def logdet(self) -> float:
        """log det A."""
        total = 0.0
        for column in range(self._file.columns):
            rows = min(self._file.width, self.n - column * self._file.width)
            head = np.empty((rows, rows), dtype=self.dtype)
            self._file.read_into(head, column, 0)
            total += math.fsum(np.log(np.diagonal(head).astype(np.float64)))
        return 2.0 * total

    def half(self, b: Array) -> Array:
        """L^-1 b in float64; the work file is read once."""
        return self._forward(np.array(b, dtype=np.float64), 0)

    def apply(self, b: Array) -> Array:
        """A^-1 b by two passes over the work file, without refinement."""
        x = self.half(b)
        for column, part in self._stream(range(self._file.columns - 1, -1, -1)):
            lo, hi = self._span(column)
            width = hi - lo
            if hi < self.n:
                x[lo:hi] -= part[width:, :width].T @ x[hi:]
            x[lo:hi] = _triangular(part[:width, :width], x[lo:hi], transposed=True)
        return x

    def solve(self, b: Array, tol: float = 0.0) -> Solution:
        """Solve A x = b with refinement against the operator; b of shape (n, k)."""
        return refined_solve(self, self._operator.matmat, b, tol)

    def about(self) -> dict[str, Any]:
        """Block columns found done, in all, and their width."""
        return {
            "resumed_columns": self.resumed,
            "columns": self._file.columns,
            "width": self._file.width,
        }

    def inverse_diagonal(self) -> Array:
        """diag(A^-1) as column norms of L^-1, a group of columns per pass over the file."""
        out = np.empty(self.n)
        strips = 2 * self.n * self._file.width * self.dtype.itemsize
        # A column, its product, and half as much for copies of blocks.
        group = max(16, int((self._memory - strips) // (20 * self.n)))
        for lo in range(0, self.n, group):
            hi = min(self.n, lo + group)
            unit = np.zeros((self.n, hi - lo))
            unit[np.arange(lo, hi), np.arange(hi - lo)] = 1.0
            unit = self._forward(unit, lo // self._file.width)
            out[lo:hi] = np.einsum("ij,ij->j", unit, unit)
            self._tell("inverse diagonal", hi, self.n)
        return out

    def _factor(self) -> None:
        with interrupts.keeping(self._kept), ThreadPoolExecutor(1) as writer:
            for group in self._plan.groups:
                wanted = [c for c in group if not self._file.done(c)]
                if wanted:
                    self._factor_group(wanted, writer)
            self._wait_for_writes(leave=0)

    def _kept(self) -> str:
        return (
            f"{self._file.path}: interrupted, {self._columns_done} of {self._file.columns} block "
            "columns of the factor are saved; run the same command again to go on"
        )

    def _factor_group(self, group: list[int], writer: ThreadPoolExecutor) -> None:
        """Left-looking update, factorisation and writing of the block columns in ``group``."""
        self._wait_for_writes(leave=1)
        first, last = self._span(group[0])[0], self._span(group[-1])[1]
        held = {column: np.zeros(self._shape(column), dtype=self.dtype) for column in group}
        steps, begun = group[0] + len(group), self._work(first)
        for step, (column, part) in enumerate(self._stream(range(group[0]), first, group)):
            if step >= group[0]:
                part = self._finish(held[column], part, column, writer)
            for target in group:
                interrupts.check()
                if target > column:
                    self._update(held[target], part)
            share = (step + 1) / steps * (self._work(last) - begun)
            self._tell("factoring", begun + share, self._work(self.n))

    def _finish(
        self, held: Array, original: Array, column: int, writer: ThreadPoolExecutor
    ) -> Array:
        """Add the matrix to the updates of a column, factor it, and send it to be written."""
        held += original
        self._factor_column(held, column)
        self._writes[column] = writer.submit(self._file.write, column, held)
        return held

    def _update(self, target: Array, part: Array) -> None:
        """target -= P[lo:] P[lo:hi]^T; ``part`` holds P down to the last row of the matrix."""
        width = target.shape[1]
        below = part[part.shape[0] - target.shape[0] :]
        subtract_square(target[:width], below[:width])
        if target.shape[0] > width:
            subtract_product(target[width:], below[width:], below[:width])

    def _factor_column(self, held: Array, column: int) -> None:
        width = held.shape[1]
        factor, info = self._potrf(held[:width].T, lower=0, overwrite_a=1, clean=1)
        if info:
            row = column * self._file.width + info - 1
            raise FailedPivot(row, float(factor[info - 1, info - 1]))
        if held.shape[0] > width:
            solve_right(held[:width], held[width:])

    def _wait_for_writes(self, leave: int) -> None:
        """Until all but the last ``leave`` columns are on disk; the plan has room for one."""
        for column in sorted(self._writes)[: len(self._writes) - leave]:
            self._writes[column].result()
            self._columns_done += 1
            del self._writes[column]

    def _shape(self, column: int, from_row: int | None = None) -> tuple[int, int]:
        """The shape of a block column from its diagonal, or from a row of the matrix, on."""
        lo, hi = self._span(column)
        return self.n - (lo if from_row is None else from_row), hi - lo

    def _work(self, rows: int) -> float:
        """Operations that the first columns, ``rows`` wide in all, take."""
        return rows**2 * (self.n - 2.0 * rows / 3.0)

    def _forward(self, x: Array, start: int) -> Array:
        """Overwrite x with L^-1 x, given that it is zero above block ``start``."""
        for column, part in self._stream(range(start, self._file.columns)):
            lo, hi = self._span(column)
            width = hi - lo
            x[lo:hi] = _triangular(part[:width, :width], x[lo:hi], transposed=False)
            if hi < self.n:
                x[hi:] -= part[width:, :width] @ x[lo:hi]
        return x

    def _stream(
        self, columns: range, from_row: int | None = None, originals: Sequence[int] = ()
    ) -> Iterator[tuple[int, Array]]:
        """(column, its rows from its diagonal or from ``from_row`` on), one read ahead.

        After the finished columns those of the matrix itself. Use each at once: it is overwritten
        two steps later.
        """
        numbers = [*columns, *originals]
        size = self.n * self._file.width
        buffers = [np.empty(size, dtype=self.dtype) for _ in range(min(2, len(numbers)))]

        def fetch(index: int) -> Array:
            column, finished = numbers[index], index < len(columns)
            rows, cols = self._shape(column, from_row if finished else None)
            into = buffers[index % 2][: rows * cols].reshape(rows, cols)
            if finished:
                if write := self._writes.get(column):
                    write.result()
                self._file.read_into(into, column)
            else:
                lo, hi = self._span(column)
                self._operator.block_into(into, slice(lo, self.n), slice(lo, hi))
            return into

        yield from zip(numbers, prefetched(fetch, len(numbers)), strict=True)

    def _span(self, column: int) -> tuple[int, int]:
        lo = column * self._file.width
        return lo, min(self.n, lo + self._file.width)

    def _tell(self, what: str, done: float, total: float) -> None:
        if self._progress:
            self._progress(Progress(done, total, what=what))


def disk_cholesky(
    operator: GramOperator,
    path: Path,
    *,
    memory: int,
    key: str = "",
    dtype: DTypeLike = np.float64,
    discard_other: bool = False,
    progress: ProgressCallback | None = None,
    advise: bool = True,
) -> Factor:
    """A factor in the work file ``path``; arguments as of :class:`OutOfCoreCholesky`.

    A float32 factor is one of the equilibrated matrix. Raises and takes ``advise`` as
    :func:`widegram.linalg.incore.load_cholesky`; what is tried for the advice takes the same path.
    """

    def factor(shift: float, key: str, discard_other: bool) -> Factor:
        shifted = operator.shifted(shift)
        single = np.dtype(dtype) == np.float32
        used, scaling = shifted.equilibrated() if single else (shifted, None)
        inner = OutOfCoreCholesky(
            used,
            path,
            memory=memory,
            key=key,
            dtype=dtype,
            discard_other=discard_other,
            progress=progress,
        )
        return inner if scaling is None else EquilibratedFactor(inner, shifted, scaling)

    def works(shift: float) -> bool:
        try:
            factor(shift, f"trial of {shift!r}", True).close(delete=True)
        except FailedPivot:
            return False
        return True

    try:
        return factor(operator.shift, key, discard_other)
    except FailedPivot as failed:
        if not advise:
            raise
        eps = float(max(np.finfo(dtype).eps, np.finfo(operator.dtype).eps))
        raise not_definite(operator, failed, eps, works) from None


def _triangular(factor: Array, b: Array, transposed: bool) -> Array:
    (trtrs,) = lapack.get_lapack_funcs(("trtrs",), (factor, b))
    x, _ = trtrs(np.asfortranarray(factor), b, lower=1, trans=int(transposed))
    return np.asarray(x)
