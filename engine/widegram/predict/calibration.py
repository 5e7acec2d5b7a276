"""Probabilities of classes from Gaussian outputs, and how far they are to be trusted.

A classification by regression on one-hot targets gives every test point k independent Gaussian
outputs of one variance. The probability of a class is that of its output being the largest.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr, ndtr

Array = NDArray[Any]
_STEP = 0.125  # the largest of a thousand normal numbers varies by 0.3
_NODES = _STEP * np.arange(-80, 81)
_BEHIND = 40.0  # exp(-40^2 / 2) is 0
_HALVINGS = 12  # of 40, to a hundredth
_ENTRIES = 1 << 18  # numbers of a block of (points, classes, classes)
BINS = 15
"""Bins of equal width, as in Guo et al. 2017 (arXiv:1706.04599)."""


def class_probabilities(mean: Array, variance: Array) -> Array:
    """P(output c is the largest), (n, k), rows of which sum to 1, from ``mean`` (n, k) and one
    ``variance`` (n,) for the outputs of a point.

    E over z of the product of Phi(z + (m_c - m_j) / s) over the other classes j, z standard normal,
    by the trapezoidal rule, whose error falls faster than any power of its step. It is laid around
    the top of the integrand, which of a class that is behind is far from 0: the log loss needs the
    digits of small probabilities too. Without a variance the largest mean has all of it, ties share
    it.
    """
    n, k = mean.shape
    found = np.empty((n, k))
    sure = variance <= 0
    top = mean[sure] == mean[sure].max(axis=1, keepdims=True)
    found[sure] = top / top.sum(axis=1, keepdims=True)
    open_rows = np.flatnonzero(~sure)
    step = max(1, _ENTRIES // (k * k))
    others = ~np.eye(k, dtype=bool)
    for lo in range(0, open_rows.size, step):
        rows = open_rows[lo : lo + step]
        scaled = mean[rows] / np.sqrt(variance[rows])[:, None]
        ahead = scaled[:, :, None] - scaled[:, None, :]  # [point, class, other class]
        middle = _top(ahead, others)
        ahead += middle[:, :, None]
        found[rows] = sum(
            np.exp(-0.5 * (node + middle) ** 2)
            * np.prod(ndtr(node + ahead), axis=2, where=others)
            for node in _NODES
        )
    return np.asarray(found / found.sum(axis=1, keepdims=True))


def _top(ahead: Array, others: Array) -> Array:
    """Where -z^2 / 2 + sum of log Phi(z + ahead), over ``others`` of the last axis, is largest,
    from 0 to 40, to 0.01: its slope falls, so that halving finds where it is 0."""
    low, high = np.zeros(ahead.shape[:2]), np.full(ahead.shape[:2], _BEHIND)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        z = np.maximum(middle[:, :, None] + ahead, -1e6)  # squares stay finite
        slopes = np.exp(-0.5 * np.log(2 * np.pi) - z * z / 2 - log_ndtr(z))
        rises = slopes.sum(axis=2, where=others) > middle
        low, high = np.where(rises, middle, low), np.where(rises, high, middle)
    return (low + high) / 2


def log_loss(probabilities: Array, labels: Array) -> float:
    """Mean of -log of the probability of the true class; ``labels`` (n,) are columns.

    Infinite where a true class was given none.
    """
    with np.errstate(divide="ignore"):
        return float(-np.mean(np.log(probabilities[np.arange(labels.size), labels])))


def _binned(probabilities: Array, labels: Array, bins: int) -> tuple[Array, Array, Array]:
    """(confidence, whether it is right, bin) of each point; the confidence is its largest
    probability."""
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    return confidence, right, place


def expected_calibration_error(probabilities: Array, labels: Array, bins: int = BINS) -> float:
    """Mean over points of |accuracy - confidence| of their bin (Guo et al. 2017, equation 3)."""
    confidence, right, place = _binned(probabilities, labels, bins)
    gaps = np.bincount(place, weights=right - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / labels.size)


def reliability(
    probabilities: Array, labels: Array, bins: int = BINS
) -> list[tuple[float, float, int]]:
    """(mean confidence, accuracy, points) of each bin that has points, ascending: what a
    reliability diagram shows (Guo et al. 2017)."""
    confidence, right, place = _binned(probabilities, labels, bins)
    each = [place == number for number in range(bins)]
    return [
        (float(confidence[of].mean()), float(right[of].mean()), int(of.sum()))
        for of in each
        if of.any()
    ]
