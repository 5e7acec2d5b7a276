"""Log marginal likelihoods of Gaussian processes.

log N(y | 0, A) = -(y^T A^-1 y + log det A + n log 2 pi) / 2 (Rasmussen and Williams, "Gaussian
Processes for Machine Learning", 2006, equation 2.30), added up over columns of targets, which are
independent. With a prior s^2 A, s as :mod:`widegram.linalg.normalise` has it, y^T A^-1 y is divided
by s^2 and n log s^2 added to the determinant.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from widegram.linalg.units import checked_later

Array = NDArray[Any]


@checked_later
def log_evidence(squares: Array, logdet: float, n: int, scale: Array | None = None) -> float:
    """Sum over columns of log N(y | 0, A), or with a ``scale`` s (k,) of log N(y | 0, s^2 A).

    ``squares`` (k,) are y^T A^-1 y of n targets each, ``logdet`` is log det A.
    """
    scale = np.ones(squares.size) if scale is None else scale
    columns = squares / scale**2 + 2.0 * n * np.log(scale) + logdet + n * np.log(2.0 * np.pi)
    return float(-0.5 * np.sum(columns))
