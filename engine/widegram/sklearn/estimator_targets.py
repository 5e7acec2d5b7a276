"""Targets as all estimators take them, and which variances of predictions are asked for."""

from __future__ import annotations

import warnings
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils import Tags
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import validate_data

from widegram.errors import WidegramError, shown
from widegram.linalg.targets import encode

Array = NDArray[Any]
VARIANCES = ("predictive", "latent")
"""Of new targets, with their noise, and without it."""


class NumberTargets(RegressorMixin):
    """A regression on targets (n,) or (n, k)."""

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


class ClassTargets(ClassifierMixin):
    """A classification by regression on one-hot labels less 1 / k, which ``_fit(X, targets)``
    of the class beside it does."""

    def fit(self, X: Array, y: Array) -> Self:
        """X (n, D), y (n,) of any labels; sets ``classes_`` (k,). Raises WidegramError for a single
        class."""
        X, y = validate_data(self, X, y, dtype=np.float64)
        self.classes_, targets = _one_hot(y)
        self._fit(X, targets)
        return self


def regression_targets(estimator: BaseEstimator, X: Array, y: Array) -> tuple[Array, Array, bool]:
    """X (n, D) and targets (n, k) as checked, float64, and whether y was of shape (n,)."""
    X, y = validate_data(estimator, X, y, dtype=np.float64, multi_output=True, y_numeric=True)
    columns = np.asarray(y, np.float64).reshape(len(X), -1)
    return X, encode(columns, task="regression").values, y.ndim == 1


def variance_kind(given: Any, name: str) -> str | None:
    """Which of :data:`VARIANCES` an argument ``name`` asks for: True is 'predictive', False none.

    Raises WidegramError for anything else.
    """
    if isinstance(given, bool | np.bool_):
        return VARIANCES[0] if given else None
    if not isinstance(given, str) or given not in VARIANCES:
        raise WidegramError(f"{name}={shown(given)}: choose True, 'predictive', 'latent'")
    return str(given)


def warn_of_undecided(lost: Array) -> None:
    """Say how many variances rounding decides, of ``lost`` (m,) bool, with a UserWarning."""
    if lost.any():
        warnings.warn(
            f"{int(lost.sum())} of {lost.size} variances are so small that rounding decides them; "
            "take a larger regulariser or noise",
            UserWarning,
            stacklevel=4,
        )


def _one_hot(y: Array) -> tuple[Array, Array]:
    """(the classes (k,), one-hot labels less 1 / k (n, k)) of labels (n,) of any kind."""
    check_classification_targets(y)
    classes, place = np.unique(y, return_inverse=True)
    if classes.size < 2:
        raise WidegramError(f"the classifier needs 2 classes or more, found 1 class: {y[0]!r}")
    return classes, encode(place, task="classification").values
