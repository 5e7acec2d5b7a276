"""Predictive variances of a solution by centers.

k** - Q** + s k*C (K_Cn K_nC + s K_CC)^-1 k_C*, with Q** = k*C K_CC^-1 k_C* and s what the
regulariser adds (Quinonero-Candela and Rasmussen, JMLR 6, 2005, equation 20b: DTC). In coordinates
z = k*C V of the eigenvectors of the normal equations, with eigenvalues l, that is
k** - sum_j z_j^2 l_j / (l_j + s).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from widegram.errors import WidegramError
from widegram.linalg.gramsource import GramKernel
from widegram.linalg.solutionfile import StoredSolution, read_basis
from widegram.linalg.subset.streaming import blocks
from widegram.machine import interrupts
from widegram.machine.budgets import format_size
from widegram.machine.progress import Progress, ProgressCallback
from widegram.predict.center_ensemble import MOST_ROWS, ensemble_by_centers

Array = NDArray[Any]


def variances_by_centers(
    solution: StoredSolution,
    cross: GramKernel,
    prior: Array,
    memory: int,
    progress: ProgressCallback | None = None,
) -> Array:
    """Latent variance of each test point's outputs, (n_test,), not below 0.

    ``prior`` is the NNGP of each test point with itself. Raises WidegramError where ``memory``
    bytes do not hold the basis, and for the NTK as
    :func:`widegram.predict.center_ensemble.ensemble_by_centers`.
    """
    if solution.header.kernel == "ntk":
        return ensemble_by_centers(solution, cross, prior, memory, progress)
    n, m = cross.operator.shape
    height = min(MOST_ROWS, (memory - 8 * m * m) // (m * (cross.operator.dtype.itemsize + 24)))
    if height < 1:
        raise WidegramError(
            f"the basis of {m} centers does not fit in {format_size(memory)}; give more --memory, "
            f"at least {format_size(10 * m * m)}"
        )
    values, basis = read_basis(solution.path)
    taken = values / (values + solution.header.shift)
    out = np.empty(n)
    for rows, block in blocks(cross.operator, height):
        interrupts.check()
        own = block @ basis
        out[rows] = prior[rows] - np.square(own, out=own) @ taken
        if progress:
            progress(Progress(rows.stop, n, what="variance"))
    return np.maximum(out, 0.0)
