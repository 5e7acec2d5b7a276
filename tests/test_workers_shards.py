"""Shards and workers together: workers compute a shard, and multiply what shards hold."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

import widegram
from cli_support import run_json
from cluster import Cluster, cluster
from test_workers import inputs

NETWORK = "fcn:depth=2"


@pytest.fixture(scope="module")
def one() -> Iterator[Cluster]:
    with cluster(1) as made:
        yield made


def test_workers_compute_shards_and_multiply_what_they_hold(one: Cluster, tmp_path: Path) -> None:
    x, alone, joined = tmp_path / "x.npy", tmp_path / "a.h5", tmp_path / "b.h5"
    np.save(x, inputs(60, 6))
    np.save(tmp_path / "y.npy", inputs(60, 2, seed=1))
    widegram.gram(NETWORK, x, alone, tile=16, threads=1)
    how = ["--net", NETWORK, "--x", x, "--out", joined, "--tile", 16, "--dask", one.address]
    for share in ("1/2", "2/2"):
        run_json("gram", *how, "--shard", share)
    run_json("join", joined, "--virtual")
    with h5py.File(alone) as a, h5py.File(joined) as b:
        for name in ("nngp", "ntk", "diagonal/x1/ntk"):
            assert a[name][()].tobytes() == b[name][()].tobytes()
    how = ["--y", tmp_path / "y.npy", "--diag-reg", "1e-1", "--dask", one.address]
    for matrix in (alone, joined):
        run_json("solve", matrix, *how, "--out", tmp_path / f"alpha-{matrix.name}")
    with h5py.File(tmp_path / "alpha-a.h5") as a, h5py.File(tmp_path / "alpha-b.h5") as b:
        assert a["alpha"][()].tobytes() == b["alpha"][()].tobytes()
