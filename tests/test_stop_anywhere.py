"""Every command, stopped at random moments: how it ends, what it leaves, and that it goes on."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from signal_support import HANG_SECONDS, SIGNALS, cli, ended, listening, litter, start

TRIALS = int(os.environ.get("STOP_TRIALS", "6"))  # per command
Arguments = list[object]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data, a network's training and cross matrices, and a solution."""
    folder = tmp_path_factory.mktemp("inputs")
    rng = np.random.default_rng(3)
    np.save(folder / "x.npy", rng.random((1400, 12)))
    np.save(folder / "t.npy", rng.random((300, 12)))
    np.save(folder / "images.npy", rng.random((60, 16, 16, 3)))
    np.save(folder / "y.npy", rng.integers(0, 4, 1400))
    np.savez(folder / "raw.npz", x=rng.integers(0, 255, (4000, 16, 16), dtype=np.uint8),
             y=rng.integers(0, 4, 4000))  # fmt: skip
    net: Arguments = ["gram", "--net", "fcn:depth=2,b_var=0.1", "--dtype", "float64"]
    k, c, a = folder / "k.h5", folder / "c.h5", folder / "a.h5"
    cut: Arguments = [*net, "--x", folder / "x.npy", "--tile", 128]
    for arguments in (
        [*net, "--x", folder / "x.npy", "--out", k],
        [*net, "--x", folder / "t.npy", "--x2", folder / "x.npy", "--out", c],
        ["solve", k, "--kernel", "nngp", "--y", folder / "y.npy", "--diag-reg", "0.1", "--out", a],
        [*cut, "--limit", 600, "--out", folder / "old.h5"],
        *([*cut, "--out", folder / "j.h5", "--shard", f"{number}/2"] for number in (1, 2)),
    ):
        subprocess.run(cli(*arguments), check=True, stdout=subprocess.DEVNULL)
    return folder


def _solve(f: Path, out: Path, *more: object) -> Arguments:
    return ["solve", f / "k.h5", "--y", f / "y.npy", "--diag-reg", "0.1", "--out", out, *more]


def _there(f: Path, o: Path, pattern: str) -> Path:
    """Copy the inputs of that name to the outputs, where they are not."""
    for path in f.glob(pattern):
        if not (o / path.name).exists():
            shutil.copy2(path, o)
    return o


def _tune(f: Path, o: Path, *more: object) -> Arguments:
    return ["tune", "--net", "fcn:depth={1,2,3}", "--x", f / "x.npy", "--y", f / "y.npy", "--limit",
            700, "--device", "cpu", "--out", o / "t.h5", *more]  # fmt: skip


