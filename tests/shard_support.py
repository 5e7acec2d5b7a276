"""Shards of small matrices with fake tiles, for the tests of shards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import pytest

import fake_evaluator as fake
import widegram
from widegram.durable import calls
from widegram.sharding import Shard

SWEEP = {
    "input_shape": [6],
    "layers": [
        {"layer": "Repeat", "times": 3, "body": [{"layer": "Dense"}]},
        {"layer": "Readouts", "heads": {"a": [{"layer": "Dense"}], "b": []}},
    ],
}


def quicken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fakes for tiles; and no waiting for the disk, which these kills do not need: the system
    keeps what a killed process wrote."""
    fake.install(monkeypatch)
    for name in ("sync", "sync_data", "sync_directory"):
        monkeypatch.setattr(calls, name, lambda *_: None)


def shares(out: Path, total: int, **options: Any) -> list[Path]:
    """Compute all shards of a matrix; their files."""
    options = {"network": fake.NETWORK, "x1": fake.inputs(70), "tile": 16, **options}
    for number in range(1, total + 1):
        assert widegram.gram(out=out, shard=(number, total), **options).complete
    return [Shard(number, total).file(out) for number in range(1, total + 1)]


def one_run(out: Path, **options: Any) -> dict[str, bytes]:
    options = {"network": fake.NETWORK, "x1": fake.inputs(70), "tile": 16, **options}
    widegram.gram(out=out, **options)
    return datasets(out)


def datasets(path: Path) -> dict[str, bytes]:
    """The bytes of every dataset, as any HDF5 reader sees them."""
    found = {}
    with h5py.File(path) as file:
        file.visititems(
            lambda name, item: found.update({name: item[()].tobytes()})
            if isinstance(item, h5py.Dataset)
            else None
        )
    return found


def flip(path: Path, dataset: str) -> None:
    """Change one bit of a dataset's first number, and the file's time with it."""
    with h5py.File(path) as file:
        offset = file[dataset].id.get_chunk_info_by_coord((0, 0)).byte_offset
    fake.damage(path, offset)
