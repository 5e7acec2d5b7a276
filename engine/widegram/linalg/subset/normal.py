"""The normal equations of ridge regression on whitened rows, and their eigenvectors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from widegram.errors import WidegramError
from widegram.linalg import lapack
from widegram.linalg.eigen import choose_driver

Array = NDArray[Any]


class NormalEquations:
    """Phi^T Phi (M, M) and Phi^T Y (M, k), Phi = K_nC L^-T, float64.

    They are what a pass adds up (:class:`~widegram.linalg.subset.streaming.PassSums`). Blocks are
    whitened before they are squared: the square of K_nC would lose twice as many digits to the
    condition of L.
    """

    what = "normal equations"

    def __init__(self, factor: Array, targets: Array) -> None:
        self._factor, self._targets = factor, targets
        m = len(factor)
        self.gram = np.zeros((m, m), order="F")  # the lower triangle counts
        self.moment = np.zeros((m, targets.shape[1]))

    def add(self, rows: slice, block: Array) -> None:
        """See :meth:`PassSums.add`."""
        white = block.T
        lapack.trtrs(self._factor, white)
        lapack.syrk(self.gram, white)
        self.moment += white @ self._targets[rows]

    def arrays(self) -> Mapping[str, Array]:
        """See :meth:`PassSums.arrays`."""
        return {"gram": self.gram.T, "moment": self.moment}

    def restore(self, arrays: Mapping[str, Array]) -> None:
        """See :meth:`PassSums.restore`."""
        self.gram.T[...] = arrays["gram"]
        self.moment[...] = arrays["moment"]


@dataclass(frozen=True)
class NormalSpectrum:
    """Phi^T Phi = U diag(values) U^T.

    * ``values``: ascending, not negative, (M,)
    * ``basis``: V = L^-T U, (M, M): alpha = V c, and K_nC V are the rows in coordinates c
    * ``moment``: U^T Phi^T Y, (M, k)
    """

    values: Array
    basis: Array
    moment: Array

    def solve(self, shift: float) -> Array:
        """c = (values + shift)^-1 moment, (M, k)."""
        return np.asarray(self.moment / (self.values + shift)[:, None])

    def condition(self, shift: float) -> float:
        """The condition of the equations with ``shift`` on their diagonal; infinite where they are
        singular to rounding."""
        low, high = float(self.values[0] + shift), float(self.values[-1] + shift)
        noise = self.values.size * float(np.finfo(np.float64).eps) * high
        return high / low if low > 0 and (shift > 0 or low > noise) else np.inf


def decomposed(equations: NormalEquations, factor: Array, memory: int) -> NormalSpectrum:
    """The eigenvectors; the arrays of ``equations`` are used up.

    Raises WidegramError where they hold NaN or an infinity.
    """
    if not (np.isfinite(equations.moment).all() and np.isfinite(np.trace(equations.gram))):
        raise WidegramError("the normal equations are not finite")
    driver = choose_driver(len(factor), True, memory)
    values, vectors = lapack.eigen(equations.gram, True, driver)
    assert vectors is not None
    moment = vectors.T @ equations.moment
    lapack.trtrs(factor, vectors, transposed=True)
    return NormalSpectrum(np.maximum(values, 0.0), vectors, moment)
