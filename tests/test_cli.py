"""The command line as a whole: help, lazy imports, exit codes, one-line errors."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys

import click
import pytest

from cli_support import run
from widegram.errors import Damaged, Interrupted, WidegramError
from widegram.machine.interrupts import Stopped
from widegram_cli import machine
from widegram_cli.failures import exit_code_of
from widegram_cli.main import COMMANDS


def test_help_lists_every_command_of_the_table():
    result = run("--help")
    assert result.exit_code == 0
    for name, (_, line) in COMMANDS.items():
        assert f"  {name}" in result.stdout
        assert line in result.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_help(name):
    result = run(name, "--help")
    assert result.exit_code == 0
    assert result.stdout.startswith("Usage: ")
    module = importlib.import_module(COMMANDS[name][0])
    assert module.command.name == name


@pytest.mark.parametrize("args", [["--help"], ["--version"], ["gram", "--help"], ["net", "--help"]])
def test_help_imports_no_heavy_library(args):
    script = (
        "import sys\n"
        "from widegram_cli.main import program\n"
        f"try: program({args!r})\n"
        "except SystemExit: pass\n"
        "heavy = {'numba', 'llvmlite', 'h5py', 'scipy', 'numpy', 'rich', 'matplotlib'}\n"
        "print('LOADED', sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "LOADED []"


def test_the_installed_program_runs():
    done = subprocess.run(
        [sys.executable, "-m", "widegram_cli", "--version"], capture_output=True, text=True
    )
    assert done.returncode == 0
    assert done.stdout.startswith("widegram")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["nonsense"], "No such command 'nonsense'"),
        (["gram"], "Missing option"),
        (["gram", "--frobnicate"], "frobnicate"),
        (
            ["gram", "--net", "a", "--x", "b", "--out", "c", "--get", "nngp,nkt"],
            "'nkt' is not a kernel",
        ),
        (["gram", "--net", "a", "--x", "b", "--out", "c", "--depths", "5-2"], "runs backwards"),
        (
            ["gram", "--net", "a", "--x", "b", "--out", "c", "--depths", "two"],
            "'two' is not a depth",
        ),
        (
            ["gram", "--net", "a", "--x", "b", "--out", "c", "--memory", "lots"],
            "'lots' is not understood",
        ),
        (["gram", "--net", "a", "--x", "b", "--out", "c", "--dtype", "float16"], "float16"),
        (["gram", "--net", "a", "--x", "b", "--out", "c", "--tile", "0"], "--tile"),
        (["gram", "--net", "a", "--x", "b", "--out", "c", "--limit", "0"], "--limit"),
        (["net", "fcn", "--input-shape", "8,"], "'8,' is not a shape"),
    ],
)
def test_usage_errors_are_one_line_and_exit_2(args, message):
    result = run(*args)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("widegram: error: ")
    assert message in result.stderr


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (WidegramError("x.npy: row 3 holds NaN"), 2, "x.npy: row 3 holds NaN"),
        (WidegramError("two\n  lines"), 2, "two\\n  lines"),
        (Damaged("tile (0, 1)"), 3, "tile (0, 1)"),
        (Interrupted("run it again to resume"), 130, "run it again to resume"),
        (KeyboardInterrupt(), 130, "interrupted; nothing was written, run the same command again"),
        (click.Abort(), 130, "interrupted; nothing was written, run the same command again"),
        (Stopped("5 rows are saved"), 130, "5 rows are saved"),
        (
            RuntimeError("can't start new thread"),
            2,
            "the system allows no more threads: give fewer --threads, or raise the limit on "
            "processes (ulimit -u)",
        ),
        (
            OSError(24, "Too many open files", "a.h5"),
            2,
            "a.h5: Too many open files: raise the limit on open files (ulimit -n)",
        ),
        (
            ImportError("libx.so: failed to map segment from shared object"),
            2,
            "out of memory: give a smaller --memory, for example --memory 500MB",
        ),
        (
            FileNotFoundError(2, "No such file or directory", "a.h5"),
            2,
            "a.h5: No such file or directory",
        ),
        (OSError("unable to open"), 2, "unable to open"),
        (MemoryError(), 2, "out of memory: give a smaller --memory, for example --memory 500MB"),
    ],
)
def test_failures_become_one_line_and_a_code(error, code, line, capsys):
    assert exit_code_of(error) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == f"widegram: error: {line}\n"


def test_programming_errors_keep_their_traceback(capsys):
    assert exit_code_of(TypeError("a bug")) is None
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("error", [Damaged("bad tile"), WidegramError("bad"), Interrupted("later")])
def test_errors_of_a_command_reach_the_exit_code(error, monkeypatch):
    def fail():
        raise error

    monkeypatch.setattr(machine, "cpu", fail)
    result = run("doctor", "--json")
    assert result.exit_code == error.exit_code
    assert result.stdout == ""
    assert result.stderr == f"widegram: error: {error}\n"


def test_doctor_prints_one_json_object():
    result = run("doctor", "--json")
    assert result.exit_code == 0
    report = json.loads(result.stdout)
    assert report["cpu"]["threads"] >= 1
    assert report["libraries"]["hdf5"].count(".") == 2
    assert report["cuda"]["driver"] is None or report["cuda"]["problem"] is None
    assert result.stderr == ""


def test_doctor_names_what_is_missing_and_the_command_that_installs_it():
    versions = {"matplotlib": None, "scikit-learn": "1.5", "numba-cuda": None}
    card = {"index": 0, "name": "a card", "compute_capability": "9.0", "memory": 1}
    gaps = machine.missing(versions, {"cards": [card]}, True)
    install = "pip install 'widegram[cuda]'"
    assert [gap["install"] for gap in gaps] == ["pip install matplotlib", install]
    rest = {**versions, "matplotlib": "3.8"}
    (gap,) = machine.missing(rest, {"cards": [], "problem": "none"}, True)
    assert (gap["what"], gap["why"]) == ("CUDA driver", "none")
    assert machine.missing(rest, {"cards": []}, True) == []


def test_doctor_misses_nothing_that_this_machine_cannot_use(tmp_path):
    nothing = {"cards": [], "problem": "no NVIDIA driver"}
    installed = {"matplotlib": "3.8", "scikit-learn": "1.5", "numba-cuda": None}
    assert machine.missing(installed, nothing, False) == []
    assert not machine.has_card(tmp_path)
    for name, vendor, kind in (("a", "0x8086", "0x030000"), ("b", "0x10de", "0x040300")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "vendor").write_text(f"{vendor}\n")
        (tmp_path / name / "class").write_text(f"{kind}\n")
    assert not machine.has_card(tmp_path)  # an NVIDIA card's sound
    (tmp_path / "b" / "class").write_text("0x030200\n")
    assert machine.has_card(tmp_path)


def test_doctor_says_what_hides_the_cards(monkeypatch):
    def no_library(name):
        raise OSError(name)

    monkeypatch.setattr(machine.ctypes, "CDLL", no_library)
    found = machine.cuda()
    assert found["cards"] == []
    assert "no NVIDIA driver" in found["problem"]
