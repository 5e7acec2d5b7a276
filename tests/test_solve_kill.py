"""kill -9 and Ctrl-C during `widegram solve`: the same command goes on and ends with the answer."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from linalg_support import write_gram

N = 2500
WIDEGRAM = [sys.executable, "-m", "widegram_cli"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("kill")
    rng = np.random.default_rng(0)
    root = rng.standard_normal((N, 300)) * np.geomspace(1, 30, 300)
    write_gram(place / "k.h5", {"ntk": root @ root.T / N + np.eye(N)}, tile=500)
    np.save(place / "y.npy", rng.standard_normal((N, 2)))
    return place


def command(folder: Path, out: Path, *extra: str) -> list[str]:
    return [
        *WIDEGRAM,
        "solve",
        str(folder / "k.h5"),
        "--y",
        str(folder / "y.npy"),
        "--out",
        str(out),
        "--diag-reg",
        "1e-4",
        "--json",
        *extra,
    ]


def alpha(path: Path) -> np.ndarray:
    with h5py.File(path) as file:
        return file["alpha"][:]


def stopped(arguments: list[str], work: Path, seconds: float, number: signal.Signals) -> int:
    """Start, wait for the work file and then ``seconds``, send the signal; the exit code."""
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    limit = time.monotonic() + 60
    while not work.exists() and process.poll() is None:
        assert time.monotonic() < limit
        time.sleep(0.005)
    time.sleep(seconds)
    if process.poll() is None:
        os.kill(process.pid, number)
    return process.wait()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_out_of_core_goes_on(folder, number, tmp_path) -> None:
    extra = ["--method", "cholesky-ooc", "--memory", "20MB"]
    subprocess.run(command(folder, tmp_path / "whole.h5", *extra), check=True)
    for seconds in (0.0, 0.1, 0.3):
        out = tmp_path / f"{seconds}.h5"
        work = out.with_name(out.name + ".factor")
        code = stopped(command(folder, out, *extra), work, seconds, number)
        assert code in (0, -9, 130)
        if code == 0:
            continue
        assert not out.exists()
        done = subprocess.run(
            command(folder, out, *extra), capture_output=True, text=True, check=True
        )
        assert json.loads(done.stdout)["status"] == "ok"
        np.testing.assert_array_equal(alpha(out), alpha(tmp_path / "whole.h5"))
        assert not work.exists()


@pytest.mark.slow
def test_gradients_restart_cleanly_after_a_kill(folder, tmp_path) -> None:
    out = tmp_path / "a.h5"
    extra = ["--method", "cg", "--preconditioner", "none", "--memory", "100MB", "--tol", "1e-10"]
    arguments = command(folder, out, *extra)
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(1.5)
    process.kill()
    process.wait()
    subprocess.run([*arguments, "--overwrite"], check=True, stdout=subprocess.DEVNULL)
    with h5py.File(folder / "k.h5") as file, h5py.File(out) as solution:
        matrix = file["ntk"][:] + solution.attrs["shift"] * np.eye(N)
        targets, found = solution["targets"][:], solution["alpha"][:]
    assert np.linalg.norm(targets - matrix @ found) < 1e-9 * np.linalg.norm(targets)
