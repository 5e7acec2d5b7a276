"""``export``: every format, panel by panel, and what it refuses."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest

import fake_evaluator as fake
import widegram
from widegram.durable.contents import checksum
from widegram.errors import WidegramError


@pytest.fixture
def gram(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    fake.install(monkeypatch)
    net = {
        "input_shape": [6],
        "layers": [{"layer": "Repeat", "times": 2, "body": [{"layer": "Dense"}]}],
    }
    widegram.gram(net, fake.inputs(40), tmp_path / "D.h5", depths=[2], tile=16)
    widegram.gram(fake.NETWORK, fake.inputs(40), tmp_path / "K.h5", fake.inputs(7, 1), tile=16)
    return tmp_path / "K.h5"


def load(path: Path) -> np.ndarray:
    if path.suffix == ".npy":
        return np.load(path)
    if path.suffix == ".npz":
        with np.load(path) as arrays:
            assert arrays.files == ["ntk"]
            return arrays["ntk"]
    with h5py.File(path) as file:
        return file["ntk"][...]


@pytest.mark.parametrize("dtype", [None, "float16", "float64"])
@pytest.mark.parametrize("suffix", [".npy", ".npz", ".h5"])
def test_every_format(monkeypatch, gram: Path, suffix: str, dtype: str | None) -> None:
    # Panels of 13 rows: no divisor of 40.
    row_bytes = 7 * (4 + np.dtype(dtype or "float32").itemsize)
    monkeypatch.setattr("widegram.gramfile.exporting.budget", lambda _: 8 * 13 * row_bytes)
    target, told = gram.with_name("out" + suffix), []
    size = widegram.export(gram, "ntk", target, dtype=dtype, progress=told.append)
    found = load(target)
    wanted = (2 * fake.expected(40, 7, False)).astype(dtype or "float32")
    np.testing.assert_array_equal(found, wanted)
    assert found.dtype == wanted.dtype
    assert size == wanted.nbytes
    assert [(p.done, p.total, p.unit) for p in told] == [
        (done, 40, "rows") for done in (13, 26, 39, 40)
    ]


def test_hdf5_export_says_where_it_came_from(gram: Path) -> None:
    target = gram.with_name("out.h5")
    widegram.export(gram, "ntk", target)
    with h5py.File(target) as file, h5py.File(gram) as source:
        for name in ("network", "network_fingerprint", "x1_fingerprint", "x2_fingerprint"):
            assert file.attrs[name] == source.attrs[name]


def test_depth_is_chosen(gram: Path) -> None:
    sweep = gram.with_name("D.h5")
    widegram.export(sweep, "nngp", gram.with_name("out.npy"), depth=2)
    np.testing.assert_array_equal(np.load(gram.with_name("out.npy")), fake.expected(40, 40, True))
    with pytest.raises(WidegramError, match="give a depth; its depths: 2"):
        widegram.export(sweep, "nngp", gram.with_name("other.npy"))
    with pytest.raises(WidegramError, match="has no depth 1; its depths: none"):
        widegram.export(gram, "nngp", gram.with_name("other.npy"), depth=1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kernel": "nkt"}, "has no kernel 'nkt'; did you mean 'ntk'"),
        ({"to": "out.csv"}, "unknown format; give a name ending in .npy, .npz or .h5"),
        ({"dtype": "int8"}, "dtype 'int8' is unknown; choose float16, float32, float64"),
        ({"to": "K.h5", "overwrite": True}, "is an input of this command"),
        ({"to": "there.npy"}, "exists; choose another name or pass --overwrite"),
        ({"to": "missing/out.npy"}, "does not exist; create it first"),
    ],
)
def test_refusals(gram: Path, change: dict, message: str) -> None:
    gram.with_name("there.npy").write_bytes(b"mine")
    before = sorted(os.listdir(gram.parent))
    request = {"kernel": "ntk", "to": "out.npy", **change}
    request["to"] = gram.with_name(request["to"]) if "/" not in request["to"] else request["to"]
    with pytest.raises(WidegramError, match=message):
        widegram.export(gram, **request)
    assert sorted(os.listdir(gram.parent)) == before
    assert gram.with_name("there.npy").read_bytes() == b"mine"


def test_incomplete_file_is_refused(gram: Path) -> None:
    with h5py.File(gram, "r+") as file:
        file.attrs["complete"] = False
        file["state/tiles"][0, 0] = 0
    with pytest.raises(WidegramError, match=r"is not complete \(2 of 3 tiles\).*widegram gram"):
        widegram.export(gram, "ntk", gram.with_name("out.npy"))


def test_too_narrow_dtype_is_refused(monkeypatch: pytest.MonkeyPatch, gram: Path) -> None:
    with h5py.File(gram, "r+") as file:
        file["ntk"][30, 3] = 1e5
        file["state/checksums/ntk"][1, 0] = checksum(file["ntk"][16:32, 0:16])
    with pytest.raises(WidegramError, match="row 30 does not fit into float16"):
        widegram.export(gram, "ntk", gram.with_name("out.npy"), dtype="float16")
    assert not gram.with_name("out.npy").exists()
    assert not gram.with_name("out.npy.part").exists()


@pytest.mark.parametrize(("left", "refused"), [(1e-9, True), (0.0, False)])
def test_a_row_of_which_nothing_is_left_is_refused(gram: Path, left: float, refused: bool) -> None:
    with h5py.File(gram, "r+") as file:
        file["ntk"][30] = left
        file["state/checksums/ntk"][1, 0] = checksum(file["ntk"][16:32, 0:16])
    target = gram.with_name("out.npy")
    if refused:
        with pytest.raises(WidegramError, match="row 30 does not fit into float16"):
            widegram.export(gram, "ntk", target, dtype="float16", rows="20:40")
    else:
        widegram.export(gram, "ntk", target, dtype="float16", rows="20:40")
        assert (load(target)[10] == 0).all()
    assert target.exists() is not refused


def test_too_little_disk_is_refused(monkeypatch: pytest.MonkeyPatch, gram: Path) -> None:
    tiny = SimpleNamespace(f_blocks=1, f_bavail=1, f_frsize=512)
    monkeypatch.setattr(os, "statvfs", lambda _: tiny)
    with pytest.raises(WidegramError, match=r"too little disk: .* 512 bytes"):
        widegram.export(gram, "ntk", gram.with_name("out.npy"))


def test_overwrite_replaces(gram: Path) -> None:
    target = gram.with_name("out.npy")
    target.write_bytes(b"old")
    widegram.export(gram, "nngp", target, overwrite=True)
    assert np.load(target).shape == (40, 7)
