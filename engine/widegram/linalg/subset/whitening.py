"""The Cholesky factor of the centers' kernel, with as little added to its diagonal as it takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from widegram.errors import WidegramError
from widegram.linalg import lapack
from widegram.linalg.operator import GramOperator
from widegram.machine.progress import Progress, ProgressCallback

Array = NDArray[Any]
_TRIALS = 9


@dataclass(frozen=True)
class Whitening:
    """``factor`` L, the lower triangle of an (M, M) Fortran-ordered array, of K_CC + jitter I."""

    factor: Array
    jitter: float


def whitening(operator: GramOperator, progress: ProgressCallback | None = None) -> Whitening:
    """L of the centers' kernel, without jitter where all pivots stand out of rounding.

    Else the first of eps, 10 eps, 100 eps ... times the mean diagonal that mends it, with eps of
    the file's dtype: what lies below is noise of the entries. Raises WidegramError where none does.
    """
    diagonal = operator.diagonal()
    eps = float(np.finfo(operator.dtype).eps)
    least = eps * float(np.max(np.abs(diagonal)))
    unit = eps * abs(float(np.mean(diagonal)))
    for jitter in (0.0, *(unit * 10.0**power for power in range(_TRIALS))):
        matrix = operator.shifted(jitter).load(np.float64, progress)
        if progress:
            progress(Progress(0, 1, what="factoring the centers"))
        if lapack.potrf(matrix) == 0 and float(np.min(np.diagonal(matrix))) ** 2 > least:
            return Whitening(matrix, jitter)
        del matrix
    operator.require_finite()
    raise WidegramError(
        f"{operator.name}: is not positive definite, even with {jitter:.2g} on its diagonal; check "
        "it (`widegram verify`), or draw other centers"
    )
