"""Gradient flow of an infinitely wide network on its training set, at any conditioning.

f_t = Theta_* alpha_t with alpha_t = sum_k v_k g_k (v_k . y),
g_k = (1 - exp(-eta lambda_k t)) / lambda_k and eta = 2 / lambda_max: full-batch gradient flow from
f_0 = 0 on the squared loss (arXiv:1912.13053, section 2). g_k stays finite as lambda_k -> 0, so
no Theta is ever inverted. Where Theta is level - D with D small, the eigenvectors are taken in the
basis of :mod:`~widegram.meanfield.experiments.spectra`, and predictions are
level * sum(alpha) - D alpha with the sum kept apart: D counts to its own precision.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from widegram.meanfield.experiments.spectra import DENSE, Blocks
from widegram.meanfield.recursion.scaled import LogScaled
from widegram.meanfield.theory.one_layer import Array


@dataclass(frozen=True)
class Flow:
    """The eigensystem of a training kernel level 1 1^T - drop, ready for any labels and times.

    ``values`` (m,) ascend; column k of ``vectors`` (m, m) belongs to values[k], and ``sums`` (m,)
    are the columns' sums to full precision.
    """

    level: float
    drop: Array
    values: Array
    vectors: Array
    sums: Array

    @classmethod
    def of(cls, level: float, drop: Array) -> Flow:
        """Diagonalise; ``drop`` is symmetric (m, m)."""
        if np.abs(drop).max() > DENSE * abs(level):
            values, vectors = np.linalg.eigh(level - drop)
            return cls(level, drop, values, vectors, vectors.sum(axis=0))
        m = len(drop)
        parts = Blocks.of(level, LogScaled(drop))
        bulk, inner = np.linalg.eigh(parts.schur())
        # First order in drop / level: the top vector is u + Q b / top, the others lean back.
        lean = (parts.b @ inner) / parts.top
        vectors = np.empty((m, m))
        vectors[:, :-1] = parts.basis @ inner - np.outer(parts.u, lean)
        vectors[:, -1] = parts.u + parts.basis @ parts.b / parts.top
        sums = np.sqrt(m) * np.append(-lean, 1.0)
        return cls(level, drop, np.append(bulk, parts.top + parts.g), vectors, sums)

    @property
    def lambda_max(self) -> float:
        """The largest eigenvalue."""
        return float(self.values[-1])

    @property
    def kappa(self) -> float:
        """lambda_max / lambda_min; infinite where lambda_min is lost to rounding."""
        return float(self.values[-1] / self.values[0]) if self.values[0] > 0 else float("inf")

    def solve(self, y: Array, times: Sequence[float]) -> tuple[Array, Array]:
        """(alpha, totals): alpha (m, len(times) * k), times outermost, and its column sums.

        ``y`` (m, k); times in units of eta = 2 / lambda_max; infinity is the mean predictor.
        """
        parts = self.vectors.T @ y
        blocks = []
        for time in times:
            gain = self._gain(time)
            blocks.append(gain[:, None] * parts)
        weights = np.concatenate(blocks, axis=1)
        return self.vectors @ weights, self.sums @ weights

    def _gain(self, time: float) -> Array:
        values = np.maximum(self.values, 0.0)
        rate = 2 * time / self.lambda_max
        if np.isinf(time):
            return 1 / self.values
        exponent = rate * values
        with np.errstate(divide="ignore", invalid="ignore"):
            gain = -np.expm1(-exponent) / values
        return np.where(exponent > 1e-12, gain, rate)


def outputs(level: float, drop: Array, alpha: Array, totals: Array) -> Array:
    """(level 1 1^T - drop) alpha for ``drop`` (n, m)."""
    return np.asarray(level * totals - drop @ alpha)
