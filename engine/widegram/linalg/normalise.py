"""Targets centred, and the units of the prior: what makes predictive intervals cover.

A Gaussian process prior fixes its own scale: K(x, x) is 1 or 0.1 whatever the targets' units are.
Of a prior s^2 (K + reg I) the most likely s^2 is t^T (K + reg I)^-1 t / n (Rasmussen and Williams,
"Gaussian Processes for Machine Learning", 2006, section 5.4.1, with the derivative in s^2). The
predictive mean does not depend on it, variances are multiplied by it. Outputs that are one thing in
common units, such as classes, have one s^2: the mean of theirs, which is the most likely one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from widegram.data.statistics import ROUNDINGS, is_constant, middle

Array = NDArray[Any]


def centred(targets: Array) -> tuple[Array, Array]:
    """(targets less their column means, the means (k,)), float64.

    Of a column that is constant but for rounding, zeros and its value: what a rounded mean leaves
    of it is noise, which has no scale.
    """
    low, high = targets.min(axis=0), targets.max(axis=0)
    constant = is_constant(low, high, ROUNDINGS * float(np.finfo(np.float64).eps))
    mean = np.where(constant, middle(low, high), np.mean(targets, axis=0))
    return np.where(constant, 0.0, targets - mean), mean


def prior_scale(targets: Array, alpha: Array, common: bool = False) -> Array:
    """s (k,) of each column, from targets t and alpha = (K + reg I)^-1 t, both (n, k).

    1 for a column of zeros. ``common``: one of all columns.
    """
    return scale_of(np.einsum("ij,ij->j", targets, alpha), len(targets), common)


def scale_of(squares: Array, n: int, common: bool = False) -> Array:
    """s (k,) from ``squares`` = t^T (K + reg I)^-1 t of n targets; 1 where they are zero."""
    square = squares / n
    if common:
        square = np.full_like(square, square.mean())
    return np.where(square > 0, np.sqrt(np.maximum(square, 0.0)), 1.0)


def in_units(latent: Array, noise: float, scale: Array) -> tuple[Array, Array]:
    """(latent, predictive) variances of the targets from latent ones of the prior, (n_test,).

    ``noise`` is what the regulariser added to the diagonal: the variance of the noise. Both of
    shape (n_test,) where all outputs share one scale, else (n_test, k).
    """
    square = scale**2
    units = square[0] if (square == square[0]).all() else square
    lifted = latent if np.ndim(units) == 0 else latent[:, None]
    return lifted * units, (lifted + noise) * units
