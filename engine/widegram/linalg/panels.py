"""A training matrix whose products are computed by workers, each with its own rows.

A panel is some whole rows of the matrix. Every worker keeps its panels in memory, as far as they
fit, and reads the rest from the file each time; a product sends it x, and brings back its rows of
the result. A panel's rows are multiplied the same way whoever has it, so that neither the number of
workers nor what becomes of them is seen in the result.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from widegram.errors import WidegramError
from widegram.gramfile.chosen import StoredMatrix
from widegram.linalg.budget import array_budget
from widegram.linalg.gramsource import GramKernel
from widegram.linalg.operator import GramOperator
from widegram.linalg.solvejob import SolveJob
from widegram.machine import interrupts
from widegram.machine.progress import Progress, ProgressCallback
from widegram.validation.choices import CG
from widegram.workers.address import parse_address
from widegram.workers.keeping import KeptClaims
from widegram.workers.pool import Workers
from widegram.workers.session import SchedulerGone, Session, Shared

Array = NDArray[Any]
KIND = "widegram.linalg.servedpanels:ServedPanels"
_PANEL_BYTES = 32 << 20  # as read; several for every worker even of small matrices
_LEAST_PANELS = 16
_VECTOR_BYTES = 64 << 20  # of x that are sent at once
_LEAST_COLUMNS = 16
_SHARE = 8  # of the budget, for rows of results on their way


class PanelMatrix:
    """The matrix of a Gram file, sliced like it; its products come from the workers of ``pool``."""

    def __init__(
        self, matrix: StoredMatrix, tile: int, pool: Workers
    ) -> None:
        self._matrix, self._pool = matrix, pool
        self.shape, self.dtype = matrix.shape, matrix.dtype
        n = self.shape[0]
        height = _height(n, self.dtype.itemsize, tile)
        self._panels = [(low, min(n, low + height)) for low in range(0, n, height)]
        self._owners = [""] * len(self._panels)
        self._rounds = 0

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, place: Any) -> Array:
        return self._matrix[place]

    def read_direct(self, into: Array, place: Any) -> None:
        """The block at ``place`` into an array of its shape."""
        self._matrix.read_direct(into, place)

    def product(self, x: Array, progress: ProgressCallback | None = None) -> Array:
        """The matrix times x (n, k), float64.

        Raises :class:`SchedulerGone`, and WidegramError where a worker cannot go on.
        """
        out = np.empty(x.shape)
        step = max(_LEAST_COLUMNS, _VECTOR_BYTES // (8 * len(x)))
        for left in range(0, x.shape[1], step):
            columns = slice(left, left + step)
            try:
                self._round(np.ascontiguousarray(x[:, columns]), out[:, columns], progress)
            except SchedulerGone as error:
                raise SchedulerGone(f"{error}; {interrupts.report()}") from None
        return out

    def _round(self, x: Array, out: Array, progress: ProgressCallback | None) -> None:
        self._rounds += 1
        number, left = self._rounds, len(self._panels)
        claims = KeptClaims(left, owners=self._owners)
        size = 8 * x.shape[1] * (self._panels[0][1] - self._panels[0][0])
        items = [(number, low, high) for low, high in self._panels]
        self._pool.begin(items, size, claims, Shared(number, x))
        while left:
            done = self._pool.next()
            if done is not None:
                for item, rows in zip(done.items, done.results, strict=True):
                    out[slice(*self._panels[item])] = rows
                left -= len(done.items)
                self._pool.written(done)
            if progress:
                total = len(self._panels)
                progress(Progress(total - left, total, "panels", workers=self._pool.count))


@contextmanager
def at_workers(job: SolveJob, train: GramKernel) -> Iterator[GramOperator]:
    """The operator of ``train`` with its products at the workers of ``job.dask``, for a block.

    Raises WidegramError as :class:`Workers`.
    """
    where = parse_address(job.dask)
    session = Session(
        KIND,
        {
            "path": str(Path(job.gram).absolute()),
            "kernel": job.kernel,
            "end": (job.depth, job.head),
            "unit": job.unit_diagonal,
            "rows": None if train.part.rows is None else train.part.rows.numbers.tolist(),
            "key": train.key(),
            "memory": where.share_of(job.memory),
        },
    )
    matrix = train.operator.source
    room = array_budget(where.share_of(job.memory)) // _SHARE
    with Workers(where, session, memory=room) as pool:
        source = PanelMatrix(matrix, train.tile, pool)
        yield replace(train.operator, source=source)


def memory_here(job: SolveJob) -> str | int | None:
    """The memory of this process, as an option."""
    return job.memory if job.dask is None else parse_address(job.dask).share_of(job.memory)


def check_shared(job: SolveJob) -> None:
    """Raise WidegramError for a job that workers have no part in, and a malformed address."""
    parse_address(job.dask)
    if job.centers is not None or job.options.method not in ("auto", CG):
        raise WidegramError(
            f"dask: workers share the products of method {CG} alone; give --method {CG}, or leave "
            "out --dask"
        )
    if job.path or job.loo or job.evidence:
        raise WidegramError(
            f"dask: leave-one-out errors and evidence need a factorisation, workers share the "
            f"products of method {CG}; leave out --dask, or give one --diag-reg"
        )


def _height(n: int, itemsize: int, tile: int) -> int:
    """Rows of a panel: whole tiles, where that leaves enough panels to share out."""
    rows = max(1, min(_PANEL_BYTES // (n * itemsize), -(-n // _LEAST_PANELS)))
    return rows - rows % tile if rows > tile else rows
