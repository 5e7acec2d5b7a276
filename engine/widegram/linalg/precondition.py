"""Preconditioners for K + mu I from a low-rank approximation of K.

Both give  P^-1 = (theta + mu) U (Lambda + mu)^-1 U^T + (I - U U^T)  with the eigenpairs of the
approximation and theta its smallest eigenvalue (Frangella, Tropp, Udell, "Randomized Nystrom
preconditioning", SIAM J. Matrix Anal. Appl. 44, 2023, equation 1.3).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from widegram.linalg.operator import GramOperator
from widegram.machine.progress import Progress, ProgressCallback

Array = NDArray[Any]


@dataclass(frozen=True)
class LowRank:
    """Eigenvectors (n, r) and eigenvalues (r,) of an approximation of K, for K + mu I."""

    vectors: Array
    values: Array
    mu: float

    @property
    def rank(self) -> int:
        """Number of eigenpairs."""
        return int(self.values.size)

    def __call__(self, r: Array) -> Array:
        """P^-1 r for r of shape (n, k)."""
        if not self.rank:
            return np.array(r)
        inner = self.vectors.T @ r
        weight = (self.values[-1] + self.mu) / (self.values + self.mu) - 1.0
        return np.asarray(r + self.vectors @ (weight[:, None] * inner))


def nystrom(
    operator: GramOperator,
    rank: int,
    mu: float,
    *,
    seed: int = 0,
    progress: ProgressCallback | None = None,
) -> LowRank:
    """Randomized Nystrom approximation of rank ``rank``: one product with (n, rank) Gaussians.

    ``operator`` is K without the shift ``mu``. Algorithm 2.1 of the paper named above.
    """
    n = operator.shape[0]
    probe = np.random.default_rng(seed).standard_normal((n, rank))
    probe, _ = linalg.qr(probe, mode="economic", overwrite_a=True, check_finite=False)
    sketch = operator.matmat(probe, progress)
    if not np.isfinite(sketch).all():
        operator.require_finite()
    nudge = np.sqrt(n) * np.finfo(np.float64).eps * float(np.linalg.norm(sketch))
    sketch += nudge * probe
    core = probe.T @ sketch
    del probe
    values, vectors = linalg.eigh((core + core.T) / 2, overwrite_a=True, check_finite=False)
    keep = values > max(values[-1], 0.0) * 1e-14
    return _from_factor(sketch @ (vectors[:, keep] / np.sqrt(values[keep])), mu, nudge)


def pivoted_cholesky(
    operator: GramOperator, rank: int, mu: float, *, progress: ProgressCallback | None = None
) -> LowRank:
    """Greedy partial Cholesky: ``rank`` rows of K, each where the error's diagonal is largest.

    Harbrecht, Peters, Schneider, "On the low-rank approximation by the pivoted Cholesky
    decomposition", Appl. Numer. Math. 62, 2012, algorithm 1.
    """
    diagonal = operator.diagonal()
    start = float(diagonal.max())
    factor = np.zeros((operator.shape[0], rank), order="F")
    taken = 0
    for taken in range(rank):
        pivot = int(np.argmax(diagonal))
        if diagonal[pivot] <= 1e-14 * start:
            break
        row = operator.block(slice(pivot, pivot + 1), slice(0, operator.shape[1]))[0]
        row -= factor[:, :taken] @ factor[pivot, :taken]
        factor[:, taken] = row / np.sqrt(diagonal[pivot])
        diagonal -= factor[:, taken] ** 2
        diagonal[pivot] = -np.inf
        if progress:
            progress(Progress(taken + 1, rank, what="pivoted Cholesky"))
    else:
        taken = rank
    return _from_factor(factor[:, :taken], mu, 0.0)


def _from_factor(factor: Array, mu: float, nudge: float) -> LowRank:
    """Eigenpairs of F F^T - nudge I from the singular values of F (n, r), largest first."""
    gram = factor.T @ factor
    values, vectors = linalg.eigh((gram + gram.T) / 2, overwrite_a=True, check_finite=False)
    order = np.argsort(values)[::-1]
    values, vectors = values[order], vectors[:, order]
    keep = values > values[0] * 1e-13 if values.size else np.zeros(0, dtype=bool)
    keep &= values > 2.0 * nudge
    basis = factor @ (vectors[:, keep] / np.sqrt(values[keep]))
    return LowRank(_polish(basis), values[keep] - nudge, mu)


def _polish(basis: Array) -> Array:
    """Orthonormal columns near ``basis``: the Gram matrix route leaves them at sqrt(eps)."""
    if not basis.size:
        return basis
    q, r = linalg.qr(basis, mode="economic", check_finite=False)
    return np.asarray(q * np.sign(np.diagonal(r)))
