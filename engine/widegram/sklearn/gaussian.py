"""Gaussian processes as scikit-learn has them, whose covariance is the kernel of a network.

Targets are N(0, s^2 K + diag(alpha) + noise I). s^2 (``scale``), the noise and options of the
network come by evidence from the training data (:mod:`widegram.sklearn.evidence_search`) or are
given. They need scikit-learn 1.6 or newer.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from widegram.errors import WidegramError, shown
from widegram.linalg.incore import load_cholesky
from widegram.linalg.normalise import centred
from widegram.linalg.operator import as_operator
from widegram.network import Network, NetworkLike
from widegram.network.presets import build, options_of
from widegram.predict.calibration import class_probabilities
from widegram.predict.undecided import posterior_moves, undecided
from widegram.predict.variance import explained
from widegram.sklearn.estimator_targets import (
    ClassTargets,
    NumberTargets,
    regression_targets,
    variance_kind,
    warn_of_undecided,
)
from widegram.sklearn.evidence_search import (
    BestEvidence,
    Levels,
    best_levels,
    best_options,
    covariance,
    evidence_at,
)
from widegram.sklearn.network_estimator import DEFAULT, NetworkEstimator
from widegram.validation.arrays import finite, integer, number, real

Array = NDArray[Any]
EVIDENCE = "evidence"


class _GaussianProcess(NetworkEstimator):
    """What regression and classification share: hyperparameters, the fit, the posterior.

    * ``alpha``: variance of the noise of each training target, a number or (n,)
    * ``scale``, ``noise``: s^2, and the variance of noise that all targets have, new ones too;
      numbers, or 'evidence'
    * ``bounds``: {option: (low, high)} of the preset ``network`` whose values come by evidence
    * ``n_restarts_optimizer``: how many more places the search of options starts from, drawn by
      ``random_state``
    """

    def __init__(  # noqa: PLR0913 - scikit-learn wants every parameter here
        self,
        network: NetworkLike = DEFAULT,
        kernel: str = "nngp",
        *,
        alpha: float | ArrayLike = 1e-10,
        scale: float | str = EVIDENCE,
        noise: float | str = EVIDENCE,
        bounds: Mapping[str, tuple[float, float]] | None = None,
        n_restarts_optimizer: int = 0,
        input_shape: tuple[int, ...] | None = None,
        cache_size: float = 500,
        accept_series_error: float | None = None,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.network = network
        self.kernel = kernel
        self.alpha = alpha
        self.scale = scale
        self.noise = noise
        self.bounds = bounds
        self.n_restarts_optimizer = n_restarts_optimizer
        self.input_shape = input_shape
        self.cache_size = cache_size
        self.accept_series_error = accept_series_error
        self.random_state = random_state

    @property
    def hyperparameters_(self) -> dict[str, float]:
        """scale, noise and options by name, in the order of ``log_marginal_likelihood``'s theta."""
        return {"scale": self.scale_, "noise": self.noise_, **self.options_}

    def log_marginal_likelihood(self, theta: ArrayLike | None = None) -> float:
        """The log evidence of the training data, added up over outputs.

        ``theta``: logarithms of hyperparameters, as ``hyperparameters_`` has them; None are those
        of the fit. Minus infinity where the covariance is not positive definite, or so near to
        singular that rounding decides. Raises WidegramError for more or fewer, and for NaN.
        """
        check_is_fitted(self)
        if theta is None:
            return self.log_marginal_likelihood_value_
        values, names = real(theta, "theta").astype(float), list(self.hyperparameters_)
        if values.shape != (len(names),) or np.isnan(values).any():
            raise WidegramError(
                f"theta of shape {values.shape}: give the logarithms of {', '.join(names)}"
            )
        with np.errstate(over="ignore"):
            scale, noise, *options = np.exp(values).tolist()
        network = self._network(dict(zip(names[2:], options, strict=True)))
        square = self._kernel(self.X_fit_, None, self.kernel, network)
        return evidence_at(square, self._targets, scale, self._alpha + noise)

    def _fit(self, X: Array, targets: Array) -> None:
        """Set what is fitted, from targets (n, k)."""
        self._load(X)
        self._targets = targets
        self._alpha = self._noise_of_samples(len(X))
        integer(self.n_restarts_optimizer, "n_restarts_optimizer", 0)
        given = Levels(_level(self.scale, "scale"), _level(self.noise, "noise"))

        def at(options: Mapping[str, float]) -> BestEvidence:
            square = self._kernel(X, None, self.kernel, self._network(options))
            found = best_levels(square, targets, self._alpha, given)
            return BestEvidence(**{**vars(found), "options": dict(options)})

        bounds = self._bounds()
        if bounds:
            generator = check_random_state(self.random_state)
            found = best_options(at, bounds, self.n_restarts_optimizer, generator)
        else:
            found = at({})
        self.scale_, self.noise_, self.options_ = found.scale, found.noise, found.options
        self.log_marginal_likelihood_value_ = found.log_evidence
        self.network_ = self._network(found.options)
        square = self._kernel(X, None, self.kernel)
        matrix = covariance(square, self.scale_, self._alpha + self.noise_)
        self._root = np.sqrt(np.diagonal(matrix))
        self._factor = load_cholesky(as_operator(matrix, name="the covariance"))
        self.dual_coef_ = self._factor.solve(targets).x

    def _noise_of_samples(self, n: int) -> Array | float:
        found = finite(self.alpha, "alpha")
        if found.shape not in ((), (n,)) or (found < 0).any():
            raise WidegramError(
                f"alpha: has shape {found.shape}; give a variance, or one for each of {n} rows, "
                "none below 0"
            )
        return float(found) if found.ndim == 0 else found

    def _bounds(self) -> dict[str, tuple[float, float]]:
        if not isinstance(self.bounds, Mapping | None):
            raise WidegramError("bounds: give a dict, {'w_var': (0.5, 4)}")
        found = dict(self.bounds or {})
        if found and not isinstance(self.network, str):
            raise WidegramError(
                f"bounds: are of options of a preset such as {DEFAULT}, and network is "
                f"{type(self.network).__name__}"
            )
        for name, pair in found.items():
            ends = real(pair, f"bounds of {name}")
            if not isinstance(name, str) or ends.shape != (2,) or not 0 < ends[0] < ends[1] < inf:
                raise WidegramError(f"bounds of {name}: {pair} is no pair 0 < low < high")
            if name in options_of(str(self.network)):
                raise WidegramError(
                    f"bounds of {name}: network {shown(self.network)} gives {name}, too; leave it "
                    "out there, or its bounds"
                )
        return found

    def _network(self, options: Mapping[str, float]) -> Network:
        if not options:
            return self.network_
        return build(str(self.network), self.network_.input_shape, None, **options)

    def _posterior(self, X: Array, kind: str | None, joint: bool) -> tuple[Array, Array | None]:
        """(mean (m, k), variance (m,) or with ``joint`` covariance (m, m)), in units of the targets
        that were fitted; ``kind`` as :func:`variance_kind` gives it."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        across = self.scale_ * self._kernel(X, self.X_fit_, self.kernel)
        mean = across @ self.dual_coef_
        if kind is None:
            return mean, None
        noise = 0.0 if kind == "latent" else self.noise_
        own = self.scale_ * self._diagonal(X, self.kernel)
        if not joint:
            variance = own - explained(self._factor, across)
            self._warn(variance + noise, own, across)
            return mean, np.maximum(variance, 0.0) + noise
        half = self._factor.half(across.T)
        found = self.scale_ * self._kernel(X, None, self.kernel) - half.T @ half
        self._warn(np.diagonal(found) + noise, own, across)
        found = (found + found.T) / 2
        found[np.diag_indices(len(X))] += noise
        return mean, found

    def _warn(self, variance: Array, prior: Array, across: Array) -> None:
        """Warn of variances (m,) that rounding decides."""
        moves = posterior_moves(self._factor, across, prior, self._root)
        warn_of_undecided(undecided(variance, prior, np.float64, moves))


class GaussianProcessRegressor(NumberTargets, _GaussianProcess):
    """A Gaussian process whose covariance is the kernel of an infinitely wide network.

    * ``network``, ``kernel``, ``input_shape``, ``cache_size``, ``accept_series_error``: as
      :class:`widegram.sklearn.network_estimator.NetworkEstimator` says
    * ``alpha``, ``scale``, ``noise``, ``bounds``, ``n_restarts_optimizer``, ``random_state``: as
      :class:`_GaussianProcess` says
    * ``normalize_y``: targets are centred and divided by their standard deviations; ``alpha``,
      ``scale`` and ``noise`` are in those units, as in scikit-learn

    Fitting sets ``scale_``, ``noise_``, ``options_``, ``hyperparameters_``,
    ``log_marginal_likelihood_value_``, ``network_``, ``X_fit_`` (n, D), ``dual_coef_`` (n, k),
    ``y_mean_`` and ``y_scale_`` (k,), ``n_features_in_``, and raises ValueError for a covariance
    that is not positive definite.
    """

    def __init__(  # noqa: PLR0913 - scikit-learn wants every parameter here
        self,
        network: NetworkLike = DEFAULT,
        kernel: str = "nngp",
        *,
        alpha: float | ArrayLike = 1e-10,
        scale: float | str = EVIDENCE,
        noise: float | str = EVIDENCE,
        bounds: Mapping[str, tuple[float, float]] | None = None,
        n_restarts_optimizer: int = 0,
        normalize_y: bool = False,
        input_shape: tuple[int, ...] | None = None,
        cache_size: float = 500,
        accept_series_error: float | None = None,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        super().__init__(
            network, kernel, alpha=alpha, scale=scale, noise=noise, bounds=bounds,
            n_restarts_optimizer=n_restarts_optimizer, input_shape=input_shape,
            cache_size=cache_size, accept_series_error=accept_series_error,
            random_state=random_state,
        )  # fmt: skip
        self.normalize_y = normalize_y

    def fit(self, X: Array, y: Array) -> Self:
        """X (n, D), y (n,) or (n, k)."""
        X, targets, self._flat = regression_targets(self, X, y)
        self.y_mean_ = np.zeros(targets.shape[1])
        self.y_scale_ = np.ones(targets.shape[1])
        if self.normalize_y:
            std = targets.std(axis=0)
            targets, self.y_mean_ = centred(targets)
            self.y_scale_ = np.where(targets.any(axis=0) & (std > 0), std, 1.0)
        self._fit(X, targets / self.y_scale_)
        return self

    def predict(
        self, X: Array, return_std: bool | str = False, return_cov: bool | str = False
    ) -> Array | tuple[Array, Array]:
        """Mean (m,) or (m, k); with ``return_std`` the standard deviation too, of the same shape,
        with ``return_cov`` the covariance (m, m) or (m, m, k).

        True or 'predictive': of new targets, whose noise has the variance ``noise_``. 'latent':
        without it. ``alpha`` is of training targets alone. Warns of variances that rounding
        decides. Raises WidegramError for other values of these, and for both.
        """
        if return_std is not False and return_cov is not False:
            raise WidegramError("return_std and return_cov: one of them is returned; give one")
        joint = return_cov is not False
        kind = variance_kind(*((return_cov, "return_cov") if joint else (return_std, "return_std")))
        mean, variance = self._posterior(X, kind, joint)
        mean = self.y_mean_ + self.y_scale_ * mean
        mean = mean[:, 0] if self._flat else mean
        if variance is None:
            return mean
        found = variance[..., None] * self.y_scale_**2
        found = found[..., 0] if self._flat else found
        return mean, found if joint else np.sqrt(found)

    def sample_y(
        self,
        X: Array,
        n_samples: int = 1,
        random_state: int | np.random.RandomState | None = 0,
    ) -> Array:
        """Draws of new targets at X from the posterior, (m, n_samples) or (m, k, n_samples)."""
        integer(n_samples, "n_samples", 1)
        generator = check_random_state(random_state)
        mean, covariances = self._posterior(X, "predictive", True)
        assert covariances is not None
        # The root of a covariance that rounding may have made indefinite.
        values, vectors = np.linalg.eigh(covariances)
        root = vectors * np.sqrt(np.maximum(values, 0.0))
        normal = generator.standard_normal((n_samples, mean.shape[1], len(mean)))
        drawn = np.moveaxis(normal @ root.T, (0, 1, 2), (2, 1, 0)) + mean[:, :, None]
        drawn = self.y_mean_[:, None] + self.y_scale_[:, None] * drawn
        return drawn[:, 0] if self._flat else drawn


class GaussianProcessClassifier(ClassTargets, _GaussianProcess):
    """Classification by a Gaussian process for each class, on one-hot labels less 1 / k.

    Parameters as :class:`GaussianProcessRegressor`, without ``normalize_y``; all classes share
    scale and noise. A class has the probability that its new target would be the largest, for
    independent Gaussian outputs. Fitted as there, with ``classes_`` (k,).
    """

    def predict_proba(self, X: Array) -> Array:
        """The probability of every class, (m, k)."""
        mean, variance = self._posterior(X, "predictive", False)
        assert variance is not None
        return class_probabilities(mean, variance)

    def predict(self, X: Array) -> Array:
        """Labels (m,): the class of the largest mean."""
        mean, _ = self._posterior(X, None, False)
        return self.classes_[mean.argmax(axis=1)]


def _level(value: float | str, name: str) -> float | None:
    """A number, or None where the evidence decides."""
    if isinstance(value, str):
        if value != EVIDENCE:
            raise WidegramError(f"{name}={value!r}: give a number or '{EVIDENCE}'")
        return None
    return number(value, name)
