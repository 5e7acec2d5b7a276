"""Where the time of a run goes, and that tiles are computed while others are written."""

from __future__ import annotations

import re
import threading
from pathlib import Path

import numpy as np
import pytest

import fake_evaluator as fake
import widegram
from cli_support import refused, run, run_json
from fault_support import hook_calls
from widegram.computing import filling
from widegram.machine.clock import Spent

N, TILE = 70, 16
WRITING = ["check", "mirror", "checksums", "write", "flush", "wait for tiles"]
COMPUTING = ["compute", "diagonals", "wait for disk", "other"]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[fake.FakeEvaluator]:
    return fake.install(monkeypatch)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    np.save(tmp_path / "x.npy", fake.inputs(N))
    return tmp_path / "x.npy"


def by_name(parts: tuple[Spent, ...] | None, thread: str) -> dict[str, Spent]:
    assert parts is not None
    return {one.part: one for one in parts if one.thread == thread}


def test_parts_are_all_of_the_time_and_all_of_the_bytes(made, tmp_path: Path) -> None:
    found = widegram.gram(
        fake.NETWORK, fake.inputs(N), tmp_path / "K.h5", tile=TILE, profile=True
    )
    computing, writing = (by_name(found.profile, t) for t in ("computing", "writing"))
    assert (set(computing), set(writing)) == (set(COMPUTING), set(WRITING))
    for parts in (computing, writing):
        # Sums of the differences of a clock: rounding.
        assert sum(one.seconds for one in parts.values()) == pytest.approx(found.seconds)
        assert sum(one.share for one in parts.values()) == pytest.approx(1.0)
    size = 2 * N * N * 4  # two matrices in float32
    assert [writing[n].amount for n in ("write", "checksums", "flush")] == [size] * 3
    assert (computing["compute"].amount, computing["compute"].unit) == (N * N, "entries")
    for one in (*computing.values(), *writing.values()):
        assert one.rate * one.seconds == pytest.approx(one.amount)


@pytest.mark.parametrize("options", [{}, {"x2": fake.inputs(9, 1)}, {"shard": "2/3"}])
def test_nothing_is_measured_unless_asked(made, tmp_path: Path, options: dict) -> None:
    x, out = fake.inputs(N), tmp_path / "K.h5"
    assert widegram.gram(fake.NETWORK, x, out, tile=TILE, **options).profile is None
    again = widegram.gram(fake.NETWORK, x, out, profile=True, **options)
    assert (again.entries, again.profile) == (0, None)  # it was complete
    done = widegram.gram(
        fake.NETWORK, x, out, tile=TILE, overwrite=True, profile=True, **options
    )
    assert by_name(done.profile, "computing")["compute"].amount == done.entries


def test_the_command_prints_them(made, data: Path, tmp_path: Path) -> None:
    args = "gram", "--net", fake.NETWORK, "--x", data, "--tile", TILE, "--profile"
    text = run(*args, "--out", tmp_path / "K.h5").stdout
    for part in (*COMPUTING, *WRITING):
        (line,) = [line for line in text.splitlines() if re.match(rf"\w+ing +{part} ", line)]
        assert "%" in line
    assert "B/s" in text
    found = run_json(*args, "--out", tmp_path / "J.h5")
    assert [one["part"] for one in found["profile"] if one["thread"] == "writing"] == WRITING
    assert "profile" not in run_json(*args, "--out", tmp_path / "J.h5")  # complete
    two = "combine", tmp_path / "K.h5", tmp_path / "J.h5", "--out", tmp_path / "C.h5"
    assert "profile" in run_json(*two, "--profile")
    assert "profile" not in run_json(*two, "--overwrite")


def test_a_grown_file_has_one_too(made, data: Path, tmp_path: Path) -> None:
    args = "gram", "--net", fake.NETWORK, "--x", data, "--out", tmp_path / "K.h5"
    run_json(*args, "--limit", 40, "--tile", TILE)
    assert run_json(*args, "--append", "--profile")["profile"]


def test_a_forecast_has_none(data: Path, tmp_path: Path) -> None:
    args = "gram", "--net", fake.NETWORK, "--x", data, "--out", tmp_path / "K.h5"
    refused("--plan begins none", *args, "--plan", "--profile")


def test_tiles_are_computed_while_others_are_written(
    made, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(filling, "BATCH_TILES", 2)
    beyond = threading.Event()
    compute = fake.FakeEvaluator.tile

    def tile(self, *args):
        if len(self.calls) >= 2:  # the third one, and nothing is on the disk yet
            beyond.set()
        return compute(self, *args)

    def before(number: int, name: str, arguments: tuple) -> None:
        if name == "sync_data" and made[0].calls:
            assert beyond.wait(60)

    monkeypatch.setattr(fake.FakeEvaluator, "tile", tile)
    with pytest.MonkeyPatch.context() as patch:
        hook_calls(patch, before)
        widegram.gram(fake.NETWORK, fake.inputs(N), tmp_path / "K.h5", tile=TILE)
    assert widegram.verify(tmp_path / "K.h5", sample=0).ok


def test_diagonals_that_are_being_written_are_not_computed_again(
    made, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(filling, "BATCH_TILES", 1)
    asked: list[range] = []
    diagonal = fake.FakeEvaluator.diagonal
    monkeypatch.setattr(
        fake.FakeEvaluator, "diagonal",
        lambda self, rows, second=False: asked.append(rows) or diagonal(self, rows, second),
    )  # fmt: skip
    x, y = fake.inputs(N), fake.inputs(N, 1)
    widegram.gram(fake.NETWORK, x, tmp_path / "K.h5", y, tile=TILE)
    assert len(asked) == 2 * 5  # stretches of 16 of 70 rows, and of as many columns


def test_a_resumed_run_measures_what_it_does(
    made, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    compute, x, out = fake.FakeEvaluator.tile, fake.inputs(N), tmp_path / "K.h5"

    def failing(self, *args):
        if len(self.calls) == 6:
            raise widegram.WidegramError("no more")
        return compute(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(fake.FakeEvaluator, "tile", failing)
        with pytest.raises(widegram.WidegramError, match="no more"):
            widegram.gram(fake.NETWORK, x, out, tile=TILE)
    found = widegram.gram(fake.NETWORK, x, out, tile=TILE, profile=True)
    assert found.resumed_tiles > 0
    assert 0 < found.entries < N * N
    assert by_name(found.profile, "computing")["compute"].amount == found.entries
