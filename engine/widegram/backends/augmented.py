"""Kernels of augmented inputs: means over flipped images, by any evaluator of a plain network.

A network that sees g x, g drawn from a group G for each input, has the kernel mean over g and g' of
K(g x, g' x'). Where the network commutes with the group, K(g x, g x') = K(x, x'), the mean over one
side is the same (:mod:`widegram.plan.flips` says whether it does).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from widegram.backends.evaluator import Advance, Cost, Evaluator, Tile
from widegram.backends.job import Job
from widegram.backends.self_runs import KEPT_BYTES
from widegram.data.flipped import flipped, turns
from widegram.errors import WidegramError
from widegram.machine.byte_cache import ByteCache
from widegram.plan.flips import commutes
from widegram.tiling import mirror_lower

Make = Callable[[Job], Evaluator]
# Inputs whose own kernels are found at a time, as the diagonal of a tile.
_OWN = 16


class Augmented(Evaluator):
    """The evaluator of a job whose network has ``augment``, by one that ``make`` gives for the
    plain network.

    ``both``: take the mean over both sides even where one would do.
    """

    def __init__(self, job: Job, make: Make, both: bool = False) -> None:
        self._job, self._make = job, make
        augment, self._plain = job.network.augment, job.network.plain
        self._rows = len(turns(augment))
        self._both = both or not commutes(job.network)
        self._cols = self._rows if self._both else 1
        self._inner = self._evaluator(job)
        # Of x1, and of x2, with themselves; where the job has both made when a diagonal is wanted.
        self._itself: dict[bool, Evaluator] = {} if job.x2 is not None else {False: self._inner}
        self._kept: ByteCache[tuple[int, int], _TileDiagonal] = ByteCache(KEPT_BYTES)
        inner = self._inner
        self.keys, self.dtype = inner.keys, inner.dtype
        self.workers, self.stoppable = inner.workers, inner.stoppable
        self.series_error, self.device_name = inner.series_error, inner.device_name
        times = self._rows * self._cols
        self.cost = Cost(times * inner.cost.entry, self._rows * inner.cost.image_bytes)

    def _evaluator(self, job: Job) -> Evaluator:
        augment, x2 = job.network.augment, job.x2 or job.x1
        return self._make(
            replace(
                job,
                network=self._plain,
                x1=flipped(job.x1, augment),
                x2=flipped(x2, augment) if self._both else x2,
            )
        )

    def tile(
        self, rows: range, cols: range, symmetric: bool, progress: Advance | None = None
    ) -> Tile:
        same = symmetric and rows == cols
        advance = None if progress is None else _Fewer(progress, self._rows * self._cols)
        found = {key: np.zeros((len(rows), len(cols)), self._job.dtype) for key in self.keys}
        # A few rows at a time: all flipped images of a tile would take so many times its memory.
        step = max(1, len(rows) // (self._rows * self._cols))
        for lo in range(0, len(rows), step):
            hi, left = min(lo + step, len(rows)), lo if same else 0
            part = self._mean(self._inner, rows[lo:hi], cols[left:], advance)
            for key, value in part.items():
                found[key][lo:hi, left:] = value
        if same:
            own = {key: value.diagonal().astype(np.float64) for key, value in found.items()}
            self._kept.keep((rows.start, rows.stop), _TileDiagonal(own))
            for key, value in found.items():
                mirror_lower(value)
                np.fill_diagonal(value, own[key])
        if progress is not None and same:
            progress(len(rows) * len(cols) - advance.told if advance else 0)
        return found

    def _mean(
        self, inner: Evaluator, rows: range, cols: range, advance: Advance | None = None
    ) -> Tile:
        """The mean over flipped images, float64, of a tile of the plain network."""
        m, k = self._rows, self._cols
        wide = range(m * rows.start, m * rows.stop), range(k * cols.start, k * cols.stop)
        found = inner.tile(*wide, False, advance)
        shape = len(rows), m, len(cols), k
        return {
            key: value.astype(np.float64).reshape(shape).mean(axis=(1, 3))
            for key, value in found.items()
        }

    def diagonal(self, rows: range, second: bool = False) -> dict[str, NDArray[np.float64]]:
        """As of every evaluator, but for its digits, which are those of the tiles."""
        second = second and self._job.x2 is not None
        kept = None if second else self._kept.find((rows.start, rows.stop))
        if kept is not None:
            return kept.values
        if second not in self._itself:
            self._itself[second] = self._of_itself(second)
        found: dict[str, list[NDArray[np.float64]]] = {key: [] for key in self.keys}
        for lo in range(rows.start, rows.stop, _OWN):
            some = range(lo, min(lo + _OWN, rows.stop))
            for key, value in self._mean(self._itself[second], some, some).items():
                found[key].append(value.diagonal())
        return {key: np.concatenate(parts) for key, parts in found.items()}

    def _of_itself(self, second: bool) -> Evaluator:
        """The evaluator of one data set with itself: in a quarter of the memory, beside that of the
        tiles, where it fits into that."""
        source = self._job.x2 if second and self._job.x2 is not None else self._job.x1
        job = replace(self._job, x1=source, x2=None)
        try:
            return self._evaluator(replace(job, memory=job.memory // 4))
        except WidegramError:
            return self._evaluator(job)

    def columns_kept(self, tile: int, rows: int) -> int:
        return self._inner.columns_kept(self._rows * tile, rows)

    def prepare(self, rows: range, cols: range) -> None:
        m, k = self._rows, self._cols
        wide = range(m * rows.start, m * rows.stop), range(k * cols.start, k * cols.stop)
        self._inner.prepare(*wide)

    def round_to(self, dtype: str) -> None:
        self._inner.round_to(dtype)

    def close(self) -> None:
        for evaluator in dict.fromkeys((self._inner, *self._itself.values())):
            evaluator.close()


class _TileDiagonal(NamedTuple):
    """The diagonal of a tile, float64, by key."""

    values: dict[str, NDArray[np.float64]]

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(value.nbytes for value in self.values.values())


class _Fewer:
    """Tells ``progress`` of every ``times``-th of the entries that it hears of; ``told``: of how
    many so far."""

    def __init__(self, progress: Advance, times: int) -> None:
        self._progress, self._times = progress, times
        self._heard = self.told = 0

    def __call__(self, count: int) -> None:
        self._heard += count
        new = self._heard // self._times - self.told
        self.told += new
        self._progress(new)
