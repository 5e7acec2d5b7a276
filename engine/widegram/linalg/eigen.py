"""Eigenvalues and eigenvectors: LAPACK in place, or block Krylov on the streamed operator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from widegram.errors import WidegramError
from widegram.linalg import lapack
from widegram.linalg.operator import GramOperator
from widegram.machine import interrupts
from widegram.machine.budgets import format_size
from widegram.machine.progress import Progress, ProgressCallback
from widegram.validation.choices import WHICH

Array = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Eigenpairs:
    """Eigenvalues of a symmetric matrix, and what is known of each.

    * ``values``: ascending, (k,)
    * ``vectors``: (n, k), or None
    * ``residuals``: |K v - lambda v|, (k,); None after LAPACK
    * ``errors``: how far an eigenvalue may lie from its value, rounding aside, (k,): below it at
      the bottom, above it at the top; 0 after LAPACK, infinite where nothing bounds it
    * ``method``: what was used, ``iterations`` of it
    * ``converged``: how many pairs reached the tolerance
    """

    values: Array
    vectors: Array | None
    residuals: Array | None
    errors: Array
    method: str
    iterations: int
    converged: int


def full_eigen(
    operator: GramOperator,
    *,
    vectors: bool,
    memory: int,
    progress: ProgressCallback | None = None,
) -> Eigenpairs:
    """All eigenvalues, and eigenvectors where asked, by LAPACK in place in float64.

    Values alone need n^2 entries; vectors need 2 n^2 (driver evr), or 3 n^2 for the faster
    divide and conquer (evd), which is taken where ``memory`` allows. Raises WidegramError where
    the matrix does not fit.
    """
    driver = choose_driver(operator.shape[0], vectors, memory)
    matrix = operator.load(np.float64, progress)
    if progress:
        progress(Progress(0, 1, what="eigenvalues (LAPACK)"))
    values, basis = lapack.eigen(matrix, vectors, driver)
    if progress:
        progress(Progress(1, 1, what="eigenvalues (LAPACK)"))
    return Eigenpairs(
        values=values,
        vectors=basis,
        residuals=None,
        errors=np.zeros(values.size),
        method=f"lapack-{driver}",
        iterations=0,
        converged=values.size,
    )


def choose_driver(n: int, vectors: bool, memory: int) -> str:
    """LAPACK's driver for what fits into ``memory`` bytes and into its 32-bit workspace sizes.

    'evr' or 'evd'. Raises WidegramError where neither fits.
    """
    square, rest = 8 * n * n, 8 * 100 * n
    if vectors and 3 * square + rest <= memory and divide_and_conquer_counts(n):
        return "evd"
    needed = (2 if vectors else 1) * square + rest
    if needed > memory:
        raise WidegramError(
            f"a full decomposition of {n} rows needs {format_size(needed)}, more than "
            f"the {format_size(memory)} there are for arrays; "
            "give more --memory, or take --k or --density"
        )
    return "evr"


def divide_and_conquer_counts(n: int) -> bool:
    """Whether the workspace of LAPACK's syevd with vectors, 1 + 6 n + 2 n^2, fits an int32."""
    return 1 + 6 * n + 2 * n * n <= np.iinfo(np.int32).max


class Operator(Protocol):
    """What block Krylov needs of an operator."""

    @property
    def shape(self) -> tuple[int, int]:
        """(n, n)."""

    def matmat(self, x: Array, progress: ProgressCallback | None = None) -> Array:
        """A x for x of shape (n, k)."""


