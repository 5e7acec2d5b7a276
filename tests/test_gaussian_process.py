"""The Gaussian process estimators: scikit-learn's checks, its own regressor with the same kernel,
SciPy's multivariate normal, and brute force."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

pytest.importorskip("sklearn")

from scipy.stats import multivariate_normal
from sklearn.base import BaseEstimator, clone
from sklearn.gaussian_process import GaussianProcessRegressor as Theirs
from sklearn.gaussian_process.kernels import ConstantKernel, WhiteKernel
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import widegram
from widegram import WidegramError
from widegram.predict.calibration import class_probabilities, expected_calibration_error
from widegram.sklearn import GaussianProcessClassifier, GaussianProcessRegressor, NetworkKernel

RNG = np.random.default_rng(8)
NET = "fcn:depth=2,act=erf,b_var=0.1"
X, TEST = RNG.standard_normal((40, 3)), RNG.standard_normal((9, 3))
Y = np.sin(2 * X[:, 0]) + 0.3 * X[:, 1] + 0.1 * RNG.standard_normal(40) + 2.0
ALPHA = RNG.uniform(0.01, 0.2, 40)


@parametrize_with_checks([GaussianProcessRegressor(), GaussianProcessClassifier()])
def test_scikit_learn_checks(estimator: BaseEstimator, check) -> None:
    check(estimator)


@pytest.mark.parametrize("alpha", [0.5, np.full(10, 0.5)])
@pytest.mark.parametrize(
    ("x", "scale"),
    # A kernel that is zero, a prior that is, and one that is next to nothing.
    [(np.zeros((10, 3)), "evidence"), (X[:10], 0.0), (X[:10], 1e-300)],
)
def test_what_no_prior_explains_is_noise(x: np.ndarray, scale: float | str, alpha) -> None:
    y = np.arange(10.0)
    found = GaussianProcessRegressor("fcn:depth=1", scale=scale, alpha=alpha).fit(x, y)
    square = np.mean(y**2)
    assert found.noise_ == pytest.approx(square - 0.5, rel=1e-4)
    best = multivariate_normal(np.zeros(10), square * np.eye(10)).logpdf(y)
    assert found.log_marginal_likelihood() == pytest.approx(best, rel=1e-8)
    mean, std = found.predict(x[:2], return_std=True)
    np.testing.assert_allclose(mean, 0.0, atol=1e-12)
    np.testing.assert_allclose(std, np.sqrt(square - 0.5), rtol=1e-4)


def test_a_prior_that_is_given_stays() -> None:
    found = GaussianProcessRegressor(scale=0.0).fit(X[:5], np.zeros(5))
    assert (found.scale_, found.noise_) == (0.0, 0.0)


@pytest.mark.parametrize(
    "given",
    [
        {"cache_size": float("inf")}, {"cache_size": "x"}, {"cache_size": None},
        {"input_shape": "abc"}, {"input_shape": 3}, {"accept_series_error": "x"},
        {"bounds": {"w_var": "ab"}}, {"bounds": {3: (1, 2)}}, {"bounds": {"w_var": [[1, 2]]}},
    ],
    ids=str,
)  # fmt: skip
def test_parameters_that_are_none(given: dict) -> None:
    with pytest.raises(WidegramError, match=next(iter(given))):
        GaussianProcessRegressor("fcn:depth=1", **given).fit(X, Y)


def test_arguments_that_are_none() -> None:
    found = GaussianProcessRegressor("fcn:depth=1", scale=1.0, noise=0.1).fit(X, Y)
    with pytest.raises(WidegramError, match="return_std=array"):
        found.predict(TEST, return_std=np.array([1, 2]))
    with pytest.raises(WidegramError, match="theta holds <U1"):
        found.log_marginal_likelihood(["a", "b"])
    for theta in ([800.0, 0.0], [np.inf, 0.0], [0.0, 800.0]):
        assert found.log_marginal_likelihood(theta) == -np.inf


@pytest.mark.parametrize("kernel", ["nngp", "ntk"])
@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("outputs", [1, 2])
def test_posterior_is_that_of_scikit_learn(kernel: str, normalize: bool, outputs: int) -> None:
    y = Y if outputs == 1 else np.stack([Y, 5.0 * X[:, 2] - 1.0], axis=1)
    same = {"alpha": ALPHA, "normalize_y": normalize}
    ours = GaussianProcessRegressor(NET, kernel, scale=1.7, noise=0.05, **same).fit(X, y)
    covariance = ConstantKernel(1.7, "fixed") * NetworkKernel(NET, kernel) + WhiteKernel(
        0.05, "fixed"
    )
    theirs = Theirs(covariance, **same).fit(X, y)
    # Two Cholesky solves of condition numbers of some hundreds.
    close = {"rtol": 1e-9, "atol": 1e-10}
    mean, std = ours.predict(TEST, return_std=True)
    expected, spread = theirs.predict(TEST, return_std=True)
    np.testing.assert_allclose(mean, expected, **close)
    np.testing.assert_allclose(std, spread, **close)
    _, cov = ours.predict(TEST, return_cov=True)
    np.testing.assert_allclose(cov, theirs.predict(TEST, return_cov=True)[1], **close)
    assert ours.log_marginal_likelihood() == pytest.approx(theirs.log_marginal_likelihood())
    drawn, others = ours.sample_y(TEST, 3, 1), theirs.sample_y(TEST, 3, 1)
    assert drawn.shape == others.shape


def test_latent_spread_is_without_noise() -> None:
    model = GaussianProcessRegressor(NET, scale=2.0, noise=0.3).fit(X, Y)
    for what in ("return_std", "return_cov"):
        spreads = [model.predict(TEST, **{what: kind})[1] for kind in ("latent", "predictive")]
        if what == "return_std":
            np.testing.assert_allclose(spreads[1] ** 2 - spreads[0] ** 2, 0.3, rtol=1e-12)
        else:
            # Variances of order one, subtracted.
            np.testing.assert_allclose(spreads[1] - spreads[0], 0.3 * np.eye(9), atol=1e-14)


def test_likelihood_is_that_of_scipy() -> None:
    model = GaussianProcessRegressor(NET, alpha=ALPHA).fit(X, Y)
    k = widegram.kernel(NET, X, None, "nngp")

    def expected(scale: float, noise: float) -> float:
        return multivariate_normal(cov=scale * k + np.diag(ALPHA + noise)).logpdf(Y)

    # Sums of some hundred terms, condition numbers of some thousands.
    close = {"rel": 1e-10}
    found = model.log_marginal_likelihood()
    assert found == pytest.approx(expected(model.scale_, model.noise_), **close)
    assert model.log_marginal_likelihood(np.log([0.4, 0.2])) == pytest.approx(
        expected(0.4, 0.2), **close
    )
    assert list(model.hyperparameters_) == ["scale", "noise"]


def test_a_likelihood_that_rounding_decides_is_none() -> None:
    """Rows that are one but for 1e-8, whose condition is 1e16: rounding moved it by some tenths
    of each."""
    close = X[0] + 1e-8 * np.random.default_rng(5).standard_normal((20, X.shape[1]))
    smooth = GaussianProcessRegressor("fcn:depth=1,act=erf", scale=1.0, alpha=0.0)
    sure = smooth.set_params(noise=1e-3).fit(close, np.arange(20.0))
    assert np.isfinite(sure.log_marginal_likelihood_value_)
    assert sure.log_marginal_likelihood(np.log([1.0, 3e-16])) == -np.inf


@pytest.mark.parametrize("alpha", [1e-10, ALPHA])
def test_scale_and_noise_have_the_highest_evidence(alpha) -> None:
    model = GaussianProcessRegressor(NET, alpha=alpha).fit(X, Y)
    k = widegram.kernel(NET, X, None, "nngp")
    # Brute force: a grid a few per cent wide around the top, and one over all scales.
    best = -np.inf
    for scale in model.scale_ * np.geomspace(1e-2, 1e2, 21):
        for noise in max(model.noise_, 1e-6) * np.geomspace(1e-2, 1e2, 21):
            found = multivariate_normal(cov=scale * k + np.diag(alpha + noise * np.ones(40)))
            best = max(best, found.logpdf(Y))
    # The climb ends where the evidence rises by less than its tolerance.
    assert model.log_marginal_likelihood_value_ >= best - 1e-4


def test_what_is_given_is_kept() -> None:
    noisy = GaussianProcessRegressor(NET, noise=0.07).fit(X, Y)
    scaled = GaussianProcessRegressor(NET, scale=3.0).fit(X, Y)
    assert (noisy.noise_, scaled.scale_) == (0.07, 3.0)
    for model, at in ((noisy, 0), (scaled, 1)):
        theta = np.log([model.scale_, model.noise_])
        for step in (-0.05, 0.05):
            moved = theta.copy()
            moved[at] += step
            assert model.log_marginal_likelihood(moved) < model.log_marginal_likelihood()


def test_options_of_the_network_come_by_evidence() -> None:
    net, bounds = "fcn:depth=1,act=erf,b_var=0.1", {"w_var": (0.2, 20.0)}
    model = GaussianProcessRegressor(net, bounds=bounds, n_restarts_optimizer=1, random_state=0)
    model.fit(X, Y)
    assert list(model.hyperparameters_) == ["scale", "noise", "w_var"]
    assert 0.2 <= model.options_["w_var"] <= 20
    found = model.log_marginal_likelihood_value_
    for w_var in np.geomspace(0.2, 20, 7):
        fixed = GaussianProcessRegressor(f"{net},w_var={w_var}").fit(X, Y)
        assert fixed.log_marginal_likelihood_value_ <= found + 1e-3  # where a simplex ends
    theta = np.log(list(model.hyperparameters_.values()))
    assert model.log_marginal_likelihood(theta) == pytest.approx(found, rel=1e-9)


def test_samples_have_the_moments_of_the_posterior() -> None:
    model = GaussianProcessRegressor(NET, normalize_y=True).fit(X, Y)
    mean, cov = model.predict(TEST, return_cov=True)
    drawn = model.sample_y(TEST, 4000, random_state=3)
    assert drawn.shape == (9, 4000)
    np.testing.assert_array_equal(drawn, model.sample_y(TEST, 4000, random_state=3))
    # Five standard errors of a mean and of a covariance of 4,000 draws.
    spread = np.sqrt(np.diagonal(cov))
    np.testing.assert_array_less(np.abs(drawn.mean(axis=1) - mean), 5 * spread / np.sqrt(4000))
    errors = np.abs(np.cov(drawn) - cov) / np.outer(spread, spread)
    assert errors.max() < 5 * np.sqrt(2 / 4000)


def test_noise_of_samples_is_trusted() -> None:
    """A target that is known to be noisy moves the mean less."""
    y = Y.copy()
    y[0] += 10.0
    near = X[:1] + 0.01
    plain = GaussianProcessRegressor(NET, alpha=0.01, noise=0.0, scale=1.0).fit(X, y)
    told = GaussianProcessRegressor(
        NET, alpha=np.where(np.arange(40) == 0, 100.0, 0.01), noise=0.0, scale=1.0
    ).fit(X, y)
    assert abs(told.predict(near)[0] - Y[0]) < 0.2 * abs(plain.predict(near)[0] - Y[0])


def test_probabilities_are_of_the_posterior() -> None:
    labels = np.array(["low", "mid", "high"])[np.digitize(X[:, 0] + 0.3 * X[:, 1], [-0.5, 0.5])]
    model = GaussianProcessClassifier(NET, alpha=ALPHA).fit(X, labels)
    targets = (labels[:, None] == model.classes_) - 1 / 3
    k = widegram.kernel(NET, np.vstack([X, TEST]), None, "nngp")
    inner = model.scale_ * k[:40, :40] + np.diag(ALPHA + model.noise_)
    across = model.scale_ * k[40:, :40]
    mean = across @ np.linalg.solve(inner, targets)
    variance = np.diagonal(model.scale_ * k[40:, 40:] - across @ np.linalg.solve(inner, across.T))
    found = model.predict_proba(TEST)
    # Solves of condition numbers of some hundreds.
    expected = class_probabilities(mean, variance + model.noise_)
    np.testing.assert_allclose(found, expected, rtol=1e-8)
    assert (model.predict(TEST) == model.classes_[found.argmax(axis=1)]).all()
    value = sum(multivariate_normal(cov=inner).logpdf(column) for column in targets.T)
    assert model.log_marginal_likelihood() == pytest.approx(value, rel=1e-10)


def test_probabilities_are_calibrated() -> None:
    """Labels drawn from known probabilities: by evidence, and without, where they are too sure."""
    rng = np.random.default_rng(2)
    x = rng.standard_normal((700, 2))
    labels = (rng.random(700) < 1 / (1 + np.exp(-4 * x[:, 0]))).astype(int)
    errors = []
    for given in ({}, {"scale": 1.0, "noise": 1e-3}):
        model = GaussianProcessClassifier("fcn:depth=1,act=erf,b_var=0.1", **given)
        shares = model.fit(x[:200], labels[:200]).predict_proba(x[200:])
        errors.append(expected_calibration_error(shares, labels[200:]))
    # In 15 bins of some 33 points the share that is right has a binomial error of up to 0.08; of
    # points that are sure it is less: six draws of all this gave 0.02 to 0.05, and 0.11 to 0.18.
    assert errors[0] < 0.06
    assert errors[1] > 0.09


def test_pipelines_searches_and_pickles() -> None:
    pipeline = make_pipeline(StandardScaler(), GaussianProcessRegressor(normalize_y=True))
    grid = {"gaussianprocessregressor__network": ["fcn:depth=1", NET]}
    search = GridSearchCV(pipeline, grid, cv=2).fit(X, Y)
    assert search.best_params_["gaussianprocessregressor__network"] in grid.popitem()[1]
    again = pickle.loads(pickle.dumps(search.best_estimator_))
    for kept, made in zip(again.predict(TEST, return_std=True),
                          search.best_estimator_.predict(TEST, return_std=True),
                          strict=True):  # fmt: skip
        np.testing.assert_array_equal(kept, made)
    np.testing.assert_array_equal(
        clone(search.best_estimator_).fit(X, Y).predict(TEST), search.predict(TEST)
    )


@pytest.mark.parametrize(
    ("message", "options"),
    [
        ("choose nngp, ntk", {"kernel": "rbf"}),
        ("give a variance, or one for each of 40 rows", {"alpha": np.ones(3)}),
        ("none below 0", {"alpha": -1.0}),
        ("alpha", {"alpha": np.nan}),
        ("scale='likely': give a number or 'evidence'", {"scale": "likely"}),
        ("noise", {"noise": -0.1}),
        ("n_restarts_optimizer", {"n_restarts_optimizer": -1}),
        ("bounds of w_var: .* is no pair 0 < low < high", {"bounds": {"w_var": (2, 1)}}),
        ("bounds of w_var: 3 is no pair", {"bounds": {"w_var": 3}}),
        ("bounds: give a dict", {"bounds": [1, 2]}),
        ("bounds of w_var: network 'fcn:w_var=1' gives w_var, too; leave it out there, or its bou",
         {"network": "fcn:w_var=1", "bounds": {"b_var": (1, 2), "w_var": (1, 2)}}),
        ("alpha", {"alpha": "a"}),
        ("unknown option", {"bounds": {"wvar": (1, 2)}}),
        ("bounds: are of options of a preset", {"network": {"layers": [{"layer": "Dense"}]},
                                                "bounds": {"w_var": (1, 2)}}),
        ("holds 4 numbers, X has 3 columns", {"input_shape": (2, 2, 1)}),
        ("not positive definite", {"noise": 0.0, "alpha": 0.0, "scale": 1.0}),
    ],
)  # fmt: skip
def test_refusals(message: str, options: dict) -> None:
    x = np.vstack([X[:20], X[:20]])
    with pytest.raises(WidegramError, match=message):
        GaussianProcessRegressor(**options).fit(x, Y)


def test_refusals_of_predictions() -> None:
    model = GaussianProcessRegressor(NET).fit(X, Y)
    with pytest.raises(WidegramError, match="return_std='both': choose"):
        model.predict(TEST, return_std="both")
    with pytest.raises(WidegramError, match="one of them is returned"):
        model.predict(TEST, return_std=True, return_cov=True)
    for theta in ([0.0], [0.0, np.nan]):
        with pytest.raises(WidegramError, match="logarithms of scale, noise"):
            model.log_marginal_likelihood(theta)
    with pytest.raises(WidegramError, match="n_samples"):
        model.sample_y(TEST, 0)
