"""The commands around a Gram file, from data to export, as a user runs them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import h5py
import numpy as np
import pytest

import fake_evaluator as fake
import widegram
from cli_support import refused, run, run_json
from widegram.durable import LiveFile
from widegram.machine.progress import Progress
from widegram_cli import reporting

CNN = {
    "input_shape": [6, 6, 1],
    "layers": [
        {"layer": "Repeat", "times": 3, "body": [
            {"layer": "Conv", "filter_shape": [3, 3], "padding": "SAME", "W_std": 1.4},
            {"layer": "Relu"},
        ]},
        {"layer": "GlobalAvgPool"},
        {"layer": "Dense", "b_std": 0.1},
    ],
}  # fmt: skip


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Eleven images (6, 6, 1) and a network for them, beside each other."""
    generator = np.random.default_rng(0)
    np.save(tmp_path / "x.npy", generator.normal(size=(11, 6, 6, 1)))
    (tmp_path / "net.json").write_text(json.dumps(CNN))
    return tmp_path


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A complete file of fake values: 70 inputs, tiles of 16."""
    fake.install(monkeypatch)
    np.save(tmp_path / "x.npy", fake.inputs(70))
    result = run("gram", *gram_args(tmp_path))
    assert result.exit_code == 0, result.stderr
    return tmp_path / "K.h5"


def gram_args(folder: Path) -> list[object]:
    x, out = folder / "x.npy", folder / "K.h5"
    return ["--net", fake.NETWORK, "--x", x, "--out", out, "--tile", 16]


def test_gram_writes_what_the_library_computes(images: Path):
    out, x = images / "K.h5", images / "x.npy"
    args = ["--net", images / "net.json", "--x", x, "--out", out, "--dtype", "float64"]
    report = run_json("gram", *args, "--threads", 2, "--memory", "200MB", "--limit", 7)
    assert report["complete"] is True
    assert report["entries"] == 49
    assert report["resumed_tiles"] == 0
    assert report["seconds"] > 0
    assert report["entries_per_second"] > 0
    wanted = widegram.kernel(CNN, np.load(x)[:7])
    with h5py.File(out) as file:
        np.testing.assert_array_equal(file["nngp"], wanted.nngp)
        np.testing.assert_array_equal(file["ntk"], wanted.ntk)


def test_rectangular_depth_sweep_of_one_kernel(images: Path):
    x, out = images / "x.npy", images / "K.h5"
    report = run_json(
        *["gram", "--net", json.dumps(CNN), "--x", x, "--x2", x, "--out", out, "--get", "ntk"],
        *["--depths", "1,2-3", "--limit", 3, "--limit2", 5, "--dtype", "float64"],
    )
    assert report["entries"] == 15
    with h5py.File(out) as file:
        assert sorted(file["depth"]) == ["1", "2", "3"]
        assert list(file["depth/2"]) == ["ntk"]
        assert file["depth/2/ntk"].shape == (3, 5)
    facts = run_json("info", out)
    assert facts["depths"] == [1, 2, 3]
    assert facts["kernels"] == ["ntk"]
    assert facts["symmetric"] is False
    exported = images / "two.npy"
    run_json("export", out, "--kernel", "ntk", "--depth", 2, "--to", exported)
    assert np.load(exported).shape == (3, 5)


def test_verify_recomputes_a_sample(images: Path):
    out = images / "K.h5"
    run_json("gram", "--net", images / "net.json", "--x", images / "x.npy", "--out", out)
    report = run_json("verify", out)
    assert report["ok"] is True
    assert report["entries_recomputed"] == 121
    text = run("verify", out).stdout
    assert "no damage" in text
    assert "121 entries computed again" in text
    assert report["dense_entries"] == 16
    assert report["dense_difference"] < 1e-5  # float32 of a few layers
    assert "16 entries computed by the dense reference too, largest relative diff" in text


def test_second_run_finds_the_file_complete(made: Path):
    report = run_json("gram", *gram_args(made.parent))
    assert report["entries"] == 0
    assert report["complete"] is True
    assert report["resumed_tiles"] == 15
    again = run("gram", *gram_args(made.parent))
    assert again.stdout == f"{made}: was complete already\n"


def test_overwrite_computes_again(made: Path):
    assert run_json("gram", *gram_args(made.parent), "--overwrite")["entries"] == 4900


def test_info_of_a_complete_file(made: Path):
    text = run("info", made).stdout
    assert "70 x 70, symmetric, float32" in text
    assert "/nngp /ntk" in text
    assert "15 of 15, complete" in text
    facts = run_json("info", made)
    assert facts["complete"] is True
    assert facts["tiles"] == {"done": 15, "total": 15}
    assert facts["network"]["input_shape"] == [6]
    assert set(facts["fingerprints"]) == {"network", "x1", "x2"}


def test_damage_ends_verify_with_code_3(made: Path):
    with h5py.File(made, "r+") as file:
        file["ntk"][3, 5] += 1
    line = refused(
        "ntk rows 0-15, columns 0-15: wrong checksum", "verify", made, "--sample", 0, code=3
    )
    assert str(made) in line
    result = run("verify", made, "--json", "--sample", 0)
    assert result.exit_code == 3
    report = json.loads(result.stdout)
    assert report["ok"] is False
    assert len(report["damage"]) == 1
    assert result.stderr.count("\n") == 1


def test_verify_repairs(made: Path):
    with h5py.File(made, "r+") as file:
        file["ntk"][3, 5] += 1
    report = run_json("verify", made, "--sample", 0, "--repair")
    assert report["ok"] is True
    assert report["repaired"] == ["ntk rows 0-15, columns 0-15: wrong checksum"]
    assert report["damaged_tiles"] == []
    with h5py.File(made, "r+") as file:
        file["ntk"][3, 5] += 1
    text = run("verify", made, "--sample", 0, "--repair").stdout
    assert "repaired: ntk rows 0-15, columns 0-15: wrong checksum" in text
    assert "no damage; 15 tiles" in text


def test_info_while_a_writer_runs(made: Path):
    quiet = run_json("info", made)
    assert (quiet["snapshot"], quiet["writer"]) == (False, False)
    with LiveFile(made):
        facts = run_json("info", made)
        assert (facts["snapshot"], facts["writer"]) == (True, True)
        assert facts["tiles"] == {"done": 15, "total": 15}
        assert "15 of 15, so far: a writer is at work" in run("info", made).stdout
        refused("another process has this file open", "verify", made)


def test_one_name_for_the_file_in_json(made: Path):
    again = run_json("gram", *gram_args(made.parent))
    named = [again, run_json("info", made), run_json("verify", made, "--sample", 0)]
    assert [values["file"] for values in named] == [str(made)] * 3


@pytest.mark.parametrize("name", ["K.npy", "K.npz", "ntk.h5"])
def test_export(made: Path, name: str):
    to = made.parent / "exported" / name
    to.parent.mkdir()
    report = run_json("export", made, "--kernel", "ntk", "--to", to, "--dtype", "float64")
    assert report["bytes"] == 8 * 70 * 70
    if name.endswith(".h5"):
        with h5py.File(to) as file:
            array = file["ntk"][...]
    else:
        loaded = np.load(to)
        array = loaded["ntk"] if name.endswith(".npz") else loaded
    np.testing.assert_array_equal(array, 2 * fake.expected(70, 70, True).astype(np.float64))
    refused("exists; choose another name or pass --overwrite", "export", made, "--kernel", "ntk",
            "--to", to)  # fmt: skip
    assert "ntk" in run("export", made, "--kernel", "ntk", "--to", to, "--overwrite").stdout


def test_interrupted_run_exits_130_and_resumes(tmp_path: Path):
    np.save(tmp_path / "x.npy", fake.inputs(70))
    args = [str(arg) for arg in gram_args(tmp_path)]
    script = textwrap.dedent(
        f"""
        import pytest, sys
        import fake_evaluator as fake
        fake.install(pytest.MonkeyPatch(), delay=0.2)
        from widegram.machine import progress
        progress._REPORT_SECONDS = 0.0
        from widegram_cli import reporting as lines
        lines.LINE_SECONDS = 0.0
        from widegram_cli.main import program
        program(["gram", *{args!r}, "--json"])
        """
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
    )
    assert process.stderr is not None
    assert process.stderr.readline().startswith("widegram: ")  # a tile is done: work goes on
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    last = err.splitlines()[-1]
    assert last.startswith("widegram: error: ")
    assert "run the same command again to resume" in last
    assert run_json("info", tmp_path / "K.h5")["complete"] is False
    assert "run the same command to resume" in run("info", tmp_path / "K.h5").stdout


def test_resumed_run_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    fake.install(monkeypatch)
    np.save(tmp_path / "x.npy", fake.inputs(70))
    assert run("gram", *gram_args(tmp_path)).exit_code == 0
    with h5py.File(tmp_path / "K.h5", "r+") as file:  # as a killed run leaves it
        file["state/tiles"][4, :] = 0
        file["state/tiles"][:, 4] = 0
        file.attrs["complete"] = False
    result = run("gram", *gram_args(tmp_path))
    assert result.exit_code == 0
    assert "10 tiles resumed" in result.stdout
    assert result.stdout.startswith(f"{tmp_path / 'K.h5'}: complete; ")


def test_progress_away_from_a_terminal_is_a_line_now_and_then(monkeypatch, capsys):
    clock = iter([0.0, 1.0, 31.0, 32.0, 62.0])
    monkeypatch.setattr(reporting.time, "monotonic", lambda: next(clock))
    with reporting.reporter() as report:
        for done in (10, 310, 320, 620):
            report(Progress(done, 1000, rate=10.0, seconds=done / 10))
    captured = capsys.readouterr()
    assert captured.out == ""
    stamp = r"widegram: \d{4}-\d\d-\d\d \d\d:\d\d:\d\d (.*)"
    assert re.findall(stamp, captured.err) == [
        "310 of 1,000 entries (31 %), 10 entries/s, 1 min 09 s left",
        "620 of 1,000 entries (62 %), 10 entries/s, 38 s left",
    ]


def test_progress_on_a_terminal_is_a_bar_on_stderr(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with reporting.reporter() as report:
        assert isinstance(report, reporting.ProgressBar)
        report(Progress(1, 4, "tiles", rate=2.0, seconds=0.5))
        (task,) = report._bar.tasks
        assert (task.completed, task.total) == (1, 4)
        assert task.description == "1 of 4 tiles (25 %), 2 tiles/s, 1.5 s left"
    assert capsys.readouterr().out == ""
