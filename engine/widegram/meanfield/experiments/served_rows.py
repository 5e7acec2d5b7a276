"""The worker's side of a trainability map: rows of the grid, one w_var each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from widegram.computing.devices import device_for, kind_of
from widegram.data.formats import Table
from widegram.errors import WidegramError
from widegram.meanfield.experiments.engine_kernels import EngineOptions
from widegram.meanfield.experiments.grid import Grid
from widegram.meanfield.experiments.problem import Problem, digest_of, load_problem
from widegram.meanfield.experiments.rows import RowMaker, row_maker, solve_row
from widegram.workers.builds import processor
from widegram.workers.serving import Served, Unseen
from widegram.workers.session import Request


class ServedRows(Served):
    """Rows of a grid for one problem, as :mod:`widegram.meanfield.experiments.remote_rows`
    describes them. An item is the number of a row, its result the arrays of a
    :class:`~widegram.meanfield.experiments.grid.MapRow` by name."""

    def __init__(self, problem: Problem, grid: Grid, make: RowMaker) -> None:
        self._problem, self._grid, self._make = problem, grid, make

    @classmethod
    def facts(cls, request: Request) -> tuple[str, str]:
        if request["grid"]["net"] == "fcn":
            return "cpu", processor()
        from widegram.network import build

        shape, grid = request["input_shape"], request["grid"]
        device = device_for("auto", build(grid["net"], tuple(shape), grid["act"], depth=1))
        return kind_of(device), processor() if device == "cpu" else device

    @classmethod
    def open(cls, request: Request, parcels: Mapping[str, list[Table]]) -> ServedRows:
        problem = _problem(request, parcels)
        if problem.fingerprint != request["fingerprint"]:
            raise WidegramError(
                f"{request['place'] or 'the data'}: is not the data that the client has, its "
                f"fingerprint is {problem.fingerprint}, not {request['fingerprint']}"
            )
        given = request["grid"]
        grid = Grid(**{**given, "w_var": np.array(given["w_var"], np.float64)})
        threads = request["threads"] or request["cores"]
        options = EngineOptions(threads, request["memory"], request["accept"])
        return cls(problem, grid, row_maker(problem, grid, options))

    def described(self) -> dict[str, Any]:
        return {}

    def work(self, items: list[Any]) -> list[Any]:
        w_var = self._grid.w_var
        return [
            asdict(solve_row(self._problem, self._grid, self._make(float(w_var[n])))) for n in items
        ]

    def close(self) -> None:
        """Nothing is held but memory."""


def _problem(request: Request, parcels: Mapping[str, list[Table]]) -> Problem:
    if "problem" in parcels:
        x, y, labels, x_test, labels_test = (t.rows(0, t.shape[0]) for t in parcels["problem"])
        made = Problem(x, y, labels, x_test, labels_test, "")
        return replace(made, fingerprint=digest_of(made))
    place = request["place"]
    if place is None or not Path(place[0]).exists():
        raise Unseen(["problem"])
    return load_problem(*place)
