"""An output is never an input: in every command, through links, files named inside others too."""

from __future__ import annotations

import importlib
import json
import os
from pathlib import Path

import click
import h5py
import numpy as np
import pytest

import widegram
from cli_support import refused, run
from widegram.data.distinct import check_distinct
from widegram.errors import WidegramError
from widegram_cli.files import FileCommand, InputFile, OutputFile
from widegram_cli.main import COMMANDS

MESSAGE = "is an input of this command"
# Parameters of free text that name no file. A new one belongs here, or is InputFile or OutputFile.
TEXTS = {
    "act", "b_var", "device", "dtype", "head", "kernel", "nets", "only", "scale", "times", "w_var",
}  # fmt: skip


def commands():
    """(name, command) of every command, those of groups too."""
    waiting = [
        (name, importlib.import_module(place).command) for name, (place, _) in COMMANDS.items()
    ]
    while waiting:
        name, command = waiting.pop()
        if isinstance(command, click.Group):
            waiting += [(f"{name} {part}", inner) for part, inner in command.commands.items()]
        else:
            yield name, command


def test_every_parameter_of_free_text_says_whether_it_is_read_or_written():
    found = 0
    for name, command in commands():
        named = [p for p in command.params if isinstance(p.type, InputFile | OutputFile)]
        found += len(named)
        assert not named or isinstance(command, FileCommand), f"{name}: its files are not compared"
        for param in command.params:
            if isinstance(param.type, click.types.StringParamType):
                assert param.name in TEXTS, f"{name}: is {param.name} an input or an output?"
            if param.name in ("out", "to", "plot"):
                assert isinstance(param.type, OutputFile), f"{name}: {param.name} is written"
    assert found > 30  # as many as there were when this was written


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with one file of each kind, made by the program."""
    folder = tmp_path_factory.mktemp("made")
    rng = np.random.default_rng(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        net = {"input_shape": [4], "layers": [{"layer": "Dense"}, {"layer": "Relu"}]}
        Path("net.json").write_text(json.dumps(net))
        np.save("x.npy", rng.standard_normal((6, 4)))
        np.save("t.npy", rng.standard_normal((3, 4)))
        np.save("y.npy", np.arange(6) % 2)
        np.save("yt.npy", np.arange(3) % 2)
        np.save("r.npy", np.arange(3))
        with h5py.File("d.h5", "w") as file:
            file["x"] = rng.standard_normal((6, 4))
            file["y"] = np.arange(6) % 2
        steps = [
            "data prepare d.h5:x --labels y.npy --out data.h5 --test 2",
            "gram --net net.json --x x.npy --out K.h5 --device cpu",
            "gram --net net.json --x t.npy --x2 x.npy --out C.h5 --device cpu",
            "solve K.h5 --y y.npy --diag-reg 1e-3 --out A.h5",
        ]
        for step in steps:
            assert run(*step.split()).exit_code == 0
    return folder


# Every output of every command that has an input; the words before "<-" are the command.
CASES = [
    ("gram --net net.json --x x.npy --x2 t.npy --out", ["net.json", "x.npy", "t.npy"]),
    ("gram --net fcn:depth=1 --x d.h5:x --out", ["d.h5"]),
    ("export K.h5 --kernel ntk --to", ["K.h5", "x.npy"]),
    ("eig K.h5 --out", ["K.h5", "x.npy"]),
    ("eig K.h5 --plot", ["K.h5", "x.npy"]),
    ("solve K.h5 --y y.npy --diag-reg 1e-3 --out", ["K.h5", "y.npy", "x.npy"]),
    (
        "predict A.h5 --cross C.h5 --y yt.npy --variance --x-test t.npy --gram K.h5 --out",
        ["A.h5", "C.h5", "yt.npy", "t.npy", "K.h5"],
    ),
    ("predict A.h5 --cross C.h5 --out", ["A.h5", "C.h5", "K.h5", "x.npy", "t.npy"]),
    ("predict A.h5 --cross C.h5 --rows r.npy --ids yt.npy --csv", ["A.h5", "r.npy", "yt.npy"]),
    (
        "predict A.h5 --cross C.h5 --variance --diagonal yt.npy --out P.csv --csv",
        ["yt.npy", "P.csv"],
    ),
    ("gram --net fcn:depth=1 --x x.npy --pattern t.npy --append --out", ["x.npy", "t.npy"]),
    ("combine K.h5 K.h5 --out", ["K.h5", "x.npy"]),
    ("solve K.h5 --rows r.npy --y y.npy --out", ["r.npy"]),
    ("solve C.h5 --centers K.h5 --method nystrom --y yt.npy --out", ["C.h5", "K.h5", "x.npy"]),
    ("export K.h5 --kernel ntk --rows r.npy --columns yt.npy --to", ["r.npy", "yt.npy"]),
    ("eig K.h5 --rows r.npy --full --out", ["r.npy"]),
    ("tune --net net.json --x x.npy --y y.npy --out", ["net.json", "x.npy", "y.npy"]),
    ("tune --net net.json --x x.npy --y y.npy --out T.png --plot", ["net.json", "T.png"]),
    ("data sample x.npy --n 2 --labels y.npy --out", ["x.npy", "y.npy"]),
    ("data prepare d.h5:x --labels y.npy --out", ["d.h5", "y.npy"]),
    ("data prepare x.npy --out", ["x.npy"]),
    ("data apply data.h5 x.npy --labels y.npy --out", ["data.h5", "x.npy", "y.npy"]),
    ("meanfield spectrum --x data.h5 --depths 1 --out", ["data.h5"]),
    ("meanfield spectrum --x data.h5 --depths 1 --out S.png --plot", ["data.h5", "S.png"]),
    ("meanfield spectrum --net net.json --x data.h5 --depths 1 --out", ["net.json"]),
    ("meanfield trainability --data data.h5 --depths 1 --out", ["data.h5"]),
    ("meanfield trainability --data data.h5 --depths 1 --out T.png --plot", ["data.h5", "T.png"]),
    ("meanfield phase --out P.png --plot", ["P.png"]),
    ("bench scaling --quick --out R.png --plot", ["R.png"]),
    ("bench kernels --peer-python x.npy --out", ["x.npy"]),
]


@pytest.mark.parametrize(("line", "names"), CASES, ids=[line for line, _ in CASES])
def test_no_command_writes_over_what_it_reads(made, monkeypatch, line, names, tmp_path):
    monkeypatch.chdir(made)
    for name in names:
        exists = Path(name).exists()
        before = Path(name).read_bytes() if exists else b""
        picture = line.endswith("--plot")
        ways = [] if picture and exists else [Path(name)]
        if exists:
            end = ".png" if picture else ""  # the ending of a picture is checked before
            symbolic, hard = tmp_path / f"s-{name}{end}", made / f"h-{name}{end}"
            symbolic.symlink_to(made / name)
            if not hard.exists():
                os.link(made / name, hard)
            ways += [symbolic, hard]
        for way in ways:
            refused(MESSAGE if exists else "two outputs", *line.split(), way, "--overwrite")
        assert not exists or Path(name).read_bytes() == before
        assert Path(name).exists() == exists


def test_library_calls_refuse_as_well(made, monkeypatch):
    monkeypatch.chdir(made)
    mapped = np.load("x.npy", mmap_mode="r")
    for x in ("x.npy", Path("x.npy"), mapped, widegram.open_source("x.npy")):
        with pytest.raises(WidegramError, match=MESSAGE):
            widegram.gram("fcn:depth=1", x, "x.npy", overwrite=True)
    with pytest.raises(WidegramError, match=MESSAGE):
        widegram.prepare("x.npy", "x.npy", overwrite=True)
    with pytest.raises(WidegramError, match=MESSAGE):
        widegram.export("K.h5", "ntk", "x.npy", overwrite=True)
    os.link("net.json", "T.h5.best.json")
    for nets in ("net.json", ["fcn:depth=1", "T.h5.best.json"]):
        with pytest.raises(WidegramError, match=MESSAGE):
            widegram.tune(nets, "x.npy", "y.npy", "T.h5", overwrite=True)
    Path("T.h5.best.json").unlink()


def test_files_of_a_directory_are_inputs(tmp_path):
    folder = tmp_path / "raw" / "inner"
    folder.mkdir(parents=True)
    (folder / "train-images-idx3-ubyte").write_bytes(b"12")
    with pytest.raises(WidegramError, match=MESSAGE):
        check_distinct([folder / "train-images-idx3-ubyte"], [tmp_path / "raw"])
    check_distinct([folder / "other"], [tmp_path / "raw"])


def test_files_that_an_hdf5_file_links_to_are_inputs(tmp_path):
    with h5py.File(tmp_path / "there.h5", "w") as file:
        file["x"] = np.ones(3)
    (tmp_path / "bytes.bin").write_bytes(bytes(24))
    with h5py.File(tmp_path / "link.h5", "w") as file:
        file["a/x"] = h5py.ExternalLink("there.h5", "x")
    with h5py.File(tmp_path / "virtual.h5", "w") as file:
        layout = h5py.VirtualLayout((3,), float)
        layout[:] = h5py.VirtualSource("there.h5", "x", (3,))
        file.create_virtual_dataset("x", layout)
    with h5py.File(tmp_path / "external.h5", "w") as file:
        file.create_dataset("x", (3,), float, external=[("bytes.bin", 0, 24)])
    for name, target in (("link", "there.h5"), ("virtual", "there.h5"), ("external", "bytes.bin")):
        with pytest.raises(WidegramError, match=MESSAGE):
            check_distinct([tmp_path / target], [f"{tmp_path}/{name}.h5:x"])


def test_work_files_beside_an_output_are_not_inputs_either(tmp_path):
    np.save(tmp_path / "y.npy", np.arange(3))
    (tmp_path / "A.h5.factor").symlink_to(tmp_path / "y.npy")
    with pytest.raises(WidegramError, match=r"A\.h5\.factor: " + MESSAGE):
        check_distinct([tmp_path / "A.h5"], [tmp_path / "y.npy"])


def test_what_names_no_file_is_no_input(tmp_path):
    out = tmp_path / "out"
    out.write_bytes(b"")
    os.mkfifo(tmp_path / "pipe")
    odd = ["digits", "{" + " " * 5000 + "}", "a\0b", "", None, np.ones(2), {"layers": []}]
    check_distinct([out], [*odd, tmp_path / "pipe", tmp_path / "missing"])
