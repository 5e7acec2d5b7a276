"""The bottom of a spectrum by inverse iteration with a Cholesky factor.

Where eigenvalues crowd at the bottom, Krylov spaces of K see them last and those of
(K + s I)^-1 first. The shift s only makes the factorisation safe. The factor lies in memory or, of
a larger matrix, on the disk. A Rayleigh quotient bounds the lowest eigenvalue from above; what
bounds it from below is the factor alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from widegram.errors import WidegramError
from widegram.linalg.definite import FailedPivot
from widegram.linalg.eigen import Eigenpairs, partial_eigen
from widegram.linalg.methods.method import Choice
from widegram.linalg.operator import GramOperator
from widegram.linalg.refine import Factor
from widegram.linalg.settings import Resources, SolveOptions
from widegram.linalg.solving import chosen, factored
from widegram.machine.progress import ProgressCallback
from widegram.validation.choices import SOLVERS

Array = NDArray[Any]
# Bound for the relative error of the lowest eigenvalue, which in practice is near its square.
_INVERSE_TOL = 1e-4
_BLOCK = 16  # vectors beside those wanted
MARGIN = 4.0  # a Ritz vector spread over a crowd may lie that many residuals from its end
_FACTOR = SolveOptions(dtype=np.float64)


class InverseOperator:
    """A^-1 by a factor, as an operator."""

    def __init__(self, factor: Factor) -> None:
        self._factor = factor

    @property
    def shape(self) -> tuple[int, int]:
        """(n, n)."""
        return self._factor.n, self._factor.n

    def matmat(self, x: Array, progress: ProgressCallback | None = None) -> Array:
        """A^-1 x."""
        return self._factor.apply(x)


def lowest_eigen(
    operator: GramOperator,
    k: int,
    top: float,
    resources: Resources,
    *,
    tol: float = 1e-8,
    inverse_tol: float = _INVERSE_TOL,
    max_passes: int = 300,
    floor: float = 0.0,
    seed: int = 0,
) -> Eigenpairs:
    """The ``k`` lowest eigenpairs of ``operator`` (no shift), whose norm is about ``top``.

    By inverse iteration, to ``inverse_tol`` of the inverse's largest eigenvalue, where a float64
    factor fits in memory or, as a work file that replaces another, on the disk. Of an indefinite
    K the shift follows from block Krylov on K. Without a factor by the latter alone, to ``tol`` of
    ``top``: then the values are bounds from above and their errors infinite. No work is spent on
    pairs below ``floor``, the rounding of K.
    """
    n = operator.shape[0]
    shift = 2.0 * max(floor, np.sqrt(n) * np.finfo(np.float64).eps * top)
    search = _Search(
        operator, k, replace(resources, overwrite=True), inverse_tol, max_passes, seed
    )
    found = search.by_inverse(shift, floor)
    if found is not None:
        return found
    streamed = partial_eigen(
        operator,
        k,
        "SA",
        tol=tol,
        max_passes=max_passes,
        meaningless=lambda values: np.abs(values) < floor,
        memory=resources.memory // 2,
        seed=seed,
        progress=resources.progress,
    )
    assert streamed.residuals is not None
    below = float(streamed.residuals[0] - streamed.values[0])
    if below > 0:  # a negative eigenvalue beyond rounding may have ended the factorisation
        found = search.by_inverse(2.0 * below + shift, None)
    return found or replace(streamed, errors=np.full(streamed.values.size, np.inf))


@dataclass(frozen=True)
class _Search:
    """What stays the same from one shift to the next."""

    operator: GramOperator
    k: int
    resources: Resources
    tol: float
    max_passes: int
    seed: int

    def by_inverse(self, shift: float, floor: float | None) -> Eigenpairs | None:
        """The pairs by a factor of K + shift I, None where that is indefinite or has no room.

        No work is spent on eigenvalues below ``floor``.
        """
        choice = _choice(self.operator, self.k, self.resources)
        if choice is None or shift == 0.0:  # of the zero matrix alone
            return None
        memory = self.resources.memory
        skip = None if floor is None else 1.0 / (floor + shift)
        try:
            with factored(
                self.operator.raised(shift),
                self.k + _BLOCK,
                choice,
                self.resources,
                advise=False,
            ) as factor:
                found = partial_eigen(
                    InverseOperator(factor),
                    self.k,
                    "LA",
                    tol=self.tol,
                    max_passes=self.max_passes,
                    meaningless=None if skip is None else lambda values: values > skip,
                    memory=memory - (choice.kept or memory // 2),
                    seed=self.seed,
                    progress=self.resources.progress,
                )
                method = "inverse-krylov" + (" on the disk" if choice.on_disk else "")
                return self._pairs(factor, found, shift, method)
        except FailedPivot:
            return None

    def _pairs(self, factor: Factor, found: Eigenpairs, shift: float, method: str) -> Eigenpairs:
        """Pairs of K from those of the inverse; residuals are K's own.

        The inverse's Ritz values, and K's after one more inverse iteration, which takes the large
        eigenvectors out of the vectors, bound the eigenvalues from above: the smaller ones are
        taken. From below they are bounded by the inverse's residuals, and by -shift, because
        K + shift I has a factor.
        """
        assert found.vectors is not None
        assert found.residuals is not None
        vectors, _ = np.linalg.qr(factor.apply(found.vectors))
        image = self.operator.matmat(vectors)
        small = vectors.T @ image
        values, turn = np.linalg.eigh((small + small.T) / 2)
        vectors, image = vectors @ turn, image @ turn
        inverse, error = found.values[::-1], found.residuals[::-1]
        values = np.minimum(values, 1.0 / inverse - shift)
        settled = error <= self.tol * inverse[0]
        least = np.where(settled, 1.0 / (inverse + MARGIN * error), 0.0) - shift
        residuals = np.linalg.norm(image - vectors * values, axis=0)
        errors = np.maximum(values - least, 0.0)
        return Eigenpairs(
            values=values,
            vectors=vectors,
            residuals=residuals,
            errors=errors,
            method=method,
            iterations=found.iterations,
            converged=found.converged,
        )


def _choice(operator: GramOperator, k: int, resources: Resources) -> Choice | None:
    """How to factor, in memory or on the disk; None where neither has the room."""
    try:
        choice = chosen(operator, k + _BLOCK, _FACTOR, resources)
    except WidegramError:
        return None
    beyond = choice.on_disk and resources.work is None
    return choice if SOLVERS[choice.method].factors and not beyond else None