# command -> its arguments, given the inputs and a folder for its outputs
COMMANDS: dict[str, Callable[[Path, Path], Arguments]] = {
    "gram": lambda f, o: ["gram", "--net", "cnn-p:depth=4", "--x", f / "images.npy", "--tile", 16,
                          "--out", o / "k.h5"],
    "gram-vectors": lambda f, o: ["gram", "--net", "fcn:depth=9", "--x", f / "x.npy", "--tile",
                                  128, "--out", o / "k.h5"],
    "gram-append": lambda f, o: ["gram", "--net", "fcn:depth=2,b_var=0.1", "--dtype", "float64",
                                 "--x", f / "x.npy", "--append", "--tile", 128, "--out",
                                 _there(f, o, "old.h5") / "old.h5"],
    "join": lambda f, o: ["join", _there(f, o, "j.h5.*") / "j.h5"],
    "combine": lambda f, o: ["combine", f / "k.h5", f / "k.h5", "--op", "product", "--out",
                             o / "p.h5"],
    "solve-svm": lambda f, o: ["solve", f / "k.h5", "--y", f / "y.npy", "--method", "svm",
                               "--folds", 2, "--c-path", "0.01,0.1,1", "--out", o / "a.h5"],
    "solve-dask": lambda f, o: _solve(f, o / "a.h5", "--preconditioner", "none", "--dask",
                                      "local:1"),
    "tune": lambda f, o: _tune(f, o),
    "tune-dask": lambda f, o: _tune(f, o, "--dask", "local:1"),
    "verify": lambda f, o: ["verify", f / "k.h5", "--sample", 30],
    "export-npy": lambda f, o: ["export", f / "k.h5", "--kernel", "ntk", "--to", o / "k.npy"],
    "export-npz": lambda f, o: ["export", f / "k.h5", "--kernel", "ntk", "--to", o / "k.npz"],
    "export-h5": lambda f, o: ["export", f / "k.h5", "--kernel", "ntk", "--to", o / "e.h5"],
    "solve": lambda f, o: _solve(f, o / "a.h5"),
    "solve-path": lambda f, o: ["solve", f / "k.h5", "--y", f / "y.npy", "--diag-reg-path",
                                "1e-3,1e-2,1e-1", "--out", o / "a.h5"],
    "solve-disk": lambda f, o: _solve(f, o / "a.h5", "--method", "cholesky-ooc",
                                      "--memory", "20MB"),
    "solve-cg": lambda f, o: _solve(f, o / "a.h5", "--method", "cg", "--preconditioner", "none",
                                    "--tol", "1e-12"),
    "eig-full": lambda f, o: ["eig", f / "k.h5", "--full", "--vectors", "--out", o / "e.h5"],
    "eig-density": lambda f, o: ["eig", f / "k.h5", "--density", "--out", o / "e.h5"],
    "eig-k": lambda f, o: ["eig", f / "k.h5", "--k", 8, "--which", "BE", "--out", o / "e.h5"],
    "predict": lambda f, o: ["predict", f / "a.h5", "--cross", f / "c.h5", "--variance", "--time",
                             "1,100", "--out", o / "p.h5"],
    "prepare": lambda f, o: ["data", "prepare", f / "raw.npz", "--out", o / "d.h5", "--memory",
                             "16MB"],
    "phase": lambda f, o: ["meanfield", "phase", "--out", o / "p.h5"],
    "spectrum": lambda f, o: ["meanfield", "spectrum", "--net", "fcn:depth=60", "--x",
                              f"{f / 't.npy'}", "--depths", "1-60", "--out", o / "s.h5"],
    "net": lambda f, o: ["net", "myrtle10"],
    "doctor": lambda f, o: ["doctor"],
}  # fmt: skip


def _outcome(arguments: Arguments, seconds: float, number: int) -> tuple[int, list[str]]:
    process = start(cli(*arguments))
    listening(process)
    time.sleep(seconds)
    if process.poll() is None:
        process.send_signal(number)
    return ended(process)


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_stopped_anywhere(name: str, inputs: Path, tmp_path: Path) -> None:
    make, chance = COMMANDS[name], random.Random(name)
    begun = time.monotonic()
    whole = cli(*make(inputs, _folder(tmp_path / "whole")))
    done = subprocess.run(whole, capture_output=True, text=True, timeout=HANG_SECONDS)
    assert done.returncode == 0, done.stderr
    length = time.monotonic() - begun
    files = sorted(path.name for path in (tmp_path / "whole").iterdir())
    for trial in range(TRIALS):
        out = _folder(tmp_path / str(trial))
        moment = chance.uniform(0.0, length)
        number = chance.choice(SIGNALS)
        code, lines = _outcome(make(inputs, out), moment, number)
        where = f"{name}: {signal.Signals(number).name} after {moment:.2f} s: {code}, {lines}"
        assert code in (0, 130), where
        assert "Traceback" not in "".join(lines), where
        assert code == 0 or "run the same command again" in lines[-1], where
        assert litter(out) == [], where
        rerun = cli(*make(inputs, out))
        again = subprocess.run(rerun, capture_output=True, text=True, timeout=HANG_SECONDS)
        if "exists" in again.stderr:  # It was all written before the signal took effect.
            rerun.append("--overwrite")
            again = subprocess.run(rerun, capture_output=True, text=True, timeout=HANG_SECONDS)
        assert again.returncode == 0, f"{where}; again: {again.stderr}"
        assert sorted(path.name for path in out.iterdir()) == files, where


def _folder(path: Path) -> Path:
    path.mkdir()
    return path
