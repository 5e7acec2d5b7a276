"""`--rows` of files with several depths and heads: as of a file of those rows alone."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

import widegram
from cli_support import refused, run_json
from test_append import SWEEP, X

RNG = np.random.default_rng(6)
N = len(X)
LABELS = np.arange(N) % 3
TRAIN = RNG.permutation(N)[:20]
TEST = np.setdiff1d(np.arange(N), TRAIN)[::-1].copy()
CHOICES = [(1, "flat"), (2, "flat"), (1, "gap"), (2, "gap")]
# float32: which input of a pair comes first changes an entry of a pooled head by a rounding.
ROUNDING = 6e-8
# Times the condition number, of matrices whose largest eigenvalue is 16 times their mean and whose
# regulariser 0.1 of it, and some five for sums of 20 terms.
CLOSE = {"atol": 5 * 160 * ROUNDING}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("sweeps")
    for name, of in (("K", (X,)), ("part", (X[TRAIN],)), ("cross", (X[TEST], X[TRAIN])),
                     ("wide", (X[TEST], X))):  # fmt: skip
        widegram.gram(SWEEP, of[0], place / f"{name}.h5", *of[1:], depths=(1, 2), tile=8)
    np.savez(place / "d.npz", y=LABELS, train=TRAIN, test=TEST, y_train=LABELS[TRAIN],
             y_test=LABELS[TEST])  # fmt: skip
    return place


def datasets(path: Path, *names: str) -> list[np.ndarray]:
    with h5py.File(path) as file:
        return [file[name][...] for name in names]


@pytest.mark.parametrize(("depth", "head"), CHOICES)
def test_solutions_and_predictions(folder: Path, tmp_path: Path, depth: int, head: str) -> None:
    data, at = f"{folder}/d.npz", ("--depth", depth, "--head", head)
    train, test = ("--rows", f"{data}:train"), ("--rows", f"{data}:test")
    for name, matrix, y, rows in (("rows", "K", "y", train), ("part", "part", "y_train", ())):
        run_json("solve", folder / f"{matrix}.h5", *at, "--y", f"{data}:{y}", *rows,
                 "--diag-reg", 0.1, "--out", tmp_path / f"{name}.h5")  # fmt: skip
    shown = [
        run_json("predict", tmp_path / f"{name}.h5", *how, "--y", f"{data}:{y}", "--variance",
                 "--out", tmp_path / f"{name}-p.h5")
        for name, how, y in (
            ("rows", test, "y"), ("part", ("--cross", folder / "cross.h5", *at), "y_test"),
        )
    ]  # fmt: skip
    assert shown[0]["accuracy"] == shown[1]["accuracy"]
    run_json("predict", tmp_path / "rows.h5", "--cross", folder / "wide.h5", *at, "--out",
             tmp_path / "wide-p.h5")  # fmt: skip
    wanted = datasets(tmp_path / "part-p.h5", "mean", "variance")
    found = datasets(tmp_path / "rows-p.h5", "mean", "variance")
    np.testing.assert_allclose(found[0], wanted[0], **CLOSE)
    np.testing.assert_allclose(found[1], wanted[1], **CLOSE)
    np.testing.assert_allclose(*datasets(tmp_path / "wide-p.h5", "mean"), wanted[0], **CLOSE)


@pytest.mark.parametrize(("depth", "head"), CHOICES[1:3])
def test_spectra_and_exports(folder: Path, tmp_path: Path, depth: int, head: str) -> None:
    data, at = f"{folder}/d.npz", ("--depth", depth, "--head", head)
    run_json("eig", folder / "K.h5", *at, "--full", "--rows", f"{data}:train", "--out",
             tmp_path / "E.h5")  # fmt: skip
    run_json("export", folder / "wide.h5", *at, "--kernel", "ntk", "--rows", "2:5", "--columns",
             f"{data}:train", "--to", tmp_path / "k.npy")  # fmt: skip
    name = f"depth/{depth}/head/{head}/ntk"
    (part,), (cross,) = datasets(folder / "part.h5", name), datasets(folder / "cross.h5", name)
    values = np.linalg.eigvalsh(part.astype(float))
    # Weyl: no eigenvalue moves by more than the norm of what changed.
    bound = ROUNDING * len(part) * part.max()
    np.testing.assert_allclose(*datasets(tmp_path / "E.h5", "eigenvalues"), values, atol=bound)
    np.testing.assert_array_equal(np.load(tmp_path / "k.npy"), cross[2:5])


def test_refusals(folder: Path, tmp_path: Path) -> None:
    """Which matrix is meant is asked for with rows, too; a solution keeps its own."""
    rows = ("--rows", ":20")
    y = ("--y", f"{folder}/d.npz:y", "--out", tmp_path / "A.h5")
    refused("give a depth; its depths: 1, 2", "solve", folder / "K.h5", *rows, *y)
    first = (folder / "K.h5", "--depth", 1)
    refused("give a head; its heads: flat, gap", "eig", *first, "--full", *rows)
    refused("no depth 3", "solve", folder / "K.h5", "--depth", 3, "--head", "gap", *rows, *y)
    run_json("solve", folder / "K.h5", "--depth", 1, "--head", "gap", *rows, *y)
    for other, said in ((("--depth", 2), "depth 1, not of 2"), (("--head", "flat"), "head gap")):
        refused(f"is the solution of .*{said}", "predict", tmp_path / "A.h5", *other, "--rows",
                "20:")  # fmt: skip
