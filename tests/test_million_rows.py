"""The example of a million rows, small: every step, and that it goes on where it was."""

from __future__ import annotations

import gzip
import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

SCRIPT = Path(__file__).parents[1] / "examples" / "million_rows.py"


def write_idx(path: Path, array: np.ndarray) -> None:
    """A gzipped IDX file of bytes."""
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    path.write_bytes(gzip.compress(header + array.tobytes()))


@pytest.mark.slow
def test_every_step(tmp_path) -> None:
    rng = np.random.default_rng(0)
    pixels = {}
    for name, count in (("train", 60), ("t10k", 20)):
        pixels[name] = rng.integers(0, 256, (count, 28, 28), np.uint8)
        write_idx(tmp_path / f"{name}-images-idx3-ubyte.gz", pixels[name])
        write_idx(tmp_path / f"{name}-labels-idx1-ubyte.gz", np.arange(count, dtype=np.uint8) % 5)
    place = tmp_path / "out"
    small = ["--limit", 50, "--grid", 2, "--centers", 30, "--exact", 60]
    words = [sys.executable, SCRIPT, place, "--images", tmp_path, *small]
    command = [str(word) for word in words]

    def run(*more: str) -> str:
        return subprocess.run([*command, *more], check=True, capture_output=True, text=True).stdout

    run("--until", "sample")
    with h5py.File(place / "raw.h5") as raw, h5py.File(place / "data.h5") as data:
        rows = raw["x_train"][:]
        assert rows.shape == (200, 28, 28)
        assert data["train/x"].shape == (200, 28, 28, 1)
        # Each image four times: as it is, and moved by one along either axis and along both.
        first = pixels["train"][7]
        for dy, dx in np.ndindex(2, 2):
            moved = np.zeros_like(first)
            moved[dy:, dx:] = first[: 28 - dy, : 28 - dx]
            assert (rows == moved).all(axis=(1, 2)).sum() == 1
        labels = raw["y_train"][:]
    assert np.bincount(labels).tolist() == [40] * 5
    assert "exact: predict" in run()
    steps = [json.loads(line) for line in (place / "steps.jsonl").read_text().splitlines()]
    assert len({step["step"] for step in steps}) == len(steps) == 11
    before = os.stat(place / "steps.jsonl").st_mtime_ns
    run()
    assert os.stat(place / "steps.jsonl").st_mtime_ns == before
