"""kill -9, Ctrl-C and SIGTERM during `solve --method nystrom`: the same command ends with the same
bits."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from linalg_support import write_gram

N, M = 60_000, 400


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("nystrom")
    rng = np.random.default_rng(0)
    root = rng.standard_normal((M, M)) / 20 + np.eye(M)
    rows = rng.standard_normal((N, M)) @ root.T
    write_gram(place / "c.h5", {"ntk": root @ root.T}, x1="centers", tile=512)
    write_gram(place / "k.h5", {"ntk": rows}, symmetric=False, x2="centers", tile=512)
    np.save(place / "y.npy", rng.standard_normal((N, 3)))
    return place


def command(folder: Path, out: Path) -> list[str]:
    files = [folder / "k.h5", "--centers", folder / "c.h5", "--y", folder / "y.npy", "--out", out]
    path = ["--method", "nystrom", "--diag-reg-path", "0.1,1,10", "--absolute"]
    return [sys.executable, "-m", "widegram_cli", "solve", *map(str, files), *path]


def solution(path: Path) -> tuple[np.ndarray, np.ndarray]:
    with h5py.File(path) as file:
        return file["alpha"][:], file["path/mse"][:]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_it_goes_on_to_the_same_bits(folder, number, tmp_path) -> None:
    begun = time.monotonic()
    subprocess.run(command(folder, tmp_path / "whole.h5"), check=True, capture_output=True)
    whole = time.monotonic() - begun
    left = 0
    for trial, share in enumerate((0.3, 0.5, 0.65, 0.8, 0.95)):
        out = tmp_path / f"{trial}.h5"
        process = subprocess.Popen(
            command(folder, out), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        time.sleep(share * whole)
        process.send_signal(number)
        _, said = process.communicate()
        assert process.returncode in (0, -9, 130)
        if process.returncode == 130:
            assert "run the same command again" in said.splitlines()[-1]
        if process.returncode:
            left += 1
            assert not out.exists()
            subprocess.run(command(folder, out), check=True, capture_output=True)
        for found, wanted in zip(solution(out), solution(tmp_path / "whole.h5"), strict=True):
            np.testing.assert_array_equal(found, wanted)
        assert sorted(tmp_path.glob(f"{trial}.h5*")) == [out]
    assert left > 0
