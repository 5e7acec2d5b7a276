"""Where the time of a run goes: wall seconds of its threads, by part."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import NamedTuple


class Spent(NamedTuple):
    """What one part of a run took.

    * ``thread``: whose time it is, 'computing' or 'writing'; ``part``: its name
    * ``seconds``: of wall time; ``share``: of the run's seconds
    * ``amount``: how much was done, in ``unit`` ('entries', 'bytes', or '' where nothing is
      counted); ``rate``: the same per second
    """

    thread: str
    part: str
    seconds: float
    share: float
    amount: float
    rate: float
    unit: str


class Clock:
    """Adds up seconds and amounts of the parts of a run. Each part belongs to one thread.

    Blocks of one thread do not stand in one another.
    """

    def __init__(self) -> None:
        self._spent: dict[tuple[str, str, str], list[float]] = {}

    def part(
        self, thread: str, part: str, amount: float = 0.0, unit: str = ""
    ) -> AbstractContextManager[None]:
        """The block is such a part, in which ``amount`` is done."""
        return self._timed(self._spent.setdefault((thread, part, unit), [0.0, 0.0]), amount)

    @contextmanager
    def _timed(self, spent: list[float], amount: float) -> Iterator[None]:
        begun = time.perf_counter()
        try:
            yield
        finally:
            spent[0] += time.perf_counter() - begun
            spent[1] += amount

    def parts(self, seconds: float, order: Mapping[str, Sequence[str]]) -> tuple[Spent, ...]:
        """All parts of a run of so many seconds. ``order``: those of each thread that are there
        are named in this order; the last one is what is left of the thread's seconds."""
        found = []
        for thread, (*names, rest) in order.items():
            mine = {
                part: (unit, spent[0], spent[1])
                for (owner, part, unit), spent in self._spent.items()
                if owner == thread
            }
            idle = max(seconds - sum(took for _, took, _ in mine.values()), 0.0)
            for name in [*(name for name in names if name in mine), rest]:
                unit, took, amount = mine.get(name, ("", idle, 0.0))
                rate = amount / took if took > 0 else 0.0
                share = took / seconds if seconds > 0 else 0.0
                found.append(Spent(thread, name, took, share, amount, rate, unit))
        return tuple(found)


class NoClock(Clock):
    """Measures nothing, in no time."""

    def part(
        self, thread: str, part: str, amount: float = 0.0, unit: str = ""
    ) -> AbstractContextManager[None]:
        return nullcontext()


NO_CLOCK = NoClock()
