"""Jobs of one piece of work on the threads of a pool."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed, wait
from typing import TypeVar

from widegram.machine import interrupts

Item = TypeVar("Item")
Result = TypeVar("Result")
# Element-layers of float32 that take about a millisecond, which a thread needs to begin; 25 of
# them, for which Ctrl-C may wait, where there is but one.
LITTLE = 4e6
ALONE = 1e8


def is_little(work: float, threads: int) -> bool:
    """Whether so many element-layers of float32 are not worth handing to threads."""
    return work < (LITTLE if threads > 1 else ALONE)


def results(
    pool: ThreadPoolExecutor, work: Callable[[Item], Result], items: Iterable[Item],
    here: bool = False,
) -> Iterator[Result]:  # fmt: skip
    """What ``work`` makes of the items, as it comes. After an error none runs on; Ctrl-C ends them
    early. ``here``: one after the other without the threads of ``pool``, where Ctrl-C waits for the
    one that runs."""
    if here:
        yield from map(work, items)
        return
    jobs = [pool.submit(work, item) for item in items]
    try:
        for job in as_completed(jobs):
            yield job.result()
    except KeyboardInterrupt:
        with interrupts.halting():
            _end(jobs)
        raise
    finally:
        _end(jobs)


def _end(jobs: Sequence[Future[Result]]) -> None:
    for job in jobs:
        job.cancel()
    wait(jobs)
