"""scikit-learn estimators: regression and classification with an infinitely wide network.

Both solve (K + reg I) alpha = Y with the network's NNGP or NTK on the training inputs and predict
K* alpha: for the NNGP the posterior mean of the Bayesian network, for the NTK the mean of an
infinite ensemble after infinite training. They need scikit-learn 1.6 or newer.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted, validate_data

from widegram.linalg.incore import load_cholesky
from widegram.linalg.normalise import centred, in_units, prior_scale
from widegram.linalg.operator import as_operator
from widegram.linalg.refine import Factor
from widegram.linalg.solving import absolute_regulariser
from widegram.network import NetworkLike
from widegram.predict.undecided import ensemble_moves, posterior_moves, undecided
from widegram.predict.variance import ensemble_variances, explained
from widegram.sklearn.estimator_targets import (
    ClassTargets,
    NumberTargets,
    regression_targets,
    variance_kind,
    warn_of_undecided,
)
from widegram.sklearn.network_estimator import DEFAULT, NetworkEstimator

Array = NDArray[Any]
_ROWS = 1024  # test points at a time, for variances


class _KernelEstimator(NetworkEstimator):
    """What the two estimators share: the network, its kernel, and the solve."""

    def __init__(
        self,
        network: NetworkLike = DEFAULT,
        kernel: str = "ntk",
        diag_reg: float = 1e-3,
        diag_reg_absolute_scale: bool = False,
        input_shape: tuple[int, ...] | None = None,
        cache_size: float = 500,
        accept_series_error: float | None = None,
    ) -> None:
        self.network = network
        self.kernel = kernel
        self.diag_reg = diag_reg
        self.diag_reg_absolute_scale = diag_reg_absolute_scale
        self.input_shape = input_shape
        self.cache_size = cache_size
        self.accept_series_error = accept_series_error

    def _fit(self, X: Array, targets: Array) -> None:
        """Set ``X_fit_`` (n, D), ``network_``, ``dual_coef_`` (n, k) and ``shift_``."""
        self._load(X)
        self._factor, self.shift_, self._root = self._factored()
        self.dual_coef_ = self._factor.solve(targets).x

    def _factored(self) -> tuple[Factor, float, Array]:
        """(the factor, what was added to the diagonal, the roots of the sum (n,))."""
        square = self._kernel(self.X_fit_, None, self.kernel)
        operator = as_operator(square, name="the training kernel")
        shift = absolute_regulariser(operator, self.diag_reg, self.diag_reg_absolute_scale)
        root = np.sqrt(np.diagonal(square) + shift)
        return load_cholesky(operator.shifted(shift)), shift, root

    def _mean(self, X: Array) -> tuple[Array, Array]:
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        across = self._kernel(X, self.X_fit_, self.kernel)
        return across @ self.dual_coef_, across


class WidegramRegressor(NumberTargets, _KernelEstimator):
    """Regression with the kernel of an infinitely wide network.

    * ``network``, ``kernel``, ``input_shape``, ``cache_size``, ``accept_series_error``: as
      :class:`widegram.sklearn.network_estimator.NetworkEstimator` says
    * ``diag_reg``: added to the diagonal, times trace / n unless ``diag_reg_absolute_scale``
    * ``normalize_y``: targets are centred, and the prior gets their scale
      (:mod:`widegram.linalg.normalise`), without which standard deviations are those of a prior of
      variance K(x, x) whatever the targets are

    Fitting sets

    * ``dual_coef_``: (n, k), and ``X_fit_``, (n, D)
    * ``network_``, and ``shift_``, which was added to the diagonal
    * ``y_mean_`` and ``y_scale_``: (k,)
    * ``n_features_in_``

    and raises ValueError for a kernel matrix that is not positive definite, with a ``diag_reg``
    that mends it.
    """

    def __init__(
        self,
        network: NetworkLike = DEFAULT,
        kernel: str = "ntk",
        diag_reg: float = 1e-3,
        diag_reg_absolute_scale: bool = False,
        input_shape: tuple[int, ...] | None = None,
        cache_size: float = 500,
        normalize_y: bool = False,
        accept_series_error: float | None = None,
    ) -> None:
        super().__init__(
            network, kernel, diag_reg, diag_reg_absolute_scale, input_shape, cache_size,
            accept_series_error,
        )  # fmt: skip
        self.normalize_y = normalize_y

    def fit(self, X: Array, y: Array) -> Self:
        """X (n, D), y (n,) or (n, k)."""
        X, targets, self._flat = regression_targets(self, X, y)
        self.y_mean_ = np.zeros(targets.shape[1])
        self.y_scale_ = np.ones(targets.shape[1])
        if self.normalize_y:
            targets, self.y_mean_ = centred(targets)
        self._fit(X, targets)
        if self.normalize_y:
            self.y_scale_ = prior_scale(targets, self.dual_coef_)
        return self

    def predict(self, X: Array, return_std: bool | str = False) -> Array | tuple[Array, Array]:
        """Mean (n,) or (n, k); with ``return_std`` the standard deviation too.

        True or 'predictive': that of new targets, with noise of the variance that the regulariser
        adds to the diagonal. 'latent': without the noise. What varies is what
        :mod:`widegram.predict.variance` says, as in ``widegram predict --variance``: for 'nngp' the
        posterior of the Bayesian network, for 'ntk' the ensemble of trained networks. Of shape
        (n,), or (n, k) for several outputs with ``normalize_y``. Warns of deviations that rounding
        decides. Raises WidegramError for another ``return_std``.
        """
        mean, across = self._mean(X)
        mean = mean + self.y_mean_
        mean = mean[:, 0] if self._flat else mean
        kind = variance_kind(return_std, "return_std")
        if kind is None:
            return mean
        noise = 0.0 if kind == "latent" else self.shift_
        variance = self._latent(np.asarray(X, dtype=np.float64), across, noise)
        latent, predictive = in_units(variance, self.shift_, self.y_scale_)
        found = np.sqrt(latent if kind == "latent" else predictive)
        if self.normalize_y and self.y_scale_.size > 1 and found.ndim == 1:  # scales are equal
            found = np.repeat(found[:, None], self.y_scale_.size, axis=1)
        return mean, found

    def _latent(self, X: Array, across: Array, noise: float) -> Array:
        """Latent variances (n,) in units of the prior, not below 0; warns of those that rounding
        decides even with the ``noise`` that is added."""
        prior = self._diagonal(X, "nngp")
        variance, lost = prior.copy(), np.empty(len(X), dtype=bool)
        if self.kernel == "ntk":
            other = self._kernel(X, self.X_fit_, "nngp")
            square = self._kernel(self.X_fit_, None, "nngp")
            both = self._root, np.sqrt(np.diagonal(square))
        for lo in range(0, len(X), _ROWS):
            rows = slice(lo, lo + _ROWS)
            own = prior[rows]
            if self.kernel == "nngp":
                variance[rows] -= explained(self._factor, across[rows])
                moves = posterior_moves(self._factor, across[rows], own, self._root)
            else:
                kernels = across[rows], other[rows]
                variance[rows] += ensemble_variances(self._factor, square.__matmul__, *kernels)
                moves = ensemble_moves(self._factor, square.__matmul__, kernels, own, both)
            lost[rows] = undecided(variance[rows] + noise, own, np.float64, moves)
        warn_of_undecided(lost)
        return np.maximum(variance, 0.0)


class WidegramClassifier(ClassTargets, _KernelEstimator):
    """Classification: regression on one-hot labels minus 1/k, and the largest output.

    Parameters as :class:`WidegramRegressor`, without ``normalize_y``. Fitted: ``classes_`` (k,)
    and ``dual_coef_``, ``X_fit_``, ``network_``, ``shift_`` as there.
    """

    def decision_function(self, X: Array) -> Array:
        """Outputs (n, k); for two classes (n,), positive for ``classes_[1]``."""
        mean, _ = self._mean(X)
        return mean[:, 1] if self.classes_.size == 2 else mean

    def predict(self, X: Array) -> Array:
        """Labels (n,): the class of the largest output."""
        scores = self.decision_function(X)
        place = (scores > 0).astype(int) if scores.ndim == 1 else scores.argmax(axis=1)
        return self.classes_[place]
