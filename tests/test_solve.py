"""`widegram solve`: labels, files, refusals, work files."""

from __future__ import annotations

import json
import math
from pathlib import Path

import h5py
import numpy as np
import pytest
from click.testing import CliRunner

from linalg_support import with_spectrum, write_gram
from widegram import WidegramError
from widegram.linalg.targets import accuracy, encode, load_targets
from widegram_cli.main import program

N = 120
MATRIX = with_spectrum(np.geomspace(1e-3, 10, N)) + 0.5
LABELS = np.random.default_rng(0).integers(0, 4, N) * 2  # classes 0, 2, 4, 6


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_gram(tmp_path / "k.h5", {"nngp": MATRIX, "ntk": 2 * MATRIX})
    np.save(tmp_path / "y.npy", LABELS.astype(np.uint8))
    np.save(tmp_path / "f.npy", np.random.default_rng(1).standard_normal((N, 3)))
    return tmp_path


def invoke(folder: Path, *arguments: object):
    options = ["solve", str(folder / "k.h5"), "--out", str(folder / "a.h5")]
    return CliRunner().invoke(program, options + [str(a) for a in arguments])


def solved(folder: Path, *arguments: object) -> dict:
    result = invoke(folder, *arguments, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def alpha(folder: Path) -> np.ndarray:
    with h5py.File(folder / "a.h5") as file:
        return file["alpha"][:]


@pytest.mark.parametrize("method", ["auto", "cholesky", "cholesky-ooc", "cg"])
def test_methods_agree(folder, method) -> None:
    extra = ["--tol", "1e-12"] if method == "cg" else []
    found = solved(folder, "--y", folder / "y.npy", "--diag-reg", 1e-2, "--method", method, *extra)
    assert {"method", "status", "iterations", "residual", "diag_reg", "seconds"} <= set(found)
    assert found["status"] == "ok"
    assert found["method"] == ("cholesky" if method == "auto" else method)
    shift = 1e-2 * np.trace(2 * MATRIX) / N
    assert found["shift"] == pytest.approx(shift)
    one_hot = (LABELS[:, None] == np.arange(0, 8, 2)) - 0.25
    expected = np.linalg.solve(2 * MATRIX + shift * np.eye(N), one_hot)
    # Condition 1e3, residual 1e-12.
    np.testing.assert_allclose(alpha(folder), expected, atol=1e-9 * np.abs(expected).max())
    assert sorted(path.name for path in folder.glob("a.h5*")) == ["a.h5"]


def test_solution_carries_where_it_comes_from(folder) -> None:
    solved(folder, "--y", folder / "y.npy", "--kernel", "nngp", "--diag-reg", 0.25, "--absolute")
    with h5py.File(folder / "a.h5") as file:
        found = dict(file.attrs)
        assert file["classes"][:].tolist() == [0, 2, 4, 6]
        np.testing.assert_allclose(file["targets"][:].sum(axis=1), 0, atol=1e-15)
    assert found["format"] == "widegram-solution"
    assert (found["network_fingerprint"], found["x1_fingerprint"]) == ("net", "train")
    assert (found["kernel"], found["shift"], found["status"]) == ("nngp", 0.25, "ok")
    assert Path(found["gram"]) == folder / "k.h5"


def test_regression_and_limits(folder) -> None:
    solved(folder, "--y", folder / "f.npy", "--diag-reg", 1e-2)
    first = alpha(folder)
    assert first.shape == (N, 3)
    np.save(folder / "long.npy", np.vstack([np.load(folder / "f.npy"), np.ones((9, 3))]))
    result = invoke(folder, "--y", folder / "long.npy", "--overwrite")
    assert result.exit_code == 2
    assert f"pass --limit {N}" in result.stderr
    solved(folder, "--y", folder / "long.npy", "--limit", N, "--diag-reg", 1e-2, "--overwrite")
    np.testing.assert_array_equal(alpha(folder), first)


@pytest.mark.parametrize("memory", ["1GB", "16MB"])
def test_path_picks_the_best_and_says_so(folder, memory) -> None:
    regs = [1e-6, 1e-3, 1.0]
    arguments = ["--y", folder / "y.npy", "--memory", memory]
    found = solved(folder, *arguments, "--diag-reg-path", ",".join(map(str, regs)))
    errors = [row["mse"] for row in found["path"]]
    assert found["diag_reg"] == regs[int(np.argmin(errors))]
    assert found["loo_mse"] == min(errors)
    assert [row["best"] for row in found["path"]].count(True) == 1
    single = solved(folder, *arguments, "--diag-reg", regs[0], "--loo", "--overwrite")
    assert single["path"][0]["mse"] == pytest.approx(errors[0], rel=1e-6)
    text = invoke(folder, *arguments, "--diag-reg-path", "1,100", "--overwrite").stdout
    assert text.count("<- best") == 1
    assert "diag_reg 100, an end of the path: larger ones may be better" in text
    assert "end of the path" not in single["message"]


def test_runs_give_the_same_file(folder) -> None:
    found = []
    for _ in range(2):
        solved(folder, "--y", folder / "y.npy", "--method", "cg", "--overwrite", "--diag-reg", 1)
        found.append(alpha(folder))
    np.testing.assert_array_equal(*found)


def test_a_restart_goes_on(folder) -> None:
    arguments = [
        "--y",
        folder / "f.npy",
        "--method",
        "cg",
        "--preconditioner",
        "none",
        "--tol",
        "1e-9",
    ]
    found = solved(folder, *arguments, "--max-iter", 5)
    assert found["status"] == "max_iterations"
    assert "the same command with --overwrite goes on" in found["message"]
    assert (folder / "a.h5.restart").exists()
    again = solved(folder, *arguments, "--overwrite")
    assert again["status"] == "ok"
    assert again["details"]["restarted_from"] == 5
    assert not (folder / "a.h5.restart").exists()


def test_refusals(folder) -> None:
    write_gram(folder / "part.h5", {"ntk": MATRIX}, complete=False)
    write_gram(folder / "cross.h5", {"ntk": MATRIX[:, :50]}, symmetric=False, x2="other")
    with_nan = np.load(folder / "f.npy")
    with_nan[7, 1] = np.nan
    np.save(folder / "nan.npy", with_nan)
    np.save(folder / "short.npy", LABELS[:-1])
    np.save(folder / "one.npy", np.zeros(N, dtype=int))
    y = ["--y", str(folder / "y.npy")]
    k = str(folder / "k.h5")
    for matrix, arguments, message in (
        (k, ["--y", str(folder / "nan.npy")], "row 7 holds NaN"),
        (k, ["--y", str(folder / "short.npy")], "119 labels, the matrix has 120"),
        (k, ["--y", str(folder / "one.npy")], "single class 0"),
        (k, [*y, "--diag-reg", "-1"], "zero or positive"),
        (k, [*y, "--diag-reg-path", "1,-1"], "zero or positive"),
        (k, [*y, "--diag-reg-path", "1,x"], "not a list of numbers"),
        (k, [*y, "--loo", "--method", "cg"], "need a factorisation"),
        (k, [*y, "--diag-reg", "0", "--diag-reg-path", "1,2"], "both name regularisers"),
        (k, [*y, "--loo", "--factor-dtype", "float32"], "factorisation in float64"),
        (k, [*y, "--tol", "-1"], "not in the range"),
        (k, [*y, "--memory", "1MB"], "too small|no memory|at least"),
        (str(folder / "part.h5"), y, "not complete"),
        (str(folder / "cross.h5"), y, "without --x2"),
        (str(folder / "kk.h5"), y, "did you mean"),
        (str(folder / "y.npy"), y, "has shape (120,); a kernel matrix has rows and columns"),
    ):
        command = ["solve", matrix, "--out", str(folder / "a.h5"), *arguments]
        result = CliRunner().invoke(program, command)
        assert result.exit_code == 2, command
        assert len(result.stderr.strip().splitlines()) == 1
        assert any(part in result.stderr for part in message.split("|")), result.stderr
        assert not (folder / "a.h5").exists()


def test_an_output_is_never_overwritten_unasked(folder) -> None:
    (folder / "a.h5").write_text("precious")
    result = invoke(folder, "--y", folder / "y.npy")
    assert result.exit_code == 2
    assert "--overwrite" in result.stderr
    assert (folder / "a.h5").read_text() == "precious"


def test_inputs_are_never_the_output(folder) -> None:
    for name in ("k.h5", "y.npy"):
        command = ["solve", str(folder / "k.h5"), "--y", str(folder / "y.npy"), "--overwrite"]
        result = CliRunner().invoke(program, [*command, "--out", str(folder / name)])
        assert result.exit_code == 2
        assert "is an input of this command" in result.stderr
    assert np.load(folder / "y.npy").size == N


def test_not_definite_proposes_what_works(folder) -> None:
    write_gram(folder / "bad.h5", {"ntk": with_spectrum(np.r_[-0.01, np.geomspace(0.1, 1, N - 1)])})
    command = [
        "solve",
        str(folder / "bad.h5"),
        "--y",
        str(folder / "y.npy"),
        "--out",
        str(folder / "b.h5"),
    ]
    result = CliRunner().invoke(program, command)
    assert result.exit_code == 2
    assert "smallest pivot" in result.stderr
    proposal = result.stderr.split("--diag-reg ")[1].strip()
    assert CliRunner().invoke(program, [*command, "--diag-reg", proposal]).exit_code == 0
    command += ["--absolute", "--overwrite"]
    stderr = CliRunner().invoke(program, [*command, "--diag-reg", "1e-9"]).stderr
    proposal, flag = stderr.split("--diag-reg ")[1].split()
    assert flag == "--absolute"
    assert CliRunner().invoke(program, [*command, "--diag-reg", proposal]).exit_code == 0


def test_depth_sweeps(folder) -> None:
    write_gram(folder / "d.h5", {"depth/2/ntk": MATRIX, "depth/5/ntk": 3 * MATRIX}, depths=(2, 5))
    command = [
        "solve",
        str(folder / "d.h5"),
        "--y",
        str(folder / "f.npy"),
        "--out",
        str(folder / "a.h5"),
        "--diag-reg",
        "1e-2",
    ]
    assert "give a depth" in CliRunner().invoke(program, command).stderr
    assert CliRunner().invoke(program, [*command, "--depth", "5"]).exit_code == 0
    shift = 3e-2 * np.trace(MATRIX) / N
    expected = np.linalg.solve(3 * MATRIX + shift * np.eye(N), np.load(folder / "f.npy"))
    np.testing.assert_allclose(alpha(folder), expected, rtol=1e-8, atol=1e-10)


def test_encoding() -> None:
    found = encode(np.array([[3], [1], [3]]))
    np.testing.assert_array_equal(found.values, [[-0.5, 0.5], [0.5, -0.5], [-0.5, 0.5]])
    again = encode(np.array([1]), classes=found.classes)
    np.testing.assert_array_equal(again.values, [[0.5, -0.5]])
    assert encode(np.array([True, False])).classes.tolist() == [0, 1]
    with pytest.raises(WidegramError, match="row 1 has class 2, which is not among"):
        encode(np.array([1, 2]), classes=found.classes)
    with pytest.raises(WidegramError, match="expected integer classes"):
        encode(np.array([[1, 2], [3, 4]]))
    with pytest.raises(WidegramError, match="expected integer classes"):
        encode(np.array(["a", "b"]))
    whole = encode(np.array([3.0, 1.0, 3.0]), task="classification")
    assert whole.classes.tolist() == [1, 3]
    assert whole.fingerprint != encode(np.array([3.0, 1.0, 3.0])).fingerprint
    with pytest.raises(WidegramError, match=r"row 1 holds 1\.5, no whole number"):
        encode(np.array([3.0, 1.5]), task="classification")
    with pytest.raises(WidegramError, match=r"row 1 holds 1\.84467e\+19, no whole number"):
        encode(np.array([3, 2**64 - 1], dtype=np.uint64))
    for shift, said in ((math.nan, "nan"), ("x", "'x'"), (1001.0, "1001")):
        with pytest.raises(WidegramError, match=f"target_shift {said}.*: give a number from -1000"):
            encode(np.array([1, 2]), shift=shift)  # type: ignore[arg-type]
    with pytest.raises(WidegramError, match="no task 'guess'"):
        encode(np.array([3.0, 1.5]), task="guess")
    np.testing.assert_array_equal(
        encode(np.array([[1, 2], [3, 4]]), task="regression").values, [[1.0, 2.0], [3.0, 4.0]]
    )
    with pytest.raises(WidegramError, match=r"labels are \(n,\) or \(n, k\)"):
        encode(np.zeros((2, 2, 2)))


def test_the_task_is_named_with_its_reason(folder) -> None:
    many = np.random.default_rng(3).integers(25, 346, N)
    np.save(folder / "many.npy", many)
    np.save(folder / "whole.npy", LABELS.astype(float))
    for name, extra, task, reason in (
        ("y.npy", [], "classification", "integers, 4 different ones in 120 rows"),
        ("many.npy", [], "classification", "if they are quantities take --task regression"),
        ("many.npy", ["--task", "regression"], "regression", "as asked"),
        ("f.npy", [], "regression", "holds floating-point numbers"),
        ("whole.npy", [], "regression", "for classes take --task classification"),
        ("whole.npy", ["--task", "classification"], "classification", "as asked"),
    ):
        found = solved(folder, "--y", folder / name, "--diag-reg", 1, *extra, "--overwrite")
        assert found["task"] == task
        assert reason in found["task_reason"]
        assert found["k"] == {"y.npy": 4, "f.npy": 3, "whole.npy": 4 if extra else 1}.get(
            name, 1 if extra else np.unique(many).size
        )
        text = invoke(folder, "--y", folder / name, "--diag-reg", 1, *extra, "--overwrite").stdout
        assert f"{task}: " in text
        assert reason in text
    with h5py.File(folder / "a.h5") as file:
        assert file.attrs["task"] == "classification"
        assert file["classes"][:].tolist() == [0, 2, 4, 6]
    result = invoke(folder, "--y", folder / "f.npy", "--task", "classification", "--overwrite")
    assert "expected integer classes (n,), or for numbers task regression" in result.stderr
    assert result.exit_code == 2


def test_normalized_targets(folder) -> None:
    y = 40.0 + np.load(folder / "f.npy")
    np.save(folder / "g.npy", y)
    found = solved(folder, "--y", folder / "g.npy", "--normalize-y", "--diag-reg", 0.1)
    assert found["normalize_y"] is True
    with h5py.File(folder / "a.h5") as file:
        np.testing.assert_allclose(file["target_mean"][:], y.mean(axis=0))
        np.testing.assert_allclose(file["targets"][:], y - y.mean(axis=0))
        inner = 2 * MATRIX + found["shift"] * np.eye(N)
        most_likely = [t @ np.linalg.solve(inner, t) / N for t in file["targets"][:].T]
        np.testing.assert_allclose(file["target_scale"][:] ** 2, most_likely, rtol=1e-9)
    result = invoke(folder, "--y", folder / "y.npy", "--normalize-y", "--overwrite")
    assert "normalize_y is for regression" in result.stderr
    assert result.exit_code == 2


def test_accuracy() -> None:
    assert accuracy(np.array([[1.0, 2.0], [3.0, 0.0]]), np.array([[0.0, 1.0], [0.0, 1.0]])) == 0.5
    assert accuracy(np.array([[0.3], [-2.0]]), np.array([[1.0], [1.0]])) == 0.5
    assert accuracy(np.array([[0.3]]), np.array([[0.7]])) is None
    assert accuracy(np.array([[1.0, 2.0]]), np.array([[-0.5, 0.5]])) == 1.0
    for regression in ([[0.1, 0.7], [0.3, 0.2]], [[1.0, 1.0], [0.0, 1.0]], [[0.5, 0.5]]):
        assert accuracy(np.array(regression), np.array(regression)) is None


def test_labels_of_many_formats(tmp_path) -> None:
    labels = np.array([0, 1, 1, 0])
    np.savez(tmp_path / "y.npz", a=labels)
    with h5py.File(tmp_path / "y.h5", "w") as file:
        file["train/y"] = labels
    first = load_targets(f"{tmp_path}/y.npz:a", 4)
    second = load_targets(f"{tmp_path}/y.h5:train/y", 4)
    np.testing.assert_array_equal(first.values, second.values)
    assert first.fingerprint == second.fingerprint
