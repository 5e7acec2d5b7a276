"""Progress of a long run, and stopping it on request."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from types import FrameType
from typing import Any, Self

from widegram.closing import Closing
from widegram.machine import interrupts

_REPORT_SECONDS = 0.1


@dataclass(frozen=True)
class Progress:
    """How far long work is: what every ``progress`` callback of this library is told.

    * ``done`` of ``total``, counted in ``unit``; what an earlier run left finished is done
    * ``what``: which part of the work that is, empty where it has one part only
    * ``rate``: of this run, in units per second; 0 where it is not measured
    * ``seconds``: of this run; 0 where they are not measured
    * ``workers``: that share the work at present; 0 where this process does it
    """

    done: float
    total: float
    unit: str = "entries"
    what: str = ""
    rate: float = 0.0
    seconds: float = 0.0
    workers: int = 0

    @property
    def seconds_left(self) -> float:
        """Estimated time to the end; infinite before there is a rate."""
        return (self.total - self.done) / self.rate if self.rate > 0 else float("inf")


ProgressCallback = Callable[[Progress], None]


def counting(
    callback: ProgressCallback | None, total: int, unit: str
) -> Callable[[int], None]:
    """What tells ``callback`` of the units done since now, with their rate; without one, nobody."""
    start = time.perf_counter()

    def tell(done: int) -> None:
        if callback is not None:
            seconds = time.perf_counter() - start
            rate = done / seconds if seconds > 0 else 0.0
            callback(Progress(done, total, unit, rate=rate, seconds=seconds))

    return tell


class Meter:
    """Counts entries and tells the callback about them, at most ten times a second."""

    def __init__(self, total: int, done: int, callback: ProgressCallback | None) -> None:
        self._total, self._before, self._settled = total, done, done
        self._in_tile = 0
        self._callback = callback
        self._start = self._told = self._begun = time.perf_counter()
        self._tile, self._slowest, self._workers = 1, 0.0, 0

    @property
    def seconds(self) -> float:
        """Time since the start of this run."""
        return time.perf_counter() - self._start

    @property
    def entries(self) -> int:
        """Entries finished in this run."""
        return self._settled - self._before

    def begin_tile(self, entries: int, computed: int) -> Callable[[int], None]:
        """A callback for a tile that settles ``entries`` entries by computing ``computed``."""
        self._in_tile, self._tile, self._begun = 0, entries, time.perf_counter()
        seen = 0

        def advance(count: int) -> None:
            nonlocal seen
            seen = min(seen + count, computed)
            self._in_tile = entries * seen // computed
            self._tell()

        return advance

    @property
    def tile_seconds(self) -> float:
        """Estimate of the time that the tile in work still takes; infinite where nothing tells."""
        passed = time.perf_counter() - self._begun
        if self._in_tile:
            return passed * (self._tile / self._in_tile - 1)
        return max(self._slowest - passed, 0.0) if self._slowest else float("inf")

    def tell(self, workers: int) -> None:
        """Tell the callback that so many ``workers`` share the work, which goes on."""
        self._workers = workers
        self._tell()

    def end_tile(self, entries: int) -> None:
        """The tile begun last is finished."""
        self._settled += entries
        self._in_tile = 0
        self._slowest = max(self._slowest, time.perf_counter() - self._begun)
        self._tell(self._settled == self._total)

    def _tell(self, now: bool = False) -> None:
        moment = time.perf_counter()
        if self._callback is None or not (now or moment - self._told >= _REPORT_SECONDS):
            return
        self._told = moment
        done = self._settled + self._in_tile
        seconds = moment - self._start
        rate = (done - self._before) / seconds if seconds > 0 else 0.0
        self._callback(
            Progress(done, self._total, rate=rate, seconds=seconds, workers=self._workers)
        )


class StopRequest(Closing):
    """Inside its block the first SIGINT or SIGTERM sets ``requested``; a second one interrupts.

    What is in work then has ``SECONDS`` to end before :func:`widegram.machine.interrupts.check` and
    compiled loops leave it. Elsewhere than in the main thread, where Python allows no handlers,
    requests come from :mod:`widegram.machine.interrupts` alone.
    """

    SECONDS = 3.0

    def __init__(self) -> None:
        self._previous: dict[signal.Signals, Any] = {}
        self._timer: threading.Timer | None = None

    @property
    def requested(self) -> bool:
        """Whether to begin nothing new."""
        return interrupts.requested()

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        interrupts.request()
        self._timer = threading.Timer(self.SECONDS, interrupts.halt)
        self._timer.daemon = True
        try:
            self._timer.start()
        except RuntimeError:  # No more threads.
            interrupts.halt()

    def close(self) -> None:
        """Forget the request, and give signals back to whoever had them."""
        if not self._previous:
            return
        if self._timer is not None:
            self._timer.cancel()
            with suppress(RuntimeError):  # It was never started.
                self._timer.join()
        interrupts.resume()
        while self._previous:
            signal.signal(*self._previous.popitem())
