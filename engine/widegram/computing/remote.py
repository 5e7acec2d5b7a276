"""Tiles from the workers of a Dask scheduler, for the one writer of a file."""

from __future__ import annotations

import json
import math
from collections import deque
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np

from widegram.backends.evaluator import Advance, Cost, Evaluator, Tile
from widegram.backends.job import Job
from widegram.computing.saving import Saver, Stretches
from widegram.computing.supply import Found, Supply, Tiles
from widegram.data import Source
from widegram.data.patterns import PatternedSource
from widegram.data.several import ListSource
from widegram.errors import WidegramError
from widegram.gramfile.diagonals import Stretch
from widegram.machine import interrupts
from widegram.machine.dtypes import ITEMSIZE
from widegram.machine.progress import Meter
from widegram.network.load import has_function
from widegram.workers.address import parse_address
from widegram.workers.crew import Done
from widegram.workers.pool import Workers
from widegram.workers.session import Parcel, Request, SchedulerGone, Session

_KIND = "widegram.computing.served:ServedTiles"
_SHARE = 4  # of the budget, for results on their way


class RemoteEvaluator(Evaluator):
    """An evaluator of ``job`` at the workers of an ``address``: each keeps one of its own.

    ``device`` and ``memory`` are as a user gives them; each worker finds what they mean for it.
    ``mixed``: workers may differ in the last bits.

    * ``device``: the kind that computes
    * ``at_once``: tiles that a worker keeps in memory at the same time

    Raises :class:`WidegramError` as :class:`~widegram.workers.pool.Workers`.
    """

    stoppable = True

    def __init__(
        self, address: str, job: Job, device: str, memory: str | int | None, mixed: bool
    ) -> None:
        where = parse_address(address)
        session = _session(job, device, where.share_of(memory))
        self.pool = Workers(
            where, session, memory=job.memory // _SHARE, mixed=mixed, threads=job.threads
        )
        found = self.pool.described
        self.keys, self.dtype = job.keys, found["dtype"]
        self.cost = Cost(found["entry"], found["image_bytes"])
        self.at_once, self.device = found["at_once"], self.pool.device
        self.series_error, self.device_name = found["series_error"], found["device_name"]

    @property
    def workers(self) -> int:  # type: ignore[override]  # a constant of other evaluators
        """Tiles at once: one for each worker that is there."""
        return max(1, self.pool.count)

    def tile(
        self, rows: range, cols: range, symmetric: bool, progress: Advance | None = None
    ) -> Tile:
        found: Tile = self.pool.call("tile", rows, cols, symmetric)
        if progress is not None:
            progress(len(rows) * len(cols))
        return found

    def diagonal(self, rows: range, second: bool = False) -> dict[str, np.ndarray]:
        found: dict[str, np.ndarray] = self.pool.call("diagonal", rows, second)
        return found

    def columns_kept(self, tile: int, rows: int) -> int:
        return int(self.pool.call("columns_kept", tile, rows))

    def supply(
        self, evaluator: Evaluator, saver: Saver, wanted: Tiles, meter: Meter
    ) -> RemoteSupply:
        """The tiles ``wanted``, for :func:`widegram.computing.filling.fill`."""
        return RemoteSupply(self.pool, saver, wanted, meter)

    def close(self) -> None:
        self.pool.close()


class RemoteSupply(Supply):
    """The tiles ``wanted`` from workers, as they come."""

    what, stoppable = "the tiles in work", True

    def __init__(self, pool: Workers, saver: Saver, wanted: Tiles, meter: Meter) -> None:
        self._pool, self._saver, self._wanted, self._meter = pool, saver, wanted, meter
        self._beside = _beside(saver, wanted)
        self._coming: deque[Found] = deque()
        self._left = len(wanted)
        grid = saver.grid
        items = [
            (grid.rows(i), grid.cols(j), [(one.second, one.span(grid)) for one in beside])
            for (i, j), beside in zip(wanted, self._beside, strict=True)
        ]
        size = grid.tile**2 * ITEMSIZE[saver.dtype] * len(saver.keys)
        pool.begin(items, size)

    @property
    def left(self) -> int:
        return self._left

    def next(self, unsaved: Stretches) -> Found | None:
        while not self._coming:
            if interrupts.requested():
                return None
            try:
                with self._saver.clock.part("computing", "wait for workers"):
                    done = self._pool.next()
            except SchedulerGone as error:
                self.cut = str(error)
                return None
            if done is not None:
                self._take(done)
            self._meter.tell(self._pool.count)
        self._left -= 1
        return self._coming.popleft()

    def unasked(self) -> list[Found]:
        self._pool.end()
        with suppress(interrupts.Stopped, WidegramError):
            while self._pool.failure is None and (self._pool.in_work or not self._pool.empty):
                if (done := self._pool.next()) is not None:
                    self._take(done)
        found, self._coming = list(self._coming), deque()
        return found

    def seconds_left(self) -> float:
        return self._pool.crew.usual_seconds or math.inf

    def _take(self, done: Done) -> None:
        """Put what came back in line."""
        self._saver.computed_by(done.facts.device)
        for number, (arrays, diagonals) in zip(done.items, done.results, strict=True):
            i, j = self._wanted[number]
            stretches = dict(zip(self._beside[number], diagonals, strict=True))
            self._coming.append(Found((i, j, arrays), stretches))
            self._meter.end_tile(self._saver.grid.entries(i, j))
        self._pool.written(done)


def _beside(saver: Saver, wanted: Tiles) -> list[list[Stretch]]:
    """Stretches of the diagonals to bring with each tile: the first one beside a stretch does."""
    taken: Stretches = {}
    found = []
    for tile in wanted:
        beside = saver.beside(tile, taken)
        taken.update({stretch: {} for stretch in beside})
        found.append(beside)
    return found


def _session(job: Job, device: str, memory: str | int | None) -> Session:
    """What workers are told of a job, as :class:`~widegram.computing.served.ServedTiles` reads it.

    Raises :class:`WidegramError` where they cannot be told.
    """
    network = job.network.to_json()
    if has_function(json.loads(network)):
        raise WidegramError(
            "dask: the network has a function of Python's, which no worker can get; compute it "
            "here, or take an activation that has a name"
        )
    sources = {"x1": job.x1, "x2": job.x2}
    request: Request = {
        "network": network,
        "network_fingerprint": job.network.fingerprint(),
        "kernels": list(job.kernels),
        "depths": list(job.depths),
        "dtype": job.dtype,
        "device": device,
        "threads": job.threads,
        "memory": memory,
        "accept": job.accept,
        **{name: source and _told(source) for name, source in sources.items()},
    }
    parcels = {name: _parcel(source) for name, source in sources.items() if source is not None}
    return Session(_KIND, request, parcels)


def _told(source: Source) -> dict[str, Any]:
    return {
        "place": source.place,
        "is_list": isinstance(source, ListSource),
        "rows": len(source),
        "shape": list(source.shape),
        "dtype": source.dtype.str,
        "fingerprint": source.fingerprint(),
    }


def _parcel(source: Source) -> Parcel:
    parts = source.parts if isinstance(source, ListSource) else (source,)
    tables = [replace(part.table, shape=part.shape) for part in parts]
    if isinstance(source, PatternedSource):
        patterns = source.patterns
        tables.append(replace(patterns, shape=(len(source), *patterns.shape[1:])))
    return Parcel(source.fingerprint(), tuple(tables))
