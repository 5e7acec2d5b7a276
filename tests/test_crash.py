"""kill -9 at random moments, then resume: the file equals the uninterrupted one to the byte."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

import fake_evaluator as fake
import widegram
from killing import kill_at_random
from widegram.computing import filling

_N, _TILE, _DELAY = 90, 16, 0.004


def content(out: Path) -> bytes:
    """The bytes of a file, but for byte 20 of the superblock.

    HDF5 sets it while a file is open for writing and lets readers ignore it in this superblock's
    version; a kill between the last tile and the end of the process leaves it set.
    """
    data = bytearray(out.read_bytes())
    data[20] = 0
    return bytes(data)


def run(out: Path) -> None:
    widegram.gram(fake.NETWORK, fake.inputs(_N), out, tile=_TILE, dtype="float64")


@pytest.mark.parametrize("kills", [5, pytest.param(50, marks=pytest.mark.slow)])
def test_killed_runs_resume_to_the_uninterrupted_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kills: int
) -> None:
    monkeypatch.setattr(filling, "BATCH_TILES", 3)
    fake.install(monkeypatch, _DELAY)
    whole, out = tmp_path / "whole.h5", tmp_path / "K.h5"
    start = time.perf_counter()
    run(whole)
    duration = time.perf_counter() - start

    def left() -> bool:
        if not out.exists():
            return False  # killed while creating: nothing but a .part
        report = widegram.verify(out, sample=0)
        assert report.ok, report.damage
        if report.complete:
            assert content(out) == content(whole)
            out.unlink()
        return 0 < report.tiles_checked < report.tiles

    kill_at_random(run, out, kills, 0.6 * duration, left)
    run(out)
    assert content(out) == content(whole)
    assert widegram.verify(out, sample=0).ok
    assert sorted(os.listdir(tmp_path)) == ["K.h5", "whole.h5"]
