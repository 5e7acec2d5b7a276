"""The worker's side of a Gram matrix: an evaluator that is kept from tile to tile."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from widegram.backends.evaluator import Evaluator
from widegram.backends.job import Job
from widegram.computing.choosing import make_evaluator
from widegram.computing.devices import device_for, kind_of
from widegram.computing.in_memory import diagonal_within
from widegram.computing.tile_queue import TileQueue, tiles_at_once
from widegram.data import Source
from widegram.data.formats import Table, split_spec
from widegram.data.patterns import PatternedSource, places, reopened
from widegram.data.several import ListSource
from widegram.errors import WidegramError
from widegram.machine.budgets import kernel_budget
from widegram.network import Network, load_network
from widegram.workers.builds import processor
from widegram.workers.serving import Served, Unseen
from widegram.workers.session import Request


class ServedTiles(Served):
    """Tiles, and diagonals beside them, of a job as :mod:`widegram.computing.remote`
    describes it.

    An item is (rows, columns, stretches): two ranges of inputs, and (second, range) of each
    stretch of the diagonals that is wanted too. Its result is (tile, list of diagonals), arrays by
    dataset path.
    """

    def __init__(self, evaluator: Evaluator, job: Job) -> None:
        self._evaluator, self._job = evaluator, job

    @classmethod
    def facts(cls, request: Request) -> tuple[str, str]:
        device = device_for(request["device"], load_network(request["network"]))
        kind = kind_of(device)
        return kind, _card(device) if kind == "cuda" else processor()

    @classmethod
    def open(cls, request: Request, parcels: Mapping[str, list[Table]]) -> ServedTiles:
        job = make_job(request, parcels)
        return cls(make_evaluator(device_for(request["device"], job.network), job), job)

    def described(self) -> dict[str, Any]:
        made = self._evaluator
        return {
            "dtype": made.dtype,
            "entry": made.cost.entry,
            "image_bytes": made.cost.image_bytes,
            "at_once": tiles_at_once(made),
            "series_error": made.series_error,
            "device_name": made.device_name,
        }

    def work(self, items: list[Any]) -> list[Any]:
        spans = [(rows, cols) for rows, cols, _ in items]
        found = []
        with closing(TileQueue(self._evaluator, spans, self._job.x2 is None)) as queue:
            for _, _, stretches in items:
                tile = queue.next(lambda _: None)
                self._check(tile)
                beside = [diagonal_within(self._evaluator, of, second) for second, of in stretches]
                found.append((tile, beside))
        return found

    def call(self, name: str, arguments: tuple[Any, ...]) -> Any:
        methods: dict[str, Callable[..., Any]] = {
            "tile": self._evaluator.tile,
            "diagonal": self._evaluator.diagonal,
            "columns_kept": self._evaluator.columns_kept,
        }
        return methods[name](*arguments)

    def close(self) -> None:
        self._evaluator.close()

    def _check(self, tile: Mapping[str, np.ndarray]) -> None:
        for key, array in tile.items():
            if array.dtype != np.dtype(self._job.dtype):
                raise WidegramError(f"{key}: is computed in {array.dtype}, not {self._job.dtype}")


def make_job(request: Request, parcels: Mapping[str, list[Table]]) -> Job:
    """The client's job, with the data that is seen here; raises as :meth:`Served.open`."""
    network = _network(request)
    x1, x2 = (_source(request, name, parcels) for name in ("x1", "x2"))
    if x1 is None:
        raise WidegramError("x1 is missing")
    job = Job(
        network=network,
        x1=x1,
        x2=x2,
        kernels=tuple(request["kernels"]),
        depths=tuple(request["depths"]),
        dtype=request["dtype"],
        threads=request["threads"] or request["cores"],
        memory=kernel_budget(request["memory"]),
        accept=request["accept"],
    )
    for name, source in (("x1", job.x1), ("x2", job.x2)):
        if source is not None and source.fingerprint() != request[name]["fingerprint"]:
            raise WidegramError(
                f"{source.name}: is not the data that the client has, its fingerprint is "
                f"{source.fingerprint()}, not {request[name]['fingerprint']}"
            )
    return job


def _card(device: str) -> str:
    from widegram.computing.devices import cuda_numbers
    from widegram.cuda.device import gpus

    return ", ".join(gpu.name for gpu in gpus(cuda_numbers(device) or ()))


def _network(request: Request) -> Network:
    network = load_network(request["network"])
    if network.fingerprint() != request["network_fingerprint"]:
        raise WidegramError("the network has another fingerprint here than at the client")
    return network


def _source(request: Request, name: str, parcels: Mapping[str, list[Table]]) -> Source | None:
    """Inputs by their place, where this machine sees it, else from a parcel."""
    wanted = request[name]
    if wanted is None:
        return None
    if name in parcels and wanted["is_list"]:
        return ListSource([Source(table, wanted["rows"], None) for table in parcels[name]])
    if name in parcels:
        table, *pattern = parcels[name]
        source = Source(table, wanted["rows"], None)
        return PatternedSource(source, pattern[0], None) if pattern else source
    place = wanted["place"]
    if place is None or not all(Path(split_spec(one)[0]).exists() for one in places(place)):
        raise Unseen([name])
    source = reopened(place, wanted["rows"])
    found = source.shape, source.dtype.str
    if found != (tuple(wanted["shape"]), wanted["dtype"]):
        raise WidegramError(
            f"{source.name}: is not the data that the client has: shape {found[0]} and {found[1]}, "
            f"not {tuple(wanted['shape'])} and {wanted['dtype']}"
        )
    return source
