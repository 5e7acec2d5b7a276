"""Work files beside an output: a user's own are never touched, damage in ours is never used."""

from __future__ import annotations

import os
from pathlib import Path

import h5py
import numpy as np
import pytest

from cli_support import run, run_json
from linalg_support import with_spectrum
from widegram.errors import WidegramError
from widegram.linalg import factorfile, outofcore
from widegram.linalg.operator import as_operator
from widegram.linalg.outofcore import OutOfCoreCholesky
from widegram.linalg.restart import RestartFile
from widegram.machine.progress import Progress

N = 120
MATRIX = with_spectrum(np.geomspace(1e-2, 1, N))
MEMORY = 120_000
X = np.random.default_rng(0).standard_normal((N, 2))


@pytest.fixture(autouse=True)
def _narrow_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outofcore, "_WIDTHS", (16,))


class Stop(Exception):
    """Raised in place of a kill."""


def factor(path: Path, **options: object) -> OutOfCoreCholesky:
    return OutOfCoreCholesky(as_operator(MATRIX), path, memory=MEMORY, key="k", **options)


def unfinished(path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A factor of which about half of the columns is flagged."""

    def stop(told: Progress) -> None:
        if told.done > 0.6 * told.total:
            raise Stop

    monkeypatch.setattr(factorfile, "_SECONDS", 0.0)
    with pytest.raises(Stop):
        factor(path, progress=stop)
    assert 2 < flagged(path) < 8
    return path


def flagged(path: Path) -> int:
    with h5py.File(path) as file:
        return int(file["state"][()].sum())


def make(path: Path, mine: Path, kind: str) -> None:
    mine.write_bytes(b"mine")
    if kind == "link":
        path.symlink_to(mine)
    elif kind == "dangling link":
        path.symlink_to(mine.with_name("nowhere"))
    elif kind == "hard link":
        os.link(mine, path)
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    elif kind == "text":
        path.write_bytes(b"mine")
    else:
        with h5py.File(path, "w") as file:
            file["factor"] = np.ones(3)


KINDS = ("link", "dangling link", "hard link", "fifo", "directory", "text", "HDF5")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("discard", [False, True])
def test_what_is_no_work_file_of_ours_stays(tmp_path: Path, kind: str, discard: bool) -> None:
    path, mine = tmp_path / "A.h5.factor", tmp_path / "mine"
    make(path, mine, kind)
    before = path.read_bytes() if kind in ("text", "HDF5") else b""
    calls = (
        lambda: factor(path, discard_other=discard),
        lambda: RestartFile(path, "k", 0.0).load(X.shape, discard_other=discard),
        lambda: RestartFile(path, "k", 0.0).save(X, 3),
        lambda: RestartFile(path, "k", 0.0).finish(X, 3, solved=True),
    )
    for call in calls:
        with pytest.raises(
            WidegramError, match=r"A\.h5\.factor: is (in the way and no|not a) work"
        ):
            call()
    assert os.path.lexists(path)
    assert mine.read_bytes() == b"mine"
    assert not mine.with_name("nowhere").exists()
    if before:
        assert path.read_bytes() == before


def test_work_of_another_problem_is_refused_or_replaced_as_asked(tmp_path: Path) -> None:
    restart = RestartFile(tmp_path / "r", "one", 0.0)
    restart.save(X, 3)
    other = RestartFile(tmp_path / "r", "two", 0.0)
    for call in (lambda: other.load(X.shape), lambda: other.save(X, 1)):
        with pytest.raises(WidegramError, match=r"belongs to another problem .*its key differs"):
            call()
    with pytest.raises(WidegramError, match="its shape differs"):
        restart.load((3, 2))
    assert restart.load(X.shape)[1] == 3
    assert other.load(X.shape, discard_other=True) == (None, 0)
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("what", ["entry", "flag on", "flag odd", "checksum", "attribute"])
def test_damage_in_an_unfinished_factor_is_never_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    good = factor(tmp_path / "whole").apply(X)
    path = unfinished(tmp_path / "f", monkeypatch)
    done = flagged(path)
    with h5py.File(path, "r+") as file:
        if what == "entry":
            file["factor"][3, 1] *= 1 + 1e-15
        elif what == "flag on":
            file["state"][done + 1] = 1
        elif what == "flag odd":
            file["state"][1] = 3
        elif what == "checksum":
            file["checksums"][0] += np.uint64(1)
        else:
            file.attrs["width"] = int(file.attrs["width"]) // 2
    if what == "attribute":
        with pytest.raises(WidegramError, match=r"is damaged or was changed.*remove it"):
            factor(path)
        return
    resumed = factor(path)
    assert resumed.resumed == {"entry": 0, "flag on": done, "flag odd": 1, "checksum": 0}[what]
    np.testing.assert_array_equal(resumed.apply(X), good)


def test_damage_that_comes_while_a_factor_is_used_is_found(tmp_path: Path) -> None:
    made = factor(tmp_path / "f")
    with h5py.File(tmp_path / "f", "r", locking=False) as file:
        place = file["factor"].id.get_chunk_info(0).byte_offset
    with open(tmp_path / "f", "r+b") as file:
        file.seek(place + 8 * 5)
        byte = file.read(1)
        file.seek(place + 8 * 5)
        file.write(bytes([byte[0] ^ 1]))
    with pytest.raises(WidegramError, match="block column 0 is damaged on the disk; run again"):
        made.apply(X)
    made.close(delete=True)


def test_verify_knows_work_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = unfinished(tmp_path / "f", monkeypatch)
    found = run_json("verify", path)
    assert (found["kind"], found["complete"], found["ok"]) == ("unfinished factor", False, True)
    RestartFile(tmp_path / "r", "k", 0.0).save(X, 3)
    assert run_json("verify", tmp_path / "r")["kind"] == "restart of conjugate gradients"
    with h5py.File(path, "r+") as file:
        file["factor"][3, 1] += 1
        file["state"][1] = 2
    ended = run("verify", path)
    assert ended.exit_code == 3
    assert (
        "block column 0: wrong checksum at row 0; the flag of block column 1 is 2" in ended.stderr
    )


def test_a_factor_that_lost_its_name_is_not_taken_for_another(tmp_path: Path) -> None:
    made = factor(tmp_path / "f")
    (tmp_path / "f").unlink()
    (tmp_path / "f").write_bytes(b"mine")
    made.close(delete=True)
    assert (tmp_path / "f").read_bytes() == b"mine"
