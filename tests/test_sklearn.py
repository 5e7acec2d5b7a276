"""The scikit-learn estimators: scikit-learn's own checks, and agreement with its solvers."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("sklearn")

from sklearn.base import BaseEstimator
from sklearn.datasets import load_digits
from sklearn.kernel_ridge import KernelRidge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import widegram
from widegram import WidegramError
from widegram.sklearn import WidegramClassifier, WidegramRegressor


@parametrize_with_checks([WidegramRegressor(), WidegramClassifier(kernel="nngp")])
def test_scikit_learn_checks(estimator: BaseEstimator, check) -> None:
    check(estimator)


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    x, y = load_digits(return_X_y=True)
    return x[:240] / 16.0 - 0.5, y[:240]


def test_regressor_is_kernel_ridge(digits) -> None:
    x, y = digits
    ours = WidegramRegressor("fcn:depth=3,act=erf", "nngp", 0.1, diag_reg_absolute_scale=True)
    k = widegram.kernel("fcn:depth=3,act=erf", x, None, "nngp")
    theirs = KernelRidge(alpha=0.1, kernel="precomputed").fit(k[:180, :180], y[:180])
    found = ours.fit(x[:180], y[:180]).predict(x[180:])
    # Two Cholesky solves of condition number about 1e4.
    np.testing.assert_allclose(found, theirs.predict(k[180:, :180]), rtol=1e-9)


def test_standard_deviation_is_the_posterior(digits) -> None:
    x, y = digits
    model = WidegramRegressor(kernel="nngp", diag_reg=1e-2).fit(x[:60], y[:60])
    _, std = model.predict(x[50:80], return_std=True)
    k = widegram.kernel(model.network, x[:80], None, "nngp")
    inner = k[:60, :60] + model.shift_ * np.eye(60)
    cov = k[50:80, 50:80] - k[50:80, :60] @ np.linalg.solve(inner, k[:60, 50:80])
    np.testing.assert_allclose(std, np.sqrt(np.diagonal(cov)), rtol=1e-8)


def test_pipeline_and_grid_search(digits) -> None:
    x, y = digits
    pipeline = make_pipeline(StandardScaler(), WidegramClassifier())
    grid = {
        "widegramclassifier__kernel": ["nngp", "ntk"],
        "widegramclassifier__diag_reg": [1e-3, 10.0],
    }
    search = GridSearchCV(pipeline, grid, cv=3).fit(x, y)
    assert search.best_params_["widegramclassifier__diag_reg"] == 1e-3
    assert search.best_score_ > 0.85


def test_images(digits) -> None:
    x, y = digits
    network = "cnn-f:depth=2,act=relu"
    model = WidegramClassifier(network, input_shape=(8, 8, 1)).fit(x[:100], y[:100])
    assert model.network_.input_shape == (8, 8, 1)
    assert model.score(x[100:], y[100:]) > 0.7


def test_refusals(digits) -> None:
    x, y = digits
    with pytest.raises(WidegramError, match="choose 'nngp' or 'ntk'"):
        WidegramRegressor(kernel="rbf").fit(x, y)
    with pytest.raises(WidegramError, match="holds 60 numbers, X has 64 columns"):
        WidegramRegressor(input_shape=(6, 10, 1)).fit(x, y)
    twice = np.vstack([x[:5], x[:5]])
    with pytest.raises(ValueError, match=r"not positive definite.*take diag_reg="):
        WidegramRegressor(diag_reg=0.0).fit(twice, np.arange(10.0))
