"""The bottom of a spectrum by inverse iteration with a Cholesky factor.

Where eigenvalues crowd at the bottom, Krylov spaces of K see them last and those of
(K + s I)^-1 first. The shift s only makes the factorisation safe; the pairs are Rayleigh-Ritz
pairs of K itself.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from widegram.linalg.definite import NotPositiveDefinite
from widegram.linalg.dense import DenseCholesky, load_cholesky
from widegram.linalg.eigen import Eigenpairs, partial_eigen
from widegram.linalg.operator import GramOperator, Progress
from widegram.linalg.refine import Factor

Array = NDArray[Any]
# Bound for the relative error of the lowest eigenvalue, which in practice is near its square.
_INVERSE_TOL = 1e-4


class InverseOperator:
    """A^-1 by a factor, as an operator."""

    def __init__(self, factor: Factor) -> None:
        self._factor = factor

    @property
    def shape(self) -> tuple[int, int]:
        """(n, n)."""
        return self._factor.n, self._factor.n

    def matmat(self, x: Array, progress: Progress | None = None) -> Array:
        """A^-1 x."""
        return self._factor.apply(x)


def factor_fits(n: int, k: int, memory: int) -> bool:
    """Whether a float64 factor and the vectors of k pairs fit in ``memory`` bytes."""
    return 8 * n * n + 8 * n * 12 * (k + 16) <= memory


def lowest_eigen(
    operator: GramOperator,
    k: int,
    top: float,
    *,
    memory: int,
    tol: float = 1e-8,
    inverse_tol: float = _INVERSE_TOL,
    max_passes: int = 300,
    floor: float = 0.0,
    seed: int = 0,
    progress: Progress | None = None,
) -> Eigenpairs:
    """The ``k`` lowest eigenpairs of ``operator`` (no shift), whose norm is about ``top``.

    By inverse iteration where a factor fits in ``memory``, to ``inverse_tol`` of the inverse's
    largest eigenvalue; else by block Krylov on K, to ``tol`` of ``top``. No work
    is spent on pairs below ``floor``, the rounding of K.
    """
    n = operator.shape[0]
    shift = 2.0 * max(floor, np.sqrt(n) * np.finfo(np.float64).eps * top)
    factor = None
    if factor_fits(n, k, memory):
        factor = _safe_factor(operator.shifted(shift), progress)
    if factor is None:
        return partial_eigen(
            operator,
            k,
            "SA",
            tol=tol,
            max_passes=max_passes,
            meaningless=lambda values: values < floor,
            memory=memory,
            seed=seed,
            progress=progress,
        )
    found = partial_eigen(
        InverseOperator(factor),
        k,
        "LA",
        tol=inverse_tol,
        max_passes=max_passes,
        meaningless=lambda values: values > 1.0 / (floor + shift),
        memory=memory - 8 * n * n,
        seed=seed,
        progress=progress,
    )
    assert found.vectors is not None
    del factor
    image = operator.matmat(found.vectors)
    small = found.vectors.T @ image
    values, turn = np.linalg.eigh((small + small.T) / 2)
    vectors, image = found.vectors @ turn, image @ turn
    residuals = np.linalg.norm(image - vectors * values, axis=0)
    inverted = (1.0 / found.values - shift)[::-1]  # bounds from above, as Ritz values of K are
    values = np.where(inverted < floor, np.minimum(values, inverted), values)
    relative = (found.errors / found.values)[::-1]
    errors = np.minimum(residuals, np.abs(values) * relative)
    return Eigenpairs(
        values, vectors, residuals, errors, "inverse-krylov", found.iterations, found.converged
    )


def _safe_factor(operator: GramOperator, progress: Progress | None) -> DenseCholesky | None:
    """A factor, or None where the matrix is not positive definite."""
    try:
        return load_cholesky(operator, np.float64, progress)
    except NotPositiveDefinite:
        return None
