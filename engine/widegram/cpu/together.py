"""Jobs of one piece of work on the threads of a pool."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, as_completed, wait
from typing import TypeVar

from widegram.machine import interrupts

Result = TypeVar("Result")


def results(jobs: Sequence[Future[Result]]) -> Iterator[Result]:
    """The results as they come. After an error no job runs on; Ctrl-C ends them early."""
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
