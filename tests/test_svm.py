"""`solve --method svm` and what `predict` makes of it, against scikit-learn's SVC on the same
matrices."""

from __future__ import annotations

import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

pytest.importorskip("sklearn")

from sklearn.model_selection import StratifiedKFold
from sklearn.svm import SVC

import widegram
from cli_support import refused, run, run_json
from linalg_support import write_gram
from widegram.errors import WidegramError
from widegram.linalg.svm.machines import cross_validated, fitted
from widegram.linalg.svm.votes import pairs, votes

RNG = np.random.default_rng(4)
N, TEST = 60, 25
CENTERS = 2.5 * RNG.standard_normal((4, 5))
ROWS = np.arange(N + TEST) % 4
INPUTS = CENTERS[ROWS] + RNG.standard_normal((N + TEST, 5)) * 1.5
KERNEL = (1.0 + INPUTS @ INPUTS.T / 5) ** 2
TRAIN, ACROSS = KERNEL[:N, :N], KERNEL[N:, :N]
LABELS = 3 * ROWS + 7
# Both sides solve to LIBSVM's tolerance with the same calls; what differs is the order of sums.
CLOSE = {"rtol": 1e-10, "atol": 1e-10}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_gram(tmp_path / "k.h5", {"nngp": TRAIN})
    write_gram(tmp_path / "c.h5", {"nngp": ACROSS}, symmetric=False, x1="test", x2="train")
    for name, labels in (("y", LABELS[:N]), ("yt", LABELS[N:]), ("two", LABELS[:N] % 2)):
        np.save(tmp_path / f"{name}.npy", labels)
    np.save(tmp_path / "numbers.npy", RNG.standard_normal(N))
    return tmp_path


def command(folder: Path, *extra: object, y: str = "y") -> list[object]:
    files = [folder / "k.h5", "--y", folder / f"{y}.npy", "--kernel", "nngp"]
    return ["solve", *files, "--method", "svm", "--out", folder / "a.h5", *extra]


@pytest.mark.parametrize("k", [2, 4])
def test_decisions_are_those_of_svc(k: int) -> None:
    labels = ROWS % k
    ours = fitted(TRAIN, labels[:N], 0.3)
    theirs = SVC(C=0.3, kernel="precomputed", decision_function_shape="ovo")
    theirs.fit(TRAIN, labels[:N])
    decision = ACROSS @ ours.alpha + ours.intercept
    expected = theirs.decision_function(ACROSS).reshape(TEST, -1)
    np.testing.assert_allclose(decision, expected, **CLOSE)
    np.testing.assert_array_equal(votes(decision, k).argmax(axis=1), theirs.predict(ACROSS))
    assert ours.support == len(theirs.support_)
    assert (ours.alpha != 0).any(axis=1).sum() <= ours.support


def test_every_pair_of_classes_has_a_machine() -> None:
    assert pairs(2).tolist() == [[1, 0]]
    assert pairs(3).tolist() == [[0, 1], [0, 2], [1, 2]]
    # Classes 0 and 2 win twice each: the first of them is predicted.
    assert votes(np.array([[1.0, -1.0, 1.0]]), 3).tolist() == [[1.0, 1.0, 1.0]]
    assert votes(np.array([[-0.5], [2.0]]), 2).tolist() == [[1.0, 0.0], [0.0, 1.0]]
    # Rows that are one have decision values of exactly 0, and LIBSVM predicts the later class.
    for k in (2, 3):
        labels, ones = np.arange(2 * k) % k, np.ones((2 * k, 2 * k))
        machines = fitted(ones, labels, 1.0)
        decision = ones @ machines.alpha + machines.intercept
        assert not decision.any()
        theirs = SVC(kernel="precomputed").fit(ones, labels)
        assert votes(decision, k).argmax(axis=1).tolist() == theirs.predict(ones).tolist()


def test_cross_validation_by_hand() -> None:
    labels, path = ROWS[:N], [1e-4, 1e-2, 1.0]
    right = np.zeros((len(path), N))
    splits = StratifiedKFold(3, shuffle=True, random_state=5).split(labels, labels)
    for train, held in splits:
        for at, c in enumerate(path):
            model = SVC(C=c, kernel="precomputed").fit(TRAIN[np.ix_(train, train)], labels[train])
            right[at, held] = model.predict(TRAIN[np.ix_(held, train)]) == labels[held]
    found = cross_validated(TRAIN, labels, path, 3, 5)
    assert found == right.mean(axis=1).tolist()
    assert len(set(found)) > 1
    assert found != cross_validated(TRAIN, labels, path, 3, 6)


def test_a_class_of_one_row_is_never_predicted_by_the_others() -> None:
    labels = np.array([0] * 5 + [1])
    assert cross_validated(np.eye(6), labels, [1.0], 5, 0) == [5 / 6]
    with pytest.raises(WidegramError, match="a number from 2 to 5, the rows of the largest class"):
        cross_validated(np.eye(6), labels, [1.0], 6, 0)
    with pytest.raises(WidegramError, match="no class has two rows"):
        cross_validated(np.eye(6), np.arange(6), [1.0], 2, 0)


