"""Which variances of predictions are what rounding left.

A posterior variance is w^T J w of w = (1, -beta), beta = A^-1 k*, and the covariance J of a test
point with the training points. Entries of J that are rounded by eps sqrt(J_ii J_jj), and a factor
of A whose error is of that size (:mod:`widegram.linalg.evidence`), move it by
eps (sum_i |w_i| sqrt(J_ii))^2 at most. eps is that of the dtype in which the kernels lie.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from widegram.linalg.refine import Factor

Array = NDArray[Any]
_PARTS = 4  # of the rows, so that ten arrays of a part take less than three of all
Moves = Callable[[Array], Array]
"""What rounding moves the variances of some rows by, in units of eps: (rows,) of their numbers."""


def undecided(latent: Array, prior: Array, dtype: DTypeLike, moves: Moves) -> Array:
    """Which of the variances ``latent`` (m,), before they are cut off at 0, rounding decides:
    bool (m,).

    Of those below sqrt(eps) of the ``prior`` (m,) alone the ``moves`` are computed: others have
    digits left unless weights are as large as 1 / eps^(1/4).
    """
    eps = float(np.finfo(dtype).eps)
    found: Array = latent <= np.sqrt(eps) * prior
    below = np.flatnonzero(found)
    step = max(1, latent.size // _PARTS)
    for lo in range(0, below.size, step):
        rows = below[lo : lo + step]
        found[rows] = latent[rows] < eps * moves(rows)
    return found


def posterior_moves(factor: Factor, across: Array, prior: Array, root: Array) -> Moves:
    """Of posterior variances: ``across`` (m, n) and ``prior`` (m,) of the test points, ``root``
    (n,) of A's diagonal."""

    def moves(rows: Array) -> Array:
        weights = np.abs(factor.apply(across[rows].T))
        return np.asarray((np.sqrt(prior[rows]) + root @ weights) ** 2)

    return moves


def ensemble_moves(
    factor: Factor,
    nngp: Callable[[Array], Array],
    kernels: tuple[Array, Array],
    prior: Array,
    roots: tuple[Array, Array],
) -> Moves:
    """Of the variances of an NTK ensemble: w^T J w of the NNGP with beta of the NTK.

    The error of beta counts too: with gamma = A^-1 (K beta - k*) it moves them by
    2 eps sum_i |gamma_i| (|t*_i| + sqrt(A_ii) sum_j |beta_j| sqrt(A_jj)).

    ``factor`` is of A, the NTK; ``nngp(x)`` is K x. ``kernels``: (m, n) of the NTK, t*, and of the
    NNGP, k*, between test and training points; ``roots`` (n,) of the diagonals of A and of K.
    """
    (ntk, other), (of_ntk, of_nngp) = kernels, roots

    def moves(rows: Array) -> Array:
        across = ntk[rows].T
        pulled = factor.apply(across)
        pushed = np.abs(factor.apply(nngp(pulled) - other[rows].T))
        weights = np.abs(pulled)
        of_weights = np.abs(across) + of_ntk[:, None] * (of_ntk @ weights)
        own = (np.sqrt(prior[rows]) + of_nngp @ weights) ** 2
        return np.asarray(own + 2.0 * np.einsum("ij,ij->j", pushed, of_weights))

    return moves
