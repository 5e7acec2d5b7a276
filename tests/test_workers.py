"""Gram files by the workers of a scheduler: the bits of one process, whatever happens to them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

import fake_evaluator
import fake_served
import widegram
from cli_support import refused
from cluster import Cluster, cluster, disturbed
from widegram.errors import Interrupted, WidegramError
from widegram.machine.progress import Progress
from widegram.meanfield.experiments.problem import load_problem
from widegram.meanfield.experiments.training import Grid, trainability
from widegram.tuning.search import Search
from widegram.workers import crew as crew_module
from widegram.workers import pool as pool_module
from widegram.workers.session import Facts

VECTORS, IMAGES = "fcn:depth=2", "cnn-p:depth=2"


@pytest.fixture(scope="module")
def two() -> Iterator[Cluster]:
    with cluster(2) as made:
        yield made


def inputs(n: int, *shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, *shape)).astype(np.float32)


def same(one: Path, other: Path) -> None:
    """Every dataset of both files has the same bytes."""
    with h5py.File(one) as a, h5py.File(other) as b:
        names: list[str] = []
        a.visititems(lambda n, item: names.append(n) if isinstance(item, h5py.Dataset) else None)
        assert names
        for name in names:
            assert a[name][()].tobytes() == b[name][()].tobytes(), name
        assert a.attrs["complete"]
        assert b.attrs["complete"]


@pytest.mark.parametrize(
    ("network", "shape", "n2", "options"),
    [
        (IMAGES, (5, 5, 1), 0, {}),
        (VECTORS, (6,), 7, {"dtype": "float64"}),
        ("fcn:depth=3", (6,), 0, {"depths": (1, 3), "get": "ntk"}),
    ],
)
def test_the_bits_of_one_process(
    network: str, shape: tuple[int, ...], n2: int, options: dict, two: Cluster, tmp_path: Path
) -> None:
    x = tmp_path / "x.npy"
    np.save(x, inputs(40, *shape))
    x2 = inputs(n2, *shape, seed=1) if n2 else None  # In memory: sent to the workers.
    alone, shared = tmp_path / "a.h5", tmp_path / "b.h5"
    widegram.gram(network, x, alone, x2, tile=8, threads=1, **options)
    seen: list[Progress] = []
    result = widegram.gram(
        network, x, shared, x2, tile=8, dask=two.address, progress=seen.append,
        profile=True, **options,
    )  # fmt: skip
    assert result.complete
    assert result.profile is not None
    parts = {one.part for one in result.profile if one.thread == "computing"}
    assert "wait for workers" in parts
    assert "compute" not in parts
    same(alone, shared)
    assert max(p.workers for p in seen) == 2
    again = widegram.gram(network, x, shared, x2, tile=8, dask=two.address, **options)
    assert again.entries == 0


def test_data_that_workers_cannot_see_is_sent(
    two: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("widegram.workers.sending._BLOCK_BYTES", 256)
    x = inputs(20, 5, 5, 1)
    widegram.gram(IMAGES, x, tmp_path / "a.h5", tile=8, threads=1)
    widegram.gram(IMAGES, x, tmp_path / "b.h5", tile=8, dask=two.address)
    same(tmp_path / "a.h5", tmp_path / "b.h5")


def test_an_error_in_a_worker_is_its_one_line(two: Cluster, tmp_path: Path) -> None:
    x = inputs(20, 6)
    x[13] = 1e30  # Its square is outside of float32.
    with pytest.raises(WidegramError) as alone:
        widegram.gram("fcn:depth=2,act=gelu", x, tmp_path / "a.h5", tile=8)
    with pytest.raises(WidegramError) as shared:
        widegram.gram("fcn:depth=2,act=gelu", x, tmp_path / "b.h5", tile=8, dask=two.address)
    assert re.fullmatch(r"worker tcp://[\d.:]+: " + re.escape(str(alone.value)), str(shared.value))


def test_other_data_at_the_same_place_is_refused(
    two: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from widegram.computing import remote

    x, told = tmp_path / "x.npy", remote._told
    np.save(x, inputs(20, 6))
    monkeypatch.setattr(remote, "_told", lambda source: told(source) | {"fingerprint": "f" * 32})
    with pytest.raises(WidegramError, match=r"worker tcp.*x.npy: is not the data that the client"):
        widegram.gram(VECTORS, x, tmp_path / "K.h5", dask=two.address)
    monkeypatch.setattr(remote, "_told", lambda source: told(source) | {"dtype": "<f8"})
    with pytest.raises(WidegramError, match=r"x.npy: is not .* <f4, not \(20, 6\) and <f8"):
        widegram.gram(VECTORS, x, tmp_path / "K.h5", dask=two.address)
    assert not (tmp_path / "K.h5").exists()


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (("9.9", ""), "runs widegram 0.*this is 9.9; install the same version there"),
        ((widegram.__version__, "other"), "runs another build of widegram"),
    ],
)
def test_workers_of_another_version_are_refused(
    program: tuple[str, str],
    message: str,
    two: Cluster,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(crew_module, "program", lambda: program)
    with pytest.raises(WidegramError, match=message):
        widegram.gram(VECTORS, inputs(9, 6), tmp_path / "K.h5", dask=two.address)


def test_workers_whose_bits_differ_are_refused_unless_asked_for(
    two: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = iter([("cpu", "avx2"), ("cuda", "card A")])

    def facts(version: str, sources: str, device: str, bits: str) -> Facts:
        return Facts(version, sources, *next(made))

    monkeypatch.setattr(crew_module, "Facts", facts)
    x, out = inputs(40, 6), tmp_path / "K.h5"
    with pytest.raises(WidegramError, match=r"workers differ(?=.*avx2)(?=.*card A).*--mixed"):
        widegram.gram(VECTORS, x, out, dask=two.address)
    made = iter([("cpu", "avx2"), ("cuda", "card A")])
    widegram.gram(VECTORS, x, out, tile=8, dask=two.address, mixed_workers=True)
    with h5py.File(out) as file:
        assert set(file.attrs["device"].split(",")) <= {"cpu", "cuda"}


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("nowhere", "is no address and no file; give tcp://HOST:PORT, a scheduler file, or local"),
        ("local:0", "give local:N with N from 1"),
        ("tcp://host", "has no host and port"),
        ("", "is no address"),
    ],
)
def test_addresses_that_are_none(address: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(WidegramError, match=message):
        widegram.gram(VECTORS, inputs(9, 6), tmp_path / "K.h5", dask=address)


def test_a_scheduler_file(two: Cluster, tmp_path: Path) -> None:
    file, x = tmp_path / "scheduler.json", inputs(9, 6)
    file.write_text(json.dumps({"address": two.address, "workers": {}}))
    assert widegram.gram(VECTORS, x, tmp_path / "K.h5", dask=str(file)).complete
    for text in ("{}", "[" * 20_000):
        file.write_text(text)
        with pytest.raises(WidegramError, match="is no scheduler file"):
            widegram.gram(VECTORS, x, tmp_path / "L.h5", dask=str(file))


def test_nobody_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "_ANSWER_SECONDS", 0.3)
    with pytest.raises(WidegramError, match=r"no Dask scheduler answers at tcp://127"):
        widegram.gram(VECTORS, inputs(9, 6), tmp_path / "K.h5", dask="tcp://127.0.0.1:9")


def test_without_the_extra_the_option_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "x.npy", inputs(9, 6))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    words = ["gram", "--net", VECTORS, "--x", tmp_path / "x.npy", "--dask", "local:2"]
    refused(r"run: pip install 'widegram\[distributed\]'", *words, "--out", tmp_path / "K.h5")


def test_mixed_workers_go_with_dask(tmp_path: Path) -> None:
    with pytest.raises(WidegramError, match="are workers of --dask, which is not given"):
        widegram.gram(VECTORS, inputs(9, 6), tmp_path / "K.h5", mixed_workers=True)


def test_verify_computes_again_at_workers_and_repairs(two: Cluster, tmp_path: Path) -> None:
    x, out = tmp_path / "x.npy", tmp_path / "K.h5"
    np.save(x, inputs(40, 5, 5, 1))
    widegram.gram(IMAGES, x, out, tile=8, threads=1)
    before = out.read_bytes()
    report = widegram.verify(out, sample=3, dask=two.address)
    assert report.ok
    assert report.entries_recomputed > 0
    with h5py.File(out, "r+") as file:
        file["ntk"][9, 30] += 1
    assert not widegram.verify(out, sample=0).ok
    report = widegram.verify(out, repair=True, dask=two.address)
    assert report.ok
    assert report.repaired
    with h5py.File(out) as file:
        found = file["ntk"][()]
    out.write_bytes(before)
    with h5py.File(out) as file:
        np.testing.assert_array_equal(found, file["ntk"][()])


@pytest.fixture
def sleepy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers sleep instead of computing; so does this process."""
    monkeypatch.setattr("widegram.computing.remote._KIND", fake_served.KIND)
    fake_evaluator.install(monkeypatch)


