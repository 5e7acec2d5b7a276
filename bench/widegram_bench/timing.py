"""Clocks: the best of several runs within a budget, and several threads at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager


def best(run: Callable[[], object], seconds: float, least: int = 2) -> float:
    """The shortest wall time of ``run`` in seconds: ``least`` runs, more while time remains."""
    shortest, end, count = float("inf"), time.perf_counter() + seconds, 0
    while count < least or time.perf_counter() < end:
        shortest = min(shortest, once(run))
        count += 1
    return shortest


class Turns:
    """Runs measured in turns, so that what disturbs the machine for a while meets all of them.

    ``shortest[n]``: the best wall time so far of run n, in seconds.
    """

    def __init__(self, *runs: Callable[[], object]) -> None:
        self.runs, self.shortest = runs, [float("inf")] * len(runs)

    def take(self, seconds: float, least: int = 3) -> list[float]:
        """``least`` turns, more while time remains; the shortest times."""
        end, count = time.perf_counter() + seconds, 0
        while count < least or time.perf_counter() < end:
            for n, run in enumerate(self.runs):
                self.shortest[n] = min(self.shortest[n], once(run))
            count += 1
        return self.shortest


def once(run: Callable[[], object]) -> float:
    """Wall time of one run in seconds."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def together(runs: Sequence[Callable[[], object]]) -> float:
    """Wall time until all runs, each on a thread of its own, started at once, are done.

    The runs must not hold Python's lock, or they take turns.
    """
    barrier = threading.Barrier(len(runs) + 1)

    def body(run: Callable[[], object]) -> None:
        barrier.wait()
        run()

    with ThreadPoolExecutor(len(runs)) as threads:
        begun = [threads.submit(body, run) for run in runs]
        barrier.wait()
        start = time.perf_counter()
        wait(begun)
        elapsed = time.perf_counter() - start
    for one in begun:
        one.result()
    return elapsed


class TimeBudget:
    """Divides what is left of a budget among the measurements to come.

    ``prepared``: the seconds so far that were spent beside it (:meth:`apart`).
    """

    def __init__(self, seconds: float, count: int) -> None:
        self.end, self.left, self.prepared = time.perf_counter() + seconds, count, 0.0

    @contextmanager
    def apart(self) -> Iterator[None]:
        """What happens inside, such as compiling, takes nothing of the budget."""
        start = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - start
            self.end += spent
            self.prepared += spent

    def next(self) -> float:
        """Seconds for the next one."""
        share = max(0.05, (self.end - time.perf_counter()) / max(self.left, 1))
        self.left -= 1
        return share
