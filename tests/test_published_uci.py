"""Support vector machines on kernels of UCI data sets, as `bench published` chooses them."""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from cli_support import run
from widegram.errors import WidegramError
from widegram_bench.published import uci
from widegram_bench.published.rowtable import rows

SVC = pytest.importorskip("sklearn.svm").SVC


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file as the UCI sets are kept in, of one set, toy."""
    rng = np.random.default_rng(0)
    n = 60
    x = rng.standard_normal((n, 3))
    y = ((x[:, 0] + 0.7 * rng.standard_normal(n)) > 0).astype(int) + (x[:, 1] > 1)
    half, folds = rng.permutation(n), rng.permutation(n)
    arrays = {"x": x, "y": y, "train": half[: n // 2], "valid": half[n // 2 :]}
    for k in range(4):
        arrays[f"fold{k}_test"] = folds[k::4]
        arrays[f"fold{k}_train"] = np.setdiff1d(folds, folds[k::4])
    path = tmp_path_factory.mktemp("uci") / "uci90.npz"
    np.savez(path, **{f"toy/{name}": array for name, array in arrays.items()})
    return path


@pytest.fixture(scope="module")
def grams(data: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """By the commands of the table."""
    folder = tmp_path_factory.mktemp("grams")
    np.save(folder / "x.npy", uci.inputs(uci.load(data, "toy")))
    row = rows("quick", "uci-iris")[0]
    found = []
    for line in (line for line in row.commands if " gram " in line):
        *words, out = line.replace("x.npy", str(folder / "x.npy")).split()[1:]
        assert run(*words, folder / out).exit_code == 0
        found.append(folder / out)
    return found


def recursion(x: np.ndarray, depth: int, fixed: int) -> np.ndarray:
    """Arora et al. 2020, section 3: ``depth`` layers, the first ``fixed`` not trained."""
    sigma = x @ x.T
    theta = np.zeros_like(sigma)
    for layer in range(depth):
        if layer >= fixed:
            theta = theta + sigma
        if layer + 1 < depth:
            norms = np.sqrt(np.diag(sigma))
            outer = np.outer(norms, norms)
            angle = np.arccos(np.clip(sigma / outer, -1.0, 1.0))
            sigma = outer * (np.sin(angle) + (np.pi - angle) * np.cos(angle)) / (2 * np.pi)
            theta = theta * (np.pi - angle) / (2 * np.pi)
    return theta


def test_kernels_are_the_papers(data: Path, grams: list[Path]) -> None:
    found = uci.load(data, "toy")
    kinds = uci.kernels(found, grams)
    assert [(kind.depth, kind.fixed) for kind in kinds] == [
        (depth, fixed) for depth in range(1, 6) for fixed in range(depth)
    ]
    for kind in kinds:
        # arccos near 1 keeps half of the digits: sqrt(2.2e-16) = 1.5e-8 on the diagonal
        wanted = recursion(found.x, kind.depth, kind.fixed)
        np.testing.assert_allclose(kind.matrix, wanted, atol=1e-7 * wanted.max())


def test_choice_and_accuracy_are_those_of_a_search_by_hand(data: Path, grams: list[Path]) -> None:
    found = uci.load(data, "toy")
    kinds, split = uci.kernels(found, grams), found.rows

    def score(kernel: np.ndarray, penalty: float, train: np.ndarray, test: np.ndarray) -> float:
        machine = SVC(kernel="precomputed", C=penalty)
        machine.fit(kernel[train][:, train], found.y[train])
        return machine.score(kernel[test][:, train], found.y[test])

    best, of = -1.0, (kinds[0], 0.0)
    for kind, penalty in itertools.product(kinds, [0.01, 0.1, 1.0, 10.0, 100.0, 1e3, 1e4]):
        now = score(kind.matrix, penalty, split["train"], split["valid"])
        if now > best:
            best, of = now, (kind, penalty)
    folds = [
        score(of[0].matrix, of[1], split[f"fold{k}_train"], split[f"fold{k}_test"])
        for k in range(4)
    ]
    judged = uci.judged(found, kinds, within_folds=False)
    assert judged["accuracy"] == pytest.approx(np.mean(folds))
    assert judged["n_test"] == 60
    (chosen,) = judged["chosen"]
    assert (chosen["depth"], chosen["fixed"], chosen["C"], chosen["valid"]) == (
        of[0].depth, of[0].fixed, of[1], best,
    )  # fmt: skip


def test_within_folds_no_test_label_is_looked_at(data: Path, grams: list[Path]) -> None:
    found = uci.load(data, "toy")
    kinds = uci.kernels(found, grams)[1:3]
    choices = []
    for fold in range(4):
        y = found.y.copy()
        y[found.rows[f"fold{fold}_test"]] = 7  # a class that nothing else has
        changed = uci.judged(uci.DataSet(found.x, y, found.rows), kinds, within_folds=True)
        choices.append(changed["chosen"][fold])
    assert uci.judged(found, kinds, within_folds=True)["chosen"] == choices


def test_one_class_alone_is_predicted() -> None:
    y = np.array([1, 1, 0, 1])
    train, test = np.array([0, 1]), np.array([2, 3])
    assert uci.accuracy(np.eye(4), y, train, test, 1.0) == 0.5


def test_the_commands(data: Path, grams: list[Path], tmp_path: Path, monkeypatch, capsys) -> None:
    out = tmp_path / "x.npy"
    monkeypatch.setattr(sys, "argv", ["uci", "inputs", str(data), "toy", "--out", str(out)])
    uci.main()
    assert json.loads(capsys.readouterr().out) == {"n": 60, "features": 3}
    np.testing.assert_array_equal(np.load(out), uci.load(data, "toy").x * np.sqrt(3))
    monkeypatch.setattr(sys, "argv", ["uci", "svm", str(data), "toy", *map(str, grams)])
    uci.main()
    assert 0.5 < json.loads(capsys.readouterr().out)["accuracy"] < 1.0
    with pytest.raises(WidegramError, match="has no data set 'iris'"):
        uci.load(data, "iris")
