"""Workers of real runs under long disturbance and under signals; nothing of theirs stays behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

import fake_evaluator
import fake_served
import widegram
from cluster import cluster, disturbed
from herd import Chaos, Herd
from test_workers import inputs, same

NETWORK = "cnn-p:depth=3"


@pytest.mark.slow
def test_two_hundred_kills_stops_and_joins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tiles that sleep; what happens follows the progress of the run, and so does its end."""
    monkeypatch.setattr("widegram.computing.remote._KIND", fake_served.KIND)
    fake_evaluator.install(monkeypatch)
    x = inputs(480, 6)
    alone, shared = tmp_path / "a.h5", tmp_path / "b.h5"
    widegram.gram("fcn:depth=2", x, alone, tile=8)
    with cluster(0) as made, closing(Herd(made.address, tmp_path / "herd", 4)) as herd:
        chaos = Chaos(herd, 200, seed=0)
        widegram.gram("fcn:depth=2", x, shared, tile=8, dask=made.address, progress=chaos)
    assert len(chaos.events) == 200
    assert set(chaos.events) == {"kill", "stop", "go on", "join"}
    same(alone, shared)
    assert widegram.verify(shared, sample=0).ok


@pytest.mark.slow
def test_kills_change_no_bit_of_a_real_network(tmp_path: Path) -> None:
    x = tmp_path / "x.npy"
    np.save(x, inputs(300, 12, 12, 1))
    alone, shared = tmp_path / "a.h5", tmp_path / "b.h5"
    widegram.gram(NETWORK, x, alone, tile=16)
    with cluster(3) as made, disturbed(made.processes, 20, 1.0, seed=3) as (begin, _):
        widegram.gram(NETWORK, x, shared, tile=16, dask=made.address, progress=begin)
    same(alone, shared)
    report = widegram.verify(shared)
    assert report.ok
    assert report.entries_recomputed > 0


def litter() -> set[str]:
    """What workers of this program may leave: their folders and processes."""
    folders = {str(path) for path in Path(tempfile.gettempdir()).glob("widegram-workers-*")}
    listing = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True)
    lines = listing.stdout.splitlines()
    return folders | {line.strip() for line in lines if "widegram.workers.process" in line}


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("stopped", [False, True])
def test_a_signal_leaves_nothing_behind(
    number: signal.Signals, stopped: bool, tmp_path: Path
) -> None:
    x, out, before = tmp_path / "x.npy", tmp_path / "K.h5", litter()
    np.save(x, inputs(3000, 12, 12, 1))
    words = ["gram", "--net", NETWORK, "--x", x, "--out", out, "--tile", "16", "--dask", "local:2"]
    process = subprocess.Popen(
        [sys.executable, "-m", "widegram_cli", *map(str, words)],
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    end = time.monotonic() + 120
    while not out.exists() and time.monotonic() < end:
        time.sleep(0.1)
    time.sleep(2)
    if stopped:
        one = next(line for line in litter() - before if "widegram.workers.process" in line)
        os.kill(int(one.split()[0]), signal.SIGSTOP)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    if number != signal.SIGKILL:
        assert process.returncode == 130
        assert "tiles are saved; run the same command again to resume" in said
    end = time.monotonic() + 30
    while litter() - before and time.monotonic() < end:
        time.sleep(0.2)
    assert litter() - before == set()
    widegram.verify(out, sample=0).raise_if_damaged()
