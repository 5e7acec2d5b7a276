"""A scheduler and worker processes on this machine, for tests."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random

import pytest

from widegram.workers.local import LocalProcesses
from widegram.workers.pool import _quiet


class Cluster:
    """``address`` of a scheduler in a thread of this process, and its worker ``processes``."""

    def __init__(self, workers: int) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._scheduler = asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(30)
        self.address: str = self._scheduler.address
        with pytest.MonkeyPatch.context() as patch:  # Workers find modules of the tests.
            patch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
            self.processes = LocalProcesses(self.address, workers, 1)

    async def _start(self):
        from distributed import Scheduler

        return await Scheduler(
            host="127.0.0.1", port=0, dashboard=False, dashboard_address="127.0.0.1:0"
        )

    def wait(self, workers: int) -> None:
        """Until that many workers are there."""
        end = time.monotonic() + 60
        while len(self._scheduler.workers) != workers:
            assert time.monotonic() < end, "the workers do not come"
            self.processes.tend()
            time.sleep(0.05)

    def stop_scheduler(self) -> None:
        """End the scheduler alone."""
        done = asyncio.run_coroutine_threadsafe(self._scheduler.close(), self._loop)
        with suppress(Exception):  # It may have gone by itself.
            done.result(10)

    def close(self) -> None:
        """End everything."""
        self.processes.close()
        self.stop_scheduler()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)


@contextmanager
def cluster(workers: int) -> Iterator[Cluster]:
    """Workers of one thread each, for a block."""
    with _quiet():
        made = Cluster(workers)
        try:
            made.wait(workers)
            yield made
        finally:
            made.close()


@contextmanager
def disturbed(
    processes: LocalProcesses, events: int, seconds: float, seed: int
) -> Iterator[tuple[Callable[[object], None], list[str]]]:
    """:func:`disturb` in a thread, from the first call of the callback on, which a run tells of its
    progress; and what has happened, once the block has ended."""
    begun, happened = threading.Event(), list[str]()

    def work() -> None:
        begun.wait()
        happened.extend(disturb(processes, events, seconds, seed))

    chaos = threading.Thread(target=work)
    chaos.start()
    try:
        yield lambda _: begun.set(), happened
    finally:
        begun.set()
        chaos.join()


def disturb(processes: LocalProcesses, events: int, seconds: float, seed: int) -> list[str]:
    """Kill workers, which come back, and stop and continue them, ``events`` times, about
    ``seconds`` apart; what happened, in words."""
    draw, done = Random(seed), []
    stopped: dict[int, float] = {}
    while len(done) < events:
        time.sleep(seconds * (0.5 + draw.random()))
        numbers = processes.numbers
        number = draw.choice(numbers)
        event = draw.choice(("kill", "stop", "join"))
        with suppress(ProcessLookupError):
            if event == "kill":
                os.kill(number, signal.SIGKILL)
            elif event == "stop" and len(stopped) < len(numbers) - 1:
                os.kill(number, signal.SIGSTOP)
                stopped[number] = time.monotonic()
            for one in [n for n in stopped if event != "stop" or n not in numbers]:
                del stopped[one]
                os.kill(one, signal.SIGCONT)
        processes.tend()  # What was killed joins again.
        done.append(event)
    for one in stopped:
        with suppress(ProcessLookupError):
            os.kill(one, signal.SIGCONT)
    return done
