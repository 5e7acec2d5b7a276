"""Variances of predictions that rounding decides: against long double, and what is said of them."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import numpy as np
import pytest

import widegram
from cli_support import run, run_json
from widegram.errors import WidegramError
from widegram.linalg.incore import load_cholesky
from widegram.linalg.operator import as_operator
from widegram.predict.undecided import posterior_moves, undecided
from widegram.predict.variance import explained


def long_half(matrix: np.ndarray, b: np.ndarray) -> np.ndarray:
    """L^-1 b of L L^T = matrix in long double, row by row."""
    n, x = len(matrix), b.astype(np.longdouble)
    lower, exact = np.zeros((n, n), np.longdouble), matrix.astype(np.longdouble)
    for j in range(n):
        column = exact[j:, j] - lower[j:, :j] @ lower[j, :j]
        lower[j:, j] = column / np.sqrt(column[0])
        x[j] = (x[j] - lower[j, :j] @ x[:j]) / lower[j, j]
    return x


@pytest.mark.parametrize("name", ["float64", "float32"])
@pytest.mark.parametrize("noise", [0.0, 1e-14, 1e-12, 1e-9, 1e-6])
def test_variances_that_rounding_decides_are_counted(noise: float, name: str) -> None:
    """Against long double: what is not counted has its digits, and those of 1 are never counted."""
    rng = np.random.default_rng(2)
    x = np.sort(rng.uniform(0, 4, 40))
    near = np.concatenate([x[:10], x[:10] + 1e-7, rng.uniform(0, 4, 10), [30.0]])

    def smooth(a: np.ndarray) -> np.ndarray:
        return np.exp(-np.abs(a[:, None] - x)) if noise == 0 else np.exp(
            -((a[:, None] - x) ** 2) / 20
        )  # fmt: skip

    train, across, prior = smooth(x), smooth(near), np.ones(len(near))
    try:
        factor = load_cholesky(as_operator(train.astype(name)).shifted(noise), advise=False)
    except WidegramError:
        assert name == "float32"
        return
    held = across.astype(name).astype(np.float64)
    latent = prior - explained(factor, held)
    root = np.sqrt(np.diagonal(train) + noise)
    lost = undecided(latent, prior, name, posterior_moves(factor, held, prior, root))
    half = long_half(train + noise * np.eye(40), across.T)
    exact = (1 - (half**2).sum(axis=0)).astype(float)
    error = np.abs(latent - exact)[~lost]
    assert (error <= 0.8 * exact[~lost]).all()
    assert not lost[-1]
    if noise == 0:
        assert lost[:10].all()  # the training points
    assert lost.any() == (noise < 1e-12 or name == "float32")


def test_variances_of_an_ensemble_that_rounding_decides(tmp_path: Path) -> None:
    """Of training points without noise, whose variance is 0; predict says how many."""
    x = np.random.default_rng(2).standard_normal((25, 4))
    far = np.concatenate([x[:7], x[:5] + 1.0])
    np.save(tmp_path / "y.npy", x[:, 0])
    widegram.gram("fcn:depth=1,act=erf,b_var=0.1", x, tmp_path / "K.h5", dtype="float64")
    widegram.gram("fcn:depth=1,act=erf,b_var=0.1", far, tmp_path / "C.h5", x, dtype="float64")
    for kernel in ("ntk", "nngp"):
        run("solve", tmp_path / "K.h5", "--kernel", kernel, "--y", tmp_path / "y.npy",
            "--out", tmp_path / "A.h5", "--overwrite")  # fmt: skip
        command = ("predict", tmp_path / "A.h5", "--cross", tmp_path / "C.h5", "--variance")
        found = run_json(*command)
        assert found["undecided"] == 7, kernel
        assert re.search("decided by rounding +7 of 12", run(*command).stdout)


@pytest.mark.parametrize("kernel", ["nngp", "ntk"])
def test_estimators_warn_of_them(kernel: str) -> None:
    pytest.importorskip("sklearn")
    from widegram.sklearn import GaussianProcessRegressor, WidegramRegressor

    x = np.random.default_rng(2).standard_normal((25, 4))
    far = np.concatenate([x[:7], x[:5] + 1.0])
    network = "fcn:depth=1,act=erf,b_var=0.1"
    own = WidegramRegressor(network, kernel, diag_reg=0.0).fit(x, x[:, 0])
    process = GaussianProcessRegressor(network, kernel, alpha=0.0, noise=0.0).fit(x, x[:, 0])
    for asked in (
        lambda: own.predict(far, return_std=True),
        lambda: process.predict(far, return_std="latent"),
        lambda: process.predict(far, return_cov=True),
    ):
        with pytest.warns(UserWarning, match="7 of 12 variances"):
            asked()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        own.predict(far[7:], return_std="latent")
        noisy = WidegramRegressor(network, kernel, diag_reg=1e-3).fit(x, x[:, 0])
        noisy.predict(far, return_std=True)