@pytest.mark.usefixtures("sleepy")
def test_kills_stops_and_joins_change_no_bit(tmp_path: Path) -> None:
    alone, shared = tmp_path / "a.h5", tmp_path / "b.h5"
    x = inputs(104, 6)
    widegram.gram(VECTORS, x, alone, tile=8)
    with cluster(3) as made, disturbed(made.processes, 5, 0.2, seed=1) as (begin, events):
        widegram.gram(VECTORS, x, shared, tile=8, dask=made.address, progress=begin)
    assert len(events) == 5
    same(alone, shared)
    assert widegram.verify(shared, sample=0).ok


@pytest.mark.usefixtures("sleepy")
def test_without_its_scheduler_a_run_is_interrupted_and_can_be_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crew_module, "_GONE_SECONDS", 0.5)
    x, out, told = inputs(96, 6), tmp_path / "K.h5", threading.Event()
    with cluster(1) as made:

        def progress(seen: Progress) -> None:
            if seen.done and not told.is_set():
                told.set()
                threading.Thread(target=made.stop_scheduler).start()

        with pytest.raises(Interrupted, match=r"the scheduler is gone, \d+ of 78 tiles are saved"):
            widegram.gram(VECTORS, x, out, tile=8, dask=made.address, progress=progress)
    assert widegram.gram(VECTORS, x, out, tile=8).resumed_tiles > 0
    widegram.gram(VECTORS, x, tmp_path / "a.h5", tile=8)
    same(tmp_path / "a.h5", out)


