"""The bottom of a spectrum by inverse iteration with a Cholesky factor.

Where eigenvalues crowd at the bottom, Krylov spaces of K see them last and those of
(K + s I)^-1 first. The shift s only makes the factorisation safe; the pairs are Rayleigh-Ritz
pairs of K itself. The factor lies in memory or, of a larger matrix, on the disk.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from widegram.errors import WidegramError
from widegram.linalg.choose import Choice
from widegram.linalg.definite import FailedPivot
from widegram.linalg.eigen import Eigenpairs, partial_eigen
from widegram.linalg.operator import GramOperator, Progress
from widegram.linalg.refine import Factor
from widegram.linalg.solving import SolveOptions, chosen, factored

Array = NDArray[Any]
# Bound for the relative error of the lowest eigenvalue, which in practice is near its square.
_INVERSE_TOL = 1e-4
_BLOCK = 16  # vectors beside those wanted
_NAMES = {"cholesky": "inverse-krylov", "cholesky-ooc": "inverse-krylov on the disk"}


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


def lowest_eigen(
    operator: GramOperator,
    k: int,
    top: float,
    *,
    memory: int,
    work: Path | None = None,
    key: str = "",
    tol: float = 1e-8,
    inverse_tol: float = _INVERSE_TOL,
    max_passes: int = 300,
    floor: float = 0.0,
    seed: int = 0,
    progress: Progress | None = None,
) -> Eigenpairs:
    """The ``k`` lowest eigenpairs of ``operator`` (no shift), whose norm is about ``top``.

    By inverse iteration, to ``inverse_tol`` of the inverse's largest eigenvalue, where a float64
    factor fits in ``memory``, or on the disk as a work file ``work`` + ".factor" (None: not
    there), which ``key`` names and a later run continues; else, and where K is indefinite beyond
    rounding, by block Krylov on K, to ``tol`` of ``top``. No work is spent on pairs below
    ``floor``, the rounding of K.
    """
    n = operator.shape[0]
    shift = 2.0 * max(floor, np.sqrt(n) * np.finfo(np.float64).eps * top)
    options = SolveOptions(
        memory, dtype=np.float64, work=work, key=key, overwrite=True, progress=progress
    )
    choice = _choice(operator, k, options)
    try:
        if choice is not None:
            with factored(
                operator.shifted(shift), k + _BLOCK, options, choice, advise=False
            ) as factor:
                room = memory - (8 * n * n if choice.method == "cholesky" else memory // 2)
                found = partial_eigen(
                    InverseOperator(factor),
                    k,
                    "LA",
                    tol=inverse_tol,
                    max_passes=max_passes,
                    meaningless=lambda values: values > 1.0 / (floor + shift),
                    memory=room,
                    seed=seed,
                    progress=progress,
                )
            return _pairs_of_matrix(operator, found, shift, floor, _NAMES[choice.method])
    except FailedPivot:
        floor = 0.0  # a negative eigenvalue beyond rounding: block Krylov finds it
    return partial_eigen(
        operator,
        k,
        "SA",
        tol=tol,
        max_passes=max_passes,
        meaningless=lambda values: np.abs(values) < floor,
        memory=memory // 2,
        seed=seed,
        progress=progress,
    )


def _choice(operator: GramOperator, k: int, options: SolveOptions) -> Choice | None:
    """How to factor, in memory or on the disk; None where neither has the room."""
    try:
        choice = chosen(operator, k + _BLOCK, options)
    except WidegramError:
        return None
    beyond = choice.method == "cholesky-ooc" and options.work is None
    return None if beyond or choice.method == "cg" else choice


def _pairs_of_matrix(
    operator: GramOperator, found: Eigenpairs, shift: float, floor: float, method: str
) -> Eigenpairs:
    """Rayleigh-Ritz pairs of K in the space of the inverse's; residuals are K's own."""
    assert found.vectors is not None
    image = operator.matmat(found.vectors)
    small = found.vectors.T @ image
    values, turn = np.linalg.eigh((small + small.T) / 2)
    vectors, image = found.vectors @ turn, image @ turn
    residuals = np.linalg.norm(image - vectors * values, axis=0)
    inverted = (1.0 / found.values - shift)[::-1]  # bounds from above, as Ritz values of K are
    values = np.where(inverted < floor, np.minimum(values, inverted), values)
    relative = (found.errors / found.values)[::-1]
    errors = np.minimum(residuals, np.abs(values) * relative)
    return Eigenpairs(values, vectors, residuals, errors, method, found.iterations, found.converged)
