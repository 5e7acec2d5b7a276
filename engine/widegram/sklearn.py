"""scikit-learn estimators: regression and classification with an infinitely wide network.

Both solve (K + reg I) alpha = Y with the network's NNGP or NTK on the training inputs and predict
K* alpha: for the NNGP the posterior mean of the Bayesian network, for the NTK the mean of an
infinite ensemble after infinite training. They need scikit-learn 1.6 or newer.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils import Tags
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

import widegram
from widegram.errors import WidegramError
from widegram.linalg.dense import load_cholesky
from widegram.linalg.operator import as_operator
from widegram.linalg.refine import Factor
from widegram.linalg.solving import absolute_regulariser
from widegram.network import NetworkLike, load_network

Array = NDArray[Any]
_DEFAULT = "fcn:depth=2,act=relu"


class _KernelEstimator(BaseEstimator):
    """What the two estimators share: the network, its kernel, and the solve."""

    def __init__(
        self,
        network: NetworkLike = _DEFAULT,
        kernel: str = "ntk",
        diag_reg: float = 1e-3,
        diag_reg_absolute_scale: bool = False,
        input_shape: tuple[int, ...] | None = None,
    ) -> None:
        self.network = network
        self.kernel = kernel
        self.diag_reg = diag_reg
        self.diag_reg_absolute_scale = diag_reg_absolute_scale
        self.input_shape = input_shape

    def _fit(self, X: Array, targets: Array) -> None:
        """Set ``X_fit_`` (n, D), ``network_``, ``dual_coef_`` (n, k) and ``shift_``."""
        if self.kernel not in ("nngp", "ntk"):
            raise WidegramError(f"kernel={self.kernel!r}: choose 'nngp' or 'ntk'")
        self.X_fit_ = X
        shape = (X.shape[1],) if self.input_shape is None else tuple(self.input_shape)
        if int(np.prod(shape)) != X.shape[1]:
            raise WidegramError(
                f"input_shape={shape} holds {int(np.prod(shape))} numbers, X has {X.shape[1]} "
                "columns"
            )
        self.network_ = load_network(self.network, shape)
        self._factor, self.shift_ = self._factored()
        self.dual_coef_ = self._factor.solve(targets).x

    def _factored(self) -> tuple[Factor, float]:
        operator = as_operator(self._kernel(self.X_fit_, None), name="the training kernel")
        shift = absolute_regulariser(operator, self.diag_reg, self.diag_reg_absolute_scale)
        return load_cholesky(operator.shifted(shift)), shift

    def _kernel(self, X: Array, other: Array | None) -> Array:
        """K(X, other), float64; the square matrix of X where ``other`` is None."""
        rows = X.reshape(len(X), *self.network_.input_shape)
        cols = None if other is None else other.reshape(len(other), *self.network_.input_shape)
        return np.asarray(widegram.kernel(self.network_, rows, cols, self.kernel, "float64"))

    def _mean(self, X: Array) -> tuple[Array, Array]:
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        across = self._kernel(X, self.X_fit_)
        return across @ self.dual_coef_, across


class WidegramRegressor(RegressorMixin, _KernelEstimator):
    """Regression with the kernel of an infinitely wide network.

    ``network``: a preset, file, dict or Network, as :func:`widegram.load_network` takes them;
    ``kernel``: 'nngp' or 'ntk'; ``diag_reg``: added to the diagonal, times trace / n unless
    ``diag_reg_absolute_scale``; ``input_shape``: (H, W, C) of the images whose pixels are the
    columns of X, None for vectors. Fitting raises ValueError for a kernel matrix that is not
    positive definite, with a ``diag_reg`` that mends it.

    Fitted: ``dual_coef_`` (n, k), ``X_fit_`` (n, D), ``network_``, ``shift_`` (added to the
    diagonal), ``n_features_in_``.
    """

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def fit(self, X: Array, y: Array) -> Self:
        """X (n, D), y (n,) or (n, k)."""
        X, y = validate_data(self, X, y, dtype=np.float64, multi_output=True, y_numeric=True)
        self._flat = y.ndim == 1
        self._fit(X, np.asarray(y, dtype=np.float64).reshape(len(X), -1))
        return self

    def predict(self, X: Array, return_std: bool = False) -> Array | tuple[Array, Array]:
        """Mean (n,) or (n, k); with ``return_std`` the posterior standard deviation (n,) too.

        The standard deviation is that of a Gaussian process with the kernel as its covariance
        (for kernel 'nngp' the Bayesian network), without the regulariser as noise.
        """
        mean, across = self._mean(X)
        mean = mean[:, 0] if self._flat else mean
        if not return_std:
            return mean
        X = np.asarray(X, dtype=np.float64)
        prior = np.concatenate([np.diagonal(self._kernel(row[None], None)) for row in X])
        half = self._factor.half(across.T)
        variance = prior - np.einsum("ij,ij->j", half, half)
        return mean, np.sqrt(np.maximum(variance, 0.0))


class WidegramClassifier(ClassifierMixin, _KernelEstimator):
    """Classification: regression on one-hot labels minus 1/k, and the largest output.

    Parameters as :class:`WidegramRegressor`. Fitted: ``classes_`` (k,) and what that has.
    """

    def fit(self, X: Array, y: Array) -> Self:
        """X (n, D), y (n,) of any labels."""
        X, y = validate_data(self, X, y, dtype=np.float64)
        check_classification_targets(y)
        self.classes_, place = np.unique(y, return_inverse=True)
        if self.classes_.size < 2:
            raise WidegramError(f"the classifier needs 2 classes or more, found 1 class: {y[0]!r}")
        targets = np.full((len(X), self.classes_.size), -1.0 / self.classes_.size)
        targets[np.arange(len(X)), place] += 1.0
        self._fit(X, targets)
        return self

    def decision_function(self, X: Array) -> Array:
        """Outputs (n, k); for two classes (n,), positive for ``classes_[1]``."""
        mean, _ = self._mean(X)
        return mean[:, 1] if self.classes_.size == 2 else mean

    def predict(self, X: Array) -> Array:
        """Labels (n,)."""
        scores = self.decision_function(X)
        place = (scores > 0).astype(int) if scores.ndim == 1 else scores.argmax(axis=1)
        return self.classes_[place]
