"""scikit-learn's SVC on a matrix in memory, and its C by cross-validation.

The matrix goes to LIBSVM as it is, so that C counts in its units; parameters but C are SVC's own
defaults. LIBSVM keeps columns of the matrix in float32, and its solutions are as exact as that.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from widegram.errors import WidegramError
from widegram.linalg.svm.votes import pairs
from widegram.machine import interrupts
from widegram.machine.progress import Progress, ProgressCallback

Array = NDArray[Any]
CACHE = 200
"""Megabytes of columns that LIBSVM keeps: SVC's default."""

ITERATIONS, ITERATIONS_OF_A_ROW = 10**7, 100
"""Where LIBSVM ends a machine by itself, the larger of the two; SVC has no such limit."""


class Machines(NamedTuple):
    """A fitted SVC.

    * ``alpha``: (n, p), 0 but for support vectors: kernel(test, train) alpha + ``intercept`` (p,)
      are the decision values of the pairs of classes
    * ``support``: how many rows are support vectors
    * ``iterations``: of all pairs together
    * ``converged``: whether each ended before :func:`most_iterations`
    """

    alpha: Array
    intercept: Array
    support: int
    iterations: int
    converged: bool


def require_sklearn() -> None:
    """Raise WidegramError, with the command that installs it, where scikit-learn is missing."""
    try:
        import sklearn.svm  # noqa: F401 - is it there?
    except ImportError as error:
        raise WidegramError(
            "--method svm needs scikit-learn: pip install 'widegram[sklearn]'"
        ) from error


def fitted(kernel: Array, labels: Array, c: float) -> Machines:
    """The machines of a training matrix (n, n), float64, and labels (n,), places 0 to k - 1 of
    classes, in units of the matrix; ``c`` is SVC's C."""
    model = _model(kernel, labels, c)
    k, counts = model.classes_.size, np.cumsum([0, *model.n_support_])
    alpha = np.zeros((len(labels), len(pairs(k))))
    if k == 2:
        alpha[model.support_, 0] = model.dual_coef_[0]
    else:
        # A support vector of class i has k - 1 coefficients, one for each other class in order.
        for p, (i, j) in enumerate(pairs(k)):
            for own, other in ((i, j - 1), (j, i)):
                rows = slice(counts[own], counts[own + 1])
                alpha[model.support_[rows], p] = model.dual_coef_[other, rows]
    iterations = int(np.sum(model.n_iter_))
    return Machines(
        alpha=alpha,
        intercept=np.array(model.intercept_),
        support=int(model.support_.size),
        iterations=iterations,
        converged=model.fit_status_ == 0,
    )


def cross_validated(
    kernel: Array,
    labels: Array,
    path: Sequence[float],
    folds: int,
    seed: int,
    progress: ProgressCallback | None = None,
) -> list[float]:
    """For every C of ``path`` the share of rows that machines of the other folds predict right.

    Folds hold of every class the same share, drawn with ``seed``; a class that all others of its
    fold lack is never predicted there. Raises WidegramError where no class has a row in each fold,
    or two rows.
    """
    from sklearn.model_selection import StratifiedKFold

    most = int(np.bincount(labels).max())
    if most < 2:
        raise WidegramError("no class has two rows, to train on and to judge by; give one C")
    if not 2 <= folds <= most:
        raise WidegramError(
            f"folds {folds}: give a number from 2 to {most}, the rows of the largest class"
        )
    right, done = np.zeros(len(path)), 0
    with warnings.catch_warnings():
        # That some class has fewer rows than there are folds.
        warnings.simplefilter("ignore", UserWarning)
        splits = list(StratifiedKFold(folds, shuffle=True, random_state=seed).split(labels, labels))
    for train, held in splits:
        inner, across = kernel[np.ix_(train, train)], kernel[np.ix_(held, train)]
        for at, c in enumerate(path):
            interrupts.check()
            right[at] += np.sum(_predicted(inner, labels[train], across, c) == labels[held])
            done += 1
            if progress:
                progress(Progress(done, folds * len(path), what="cross-validation"))
    return [float(share) for share in right / len(labels)]


def _predicted(kernel: Array, labels: Array, across: Array, c: float) -> Array:
    """Labels of rows of ``across``; where the training rows have one class, that."""
    if (labels == labels[0]).all():
        return np.full(len(across), labels[0])
    return np.asarray(_model(kernel, labels, c).predict(across))


def most_iterations(n: int) -> int:
    """How many iterations a machine of ``n`` rows may take."""
    return max(ITERATIONS, ITERATIONS_OF_A_ROW * n)


def _model(kernel: Array, labels: Array, c: float) -> Any:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.svm import SVC

    most = most_iterations(len(labels))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the fit has a status
        return SVC(C=c, kernel="precomputed", cache_size=CACHE, max_iter=most).fit(kernel, labels)
