"""The largest memory that a command ever held, beside the --memory it was given."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from widegram.machine.budgets import parse_size

# The process tells its own peak: what wait4 says includes the parent's, from before exec.
PROGRAM = """
import sys
from widegram_cli.main import run
code = run()
status = open("/proc/self/status").read()
print("peak", status.split("VmHWM:")[1].split()[0], file=sys.stderr)
sys.exit(code)
"""


def peak(*arguments: object) -> int:
    """Bytes; the command must succeed."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return int(done.stderr.split("peak ")[1]) * 1024


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Matrices far larger than what the budgets of these tests leave for arrays."""
    path = tmp_path_factory.mktemp("peak")
    rng = np.random.default_rng(0)
    np.save(path / "x.npy", rng.random((4000, 100), dtype=np.float32))
    np.save(path / "t.npy", rng.random((1500, 100), dtype=np.float32))
    np.save(path / "images.npy", rng.random((600, 32, 32, 3), dtype=np.float32))
    np.save(path / "y.npy", rng.integers(0, 10, 4000))
    return path


def gram(*more: object) -> list[object]:
    return ["gram", "--device", "cpu", *more]


def made(folder: Path) -> Path:
    """The training matrix, the cross matrix and a solution."""
    if not (folder / "a.h5").exists():
        net = ("--net", "fcn:depth=2")
        peak(*gram(*net, "--x", folder / "x.npy", "--out", folder / "k.h5"))
        peak(*gram(*net, "--x", folder / "t.npy", "--x2", folder / "x.npy",
                   "--out", folder / "c.h5"))  # fmt: skip
        peak("solve", folder / "k.h5", "--kernel", "nngp", "--y", folder / "y.npy",
             "--diag-reg", "0.1", "--out", folder / "a.h5")  # fmt: skip
        peak(*gram(*net, "--x", folder / "x.npy", "--limit", 3600, "--out", folder / "old.h5"))
        for number in (1, 2):
            peak(*gram(*net, "--x", folder / "x.npy", "--shard", f"{number}/2",
                       "--out", folder / "j.h5"))  # fmt: skip
        peak(*gram(*net, "--x", folder / "x.npy", "--limit", 300, "--out", folder / "kc.h5"))
        peak(*gram(*net, "--x", folder / "x.npy", "--x2", folder / "x.npy", "--limit2", 300,
                   "--out", folder / "kx.h5"))  # fmt: skip
        # What compiling takes comes once on a machine, and is not counted.
        peak(*gram("--net", "cnn-f:depth=4", "--x", folder / "images.npy", "--limit", 16,
                   "--out", folder / "compiled.h5"))  # fmt: skip
    return folder


def copied(folder: Path, name: str, to: Path) -> Path:
    """Every file of that name, copied; the path without the number of a shard."""
    for path in folder.glob(f"{name}*"):
        shutil.copy2(path, to)
    return to / name


def test_gram_stays_within_its_budget(folder: Path, tmp_path: Path) -> None:
    arguments = gram("--net", "fcn:depth=2", "--x", folder / "x.npy", "--limit", 2500)
    peak(*arguments, "--out", tmp_path / "compiled.h5")  # what compiling takes comes once
    assert peak(*arguments, "--out", tmp_path / "k.h5", "--memory", "200MB") <= 200e6


NAMES = (
    "gram", "gram-images", "append", "join", "combine", "verify", "export", "solve", "cg-dask",
    "nystrom", "svm", "predict", "variance", "time", "eig", "tune",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("memory", ["200MB", "300MB", "500MB"])
@pytest.mark.parametrize("name", NAMES)
def test_every_command_stays_within_its_budget(
    name: str, memory: str, folder: Path, tmp_path: Path
) -> None:
    f = made(folder)
    out = ["--out", tmp_path / "out.h5"]
    predict = ["predict", f / "a.h5", "--cross", f / "c.h5"]
    arguments: list[object] = {
        "gram": gram("--net", "fcn:depth=2", "--x", f / "x.npy", *out),
        "gram-images": gram("--net", "cnn-f:depth=4", "--x", f / "images.npy", *out),
        "append": gram("--net", "fcn:depth=2", "--x", f / "x.npy", "--append", "--out",
                       copied(f, "old.h5", tmp_path)),
        "join": ["join", copied(f, "j.h5", tmp_path)],
        "combine": ["combine", f / "k.h5", f / "k.h5", "--op", "product", *out],
        "nystrom": ["solve", f / "kx.h5", "--centers", f / "kc.h5", "--method", "nystrom", "--y",
                    f / "y.npy", "--diag-reg", "0.1", *out],
        "svm": ["solve", f / "k.h5", "--y", f / "y.npy", "--method", "svm", "--rows", "0:1000",
                "--c-path", "0.1,1", "--folds", 2, *out],
        "cg-dask": ["solve", f / "k.h5", "--y", f / "y.npy", "--diag-reg", "0.1", "--dask",
                    "local:2", *out],
        "tune": ["tune", "--net", "fcn:depth={1,2}", "--x", f / "x.npy", "--y", f / "y.npy",
                 "--limit", 2500, "--device", "cpu", *out],
        "verify": ["verify", f / "k.h5"],
        "export": ["export", f / "k.h5", "--kernel", "ntk", "--to", tmp_path / "k.npy"],
        "solve": ["solve", f / "k.h5", "--y", f / "y.npy", "--diag-reg", "0.1", *out],
        "predict": [*predict, *out],
        "variance": [*predict, "--variance", *out],
        "time": [*predict, "--time", "1,10", *out],
        "eig": ["eig", f / "k.h5", "--k", 4, *out],
    }[name]
    assert peak(*arguments, "--memory", memory) <= parse_size(memory)
