"""Shards that are missing, damaged, foreign or unfinished are named, and never joined."""

from __future__ import annotations

import fcntl
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fake_evaluator as fake
import widegram
from cli_support import refused, run_json
from fault_support import count_calls, in_a_child, killing
from shard_support import flip, one_run, quicken, shares
from widegram.sharding import Shard


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    quicken(monkeypatch)


def test_missing_shards_are_named(tmp_path: Path) -> None:
    out = tmp_path / "K.h5"
    refused(r"no shard of it is in .*--shard K/N", "join", out)
    files = shares(out, 4)
    files[1].unlink()
    files[3].unlink()
    refused(r"2 of 4 shards are missing: 2, 4; run .*--shard 2/4.*K.h5.shard-2-of-4", "join", out)
    assert not out.exists()
    refused("is the name of a shard; name the matrix", "join", files[0])


def test_shards_of_different_cuts_are_refused(tmp_path: Path) -> None:
    out = tmp_path / "K.h5"
    shares(out, 2)
    shares(out, 3)
    refused("shards of 2 and of 3 are there; remove", "join", out)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x1": fake.inputs(70, 3)}, "made from other data as x1"),
        ({"network": "fcn:depth=2"}, "made from another network"),
        ({"dtype": "float64"}, "its dtype is float64, not float32"),
        ({"tile": 24}, "its tile is 24, not 16"),
        ({"get": "nngp"}, "its kernels is nngp, not nngp,ntk"),
        ({"x2": fake.inputs(70)}, "holds a matrix of x with x2"),
    ],
)
def test_a_foreign_shard_is_named(tmp_path: Path, change: Any, message: str) -> None:
    out, other = tmp_path / "K.h5", tmp_path / "other"
    other.mkdir()
    files = shares(out, 3)
    shutil.copy(shares(other / "K.h5", 3, **change)[0], files[0])
    refused(rf"shard-1-of-3: is of another run than K.h5.shard-2-of-3: .*{message}", "join", out)
    assert not out.exists()


def test_a_renamed_shard_is_named(tmp_path: Path) -> None:
    out = tmp_path / "K.h5"
    files = shares(out, 3)
    shutil.copy(files[0], files[2])
    refused("shard-3-of-3: .*it is shard 1 of 3, not shard 3 of 3", "join", out)
    one_run(tmp_path / "W.h5")
    shutil.copy(tmp_path / "W.h5", files[2])
    refused("shard-3-of-3: is no shard but a whole matrix", "join", out)


def test_devices_and_versions_are_not_mixed(tmp_path: Path, monkeypatch) -> None:
    from widegram.computing import gram as compute

    out = tmp_path / "K.h5"
    shares(out, 2)
    Shard(2, 2).file(out).unlink()
    monkeypatch.setattr(compute, "resolve_device", lambda device: device)
    options = {"tile": 16, "shard": "2/2"}
    widegram.gram(fake.NETWORK, fake.inputs(70), out, device="cuda", **options)
    refused("shard-2-of-2: .*its device is cuda, not cpu", "join", out)
    Shard(2, 2).file(out).unlink()
    monkeypatch.setattr(compute, "__version__", "0.0.9")
    widegram.gram(fake.NETWORK, fake.inputs(70), out, device="cpu", **options)
    refused(r"shard-2-of-2: .*version 0\.0\.9 of the program wrote it, not", "join", out)


def test_an_unfinished_shard_and_one_being_written_are_named(tmp_path: Path) -> None:
    out = tmp_path / "K.h5"
    files = shares(out, 2)
    with open(files[1], "r+b") as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)
        refused("shard-2-of-2: another process has this file open", "join", out)
    files[1].unlink()

    def act() -> None:
        widegram.gram(fake.NETWORK, fake.inputs(70), out, tile=16, shard="2/2")

    last = count_calls(act)
    files[1].unlink()
    in_a_child(act, killing(last - 4, half=False))
    refused(r"shard-2-of-2: is not complete \(\d+ of \d+ tiles\); run its", "join", out)
    assert not out.exists()


@pytest.mark.parametrize("dataset", ["tiles/nngp", "mirrors/ntk"])
@pytest.mark.parametrize("virtual", [[], ["--virtual"]])
def test_a_damaged_shard_is_named_and_can_be_repaired(tmp_path: Path, dataset, virtual) -> None:
    out = tmp_path / "K.h5"
    np.save(tmp_path / "x.npy", fake.inputs(70))
    files = shares(out, 2, x1=tmp_path / "x.npy")
    flip(files[1], dataset)
    message = "shard-2-of-2: is damaged: .*not what was written.*verify --repair"
    refused(message, "join", out, *virtual)
    assert widegram.verify(files[0], sample=0).ok
    refused("shard-2-of-2: is damaged: .*wrong checksum", "verify", files[1], code=3)
    assert widegram.verify(files[1], sample=0, repair=True).ok
    assert run_json("join", out, *virtual)["complete"]


def test_a_file_of_another_run_is_not_joined_onto(tmp_path: Path) -> None:
    out = tmp_path / "K.h5"
    shares(out, 2)
    one_run(out, x1=fake.inputs(70, 5))
    before = out.read_bytes()
    refused("is the output of another run: it was made from other data", "join", out)
    refused("it is a whole matrix, not a virtual matrix over 2", "join", out, "--virtual")
    assert out.read_bytes() == before
    assert run_json("join", out, "--overwrite")["entries"] == 4900


@pytest.mark.parametrize(
    "words",
    [
        "export FILE --kernel ntk --to a.npy",
        "eig FILE",
        "solve FILE --y y.npy --out a.h5",
        "predict a.h5 --cross FILE",
        "gram --net fcn:depth=1 --x x.npy --out FILE",
    ],
)
def test_other_commands_refuse_a_shard(tmp_path: Path, monkeypatch, words: str) -> None:
    monkeypatch.chdir(tmp_path)
    shares(Path("K.h5"), 2)
    np.save("x.npy", fake.inputs(70))
    np.save("y.npy", np.zeros((70, 1)))
    if "predict" in words:
        one_run(Path("W.h5"))
        run_json("solve", "W.h5", "--y", "y.npy", "--diag-reg", "1", "--out", "a.h5")
    name = "K.h5.shard-2-of-2"
    refused("is shard 2 of 2 of a matrix; .*`widegram join K.h5`",
            *(name if word == "FILE" else word for word in words.split()))  # fmt: skip
