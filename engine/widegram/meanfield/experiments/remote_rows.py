"""Rows of a trainability map from the workers of a Dask scheduler."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from widegram.data.formats import array_table
from widegram.machine import interrupts
from widegram.machine.budgets import budget
from widegram.meanfield.experiments.engine_kernels import EngineOptions
from widegram.meanfield.experiments.grid import Grid, MapRow, Rows
from widegram.meanfield.experiments.problem import Problem, digest_of
from widegram.workers.address import parse_address
from widegram.workers.pool import Workers
from widegram.workers.session import Parcel, Request, Session

_KIND = "widegram.meanfield.experiments.served_rows:ServedRows"
_FLOATS = 8  # of a point: a row is small


def remote_rows(
    dask: str, mixed: bool, problem: Problem, grid: Grid, options: EngineOptions
) -> Callable[[list[int]], Rows]:
    """What gives rows as workers at the address ``dask`` bring them, in any order, until a stop.

    Raises :class:`~widegram.workers.session.SchedulerGone`, and as
    :class:`~widegram.workers.pool.Workers`.
    """
    where = parse_address(dask)
    most = budget(options.memory)
    memory = most // (where.local + 1) if where.local else options.memory
    session = _session(problem, grid, options, memory)

    def rows(numbers: list[int]) -> Rows:
        if not numbers:
            return
        with Workers(
            where, session, memory=most // 4, mixed=mixed, threads=options.threads
        ) as workers:
            workers.begin(numbers, 8 * _FLOATS * len(grid.depths) * len(grid.times))
            left = len(numbers)
            while left and not interrupts.requested():
                done = workers.next()
                if done is None:
                    continue
                for item, found in zip(done.items, done.results, strict=True):
                    left -= 1
                    yield numbers[item], MapRow(**found), workers.count
                workers.written(done)

    return rows


def _session(
    problem: Problem, grid: Grid, options: EngineOptions, memory: str | int | None
) -> Session:
    given: dict[str, Any] = {**asdict(grid), "w_var": grid.w_var.tolist()}
    digest = digest_of(problem)
    request: Request = {
        "grid": given,
        "place": problem.place,
        "fingerprint": digest,
        "input_shape": list(problem.input_shape),
        "threads": options.threads,
        "memory": memory,
        "accept": options.accept_series_error,
    }
    arrays = problem.x, problem.y, problem.labels, problem.x_test, problem.labels_test
    tables = tuple(array_table(array) for array in arrays)  # In the order of the worker's side.
    return Session(_KIND, request, {"problem": Parcel(digest, tables)})
