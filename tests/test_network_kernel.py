"""A network's kernel as one of scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("sklearn")

from sklearn.base import clone
from sklearn.gaussian_process import GaussianProcessClassifier, GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

import widegram
from widegram import WidegramError
from widegram.sklearn import NetworkKernel

RNG = np.random.default_rng(1)
X = RNG.standard_normal((25, 4))
Y = np.cos(X[:, 0]) + 0.1 * RNG.standard_normal(25)
NET = "fcn:depth=2,act=erf"


def test_matrices_and_diagonals() -> None:
    kernel = NetworkKernel(NET, "ntk", w_var=1.3, b_var=0.2)
    known = widegram.kernel(f"{NET},w_var=1.3,b_var=0.2", X, X[:5], "ntk", "float64")
    # The variances are written out for the network and read again.
    np.testing.assert_allclose(kernel(X, X[:5]), known, rtol=1e-12)
    np.testing.assert_allclose(kernel.diag(X), np.diagonal(kernel(X)), rtol=1e-12)
    assert not kernel.is_stationary()
    images = NetworkKernel("cnn-f:depth=1", input_shape=(2, 2, 1))
    np.testing.assert_allclose(np.diagonal(images(X)), images.diag(X), rtol=1e-12)


def test_gradients_are_slopes() -> None:
    kernel = NetworkKernel(NET, w_var=1.3, b_var=0.2)
    _, gradient = kernel(X, eval_gradient=True)
    assert [entry.name for entry in kernel.hyperparameters] == ["b_var", "w_var"]
    for at in range(2):
        # Chords of another length than that of the gradient itself: errors of their squares.
        theta = kernel.theta + 1e-3 * np.eye(2)[at], kernel.theta - 1e-3 * np.eye(2)[at]
        high, low = (kernel.clone_with_theta(moved)(X) for moved in theta)
        np.testing.assert_allclose(gradient[:, :, at], (high - low) / 2e-3, rtol=1e-5, atol=1e-6)
    fixed = NetworkKernel(NET, w_var=1.3, w_var_bounds="fixed")
    assert fixed(X, eval_gradient=True)[1].shape == (25, 25, 0)
    assert NetworkKernel(NET)(X, eval_gradient=True)[1].shape == (25, 25, 0)


def test_scikit_learn_climbs_to_its_hyperparameters() -> None:
    kernel = ConstantKernel(1.0) * NetworkKernel(NET, w_var=0.3) + WhiteKernel(0.1)
    model = GaussianProcessRegressor(kernel, random_state=0).fit(X, Y)
    start = model.log_marginal_likelihood(kernel.theta)
    assert model.log_marginal_likelihood_value_ > start
    # At a maximum inside the bounds slopes are small beside those where it began; at a bound the
    # slope leads out of it.
    _, slopes = model.log_marginal_likelihood(model.kernel_.theta, eval_gradient=True)
    inside = np.abs(model.kernel_.theta[:, None] - model.kernel_.bounds).min(axis=1) > 1e-6
    assert (np.abs(slopes[inside]) < 0.05).all()
    assert inside.any()
    assert clone(model.kernel_).theta.tolist() == model.kernel_.theta.tolist()
    assert "NetworkKernel('fcn:depth=2,act=erf', 'nngp', w_var=" in repr(model.kernel_)


def test_it_joins_other_kernels() -> None:
    both = NetworkKernel(NET) + RBF()
    np.testing.assert_allclose(both(X), NetworkKernel(NET)(X) + RBF()(X), rtol=1e-14)
    model = GaussianProcessClassifier(NetworkKernel(NET)).fit(X, X[:, 0] > 0)
    assert model.score(X, X[:, 0] > 0) > 0.9


def test_refusals() -> None:
    with pytest.raises(WidegramError, match="twice"):
        NetworkKernel("fcn:w_var=2", w_var=1.0)(X)
    with pytest.raises(WidegramError, match="holds 9 numbers, X has 4 columns"):
        NetworkKernel("cnn-f", input_shape=(3, 3, 1))(X)
    with pytest.raises(ValueError, match="Y is None"):
        NetworkKernel(NET)(X, X, eval_gradient=True)
