"""scikit-learn estimators: regression and classification with an infinitely wide network.

Both solve (K + reg I) alpha = Y with the network's NNGP or NTK on the training inputs and predict
K* alpha: for the NNGP the posterior mean of the Bayesian network, for the NTK the mean of an
infinite ensemble after infinite training. Kernels are remembered (:data:`MEMORY`), so that a
search over regularisers computes those of each fold once. They need scikit-learn 1.6 or newer.
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
from widegram.computing.in_memory import diagonal
from widegram.computing.job import make_job
from widegram.errors import WidegramError
from widegram.linalg.incore import load_cholesky
from widegram.linalg.normalise import centred, in_units, prior_scale
from widegram.linalg.operator import as_operator
from widegram.linalg.refine import Factor
from widegram.linalg.solving import absolute_regulariser
from widegram.linalg.targets import encode
from widegram.network import NetworkLike, load_network
from widegram.network.inputs import is_list
from widegram.predict.variance import ensemble_variances, explained
from widegram.sklearn.kernel_memory import KernelMemory

Array = NDArray[Any]
_DEFAULT = "fcn:depth=2,act=relu"
_ROWS = 1024  # test points at a time, for variances
MEMORY = KernelMemory()


class _KernelEstimator(BaseEstimator):
    """What the two estimators share: the network, its kernel, and the solve."""

    def __init__(
        self,
        network: NetworkLike = _DEFAULT,
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
        if self.kernel not in ("nngp", "ntk"):
            raise WidegramError(f"kernel={self.kernel!r}: choose 'nngp' or 'ntk'")
        self.X_fit_ = X
        if is_list(self.input_shape):
            raise WidegramError(
                "input_shape: is that of a list of inputs, and estimators take one array X; use "
                "widegram.kernel or widegram.gram"
            )
        shape = (X.shape[1],) if self.input_shape is None else tuple(self.input_shape)
        if int(np.prod(shape)) != X.shape[1]:
            raise WidegramError(
                f"input_shape={shape} holds {int(np.prod(shape))} numbers, X has {X.shape[1]} "
                "columns"
            )
        self.network_ = load_network(self.network, shape, given_by="an estimator's X")
        self._factor, self.shift_ = self._factored()
        self.dual_coef_ = self._factor.solve(targets).x

    def _factored(self) -> tuple[Factor, float]:
        square = self._kernel(self.X_fit_, None, self.kernel)
        operator = as_operator(square, name="the training kernel")
        shift = absolute_regulariser(operator, self.diag_reg, self.diag_reg_absolute_scale)
        return load_cholesky(operator.shifted(shift)), shift

    def _kernel(self, X: Array, other: Array | None, kernel: str) -> Array:
        """K(X, other), float64, read-only; the square matrix of X where ``other`` is None."""
        rows, cols = self._inputs(X), None if other is None else self._inputs(other)

        def compute() -> Array:
            found = widegram.kernel(
                self.network_, rows, cols, kernel, "float64",
                accept_series_error=self.accept_series_error,
            )  # fmt: skip
            return np.asarray(found)

        room = int(self.cache_size * 1e6)
        # What one estimator accepts is not what another gets.
        name = f"{kernel} {self.accept_series_error}"
        return MEMORY.get(self.network_, X, other, name, compute, room)

    def _inputs(self, X: Array) -> Array:
        return X.reshape(len(X), *self.network_.input_shape)

    def _mean(self, X: Array) -> tuple[Array, Array]:
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        across = self._kernel(X, self.X_fit_, self.kernel)
        return across @ self.dual_coef_, across


class WidegramRegressor(RegressorMixin, _KernelEstimator):
    """Regression with the kernel of an infinitely wide network.

    * ``network``: a preset, file, dict or Network, as :func:`widegram.load_network` takes them
    * ``kernel``: 'nngp' or 'ntk'
    * ``diag_reg``: added to the diagonal, times trace / n unless ``diag_reg_absolute_scale``
    * ``input_shape``: (H, W, C) of the images whose pixels are the columns of X, None for vectors
    * ``cache_size``: megabytes of kernels that are remembered between fits, 0 for none
    * ``normalize_y``: targets are centred, and the prior gets their scale
      (:mod:`widegram.linalg.normalise`), without which standard deviations are those of a prior of
      variance K(x, x) whatever the targets are
    * ``accept_series_error``: as in :func:`widegram.gram`

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
        network: NetworkLike = _DEFAULT,
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

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def fit(self, X: Array, y: Array) -> Self:
        """X (n, D), y (n,) or (n, k)."""
        X, y = validate_data(self, X, y, dtype=np.float64, multi_output=True, y_numeric=True)
        self._flat = y.ndim == 1
        targets = encode(np.asarray(y, np.float64).reshape(len(X), -1), task="regression").values
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
        :mod:`widegram.predict.variance` says, as in ``widegram predict --variance``: for 'nngp'
        the posterior of the Bayesian network, for 'ntk' the ensemble of trained networks. Of
        shape (n,), or (n, k) for several outputs with ``normalize_y``.
        """
        mean, across = self._mean(X)
        mean = mean + self.y_mean_
        mean = mean[:, 0] if self._flat else mean
        if return_std is False:
            return mean
        if return_std not in (True, "predictive", "latent"):
            raise WidegramError(f"return_std={return_std!r}: choose True, 'predictive', 'latent'")
        variance = self._latent(np.asarray(X, dtype=np.float64), across)
        latent, predictive = in_units(variance, self.shift_, self.y_scale_)
        return mean, np.sqrt(latent if return_std == "latent" else predictive)

    def _latent(self, X: Array, across: Array) -> Array:
        """Latent variances (n,) in units of the prior, not below 0."""
        job = make_job(
            self.network_, self._inputs(X), None, "nngp", "float64", None, None, None,
            self.accept_series_error,
        )  # fmt: skip
        variance = diagonal(job)["nngp"]
        if self.kernel == "ntk":
            other = self._kernel(X, self.X_fit_, "nngp")
            square = self._kernel(self.X_fit_, None, "nngp")
        for lo in range(0, len(X), _ROWS):
            rows = slice(lo, lo + _ROWS)
            if self.kernel == "nngp":
                variance[rows] -= explained(self._factor, across[rows])
            else:
                variance[rows] += ensemble_variances(
                    self._factor, square.__matmul__, across[rows], other[rows]
                )
        return np.maximum(variance, 0.0)


class WidegramClassifier(ClassifierMixin, _KernelEstimator):
    """Classification: regression on one-hot labels minus 1/k, and the largest output.

    Parameters as :class:`WidegramRegressor`, without ``normalize_y``. Fitted: ``classes_`` (k,)
    and ``dual_coef_``, ``X_fit_``, ``network_``, ``shift_`` as there.
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
