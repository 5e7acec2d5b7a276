"""Kernels of the user's own, arrays in .npy files: solve, eig and predict against dense algebra."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

import widegram
from cli_support import refused, run, run_json
from linalg_support import peak_memory_below

RNG = np.random.default_rng(5)
N, M, REG = 31, 9, 0.05
X = RNG.standard_normal((N + M, 3))
WHOLE = np.exp(-0.3 * ((X[:, None] - X) ** 2).sum(axis=2)) + 0.2 * np.eye(N + M)
K, CROSS, TEST = WHOLE[:N, :N], WHOLE[N:, :N], WHOLE[N:, N:]
Y = np.sin(X[:, 0])
LABELS = (X[:, 0] > 0).astype(int) + (X[:, 1] > 0.8)
# Condition numbers below a hundred in float64.
RTOL = 1e-11


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("own")
    for name, values in (("K", K), ("C", CROSS), ("T", TEST), ("y", Y[:N]), ("u", Y[N:]),
                         ("classes", LABELS[:N]), ("d", np.diagonal(TEST).copy())):  # fmt: skip
        np.save(place / f"{name}.npy", values)
    run_json("solve", place / "K.npy", "--y", place / "y.npy", "--diag-reg", REG, "--out",
             place / "A.h5")  # fmt: skip
    return place


def test_solve_and_predict(folder: Path, tmp_path: Path) -> None:
    shift = REG * np.trace(K) / N
    alpha = np.linalg.solve(K + shift * np.eye(N), Y[:N])
    with h5py.File(folder / "A.h5") as file:
        np.testing.assert_allclose(file["alpha"][:, 0], alpha, rtol=RTOL)
        assert file.attrs["kernel"] == "own"
    spread = 1.2 - np.sum(CROSS.T * np.linalg.solve(K + shift * np.eye(N), CROSS.T), axis=0)
    for name, option in (("diagonal", "d.npy"), ("test-gram", "T.npy")):
        p = tmp_path / f"{name}.h5"
        found = run_json("predict", folder / "A.h5", "--cross", folder / "C.npy", "--variance",
                         f"--{name}", folder / option, "--y", folder / "u.npy", "--time", "2",
                         "--out", p)  # fmt: skip
        assert found["variance_of"] == "posterior of the Gaussian process"
        assert found["mse"] == pytest.approx(np.mean((CROSS @ alpha - Y[N:]) ** 2), rel=1e-9)
        with h5py.File(p) as file:
            np.testing.assert_allclose(file["mean"][:, 0], CROSS @ alpha, rtol=1e-10)
            np.testing.assert_allclose(file["variance_latent"], spread, rtol=1e-10)
    assert run("verify", folder / "A.h5").exit_code == 0


def test_other_options_hold_for_arrays_too(folder: Path, tmp_path: Path) -> None:
    d = np.sqrt(np.diagonal(K))
    a, train, test = tmp_path / "A.h5", np.arange(20), np.array([25, 22])
    np.save(tmp_path / "test.npy", test)
    found = run_json("solve", folder / "K.npy", "--y", folder / "classes.npy", "--rows", ":20",
                     "--unit-diagonal", "--diag-reg-path", "0.01,0.1", "--evidence", "--out",
                     a)  # fmt: skip
    unit = (K / np.outer(d, d))[np.ix_(train, train)] + found["shift"] * np.eye(20)
    targets = np.eye(3)[LABELS[train]] - 1 / 3
    sign, logdet = np.linalg.slogdet(unit)
    wanted = -0.5 * (np.sum(targets * np.linalg.solve(unit, targets))
                     + 3 * (sign * logdet + 20 * np.log(2 * np.pi)))  # fmt: skip
    assert found["log_evidence"] == pytest.approx(wanted, rel=1e-11)
    run_json("predict", a, "--rows", tmp_path / "test.npy", "--variance", "--out",
             tmp_path / "P.h5")  # fmt: skip
    across = (K / np.outer(d, d))[np.ix_(test, train)]
    with h5py.File(tmp_path / "P.h5") as file:
        np.testing.assert_allclose(file["mean"], across @ np.linalg.solve(unit, targets), rtol=1e-9)
        spread = 1 - np.sum(across.T * np.linalg.solve(unit, across.T), axis=0)
        np.testing.assert_allclose(file["variance_latent"], spread, rtol=1e-9)


@pytest.mark.parametrize("kind", ["float32", ">f8", "columns first", "nearly symmetric"])
def test_any_layout(folder: Path, tmp_path: Path, kind: str) -> None:
    values = np.asfortranarray(K) if kind == "columns first" else K
    values = values.astype(kind) if kind in ("float32", ">f8") else values
    if kind == "nearly symmetric":
        values = K + 1e-12 * np.triu(np.ones(K.shape), 1)
    np.save(tmp_path / "K.npy", values)
    found = run_json("eig", tmp_path / "K.npy", "--full", "--out", tmp_path / "E.h5")
    with h5py.File(tmp_path / "E.h5") as file:
        # The rounding of float32 to its largest eigenvalue, of some ten.
        atol = 1e-5 if kind == "float32" else 1e-10
        np.testing.assert_allclose(file["eigenvalues"], np.linalg.eigvalsh(K), atol=atol)
    assert found["n"] == N


def altered(**places: object) -> np.ndarray:
    values = K.copy()
    for place, value in places.items():
        values[tuple(map(int, place[1:].split("_")))] = value
    return values


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (altered(p3_17=np.nan), r"entry \(3, 17\) is nan; every entry must be finite"),
        (altered(p17_3=np.inf), r"entry \(17, 3\) is inf"),
        (altered(p3_17=0.5), r"is not symmetric: entry \(3, 17\) is 0.5, \(17, 3\) is"),
        (K[:, :30], r"has shape \(31, 30\); the matrix of the training data with itself is square"),
        (K[0], r"has shape \(31,\); a kernel matrix has rows and columns"),
        (np.zeros((0, 0)), r"has shape \(0, 0\)"),
        (K.astype(np.float16), "holds float16; a kernel matrix is float32 or float64"),
        (K.astype(complex), "holds complex128"),
        (np.eye(N, dtype=int), "holds int64"),
        (-K, "not positive|negative"),
        (np.array([[None]]), "holds Python objects"),
    ],
)
def test_what_is_no_kernel_is_refused(
    folder: Path, tmp_path: Path, values: np.ndarray, message: str
) -> None:
    np.save(tmp_path / "bad.npy", values)
    refused(message, "solve", tmp_path / "bad.npy", "--y", folder / "y.npy", "--diag-reg", REG,
            "--out", tmp_path / "A.h5")  # fmt: skip
    assert not (tmp_path / "A.h5").exists()


def test_what_does_not_belong_together_is_refused(folder: Path, tmp_path: Path) -> None:
    a, k, y = folder / "A.h5", folder / "K.npy", ("--y", folder / "y.npy")
    out = ("--out", tmp_path / "B.h5")
    bad = CROSS.copy()
    bad[4, 2] = np.nan
    np.save(tmp_path / "bad.npy", bad)
    np.save(tmp_path / "few.npy", CROSS[:, 1:])
    np.save(tmp_path / "d.npy", -np.ones(M))
    np.save(tmp_path / "ones.npy", np.ones(N))
    widegram.gram("fcn:depth=1", X[:N], tmp_path / "K.h5", dtype="float64")
    widegram.gram("fcn:depth=1", X[N:], tmp_path / "C.h5", X[:N], dtype="float64")
    (tmp_path / "cut.npy").write_bytes((folder / "K.npy").read_bytes()[:-5])
    run_json("solve", k, *y, "--rows", ":20", "--out", tmp_path / "some.h5")
    cross = ("predict", a, "--cross", folder / "C.npy")
    for message, *arguments in (
        ("has no depths and no heads|it has no depths", "solve", k, *y, *out, "--depth", 2),
        ("is an array of one kernel; leave --kernel out", "eig", k, "--kernel", "ntk"),
        (r"entry \(4, 2\) is nan", "predict", a, "--cross", tmp_path / "bad.npy"),
        ("has 30 columns, the solution 31 rows", "predict", a, "--cross", tmp_path / "few.npy"),
        ("has 30 columns; the solution is of 20 of 31 training inputs: give the kernel with all 31",
         "predict", tmp_path / "some.h5", "--cross", tmp_path / "few.npy"),
        ("is no array, and the solution is of an array", "predict", a, "--cross",
         tmp_path / "C.h5"),
        ("pass --diagonal DATA or --test-gram FILE", *cross, "--variance"),
        ("row 0 holds -1; K.x, x. is 0 or more", *cross, "--variance", "--diagonal",
         tmp_path / "d.npy"),
        (r"has 9 rows, and K\(x, x\) of them has shape", *cross, "--variance", "--diagonal",
         tmp_path / "ones.npy"),
        ("is not of the network and test points", *cross, "--variance", "--test-gram", k),
        ("--diagonal serves --variance", *cross, "--diagonal", folder / "d.npy"),
        ("--diagonal and --test-gram say", *cross, "--variance", "--test-gram", k, "--diagonal",
         folder / "d.npy"),
        ("says K.x, x. of its rows itself", "predict", a, "--rows", ":9", "--variance",
         "--diagonal", tmp_path / "ones.npy"),
        ("is truncated, 5 bytes are missing", "eig", tmp_path / "cut.npy"),
        ("is an array; a Gram file is needed", "solve", k, *y, *out, "--method", "nystrom",
         "--centers", tmp_path / "K.h5"),
        ("an input of this command", "solve", k, *y, "--out", k, "--overwrite"),
    ):  # fmt: skip
        refused(message, *arguments)
    run_json("solve", tmp_path / "K.h5", *y, *out)
    refused("is an array, which does not say of what", "predict", tmp_path / "B.h5", "--cross",
            folder / "C.npy")  # fmt: skip
    refused("says K.x, x. of its rows itself", "predict", tmp_path / "B.h5", "--cross",
            tmp_path / "C.h5", "--variance", "--diagonal", folder / "d.npy")  # fmt: skip
    np.save(tmp_path / "other.npy", K + np.eye(N))
    refused("is not the training matrix", *cross, "--variance", "--diagonal", folder / "d.npy",
            "--gram", tmp_path / "other.npy")  # fmt: skip


def test_memory_is_bounded(tmp_path: Path) -> None:
    """The array has 54 MB."""
    ramp = np.linspace(0, 1, 2600)
    solve = ("solve", tmp_path / "K.npy", "--y", tmp_path / "y.npy", "--method", "cg", "--diag-reg",
             0.1, "--memory", "20MB", "--overwrite", "--out", tmp_path / "A.h5")  # fmt: skip

    def save(places: np.ndarray) -> None:
        np.save(tmp_path / "K.npy", np.exp(-np.abs(places[:, None] - places)))
        np.save(tmp_path / "y.npy", np.sin(9 * places))

    save(ramp[:20])
    run_json(*solve)  # what is imported comes once
    save(ramp)
    with peak_memory_below(40 * 10**6):
        found = run_json(*solve)
    assert found["status"] == "ok"
