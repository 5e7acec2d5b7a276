"""A view of shards in place of a matrix: what reads it, and what it refuses."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import fake_evaluator as fake
import widegram
from cli_support import refused, run
from shard_support import SWEEP, datasets, flip, one_run, quicken, shares
from widegram.errors import WidegramError
from widegram.gramfile import GramFile
from widegram.sharding import Shard


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    quicken(monkeypatch)


@pytest.fixture
def virtual(tmp_path: Path) -> Path:
    out = tmp_path / "V.h5"
    shares(out, 4)
    assert widegram.join(out, virtual=True).virtual
    return out


@pytest.mark.parametrize(
    "options",
    [{}, {"x2": fake.inputs(50, 1), "tile": 12}, {"network": SWEEP, "depths": [3]}],
    ids=["symmetric", "cross", "sweep"],
)
def test_a_virtual_file_shows_the_matrix(tmp_path: Path, options: Any) -> None:
    wanted = one_run(tmp_path / "W.h5", **options)
    out = tmp_path / "a 100%b and ü.h5"
    shares(out, 3, **options)
    widegram.join(out, virtual=True)
    found = datasets(out)
    for own in ("state/header", "state/reserved"):  # of the file itself
        del found[own], wanted[own]
    del found["state/shards"]
    assert found == wanted
    assert out.stat().st_size < 0.5 * (tmp_path / "W.h5").stat().st_size
    with GramFile(out) as file:
        assert file.complete
        key = file.keys()[0]
        end = {"depth": 3, "head": "a"} if "depths" in options else {}
        assert file.dataset("nngp", **end)[:, :].tobytes() == wanted[key]
    assert widegram.verify(out, sample=0).ok
    assert widegram.join(out, virtual=True).resumed_tiles > 0


def test_slices_of_a_virtual_matrix_are_those_of_an_array(virtual: Path) -> None:
    array, random = fake.expected(70, 70, True), np.random.default_rng(0)
    with GramFile(virtual) as file:
        data = file.dataset("nngp")
        assert (data.shape, len(data), data.dtype) == ((70, 70), 70, np.float32)
        np.testing.assert_array_equal(np.asarray(data), array)
        for _ in range(60):
            a, b, c, d = random.integers(-80, 80, 4).tolist()
            step = int(random.choice([1, 2, 7]))
            places = (np.s_[a:b, c:d], np.s_[a:b:step], np.s_[::-step, c:d], np.s_[..., c:d])
            for place in places:
                np.testing.assert_array_equal(data[place], array[place])
        assert data[3, 5] == array[3, 5]
        np.testing.assert_array_equal(data[-1], array[-1])
        np.testing.assert_array_equal(data[2:9, -3], array[2:9, -3])
        with pytest.raises(IndexError):
            data[70]


COMMANDS = ["info FILE", "export FILE --kernel ntk --to a.npy", "eig FILE", "verify FILE"]


@pytest.mark.parametrize("words", COMMANDS)
def test_a_missing_or_changed_shard_is_refused(virtual: Path, monkeypatch, words: str) -> None:
    monkeypatch.chdir(virtual.parent)
    line = ["V.h5" if word == "FILE" else word for word in words.split()]
    part = Shard(3, 4).file(virtual)
    assert run(*line).exit_code == 0
    kept = part.read_bytes()
    part.unlink()
    refused("V.h5: .*V.h5.shard-3-of-4 is missing, which holds its tiles", *line)
    part.write_bytes(kept)  # the same bytes at another time
    Path("a.npy").unlink(missing_ok=True)
    assert run(*line).exit_code == 0
    flip(part, "tiles/ntk")
    refused("the shard .*shard-3-of-4 was changed since it was joined: .*damaged", *line)
    part.write_bytes(kept[: len(kept) // 2])
    refused("the shard .*shard-3-of-4 was changed since it was joined", *line)
    part.unlink()
    shares(virtual, 4, x1=fake.inputs(70, 9), overwrite=True)
    refused("shard-1-of-4 was changed since it was joined: .*holds something else", *line)


def test_damage_without_a_trace_is_found_by_its_checksum(virtual: Path, tmp_path: Path) -> None:
    part = Shard(1, 4).file(virtual)
    before = part.stat()
    flip(part, "tiles/ntk")
    os.utime(part, ns=(before.st_atime_ns, before.st_mtime_ns))
    refused("ntk rows 0-15, columns 0-15 have another checksum than was written",
            "export", virtual, "--kernel", "ntk", "--to", tmp_path / "a.npy")  # fmt: skip
    refused("wrong checksum", "verify", virtual, code=3)
    refused("repair these, then join them again", "verify", virtual, "--repair")


def test_a_virtual_file_is_used_as_a_whole_one(virtual: Path, tmp_path: Path) -> None:
    one_run(tmp_path / "W.h5")
    np.save(tmp_path / "y.npy", np.arange(70.0)[:, None])
    answers = []
    for path in (virtual, tmp_path / "W.h5"):
        out = tmp_path / f"{path.name}.alpha"
        line = ["solve", path, "--y", tmp_path / "y.npy", "--diag-reg", "1e4", "--out", out]
        assert run(*line, "--method", "cg", "--max-iter", "3").exit_code == 0
        with h5py.File(out) as file:
            answers.append(file["alpha"][()].tobytes())
    assert answers[0] == answers[1]


def test_many_shards_are_not_open_at_once(tmp_path: Path, monkeypatch) -> None:
    from widegram.gramfile import elsewhere

    monkeypatch.setattr(elsewhere, "_OPEN", 2)
    out = tmp_path / "V.h5"
    shares(out, 5)
    widegram.join(out, virtual=True)
    with GramFile(out) as file:
        np.testing.assert_array_equal(file.dataset("nngp")[:], fake.expected(70, 70, True))
        assert len(file._shards._opened) == 2
        Shard(1, 5).file(out).unlink()
        with pytest.raises(WidegramError, match="shard-1-of-5 is missing"):
            file.dataset("nngp")[:2]


def test_a_forged_mark_leads_nowhere(virtual: Path, tmp_path: Path) -> None:
    """Virtual datasets elsewhere in the file, or a table that names other folders."""
    with h5py.File(tmp_path / "D.h5", "w") as file:
        layout = h5py.VirtualLayout((3, 3), "f4")
        layout[:] = h5py.VirtualSource("other.h5", "x", (3, 3))
        file.create_virtual_dataset("x", layout)
        file.attrs.update({"format": "widegram-gram", "shards_of": "V.h5"})
    refused("is a virtual dataset", "gram", "--net", "fcn:depth=1", "--x", f"{tmp_path}/D.h5:x",
            "--out", tmp_path / "o.h5")  # fmt: skip
    refused("D.h5", "info", tmp_path / "D.h5")
    with h5py.File(virtual, "r+") as file:
        file.attrs["shards_of"] = "../V.h5"
    refused("V.h5: is damaged", "info", virtual)