def partial_eigen(
    operator: Operator,
    k: int,
    which: str = "LA",
    *,
    tol: float = 1e-8,
    max_passes: int = 300,
    meaningless: Callable[[Array], Array] | None = None,
    memory: int,
    seed: int = 0,
    progress: ProgressCallback | None = None,
) -> Eigenpairs:
    """``k`` eigenpairs at the top (LA), bottom (SA) or half at both ends (BE), streamed.

    Block Krylov with Rayleigh-Ritz and thick restart (Stathopoulos, Saad, Wu, SIAM J. Sci. Comput.
    19, 1998): each pass applies the operator once, to a block of the residuals of the pairs that
    have not converged. A pair has converged at |K v - lambda v| <= tol |K|. Bottom eigenvalues that
    crowd together converge slowly: ``converged`` and ``residuals`` tell. No pass is spent on values
    for which ``meaningless(values)`` is True (an array of bool). Raises WidegramError for a k or an
    end that there is not, and where k pairs do not fit into ``memory`` bytes.
    """
    n = operator.shape[0]
    if which not in WHICH or not 1 <= k <= n:
        raise WidegramError(f"--k {k} --which {which}: give 1 <= k <= {n} and one of {WHICH}")
    block = min(n, max(4, min(k, 16)))
    space = _Space(n, block, k, memory, np.random.default_rng(seed))
    space.extend(operator, np.empty((n, 0)))
    for passes in range(1, max_passes + 1):
        interrupts.check()
        theta, turn = space.ritz()
        wanted = _ends(theta.size, min(k, theta.size), which)
        scale = max(abs(theta[0]), abs(theta[-1]))
        ritz = space.basis @ turn[:, wanted]
        residual = space.image @ turn[:, wanted] - ritz * theta[wanted]
        norms = np.linalg.norm(residual, axis=0)
        settled = norms <= tol * scale
        if meaningless is not None:
            settled |= meaningless(theta[wanted])
        unsettled = np.flatnonzero(~settled)
        if progress:
            reached = wanted.size - unsettled.size
            progress(Progress(reached, k, what=f"eigenpairs, pass {passes}"))
        done = wanted.size == k and not unsettled.size
        if done or space.size == n or passes == max_passes:
            break
        if space.size + block > space.most and space.most < n:
            room = min(space.most - block, k + 2 * block)
            space.shrink(turn[:, _with_neighbours(theta.size, wanted, which, room)])
        first = unsettled[-block:] if which == "LA" else unsettled[:block]
        space.extend(operator, residual[:, first])
    converged = int(np.sum(norms <= tol * scale))
    return Eigenpairs(
        values=theta[wanted],
        vectors=ritz,
        residuals=norms,
        errors=norms,
        method="block-krylov",
        iterations=passes,
        converged=converged,
    )


class _Space:
    """An orthonormal basis V (n, size) and its image A V, in arrays of ``most`` columns."""

    def __init__(self, n: int, block: int, k: int, memory: int, rng: np.random.Generator) -> None:
        self.block = block
        self.size = 0
        self._rng = rng
        columns = memory // (8 * n) - 4 * (k + 2 * block)  # what a restart and a pass hold beside
        self.most = min(n, max(4 * (k + block), 60), columns // 2)
        if self.most < min(n, k + 2 * block):
            raise WidegramError(
                f"{k} eigenpairs of {n} rows do not fit in {format_size(memory)}; give more "
                "--memory or a smaller --k"
            )
        self._basis = np.empty((n, self.most), order="F")
        self._image = np.empty((n, self.most), order="F")

    @property
    def basis(self) -> Array:
        return self._basis[:, : self.size]

    @property
    def image(self) -> Array:
        return self._image[:, : self.size]

    def ritz(self) -> tuple[Array, Array]:
        small = self.basis.T @ self.image
        values, vectors = np.linalg.eigh((small + small.T) / 2)
        return values, vectors

    def shrink(self, turn: Array) -> None:
        """Keep the combinations ``turn`` (size, kept) of the basis."""
        basis, image = self.basis @ turn, self.image @ turn
        self.size = turn.shape[1]
        self.basis[...] = basis
        self.image[...] = image

    def extend(self, operator: Operator, directions: Array) -> None:
        """Add ``directions``, and random ones up to a block, orthonormal to the basis."""
        n = self._basis.shape[0]
        width = min(self.block, self.most - self.size)
        if directions.shape[1] < width:
            filler = self._rng.standard_normal((n, width - directions.shape[1]))
            directions = np.hstack([directions, filler])
        directions = directions[:, :width] / np.linalg.norm(directions[:, :width], axis=0)
        for _ in range(3):
            directions = directions - self.basis @ (self.basis.T @ directions)
            directions, _ = np.linalg.qr(directions)
        image = operator.matmat(directions)
        self.size += width
        self._basis[:, self.size - width : self.size] = directions
        self._image[:, self.size - width : self.size] = image


def _ends(size: int, k: int, which: str) -> Array:
    low = {"SA": k, "LA": 0, "BE": k // 2}[which]
    return np.concatenate([np.arange(low), np.arange(size - (k - low), size)])


def _with_neighbours(size: int, wanted: Array, which: str, count: int) -> Array:
    """Indices of the wanted Ritz pairs and those next to them, ``count`` in all."""
    if count <= wanted.size:
        return wanted
    return np.union1d(_ends(size, min(count, size), which), wanted)