def test_rows_of_a_trainability_map(two: Cluster, tmp_path: Path) -> None:
    data, files = tmp_path / "d.h5", (tmp_path / "a.h5", tmp_path / "b.h5", tmp_path / "c.h5")
    widegram.prepare("digits", data)
    problem = load_problem(str(data), 40, 20)
    grid = Grid("fcn", "erf", np.array([1.0, 1.5, 2.0]), 0.1, (1, 3), (1.0, 8.0))
    alone, seen, sent = files
    trainability(problem, grid, alone, threads=1)
    assert trainability(problem, grid, seen, dask=two.address) == 0
    hidden = replace(problem, place=None)
    trainability(hidden, grid, sent, dask=two.address)
    assert trainability(hidden, grid, sent, dask=two.address) == 3
    same(alone, seen)
    same(alone, sent)


def test_networks_that_are_tried(two: Cluster, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", inputs(30, 6))
    np.save(tmp_path / "y.npy", inputs(30, 2))
    nets, data = ["fcn:depth={1,2}"], (tmp_path / "x.npy", f"{tmp_path}/y.npy")
    alone = widegram.tune(nets, *data, tmp_path / "a.h5")
    shared = widegram.tune(nets, *data, tmp_path / "b.h5", Search(dask=two.address))
    for ours, theirs in zip(alone.rows, shared.rows, strict=True):
        assert ours | {"seconds": 0} == theirs | {"seconds": 0}
    refused_one = "cnn-f:depth=1"  # vectors are no images
    with pytest.raises(WidegramError, match="cnn-f"):
        widegram.tune([refused_one], *data, tmp_path / "c.h5", Search(dask=two.address))
    with pytest.raises(WidegramError, match=r"fcn:depth=1: .*is no address and no file"):
        widegram.tune("fcn:depth=1", *data, tmp_path / "d.h5", Search(dask="nowhere"))
    assert not (tmp_path / "d.h5").exists()


def test_without_the_option_nothing_of_dask_is_imported() -> None:
    script = (
        "import sys, widegram_cli.main, widegram_cli.gram, widegram.computing.gram\n"
        "import widegram.verifying.verify, widegram.meanfield.experiments.training\n"
        "print([name for name in sys.modules if name.split('.')[0] in ('dask', 'distributed')])"
    )
    command = [sys.executable, "-c", script]
    assert subprocess.run(command, capture_output=True, text=True).stdout == "[]\n"
