"""ZCA: inputs turned so that all directions vary alike (Bell, Sejnowski, Vision Research 37, 1997).

With mean m and covariance C = V diag(l) V^T of the training inputs, flattened, an input z becomes
(z - m) W, W = V diag(l + r)^(-1/2) V^T, r = eps times the mean of l.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from widegram.data.exact import exact_product
from widegram.errors import WidegramError
from widegram.machine import interrupts
from widegram.machine.budgets import require_memory

Array = NDArray[Any]
# The covariance, LAPACK's copy of it and workspace, the eigenvectors; W and its like to apply it.
_LEARNING, _APPLYING = 5, 2
_LARGEST_EPS = 1e6
_AT_ONCE = 2**20  # numbers of rows that are multiplied, which takes several copies of them


@dataclass(frozen=True)
class Zca:
    """What ZCA does to inputs of D numbers.

    * ``eps``, ``regulariser``: as asked for; r above, absolute
    * ``mean``: (D,) float64, ``eigenvalues``: l, ascending, (D,), ``matrix``: W, (D, D)
    """

    eps: float
    regulariser: float
    mean: Array
    eigenvalues: Array
    matrix: Array

    def apply(self, rows: Array) -> Array:
        """Rows (n, ...) whitened, float64; each depends on its own numbers alone."""
        flat = rows.reshape(len(rows), -1)
        made = np.empty_like(flat, dtype=np.float64)
        step = max(1, _AT_ONCE // flat.shape[1])
        for lo in range(0, len(flat), step):
            part = flat[lo : lo + step] - self.mean
            made[lo : lo + step] = exact_product(part, self.matrix)
        return made.reshape(rows.shape)


def check_eps(eps: Any) -> float:
    """``eps`` of ZCA as a number; raises :class:`WidegramError` for what is none above 0."""
    try:
        found = float(eps)
    except (TypeError, ValueError, OverflowError):
        found = np.nan
    if not 0 < found <= _LARGEST_EPS:
        raise WidegramError(
            f"zca is {eps}; it must be above 0 and at most {_LARGEST_EPS:g}, such as 0.1"
        )
    return found


def zca_block(features: int) -> int:
    """Bytes of rows, in float64, of which the covariance is taken at once: their number of
    ``features`` alone decides, so that --memory changes no bit."""
    return 8 * max(2**17, 128 * features)


def check_zca_room(features: int, memory: str | int | None, learning: bool) -> None:
    """Refuse ZCA of more features than there is memory for: to learn it, or to apply it."""
    squares = _LEARNING if learning else _APPLYING
    needed = 8 * squares * features**2 + 8 * zca_block(features)
    what = f"ZCA of {features} numbers an input"
    require_memory(needed, memory, what, "take smaller inputs, leave out --zca,")


def learn_zca(blocks: Iterable[Array], features: int, eps: float, name: str) -> Zca:
    """ZCA of all rows (n, ...) of ``features`` numbers that ``blocks`` yields, once.

    Raises :class:`WidegramError`, calling the inputs ``name``, where they do not vary, leave
    float64's range, or vary so little in some directions that ``eps`` regularises rounding.
    """
    mean, covariance = moments(blocks, features)
    trace = float(np.trace(covariance))
    if not np.isfinite(trace) or 0 < trace < np.finfo(np.float64).tiny / np.finfo(np.float64).eps:
        raise WidegramError(
            f"{name}: squares of its training inputs leave the range of float64; use --normalize "
            "standardize with --zca"
        )
    if trace == 0:
        raise WidegramError(f"{name}: its training inputs do not vary, so that ZCA means nothing")
    interrupts.check()
    # NumPy's, since SciPy's holds the interpreter's lock for as long as LAPACK takes.
    eigenvalues, vectors = np.linalg.eigh(covariance)
    del covariance
    regulariser = eps * trace / features
    resolution = features * np.finfo(np.float64).eps * float(eigenvalues[-1])
    least = max(float(eigenvalues[0]), 0.0)
    if least + regulariser < resolution:
        raise WidegramError(
            f"zca is {eps:g}, below what rounding does to eigenvalues of the covariance of {name}; "
            f"use at least {2 * resolution * features / trace:.1g}"
        )
    vectors *= (np.maximum(eigenvalues, 0.0) + regulariser) ** -0.25
    return Zca(eps, regulariser, mean, eigenvalues, vectors @ vectors.T)


def moments(blocks: Iterable[Array], features: int) -> tuple[Array, Array]:
    """Mean (D,) and covariance (D, D), divided by n, of which the lower triangle counts, of rows
    that are read once.

    Sums of squares about each block's own mean are joined by (Chan, Golub, LeVeque, 1979)
    M = M_a + M_b + d d^T n_a n_b / (n_a + n_b), d the difference of means.
    """
    from scipy.linalg.blas import dsyrk

    count, mean = 0, np.zeros(features)
    squares = np.zeros((features, features), order="F")
    for rows in blocks:
        block = rows.reshape(len(rows), features)
        n, total = len(block), count + len(block)
        with np.errstate(over="ignore", invalid="ignore"):
            own = block.mean(axis=0)
            step = own - mean
            joining = np.sqrt(count * (n / total)) * step
            deviations = np.vstack([block - own, joining[np.newaxis]])
            mean = mean + step * (n / total)
        squares = dsyrk(1.0, deviations.T, 1.0, squares, lower=1, overwrite_c=1)
        count = total
    squares /= count
    return mean, squares
