"""kill -9 at random moments while a file grows: it is the old one, or the whole new one."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

import fake_evaluator as fake
import widegram
from killing import kill_at_random
from test_crash import content
from widegram.computing import filling

_OLD, _ALL, _TILE, _DELAY = 30, 90, 16, 0.004


def grow(out: Path) -> None:
    widegram.gram(
        fake.NETWORK, fake.inputs(_ALL), out, tile=_TILE, dtype="float64", append=True
    )


@pytest.mark.parametrize("kills", [5, pytest.param(50, marks=pytest.mark.slow)])
def test_a_kill_leaves_the_old_file_or_the_new_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kills: int
) -> None:
    monkeypatch.setattr(filling, "BATCH_TILES", 3)
    fake.install(monkeypatch, _DELAY)
    whole, out, kept = tmp_path / "whole.h5", tmp_path / "K.h5", tmp_path / "old.h5"
    x = fake.inputs(_ALL)
    start = time.perf_counter()
    widegram.gram(fake.NETWORK, x, whole, tile=_TILE, dtype="float64")
    duration = time.perf_counter() - start
    widegram.gram(fake.NETWORK, x[:_OLD], kept, tile=_TILE, dtype="float64")
    before, after = content(kept), content(whole)
    out.write_bytes(kept.read_bytes())
    grown = tmp_path / "K.h5.append"

    def left() -> bool:
        if content(out) == before:
            return grown.exists() and not widegram.GramFile(grown).complete
        assert content(out) == after
        assert not grown.exists()
        out.write_bytes(kept.read_bytes())
        return False

    kill_at_random(grow, out, kills, 0.6 * duration, left)
    grow(out)
    assert content(out) == after
    assert widegram.verify(out, sample=0).ok
    assert sorted(os.listdir(tmp_path)) == ["K.h5", "old.h5", "whole.h5"]
