"""The scikit-learn estimators: scikit-learn's own checks, and agreement with its solvers."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from click.testing import CliRunner

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
from widegram.linalg.normalise import centred
from widegram.sklearn import GaussianProcessRegressor, WidegramClassifier, WidegramRegressor
from widegram.sklearn.kernel_memory import KernelMemory
from widegram_cli.main import program


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
    _, std = model.predict(x[50:80], return_std="latent")
    _, predictive = model.predict(x[50:80], return_std=True)
    k = widegram.kernel(model.network, x[:80], None, "nngp")
    inner = k[:60, :60] + model.shift_ * np.eye(60)
    cov = k[50:80, 50:80] - k[50:80, :60] @ np.linalg.solve(inner, k[:60, 50:80])
    np.testing.assert_allclose(std, np.sqrt(np.diagonal(cov)), rtol=1e-8)
    np.testing.assert_allclose(predictive**2, std**2 + model.shift_, rtol=1e-12)
    with pytest.raises(WidegramError, match="choose True, 'predictive', 'latent'"):
        model.predict(x[:2], return_std="both")


@pytest.mark.parametrize("kernel", ["nngp", "ntk"])
@pytest.mark.parametrize("normalize", [False, True])
def test_standard_deviation_is_that_of_predict(kernel, normalize, digits, tmp_path) -> None:
    x, y = digits
    y = np.stack([y, x[:, 20] * 7.0], axis=1) if normalize else y.astype(float)
    np.savez(tmp_path / "d.npz", x=x[:60], t=x[60:90], y=y[:60])

    def run(*arguments: object) -> None:
        result = CliRunner().invoke(program, [str(part) for part in arguments])
        assert result.exit_code == 0, result.stderr

    gram = ["gram", "--net", "fcn:depth=2,act=relu", "--dtype", "float64", "--x"]
    run(*gram, f"{tmp_path}/d.npz:x", "--out", tmp_path / "k.h5")
    run(*gram, f"{tmp_path}/d.npz:t", "--x2", f"{tmp_path}/d.npz:x", "--out", tmp_path / "c.h5")
    solve = ["solve", tmp_path / "k.h5", "--kernel", kernel, "--diag-reg", "0.001", "--y"]
    extra = ["--normalize-y"] if normalize else []
    run(*solve, f"{tmp_path}/d.npz:y", "--out", tmp_path / "a.h5", *extra)
    predict = ["predict", tmp_path / "a.h5", "--cross", tmp_path / "c.h5", "--variance", "--out"]
    run(*predict, tmp_path / "p.h5")
    model = WidegramRegressor(kernel=kernel, normalize_y=normalize).fit(x[:60], y[:60])
    mean, predictive = model.predict(x[60:90], return_std=True)
    _, latent = model.predict(x[60:90], return_std="latent")
    with h5py.File(tmp_path / "p.h5") as file:
        # Solves of condition 1e3 to 1e4 in float64.
        np.testing.assert_allclose(file["mean"][:].squeeze(), mean, rtol=1e-7)
        np.testing.assert_allclose(np.sqrt(file["variance"][:]), predictive, rtol=1e-7)
        np.testing.assert_allclose(np.sqrt(file["variance_latent"][:]), latent, rtol=1e-7)
        assert file["variance"].shape == ((30, 2) if normalize else (30,))


def test_intervals_cover() -> None:
    rng = np.random.default_rng(6)
    hits, total = 0, 0
    for _ in range(6):
        x = rng.standard_normal((240, 3))
        k = widegram.kernel("fcn:depth=2,act=erf", x, None, "nngp")
        noise = 0.02 * np.trace(k) / len(k)
        f = np.linalg.cholesky(k + 1e-10 * np.eye(240)) @ rng.standard_normal(240)
        y = 50.0 + 7.0 * (f + np.sqrt(noise) * rng.standard_normal(240))
        model = WidegramRegressor("fcn:depth=2,act=erf", "nngp", 0.02, normalize_y=True)
        mean, std = model.fit(x[:120], y[:120]).predict(x[120:], return_std=True)
        hits += int(np.sum(np.abs(y[120:] - mean) < 1.959964 * std))
        total += 120
        _, latent = model.predict(x[120:], return_std="latent")
        assert (latent < std).all()
    # Three binomial standard errors; the noise is most of the variance, so points are nearly
    # independent, and the scale, estimated from 120 targets, adds 1 / sqrt(2 120) of a deviation.
    assert hits / total == pytest.approx(0.95, abs=3 * np.sqrt(0.95 * 0.05 / total) + 0.01)


def test_normalized_targets_do_not_depend_on_their_units(digits) -> None:
    x, y = digits
    plain = WidegramRegressor(normalize_y=True, diag_reg=0.1).fit(x[:80], y[:80])
    moved = WidegramRegressor(normalize_y=True, diag_reg=0.1).fit(x[:80], 1e6 * y[:80] - 3e7)
    mean, std = plain.predict(x[80:], return_std=True)
    other, wide = moved.predict(x[80:], return_std=True)
    np.testing.assert_allclose(other, 1e6 * mean - 3e7, rtol=1e-9)
    np.testing.assert_allclose(wide, 1e6 * std, rtol=1e-9)
    constant = WidegramRegressor(normalize_y=True).fit(x[:9], np.full(9, 3.0))
    np.testing.assert_allclose(constant.predict(x[9:20]), 3.0)


def count_kernels(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, bool, str]]:
    """(rows, symmetric, kernel) of every call of widegram.kernel from now on."""
    calls: list[tuple[int, bool, str]] = []
    compute = widegram.kernel

    def counted(network, x1, x2, get, *rest, **named):
        calls.append((len(x1), x2 is None, get))
        return compute(network, x1, x2, get, *rest, **named)

    monkeypatch.setattr(widegram, "kernel", counted)
    return calls


def test_a_search_computes_each_kernel_once(digits, monkeypatch) -> None:
    x, y = digits
    x = x[:90] + 1e-3  # other tests have other inputs
    calls = count_kernels(monkeypatch)
    grid = {"diag_reg": [1e-4, 1e-3, 1e-2, 1e-1], "normalize_y": [False, True]}
    search = GridSearchCV(WidegramRegressor(), grid, cv=3).fit(x, y[:90])
    # Three folds' training and test kernels, and the whole matrix of the last fit; before, 49.
    assert len(calls) == 7
    again = GridSearchCV(WidegramRegressor(cache_size=0), grid, cv=3).fit(x, y[:90])
    assert len(calls) == 7 + 8 * 6 + 1
    np.testing.assert_array_equal(
        search.cv_results_["mean_test_score"], again.cv_results_["mean_test_score"]
    )


def test_standard_deviations_are_computed_in_blocks(digits, monkeypatch) -> None:
    x, y = digits
    calls = count_kernels(monkeypatch)
    model = WidegramRegressor(cache_size=0, kernel="ntk").fit(x[:50] + 2e-3, y[:50])
    model.predict(x[50:], return_std=True)
    # The training and cross kernels of both kinds; the 190 test points' own ones as a diagonal.
    assert [call[0] for call in calls] == [50, 190, 190, 50]


def test_kernels_are_remembered_within_their_room() -> None:
    memory, network = KernelMemory(), widegram.load_network("fcn:depth=2", (3,))
    rng = np.random.default_rng(0)
    inputs = [rng.standard_normal((4, 3)) for _ in range(4)]
    made: list[int] = []

    def get(index: int, room: int) -> np.ndarray:
        def compute() -> np.ndarray:
            made.append(index)
            return np.full((4, 4), float(index))

        return memory.get(network, inputs[index], None, "ntk", compute, room)

    for index in (0, 1, 0, 2, 0, 1):  # two matrices of 128 bytes fit
        assert get(index, 300)[0, 0] == index
        assert memory.size <= 300
    assert made == [0, 1, 2, 1]
    inputs[0][0, 0] += 1.0  # changed in place: other inputs
    get(0, 300)
    assert made == [0, 1, 2, 1, 0]
    with pytest.raises(ValueError, match="read-only"):
        get(0, 300)[0, 0] = 5.0
    get(3, 100)
    assert memory.size == 0
    memory.clear()


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
    with pytest.raises(WidegramError, match="choose nngp, ntk"):
        WidegramRegressor(kernel="rbf").fit(x, y)
    with pytest.raises(WidegramError, match="holds 60 numbers, X has 64 columns"):
        WidegramRegressor(input_shape=(6, 10, 1)).fit(x, y)
    twice = np.vstack([x[:5], x[:5]])
    with pytest.raises(ValueError, match=r"not positive definite.*take diag_reg="):
        WidegramRegressor(diag_reg=0.0).fit(twice, np.arange(10.0))


def test_lists_of_inputs_are_refused() -> None:
    branches = [[{"layer": "Dense"}], [{"layer": "Dense"}]]
    network = {"layers": [{"layer": "FanInSum", "parallel": True, "branches": branches}]}
    X, y = np.ones((3, 4)), np.arange(3.0)
    with pytest.raises(WidegramError, match="a list of inputs, and estimators take one array X"):
        WidegramRegressor(network, input_shape=((2,), (2,))).fit(X, y)
    network["input_shape"] = [[2], [2]]
    with pytest.raises(WidegramError, match=r"expects \[\[2\], \[2\]\], an estimator"):
        WidegramRegressor(network).fit(X, y)


@pytest.mark.parametrize("value", [0.1, 1 / 3, -7.7, 1e6 + 0.1])
@pytest.mark.parametrize("model", [WidegramRegressor, GaussianProcessRegressor])
def test_a_constant_target_has_the_scale_of_none(value: float, model: type) -> None:
    """Whatever its rounded mean leaves: the mean of 13 times 0.1 is not 0.1."""
    x = np.random.default_rng(4).standard_normal((25, 3))
    for n in (10, 13, 23, 25):
        fitted = model(kernel="nngp", normalize_y=True).fit(x[:n], np.full(n, value))
        mean, spread = fitted.predict(x[:4] + 5, return_std=True)
        assert fitted.y_scale_.tolist() == [1.0]
        assert mean.tolist() == [value] * 4
        assert spread.min() > 0.1
    centered, means = centred(np.full((13, 2), value))
    assert not centered.any()
    assert means.tolist() == [value] * 2


def test_outputs_of_one_scale_have_a_deviation_each() -> None:
    x, y = np.random.default_rng(4).standard_normal((25, 3)), np.arange(25.0)
    for second in (y, 2 * y, 7 - y):
        fitted = WidegramRegressor(normalize_y=True).fit(x, np.stack([y, second], axis=1))
        mean, spread = fitted.predict(x[:4] + 1, return_std=True)
        assert spread.shape == mean.shape == (4, 2)
