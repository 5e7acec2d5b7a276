"""Where the tiles of a run come from, one after another, with the diagonals beside them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from typing import NamedTuple

from widegram.backends.evaluator import Evaluator
from widegram.closing import Closing
from widegram.computing.saving import Saver, Stretches
from widegram.computing.tile_queue import TileQueue
from widegram.gramfile.writing import TileResult
from widegram.machine.progress import Meter

Tiles = list[tuple[int, int]]


class Found(NamedTuple):
    """A finished tile, and stretches of the diagonals that were made with it."""

    tile: TileResult
    stretches: Stretches


class Supply(Closing, ABC):
    """Computes the tiles of one run; the block that uses one closes it.

    * ``what``: is in work, for messages
    * ``stoppable``: whether a stop ends what is in work early
    * ``cut``: why no more will come, where that is neither a failure nor a stop
    """

    what: str = "the tile in work"
    stoppable: bool = False
    cut: str = ""

    @property
    @abstractmethod
    def left(self) -> int:
        """How many tiles have not been handed out."""

    @abstractmethod
    def next(self, unsaved: Stretches) -> Found | None:
        """The next finished tile, without the stretches that are ``unsaved``; None where a stop
        was requested meanwhile. Raises what the evaluator does."""

    @abstractmethod
    def unasked(self) -> list[Found]:
        """Begin nothing more; what is computed and was not handed out."""

    @abstractmethod
    def seconds_left(self) -> float:
        """Estimate of the time that what is in work still takes; infinite where nothing tells."""


class LocalSupply(Supply):
    """The tiles ``wanted`` from an evaluator of this process, in that order."""

    def __init__(self, evaluator: Evaluator, saver: Saver, wanted: Tiles, meter: Meter) -> None:
        self._saver, self._wanted, self._meter = saver, wanted, meter
        self._coming = deque(wanted)
        self._unfinished: list[Found] = []  # computed, before anything beside it failed
        self.stoppable = evaluator.stoppable
        grid = saver.grid
        spans = [(grid.rows(i), grid.cols(j)) for i, j in wanted]
        self._queue = TileQueue(evaluator, spans, grid.symmetric)

    @property
    def left(self) -> int:
        return len(self._coming)

    def next(self, unsaved: Stretches) -> Found:
        i, j = self._coming.popleft()
        grid = self._saver.grid
        computed = len(grid.rows(i)) * len(grid.cols(j))
        entries = grid.entries(i, j)
        with self._saver.clock.part("computing", "compute", entries, "entries"):
            arrays = self._queue.next(self._meter.begin_tile(entries, computed))
        self._unfinished.append(Found((i, j, arrays), {}))
        with self._saver.clock.part("computing", "diagonals"):
            stretches = self._saver.stretches(self._saver.beside((i, j), unsaved))
        self._meter.end_tile(entries)
        return self._unfinished.pop()._replace(stretches=stretches)

    def unasked(self) -> list[Found]:
        self.close()
        ahead = [Found((*self._wanted[n], arrays), {}) for n, arrays in self._queue.unasked()]
        return self._unfinished + ahead

    def seconds_left(self) -> float:
        return self._meter.tile_seconds

    def close(self) -> None:
        self._queue.close()