def test_solve_and_predict(folder: Path) -> None:
    path = ["--c-path", "0.0001,0.01,1", "--folds", 3, "--seed", 5]
    found = run_json(*command(folder, *path))
    shares = cross_validated(TRAIN, ROWS[:N], [1e-4, 1e-2, 1.0], 3, 5)
    assert [row["accuracy"] for row in found["path"]] == shares
    best = found["details"]["c"]
    assert best == [1e-4, 1e-2, 1.0][int(np.argmax(shares))]
    assert found["details"]["cv_accuracy"] == max(shares)
    assert (found["method"], found["k"], found["residual"]) == ("svm", 6, None)
    told = run_json("predict", folder / "a.h5", "--cross", folder / "c.h5", "--y",
                    folder / "yt.npy", "--out", folder / "p.h5")  # fmt: skip
    model = SVC(C=best, kernel="precomputed", decision_function_shape="ovo")
    model.fit(TRAIN, LABELS[:N])
    assert told["accuracy"] == model.score(ACROSS, LABELS[N:])
    assert told["train_accuracy"] == model.score(TRAIN, LABELS[:N])
    assert (told["mse"], told["train_mse"], told["nll"]) == (None, None, None)
    with h5py.File(folder / "p.h5") as file:
        np.testing.assert_allclose(file["decision"][:], model.decision_function(ACROSS), **CLOSE)
        np.testing.assert_array_equal(file["predicted"][:], model.predict(ACROSS))
        np.testing.assert_array_equal(file["classes"][:][file["pairs"][:]], [
            (7, 10), (7, 13), (7, 16), (10, 13), (10, 16), (13, 16)
        ])  # fmt: skip
    for name in ("a.h5", "p.h5"):
        assert "no damage" in run("verify", folder / name).stdout
    again = run(*command(folder, *path, "--overwrite"))
    assert "<- best" in again.stdout


def test_two_classes_and_one_c(folder: Path) -> None:
    widegram.gram("fcn:depth=1", INPUTS[:N], folder / "u.h5", get="nngp", dtype="float64")
    found = run_json("solve", folder / "u.h5", "--kernel", "nngp", "--y", folder / "two.npy",
                     "--method", "svm", "--c-path", 0.05, "--unit-diagonal", "--out",
                     folder / "a.h5")  # fmt: skip
    assert (found["k"], found["path"], found["details"]["folds"]) == (1, [], None)
    with h5py.File(folder / "u.h5") as file:
        kernel = file["nngp"][:]
    scale = np.sqrt(np.diagonal(kernel))
    model = SVC(C=0.05, kernel="precomputed").fit(kernel / np.outer(scale, scale), LABELS[:N] % 2)
    with h5py.File(folder / "a.h5") as file:
        expected = np.zeros(N)
        expected[model.support_] = model.dual_coef_[0]
        # The scaled matrix is rounded differently by a last bit.
        np.testing.assert_allclose(file["alpha"][:, 0], expected, rtol=1e-6, atol=1e-9)
        assert file["targets"].shape == (N, 2)


@pytest.mark.parametrize(
    ("message", "extra"),
    [
        ("--diag-reg: method svm has C", ("--diag-reg", 1)),
        ("--loo and --evidence: method svm has C", ("--loo", "--evidence")),
        ("--diag-reg-path and --absolute", ("--diag-reg-path", "1,2", "--absolute")),
        ("--targets: method", ("--targets", "one-hot")),
        ("--target-shift: method", ("--target-shift", 0.1)),
        ("--factor-dtype serves --method auto", ("--factor-dtype", "float32")),
        ("--normalize-y: method", ("--normalize-y",)),
        ("--scale-prior: method", ("--scale-prior",)),
        ("for classes, and the task asked for", ("--task", "regression")),
        ("give numbers above 0", ("--c-path", "1,0")),
        ("give numbers above 0", ("--c-path", "nan")),
        ("not a list of numbers", ("--c-path", "many")),
        (r"folds 3 \(--folds\): there is nothing to validate", ("--c-path", 1, "--folds", 3)),
        ("a number from 2 to 15, the rows", ("--folds", 40)),
        ("folds", ("--folds", 1)),
        ("--plan knows no iterations", ("--plan",)),
        ("go together", ("--centers", "c.h5")),
    ],
)
def test_refusals(folder: Path, message: str, extra: tuple[object, ...]) -> None:
    refused(message, *command(folder, *extra))
    assert not (folder / "a.h5").exists()


def test_other_refusals(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused("svm is for classes, and these are taken for numbers", *command(folder, y="numbers"))
    files = [folder / "k.h5", "--y", folder / "y.npy", "--kernel", "nngp", "--out", folder / "b.h5"]
    refused("--c-path serves --method svm", "solve", *files, "--c-path", "1")
    refused("--folds serves --method svm", "solve", *files, "--folds", "3", "--method", "cg")
    run_json(*command(folder, "--c-path", 1))
    predict = ["predict", folder / "a.h5", "--cross", folder / "c.h5"]
    refused("which have no variances", *predict, "--variance")
    refused("which have no times", *predict, "--time", "1,inf")
    monkeypatch.setitem(sys.modules, "sklearn.svm", None)
    refused(r"needs scikit-learn: pip install 'widegram\[sklearn\]'",
            *command(folder, "--overwrite"))  # fmt: skip


def test_a_matrix_beyond_memory_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("widegram.linalg.svm.svmjob.array_budget", lambda memory: 40_000)
    refused("holds the matrix in memory: 60 rows and 4 classes", *command(folder))


def test_machines_that_do_not_end_are_stopped_and_say_so(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("widegram.linalg.svm.machines.ITERATIONS", 7)
    monkeypatch.setattr("widegram.linalg.svm.machines.ITERATIONS_OF_A_ROW", 0)
    found = run_json(*command(folder, "--c-path", "1,1e300", "--folds", 2))
    assert found["status"] == "max_iterations"
    assert "stopped after 7 iterations" in found["message"]
    told = run("predict", folder / "a.h5", "--cross", folder / "c.h5")
    assert told.exit_code == 0, told.stderr
    assert "max_iterations: its solver stopped early" in told.stdout
