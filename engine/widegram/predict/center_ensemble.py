"""The spread of an ensemble of trained networks whose NTK was solved with by centers.

A network that starts as f0 ends as f0(x) + A(x) (Y - f0(X)), with A(x) = z^T D Z^T of the solution:
z = V^T k(C, x), Z = K_nC V and D = (l + s)^-1, in coordinates of the eigenvectors V of the normal
equations, with eigenvalues l. Its variance over starts (Lee et al., arXiv:1902.06720, equation 16)
needs the NNGP of all training rows with themselves, which is replaced by its projection on the same
centers, as that of a Bayesian network is (DTC): with Kn_CC = L L^T, phi = L^-1 kn(C, x) and
H = L^-1 Kn_Cn Z the variance is

    kn(x, x) - |phi|^2 + |phi - H D z|^2.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from widegram.errors import WidegramError
from widegram.linalg import lapack
from widegram.linalg.budget import stream_share
from widegram.linalg.gramsource import GramKernel
from widegram.linalg.solutionfile import StoredSolution, read_basis
from widegram.linalg.subset.centers import CenterFiles, open_centers
from widegram.linalg.subset.streaming import blocks
from widegram.linalg.subset.whitening import whitening
from widegram.machine import interrupts
from widegram.machine.budgets import format_size
from widegram.machine.progress import Progress, ProgressCallback
from widegram.predict.variance import check_ensemble

Array = NDArray[Any]
_SQUARES = 4  # M x M arrays at once: V, L, the sums of the pass and a product with them
_ROWS = 2 * 24  # bytes of an entry of a block of both kernels: two converted, one multiplied
MOST_ROWS = 1024  # of a block


def ensemble_by_centers(
    solution: StoredSolution,
    cross: GramKernel,
    prior: Array,
    memory: int,
    progress: ProgressCallback | None = None,
) -> Array:
    """Latent variance of each test point's outputs, (n_test,), not below 0.

    ``prior`` is the NNGP of each test point with itself. Reads the files that the solution was made
    from. Raises WidegramError where they are not there or others, where a file has no /nngp, for
    products of kernels, and where ``memory`` bytes do not hold the arrays.
    """
    header = solution.header
    check_ensemble(cross)
    for path in (header.gram, header.centers):
        if not Path(path).exists():
            raise WidegramError(
                f"{path}: the variance of an NTK ensemble reads the files of the solution again, "
                "and this one is not there; put it back, or solve again with files elsewhere"
            )
    m = cross.operator.shape[1]
    height = _height(m, cross.operator.dtype.itemsize, memory)
    with open_centers(
        header.gram, header.centers, "ntk", header.end, memory=stream_share(memory),
        unit=header.unit_diagonal,
    ) as files:  # fmt: skip
        _check(solution, cross, files)
        values, basis = read_basis(solution.path)
        factor = whitening(files.centers.other("nngp"), progress).factor
        pulled = _pulled(files.cross, basis, factor, height, progress)
    pulled /= values + header.shift
    out = np.empty(cross.operator.shape[0])
    for rows, block, other in _both(cross, height):
        phi = other.T
        lapack.trtrs(factor, phi)
        left = phi - pulled @ (block @ basis).T
        taken = np.einsum("ji,ji->i", phi, phi)
        out[rows] = prior[rows] - taken + np.einsum("ji,ji->i", left, left)
        if progress:
            progress(Progress(rows.stop, out.size, what="variance"))
    return np.maximum(out, 0.0)


def _pulled(
    rows: GramKernel, basis: Array, factor: Array, height: int, progress: ProgressCallback | None
) -> Array:
    """H = L^-1 Kn_Cn K_nC V, (M, M), by one pass over the rows."""
    total, m = rows.operator.shape
    sums = np.zeros((m, m))
    for place, block, other in _both(rows, height):
        sums += other.T @ block
        if progress:
            progress(Progress(place.stop, total, what="both kernels of the rows"))
    found = np.asfortranarray(sums @ basis)
    lapack.trtrs(factor, found)
    return found


def _both(source: GramKernel, height: int) -> Iterator[tuple[slice, Array, Array]]:
    """(rows, block of the NTK, block of the NNGP), float64, which may be overwritten."""
    pairs = zip(
        blocks(source.operator, height), blocks(source.other("nngp"), height), strict=True
    )
    for (rows, block), (_, other) in pairs:
        interrupts.check()
        yield rows, block, other


def _height(m: int, itemsize: int, memory: int) -> int:
    rows = (memory - 8 * _SQUARES * m * m) // (m * (2 * itemsize + _ROWS))
    if rows < 1:
        raise WidegramError(
            f"the variance of an NTK ensemble by {m} centers does not fit in "
            f"{format_size(max(memory, 0))}; give more --memory, at least "
            f"{format_size(8 * (_SQUARES + 1) * m * m)}"
        )
    return int(min(MOST_ROWS, rows))


def _check(solution: StoredSolution, cross: GramKernel, files: CenterFiles) -> None:
    header, found = solution.header, files.cross.fingerprints
    wanted = {
        "network": header.network_fingerprint,
        "x1": header.x1_fingerprint,
        "x2": header.centers_fingerprint,
    }
    for name, fingerprint in wanted.items():
        if found[name] != fingerprint:
            raise WidegramError(
                f"{files.cross.path}: is not the file that {solution.path} was made from (its "
                f"{name} differs); solve again"
            )
    check_ensemble(files.cross, files.centers)
