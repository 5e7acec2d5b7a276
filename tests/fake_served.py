"""Workers whose evaluators are cheap stand-ins that sleep: for tests of everything around them."""

from __future__ import annotations

from collections.abc import Mapping

from fake_evaluator import FakeEvaluator
from widegram.backends.job import Job
from widegram.computing.served import ServedTiles, make_job
from widegram.data.formats import Table
from widegram.workers.session import Request

KIND = "fake_served:SleepyTiles"
SECONDS = 0.01


class SleepyTiles(ServedTiles):
    """Takes SECONDS for a tile of :func:`fake_evaluator.entries`."""

    @classmethod
    def facts(cls, request: Request) -> tuple[str, str]:
        return "cpu", "none"

    @classmethod
    def open(cls, request: Request, parcels: Mapping[str, list[Table]]) -> SleepyTiles:
        job: Job = make_job(request, parcels)
        return cls(FakeEvaluator(job.keys, job.dtype, SECONDS), job)
