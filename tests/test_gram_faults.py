"""``gram`` on a failing disk, killed at any system call, and after power failures."""

from __future__ import annotations

import errno
import os
import random
from pathlib import Path

import h5py
import numpy as np
import pytest

import fake_evaluator as fake
import widegram
from cli_support import run
from fault_support import (
    Disk,
    count_calls,
    failing,
    hook_calls,
    in_a_child,
    killing,
)
from widegram.computing import filling

N, TILE = 40, 16  # 6 tiles, 3 of them with a mirror image
WANTED = fake.expected(N, N, True)
NUMBERS = (errno.ENOSPC, errno.EDQUOT, errno.EIO)
MANY = pytest.mark.slow


@pytest.fixture(autouse=True)
def _fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    fake.install(monkeypatch)
    monkeypatch.setattr(filling, "BATCH_TILES", 2)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    np.save(tmp_path / "x.npy", fake.inputs(N))
    (tmp_path / "out").mkdir()
    return tmp_path


def gram(folder: Path, *more: str) -> int:
    return _gram(folder, *more).exit_code


def _gram(folder: Path, *more: str):
    x, out = folder / "x.npy", folder / "out" / "K.h5"
    return run("gram", "--net", fake.NETWORK, "--x", x, "--out", out, "--tile", TILE, *more)


def library(folder: Path) -> None:
    widegram.gram(fake.NETWORK, folder / "x.npy", folder / "out" / "K.h5", tile=TILE)


def good(out: Path) -> int:
    """Check every tile that is flagged in the file, if there is one; returns their number."""
    if not out.exists():
        return 0
    report = widegram.verify(out, sample=0)
    assert report.ok, report.damage
    with h5py.File(out) as file:
        for i, j in np.argwhere(file["state/tiles"][...]).tolist():
            rows, cols = np.s_[i * TILE : (i + 1) * TILE], np.s_[j * TILE : (j + 1) * TILE]
            np.testing.assert_array_equal(file["nngp"][rows, cols], WANTED[rows, cols])
            np.testing.assert_array_equal(file["ntk"][rows, cols], 2 * WANTED[rows, cols])
        for k in np.flatnonzero(file["state/diagonal/x1"][...]).tolist():
            rows = np.s_[k * TILE : (k + 1) * TILE]
            np.testing.assert_array_equal(file["diagonal/x1/nngp"][rows], np.diag(WANTED)[rows])
    return report.tiles_checked


@pytest.mark.parametrize("count", [16, pytest.param(400, marks=MANY)])
def test_a_call_that_fails_costs_one_line_and_nothing_else(folder: Path, count: int) -> None:
    out, moments = folder / "out" / "K.h5", random.Random(1)
    total = count_calls(lambda: gram(folder))
    whole = out.read_bytes()
    kept = 0
    for _ in range(count):
        out.unlink()
        at = moments.choice((moments.randint(1, total), moments.randint(1, 12), total))
        error, sticky = moments.choice(NUMBERS), moments.random() < 0.5
        with pytest.MonkeyPatch.context() as patch:
            hook_calls(patch, failing(at, error, sticky))
            result = _gram(folder)
        assert result.exit_code == 2, (at, result.output, result.exception)
        assert result.stderr.count("\n") == 1
        assert result.stderr.startswith("widegram: error: ")
        assert ("disk is full" in result.stderr) == (error != errno.EIO)
        # Where every later call fails too a part cannot even be removed; the next run does that.
        assert {*os.listdir(out.parent)} <= {"K.h5"} or sticky
        kept += good(out) > 0
        assert gram(folder) == 0
        assert out.read_bytes() == whole
        assert os.listdir(out.parent) == ["K.h5"]
    assert kept > count // 8


@pytest.mark.parametrize("count", [12, pytest.param(300, marks=MANY)])
def test_killed_at_any_call_a_run_resumes_to_the_same_bytes(folder: Path, count: int) -> None:
    out, moments = folder / "out" / "K.h5", random.Random(2)
    total = count_calls(lambda: library(folder))
    whole = out.read_bytes()
    kept = 0
    for _ in range(count):
        out.unlink()
        at = moments.choice((moments.randint(1, total), moments.randint(1, 12)))
        status = in_a_child(lambda: library(folder), killing(at, moments.random() < 0.5))
        assert status == -9
        kept += good(out) > 0
        library(folder)
        assert out.read_bytes() == whole
        assert os.listdir(out.parent) == ["K.h5"]
    assert kept > 0


@pytest.mark.parametrize("count", [30, pytest.param(1500, marks=MANY)])
def test_no_power_failure_leaves_a_wrong_tile(folder: Path, count: int) -> None:
    out, moments = folder / "out" / "K.h5", random.Random(3)
    disk = Disk(out)
    with pytest.MonkeyPatch.context() as patch:
        disk.record(patch)
        library(folder)
    whole = out.read_bytes()
    checked = resumed = 0
    for trial in range(count):
        state = disk.state(moments.randint(1, len(disk.operations)), moments)
        if state is None:
            continue
        out.write_bytes(state)
        checked += good(out)
        if trial % 10 == 0:
            library(folder)
            resumed += 1
            assert out.read_bytes() == whole
    assert checked > count
    assert resumed > 0


def test_an_overwritten_file_stays_until_the_new_one_is_whole(folder: Path) -> None:
    out, moments = folder / "out" / "K.h5", random.Random(4)
    out.write_bytes(b"mine")
    first = count_calls(lambda: gram(folder, "--overwrite"))
    for at in (1, 2, 5, 9, moments.randint(10, 20)):
        assert at < first
        out.write_bytes(b"mine")
        with pytest.MonkeyPatch.context() as patch:
            hook_calls(patch, failing(at, errno.ENOSPC, False))
            assert gram(folder, "--overwrite") == 2
        assert out.read_bytes() == b"mine"
