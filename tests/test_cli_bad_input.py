"""Every kind of bad input: exit code 2, one line that says what to do, nothing overwritten."""

from __future__ import annotations

import errno
import fcntl
import json
import os
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest

import fake_evaluator as fake
from cli_support import refused, run
from widegram.durable import calls
from widegram.durable import outputs as files


@pytest.fixture(autouse=True)
def _no_computing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Entries come from a fake; paths on the command line are relative to an empty directory."""
    fake.install(monkeypatch)
    monkeypatch.chdir(tmp_path)


def layers(*specs: dict) -> str:
    return json.dumps({"input_shape": [8, 8, 1], "layers": list(specs)})


def conv(**parameters: object) -> dict:
    return {"layer": "Conv", "filter_shape": [3, 3], **parameters}


def save_images() -> None:
    """Good images x.npy (5, 8, 8, 1)."""
    np.save("x.npy", np.random.default_rng(0).normal(size=(5, 8, 8, 1)))


def with_value(value: float, row: int) -> np.ndarray:
    x = np.ones((5, 8, 8, 1))
    x[row, 2, 3, 0] = value
    return x


GRAM = ["gram", "--net", "cnn-p", "--x", "x.npy", "--out", "K.h5"]


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (with_value(np.nan, 3), r"x\.npy: row 3 holds NaN"),
        (with_value(np.inf, 4), r"x\.npy: row 4 holds an infinite value"),
        (np.ones((5, 8, 8)), r"images .*; reshape images to \(8, 8, 1\), or add input=8x8 for seq"),
        (np.ones(5), r"has shape \(5,\); expected \(n, D\) vectors, \(n, L, C\) seq"),
        (np.ones((5, 64)), r"preset cnn-p needs images"),
        (np.ones((5, 8, 8, 1), np.uint8), r"integers \(uint8\).*run: widegram data prepare x\.npy"),
        (np.ones((5, 8, 8, 1), complex), r"complex128, real floating point inputs are needed"),
        (np.ones((0, 8, 8, 1)), r"is empty"),
    ],
)
def test_bad_data(x: np.ndarray, message: str):
    np.save("x.npy", x)
    refused(message, *GRAM)
    assert not Path("K.h5").exists()
    assert not Path("K.h5.part").exists()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("y.npy", r"y\.npy: no such file; did you mean 'x\.npy'\?"),
        ("nowhere/x.npy", r"no such file; its directory nowhere does not exist"),
        (".", r"\.: is raw data; run: widegram data prepare"),
        ("x.npz:imges", r"no key 'imges'; did you mean 'images'\?"),
        ("x.npz", r"which key\? write x\.npz:NAME; it holds: images, labels"),
        ("x.h5:tran/x", r"no dataset 'tran/x'; did you mean 'train/x'\?"),
        ("text.npy", r"text\.npy: cannot be read"),
        ("net.txt", r"unknown kind of file"),
    ],
)
def test_missing_file_key_or_dataset(spec: str, message: str):
    save_images()
    np.savez("x.npz", images=np.load("x.npy"), labels=np.arange(5))
    with h5py.File("x.h5", "w") as file:
        file["train/x"] = np.load("x.npy")
        file["train/y"] = np.arange(5)
    Path("text.npy").write_text("no array")
    Path("net.txt").write_text("no array")
    refused(message, "gram", "--net", "cnn-p", "--x", spec, "--out", "K.h5")
    assert not Path("K.h5").exists()


@pytest.mark.parametrize(
    ("net", "message"),
    [
        ("cnp-p", r"unknown network 'cnp-p', did you mean 'cnn-p'\?"),
        ("missing.json", r"missing\.json: cannot read the network: No such file"),
        ("{", r"network: not valid JSON"),
        (layers({"layer": "Cnov"}), r"layers\[0\].*unknown layer 'Cnov', did you mean 'Conv'\?"),
        (
            layers(conv(W_sdt=1.0)),
            r"layers\[0\] Conv: unknown parameter 'W_sdt', did you mean 'W_std'\?",
        ),
        (layers(conv(W_std=-1.0)), r"layers\[0\] Conv: W_std"),
        (layers(conv(), {"layer": "Dropout", "rate": 1.5}), r"layers\[1\] Dropout: rate"),
        (layers({"layer": "LeakyRelu"}), r"layers\[0\] LeakyRelu: .*alpha"),
        (
            layers(conv(filter_shape=[9, 9], padding="VALID")),
            r"layers\[0\] Conv: .*9.*8",
        ),
        (
            layers(conv(), {"layer": "AvgPool", "window_shape": [9, 9]}),
            r"layers\[1\] AvgPool: .*9",
        ),
        (
            layers({"layer": "Flatten"}).replace("[8, 8, 1]", "[9, 9, 1]"),
            r"the network expects \[9, 9, 1\], the data has \[8, 8, 1\]",
        ),
    ],
)
def test_bad_network(net: str, message: str):
    save_images()
    refused(message, "gram", "--net", net, "--x", "x.npy", "--out", "K.h5")
    assert not Path("K.h5").exists()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--net", "myrtle5", "--depths", "1"], r"exactly one Repeat at the top level"),
        (["--depths", "2,4"], r"depths '4': the network repeats its block 3 times"),
        (["--limit2", "3"], r"--limit2 serves --x2, which is not given"),
        (["--x2", "other.npy"], r"other\.npy: its rows have shape \(4, 4, 1\)"),
        (["--device", "cuda"], r"CUDA is not available here.*--device cpu"),
        (["--out", "."], r"\.: is a directory"),
        (["--out", "nowhere/K.h5"], r"its directory nowhere does not exist; create it first"),
        (["--memory", "1kB"], r"too small; give at least 16MB"),
    ],
)
def test_bad_request(args: list[str], message: str):
    save_images()
    np.save("other.npy", np.ones((3, 4, 4, 1)))
    refused(message, *GRAM, *args)
    assert not Path("K.h5").exists()


@pytest.mark.parametrize("out", [".", "/"])
@pytest.mark.parametrize(
    "line",
    [
        "gram --net fcn:depth=1 --x x.npy --shard 1/2 --out",
        "gram --net fcn:depth=1 --x x.npy --append --out",
        "tune --net fcn:depth=1 --x x.npy --y y.npy --out",
    ],
)
def test_an_output_that_is_a_directory(line: str, out: str):
    np.save("x.npy", np.ones((4, 3)))
    np.save("y.npy", np.arange(4) % 2)
    refused("directory", *line.split(), out)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--net", "cnn-p:depth=5"], r"made from another network"),
        (["--x", "z.npy"], r"made from other data as x1 \(5 rows then, 5 now\)"),
        (["--limit", "4"], r"made from other data as x1 \(5 rows then, 4 now\)"),
        (["--x2", "z.npy"], r"the symmetric matrix of x with itself, not a matrix of x with x2"),
        (["--dtype", "float64"], r"its dtype is float32, not float64"),
        (["--get", "ntk"], r"its kernels is nngp,ntk, not ntk"),
        (["--depths", "1,2"], r"its depths is none, not 1,2"),
        (["--tile", "2"], r"its tile is 5, not 2"),
    ],
)
def test_output_of_another_run_is_kept(args: list[str], message: str):
    save_images()
    np.save("z.npy", 2 * np.load("x.npy"))
    assert run(*GRAM).exit_code == 0
    before = Path("K.h5").read_bytes()
    plain = [a for a in GRAM if a not in ("--x", "x.npy")] + ["--x", "x.npy"]
    command = plain[:-2] if args[0] == "--x" else plain  # which is taken once
    line = refused(message, *command, *args)
    assert "choose another --out or pass --overwrite" in line
    assert Path("K.h5").read_bytes() == before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"not HDF5 at all", r"K\.h5: is not an HDF5 file; choose another name"),
        (b"\x89HDF\r\n\x1a\n" + bytes(50), r"K\.h5: is damaged, HDF5 cannot read it"),
        (None, r"K\.h5: is an HDF5 file, but not a widegram gram file"),
    ],
)
@pytest.mark.parametrize(
    "command",
    [
        GRAM,
        ["info", "K.h5"],
        ["verify", "K.h5"],
        ["export", "K.h5", "--kernel", "ntk", "--to", "a.npy"],
    ],
    ids=lambda command: command[0],
)
def test_damaged_and_foreign_files(command: list[str], content: bytes | None, message: str):
    save_images()
    if content is None:
        with h5py.File("K.h5", "w") as file:
            file["ntk"] = np.eye(3)
    else:
        Path("K.h5").write_bytes(content)
    before = Path("K.h5").read_bytes()
    damaged = command[0] == "verify" and "damaged" in message
    refused(message, *command, code=3 if damaged else 2)
    assert Path("K.h5").read_bytes() == before
    assert not Path("a.npy").exists()


@pytest.mark.parametrize("command", ["info", "verify"])
def test_missing_gram_file(command: str):
    Path("kernel.h5").touch()
    refused(r"kernl\.h5: no such file; did you mean 'kernel\.h5'\?", command, "kernl.h5")


def test_unwritable_place(monkeypatch: pytest.MonkeyPatch):
    def refuse(path: object, *rest: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    save_images()
    monkeypatch.setattr(calls, "create", refuse)
    refused(r"K\.h5: cannot be written \(Permission denied\); choose another place", *GRAM)


def test_too_little_disk(monkeypatch: pytest.MonkeyPatch):
    save_images()
    tiny = SimpleNamespace(f_blocks=1, f_bavail=1, f_frsize=512)
    monkeypatch.setattr(files.os, "statvfs", lambda path: tiny)
    refused(r"K\.h5: too little disk: \d+ bytes .* are needed, 512 bytes", *GRAM)
    assert not Path("K.h5").exists()


def test_second_writer():
    save_images()
    assert run(*GRAM).exit_code == 0
    with h5py.File("K.h5", "r+") as file:
        file.attrs["complete"] = False
        file["state/tiles"][...] = 0
    with open("K.h5", "rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        refused(r"K\.h5: another process has this file open; wait until it is done", *GRAM)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--kernel", "nkt", "--to", "a.npy"], r"has no kernel 'nkt'; did you mean 'ntk'\?"),
        (["--kernel", "ntk", "--to", "a.csv"], r"a\.csv: unknown format; give a name ending in"),
        (["--kernel", "ntk", "--to", "a.npy", "--dtype", "int8"], r"dtype 'int8' is unknown"),
        (["--kernel", "ntk", "--to", "a.npy", "--depth", "2"], r"has no depth 2; its depths: none"),
        (["--kernel", "ntk", "--to", "K.h5"], r"K\.h5: is an input of this command"),
    ],
)
def test_bad_exports(args: list[str], message: str):
    save_images()
    assert run(*GRAM).exit_code == 0
    before = Path("K.h5").read_bytes()
    refused(message, "export", "K.h5", *args)
    assert Path("K.h5").read_bytes() == before
    assert not Path("a.npy").exists()


def test_export_of_an_unfinished_file():
    save_images()
    assert run(*GRAM).exit_code == 0
    with h5py.File("K.h5", "r+") as file:
        file.attrs["complete"] = False
        file["state/tiles"][...] = 0
    refused(
        r"is not complete \(0 of 1 tiles\)", "export", "K.h5", "--kernel", "ntk", "--to", "a.npy"
    )
    assert not Path("a.npy").exists()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["digit"], r"digit: no such file"),
        (["digits", "--train", 5000], r"digits: has 1797 inputs, too few for 5000 training"),
        (["digits", "--labels", "y.npy"], r"brings its own labels"),
        (["digits", "--out", "nowhere/d.h5"], r"its directory nowhere does not exist"),
        (["digits", "--normalize", "whiten"], r"whiten"),
        (["empty"], r"empty: holds neither IDX files .* nor CIFAR-10 or CIFAR-100 batches"),
    ],
)
def test_bad_preparation(args: list[object], message: str):
    Path("empty").mkdir()
    refused(message, "data", "prepare", "--out", "d.h5", *args)
    assert not Path("d.h5").exists()


def test_preparation_overwrites_only_when_told():
    assert run("data", "prepare", "digits", "--out", "d.h5").exit_code == 0
    before = Path("d.h5").read_bytes()
    refused(r"d\.h5: exists; .*--overwrite", "data", "prepare", "digits", "--out", "d.h5")
    assert Path("d.h5").read_bytes() == before
