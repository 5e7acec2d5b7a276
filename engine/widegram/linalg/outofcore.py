"""Cholesky factorisation of matrices larger than memory, on tiles in an HDF5 work file.

Left-looking by groups of block columns: a group is held in memory, every finished block column
is streamed past it once, read one ahead of the product in use, then the group is factored and
written. A finished block column is flagged only after its data is on disk, so that a killed run
continues at the first unflagged one.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray
from scipy.linalg import blas, lapack

from widegram.errors import WidegramError
from widegram.linalg.definite import NotPositiveDefinite, not_definite
from widegram.linalg.factorfile import FactorFile
from widegram.linalg.operator import GramOperator, Progress
from widegram.linalg.refine import refined_solve
from widegram.linalg.solution import Solution
from widegram.memory import format_size

Array = NDArray[Any]
_WIDTHS = (512, 384, 256, 192, 128, 96, 64, 32, 16)
_STRIPS = 3  # two read buffers and one for what a conversion needs


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

    ``key`` names the matrix (fingerprints, regulariser): a work file of another key is refused,
    or removed with ``discard_other``.
    ``memory`` bounds the arrays held at once. ``resumed`` is the number of block columns found
    done. Raises WidegramError when A is not positive definite.
    """

    def __init__(
        self,
        operator: GramOperator,
        path: str | os.PathLike[str],
        *,
        memory: int,
        key: str = "",
        dtype: DTypeLike = np.float64,
        discard_other: bool = False,
        progress: Progress | None = None,
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
        self.resumed = self._file.finished()
        sample = np.empty((1, 1), dtype=dtype)
        self._gemm, self._trsm = blas.get_blas_funcs(("gemm", "trsm"), (sample,))
        (self._potrf,) = lapack.get_lapack_funcs(("potrf",), (sample,))
        try:
            self._factor()
        except NotPositiveDefinite:
            self.close(delete=True)
            raise
        except BaseException:
            self.close()
            raise

    @property
    def dtype(self) -> np.dtype[Any]:
        """Precision of the factor."""
        return self._file.dtype

    def close(self, delete: bool = False) -> None:
        """Close the work file; ``delete`` removes it."""
        self._file.close()
        if delete:
            self._file.path.unlink(missing_ok=True)

    def logdet(self) -> float:
        """log det A."""
        total = 0.0
        for column in range(self._file.columns):
            rows = min(self._file.width, self.n - column * self._file.width)
            head = self._file.read(column, 0, rows)
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
        solution = refined_solve(self, self._operator.matmat, b, tol, "cholesky-ooc")
        solution.details.update(
            resumed_columns=self.resumed, columns=self._file.columns, width=self._file.width
        )
        return solution

    def inverse_diagonal(self) -> Array:
        """diag(A^-1) as column norms of L^-1, a group of columns per pass over the file."""
        out = np.empty(self.n)
        strips = 2 * self.n * self._file.width * self.dtype.itemsize
        group = max(16, int((self._memory - strips) // (16 * self.n)))
        for lo in range(0, self.n, group):
            hi = min(self.n, lo + group)
            unit = np.zeros((self.n, hi - lo))
            unit[np.arange(lo, hi), np.arange(hi - lo)] = 1.0
            unit = self._forward(unit, lo // self._file.width)
            out[lo:hi] = np.einsum("ij,ij->j", unit, unit)
            self._tell("inverse diagonal", hi, self.n)
        return out

    def _factor(self) -> None:
        done, total = 0.0, self.n**3 / 3.0
        with ThreadPoolExecutor(1) as writer:
            for group in self._plan.groups:
                wanted = [c for c in group if not self._file.done(c)]
                if wanted:
                    self._factor_group(wanted, writer)
                done = (total * 3 - (self.n - self._span(group[-1])[1]) ** 3) / 3.0
                self._tell("factoring", done, total)

    def _factor_group(self, group: list[int], writer: ThreadPoolExecutor) -> None:
        """Left-looking update, factorisation and writing of the block columns in ``group``."""
        first = self._span(group[0])[0]
        held = {column: self._load(column) for column in group}
        for column, part in self._stream(range(group[0]), from_row=first):
            for target in group:
                self._update(held[target], part, self._span(target), first)
            self._tell(f"updating columns {group[0]}-{group[-1]}", column + 1, group[0])
        writes: list[Future[None]] = []
        for position, column in enumerate(group):
            lo, _ = self._span(column)
            self._factor_column(held[column], column)
            writes.append(writer.submit(self._file.write, column, held[column]))
            for target in group[position + 1 :]:
                self._update(held[target], held[column], self._span(target), lo)
        for write in writes:
            write.result()

    def _load(self, column: int) -> Array:
        lo, hi = self._span(column)
        return self._operator.block(slice(lo, self.n), slice(lo, hi), self.dtype)

    def _update(self, target: Array, part: Array, span: tuple[int, int], first: int) -> None:
        """target -= P[span.lo:] P[span]^T, with row ``first`` of the matrix at part's top."""
        below = part[span[0] - first :]
        across = part[span[0] - first : span[1] - first]
        self._gemm(-1.0, across.T, below.T, 1.0, target.T, trans_a=1, overwrite_c=1)

    def _factor_column(self, held: Array, column: int) -> None:
        width = held.shape[1]
        diagonal = np.diagonal(held[:width]).copy()
        factor, info = self._potrf(held[:width].T, lower=0, overwrite_a=1, clean=1)
        if info:
            row = column * self._file.width + info - 1
            raise self._failure(row, float(factor[info - 1, info - 1]), float(diagonal.max()))
        if held.shape[0] > width:
            self._trsm(
                1.0, held[:width].T, held[width:].T, side=0, lower=0, trans_a=1, overwrite_b=1
            )

    def _failure(self, row: int, pivot: float, top: float) -> WidegramError:
        diagonal = self._operator.diagonal()
        return not_definite(
            self._operator.matmat,
            self.n,
            float(diagonal.mean()),
            row,
            pivot,
            max(top, float(diagonal.max())),
            max(np.finfo(self.dtype).eps, np.finfo(self._operator.dtype).eps),
        )

    def _forward(self, x: Array, start: int) -> Array:
        """Overwrite x with L^-1 x, given that it is zero above block ``start``."""
        for column, part in self._stream(range(start, self._file.columns)):
            lo, hi = self._span(column)
            width = hi - lo
            x[lo:hi] = _triangular(part[:width, :width], x[lo:hi], transposed=False)
            if hi < self.n:
                x[hi:] -= part[width:, :width] @ x[lo:hi]
        return x

    def _stream(self, columns: range, from_row: int | None = None) -> Iterator[tuple[int, Array]]:
        """(column, its rows from its diagonal or from ``from_row`` on), one read ahead."""

        def fetch(column: int) -> Array:
            start = 0 if from_row is None else from_row - column * self._file.width
            return self._file.read(column, start, self.n - column * self._file.width)

        with ThreadPoolExecutor(1) as reader:
            ahead = reader.submit(fetch, columns[0]) if len(columns) else None
            for index, column in enumerate(columns):
                assert ahead is not None
                part = ahead.result()
                if index + 1 < len(columns):
                    ahead = reader.submit(fetch, columns[index + 1])
                yield column, part

    def _span(self, column: int) -> tuple[int, int]:
        lo = column * self._file.width
        return lo, min(self.n, lo + self._file.width)

    def _tell(self, stage: str, done: float, total: float) -> None:
        if self._progress:
            self._progress(stage, done, total)


def _triangular(factor: Array, b: Array, transposed: bool) -> Array:
    (trtrs,) = lapack.get_lapack_funcs(("trtrs",), (factor, b))
    x, _ = trtrs(np.asfortranarray(factor), b, lower=1, trans=int(transposed))
    return np.asarray(x)
