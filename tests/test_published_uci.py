"""Support vector machines on kernels of UCI data sets, as `bench published` chooses them."""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from widegram_bench.published import uci
from widegram_bench.published.modules import ended
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
def kinds(data: Path) -> list[uci.FixedKernel]:
    return list(uci.kernels(uci.load(data, "toy")))


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


def test_kernels_are_the_papers(data: Path, kinds: list[uci.FixedKernel]) -> None:
    x = uci.load(data, "toy").x
    assert [(kind.depth, kind.fixed) for kind in kinds] == [
        (depth, fixed) for depth in range(1, 6) for fixed in range(depth)
    ]
    for kind in kinds:
        # arccos near 1 keeps half of the digits: sqrt(2.2e-16) = 1.5e-8 on the diagonal
        wanted = recursion(x, kind.depth, kind.fixed)
        np.testing.assert_allclose(kind.matrix, wanted, atol=1e-7 * wanted.max())


def test_choice_and_accuracy_are_those_of_a_search_by_hand(
    data: Path, kinds: list[uci.FixedKernel]
) -> None:
    found = uci.load(data, "toy")
    split = found.rows

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


def test_within_folds_no_test_label_is_looked_at(data: Path, kinds: list[uci.FixedKernel]) -> None:
    found = uci.load(data, "toy")
    kinds = kinds[1:3]
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
    assert uci.accuracies(np.eye(4), y, train, test, [1.0, 10.0]) == [0.5, 0.5]


def test_the_command(data: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """A line of the table, its set's name replaced; of fewer layers and C."""
    (line,) = rows("quick", "uci-iris")[0].commands
    words = line.format(uci=data).split()
    assert words[:3] == ["python", "-m", "widegram_bench.published.uci"]
    monkeypatch.setattr(uci, "LAYERS", 3)
    monkeypatch.setattr(uci, "C_PATH", (0.1, 1.0))
    found = uci.load(data, "toy")
    kinds = list(uci.kernels(found))
    for more in ([], ["--within-folds"]):
        monkeypatch.setattr(sys, "argv", ["uci", words[3], "toy", *more])
        uci.main()
        wanted = uci.judged(found, kinds, within_folds=bool(more))
        assert json.loads(capsys.readouterr().out) == wanted


def test_bad_input_is_one_line(data: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    np.save(tmp_path / "array.npy", np.zeros(3))
    (tmp_path / "text").write_text("x")
    for file, said in (
        (data, "has no data set 'iris'"),
        (tmp_path / "none.npz", "cannot be read as .npz: FileNotFoundError"),
        (tmp_path / "array.npy", "cannot be read as .npz"),
        (tmp_path / "text", "cannot be read as .npz"),
    ):
        monkeypatch.setattr(sys, "argv", ["uci", str(file), "iris"])
        with pytest.raises(SystemExit) as stop:
            ended(uci.main)
        assert stop.value.code == 2
        line = capsys.readouterr().err
        assert line.startswith(f"error: {file}: {said}")
        assert line.count("\n") == 1
