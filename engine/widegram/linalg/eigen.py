"""Eigenvalues and eigenvectors: LAPACK in place, or block Krylov on the streamed operator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from widegram.errors import WidegramError
from widegram.linalg.operator import GramOperator, Progress
from widegram.memory import format_size

Array = NDArray[Any]
WHICH = ("LA", "SA", "BE")


@dataclass(frozen=True)
class Eigenpairs:
    """``values`` ascending, (k,); ``vectors`` (n, k) or None; ``residuals`` |K v - lambda v|, (k,).

    ``residuals`` is None after LAPACK. ``method`` says what was used, ``converged`` how many of
    the pairs reached the tolerance.
    """

    values: Array
    vectors: Array | None
    residuals: Array | None
    method: str
    iterations: int
    converged: int


def full_eigen(
    operator: GramOperator,
    *,
    vectors: bool,
    memory: int,
    progress: Progress | None = None,
) -> Eigenpairs:
    """All eigenvalues, and eigenvectors where asked, by LAPACK in place in float64.

    Values alone need n^2 entries; vectors need 2 n^2 (driver evr), or 3 n^2 for the faster
    divide and conquer (evd), which is taken where ``memory`` allows. Raises WidegramError where
    the matrix does not fit.
    """
    driver = choose_driver(operator.shape[0], vectors, memory)
    matrix = operator.load(np.float64, progress)
    if progress:
        progress("eigenvalues (LAPACK)", 0, 1)
    result = linalg.eigh(
        matrix, lower=True, eigvals_only=not vectors, overwrite_a=True, check_finite=False,
        driver=driver,
    )
    if progress:
        progress("eigenvalues (LAPACK)", 1, 1)
    values, basis = result if vectors else (result, None)
    return Eigenpairs(values, basis, None, f"lapack-{driver}", 0, values.size)


def choose_driver(n: int, vectors: bool, memory: int) -> str:
    """LAPACK's driver for what fits into ``memory`` bytes."""
    square, rest = 8 * n * n, 8 * 100 * n
    if vectors and 3 * square + rest <= memory:
        return "evd"
    needed = (2 if vectors else 1) * square + rest
    if needed > memory:
        raise WidegramError(
            f"a full decomposition of {n} rows needs {format_size(needed)}, more than the "
            f"{format_size(memory)} there are for arrays; give more --memory, or take --k or --density"
        )
    return "evr"


def partial_eigen(
    operator: GramOperator,
    k: int,
    which: str = "LA",
    *,
    tol: float = 1e-8,
    max_passes: int = 300,
    memory: int,
    seed: int = 0,
    progress: Progress | None = None,
) -> Eigenpairs:
    """``k`` eigenpairs at the top (LA), bottom (SA) or half at both ends (BE), streamed.

    Block Krylov with Rayleigh-Ritz and thick restart (Stathopoulos, Saad, Wu, SIAM J. Sci.
    Comput. 19, 1998): each pass applies the operator once to a block of the residuals of the
    pairs that have not converged. A pair has converged at |K v - lambda v| <= tol |K|. Bottom
    eigenvalues that crowd together converge slowly: ``converged`` and ``residuals`` tell.
    """
    n = operator.shape[0]
    if which not in WHICH or not 1 <= k <= n:
        raise WidegramError(f"--k {k} --which {which}: give 1 <= k <= {n} and one of {WHICH}")
    block = min(n, max(4, min(k, 16)))
    most = min(n, max(4 * (k + block), 60))
    room = memory // (2 * 8 * n)
    if room < k + 2 * block:
        raise WidegramError(
            f"--k {k}: {k + 2 * block} vectors of {n} and their images do not fit in "
            f"{format_size(memory)}; give more --memory or a smaller --k"
        )
    most = min(most, room)
    rng = np.random.default_rng(seed)
    basis, _ = np.linalg.qr(rng.standard_normal((n, block)))
    image = operator.matmat(basis)
    for passes in range(1, max_passes + 1):
        small = basis.T @ image
        theta, turn = np.linalg.eigh((small + small.T) / 2)
        wanted = _ends(theta.size, min(k, theta.size), which)
        scale = max(abs(theta[0]), abs(theta[-1]))
        ritz = basis @ turn[:, wanted]
        residual = image @ turn[:, wanted] - ritz * theta[wanted]
        norms = np.linalg.norm(residual, axis=0)
        open_pairs = np.flatnonzero(norms > tol * scale)
        if progress:
            progress(f"eigenpairs, pass {passes}", wanted.size - open_pairs.size, k)
        if (wanted.size >= k and not open_pairs.size) or basis.shape[1] == n:
            break
        if passes == max_passes:
            break
        if basis.shape[1] + block > most:
            keep = _restart_set(theta.size, wanted, which, min(most - block, k + 2 * block))
            basis, image = basis @ turn[:, keep], image @ turn[:, keep]
        new = _expand(basis, residual[:, open_pairs[-block:] if which == "LA" else open_pairs[:block]],
                      block, rng)
        if not new.shape[1]:
            break
        basis = np.hstack([basis, new])
        image = np.hstack([image, operator.matmat(new)])
    converged = int(np.sum(norms <= tol * scale))
    return Eigenpairs(theta[wanted], ritz, norms, "block-krylov", passes, converged)


def _ends(size: int, k: int, which: str) -> Array:
    low = {"SA": k, "LA": 0, "BE": k // 2}[which]
    return np.concatenate([np.arange(low), np.arange(size - (k - low), size)])


def _restart_set(size: int, wanted: Array, which: str, count: int) -> Array:
    """The wanted Ritz pairs and their neighbours, ``count`` in all."""
    if count <= wanted.size:
        return wanted
    extra = _ends(size, min(count, size), which)
    return np.union1d(extra, wanted)


def _expand(basis: Array, directions: Array, block: int, rng: np.random.Generator) -> Array:
    """Directions orthonormalised against the basis, filled up with random ones to ``block``."""
    n = basis.shape[0]
    width = min(block, n - basis.shape[1])
    if directions.shape[1] < width:
        filler = rng.standard_normal((n, width - directions.shape[1]))
        directions = np.hstack([directions, filler])
    directions = directions[:, :width] / np.linalg.norm(directions[:, :width], axis=0)
    for _ in range(3):
        directions = directions - basis @ (basis.T @ directions)
        directions, _ = np.linalg.qr(directions)
    return directions
