"""What a run would take: sizes as they are, times from a trial, and no file."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

import fake_evaluator as fake
import widegram
from cli_support import refused, run, run_json
from widegram.computing import forecast
from widegram.errors import WidegramError
from widegram.machine import budgets


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    fake.install(monkeypatch)
    monkeypatch.setattr(budgets, "TRIAL_SECONDS", 0.02)


def known(monkeypatch: pytest.MonkeyPatch, pair: float = 0.01, compiling: float = 2.0) -> None:
    """A trial that found these seconds."""
    trial = forecast._Trial(compiling, pair, 0.0, 0.1)
    monkeypatch.setattr(forecast, "_tried", lambda *_: trial)


@pytest.mark.parametrize("shard", [None, "2/3"])
def test_sizes_are_those_of_the_run_and_no_file_is_made(tmp_path: Path, shard) -> None:
    x, out = fake.inputs(70), tmp_path / "K.h5"
    options = {"tile": 16, "shard": shard}
    found = widegram.gram_forecast(fake.NETWORK, x, out, **options)
    assert os.listdir(tmp_path) == []
    assert min(found.seconds, found.entries_per_second, found.trial_seconds) > 0
    assert min(found.memory, found.free_disk) > 10**6
    assert (found.workers, found.deadline) == (None, None)
    made = widegram.gram(fake.NETWORK, x, out, **options)
    assert (found.entries, found.tiles, found.tile) == (made.entries, made.tiles, made.tile)
    size = next(tmp_path.iterdir()).stat().st_size
    assert size <= found.disk < size + 2**17 + 2**14  # what headers take is rounded up to that


def test_times_follow_from_the_trial(tmp_path: Path, monkeypatch) -> None:
    known(monkeypatch)
    one = widegram.gram_forecast(fake.NETWORK, fake.inputs(80), tmp_path / "K.h5", tile=16)
    assert one.seconds == pytest.approx(80 * 80 / 2 * 0.01)  # rounding of a product
    assert one.compile_seconds == 2.0
    cross = widegram.gram_forecast(
        fake.NETWORK, fake.inputs(80), tmp_path / "K.h5", fake.inputs(50, 1), tile=16
    )
    assert cross.seconds == pytest.approx(80 * 50 * 0.01)


@pytest.mark.parametrize("deadline", [3.0, 6.0, 12.0, 33.9, 34.1, 1000.0])
def test_so_many_workers_end_in_time_and_fewer_do_not(tmp_path, monkeypatch, deadline) -> None:
    known(monkeypatch)
    x, out = fake.inputs(80), tmp_path / "K.h5"

    def slowest(count: int) -> float:
        shares = [(k, count) for k in range(1, count + 1)]
        plans = [widegram.gram_forecast(fake.NETWORK, x, out, tile=8, shard=s) for s in shares]
        return max(plan.seconds + plan.compile_seconds for plan in plans)

    found = widegram.gram_forecast(fake.NETWORK, x, out, tile=8, deadline=deadline).workers
    assert found is not None
    assert slowest(found) <= deadline
    assert found == 1 or slowest(found - 1) > deadline


def test_a_deadline_that_no_number_keeps(tmp_path: Path, monkeypatch) -> None:
    known(monkeypatch)
    x, out = fake.inputs(80), tmp_path / "K.h5"
    for deadline in (1.0, 2.3):
        plan = widegram.gram_forecast(fake.NETWORK, x, out, tile=8, deadline=deadline)
        assert plan.workers is None
    with pytest.raises(WidegramError, match="give a time"):
        widegram.gram_forecast(fake.NETWORK, x, out, deadline=0.0)
    with pytest.raises(WidegramError, match="does not exist"):
        widegram.gram_forecast(fake.NETWORK, x, tmp_path / "no" / "K.h5")


def test_the_command_prints_it(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", fake.inputs(70))
    words = ["gram", "--net", fake.NETWORK, "--x", "x.npy", "--tile", 16, "--out", "K.h5"]
    found = run_json(*words, "--plan", "--deadline", "8h")
    assert (found["entries"], found["workers"], found["deadline"]) == (4900, 1, 8 * 3600)
    text = run(*words, "--plan", "--deadline", "8h").stdout
    assert "workers  1 like this machine end within 8 h 00 min" in text
    assert os.listdir() == ["x.npy"]
    refused("--check is of a file", *words, "--plan", "--check")
    refused("--deadline serves --plan", *words, "--deadline", "8h")
    refused("'8' is not a time such as", *words, "--plan", "--deadline", "8")
    refused("--dask has no effect with --plan", *words, "--plan", "--dask", "local:2")


@pytest.mark.parametrize("method", ["cholesky", "cholesky-ooc", "cg"])
def test_a_solve_is_planned(tmp_path: Path, monkeypatch, method: str) -> None:
    monkeypatch.chdir(tmp_path)
    widegram.gram(fake.NETWORK, fake.inputs(70), "K.h5", tile=16)
    np.save("y.npy", np.zeros((70, 3)))
    words = ["solve", "K.h5", "--y", "y.npy", "--method", method, "--out", "a.h5", "--plan"]
    found = run_json(*words)
    assert (found["method"], found["n"], found["k"]) == (method, 70, 3)
    assert found["factorisations"] == (0 if method == "cg" else 1)
    assert found["disk"] >= 2 * 8 * 70 * 3 + (method == "cholesky-ooc") * 8 * 70 * 70 // 2
    assert min(found["seconds"], found["flops"], found["read"], found["memory"]) > 0
    assert "time" in run(*words).stdout
    assert sorted(os.listdir()) == ["K.h5", "y.npy"]
    refused("does not exist; create it first", *words, "--out", "no/a.h5")
