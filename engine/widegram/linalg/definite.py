"""What to say, and which regulariser to propose, when a matrix is not positive definite."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from widegram.errors import WidegramError

Array = NDArray[Any]
_STEPS = 40


class NotPositiveDefinite(WidegramError):
    """A Cholesky pivot was not positive; ``proposal`` is a relative diag_reg that mends it."""

    def __init__(self, message: str, pivot: float, row: int, proposal: float) -> None:
        super().__init__(message)
        self.pivot = pivot
        self.row = row
        self.proposal = proposal


def not_definite(
    product: Callable[[Array], Array],
    n: int,
    mean_diagonal: float,
    row: int,
    pivot: float,
    top: float,
    eps: float,
) -> NotPositiveDefinite:
    """The error for a failed pivot, with a diag_reg that makes ``product``'s matrix definite.

    ``product`` applies the matrix that failed, ``mean_diagonal`` is its trace / n, ``top`` its
    largest diagonal entry, ``eps`` the rounding of its entries and of the factorisation. The
    lowest eigenvalue comes from a few Lanczos steps, which see it from above; the proposal leaves
    room for that.
    """
    low, high = extreme_ritz_values(product, n, _STEPS)
    floor = 10.0 * math.sqrt(n) * eps * max(high, top)
    needed = floor - 2.0 * min(low, pivot, 0.0)
    scale = mean_diagonal if mean_diagonal > 0 else 1.0
    proposal = round_up(needed / scale)
    message = (
        f"the matrix is not positive definite: smallest pivot {pivot:.3g} at row {row} "
        f"of {n} (lowest eigenvalue about {low:.2g}, largest {high:.2g}); "
        f"add {proposal:g} to the relative regulariser, for example --diag-reg {proposal:g}"
    )
    return NotPositiveDefinite(message, pivot, row, proposal)


def extreme_ritz_values(
    product: Callable[[Array], Array], n: int, steps: int, seed: int = 0
) -> tuple[float, float]:
    """Lowest and highest Ritz value of ``steps`` Lanczos steps with full reorthogonalisation."""
    steps = min(steps, n)
    basis = np.zeros((n, steps))
    vector = np.random.default_rng(seed).standard_normal(n)
    basis[:, 0] = vector / np.linalg.norm(vector)
    alpha, beta = [], []
    for step in range(steps):
        w = product(basis[:, step : step + 1])[:, 0]
        alpha.append(float(w @ basis[:, step]))
        for _ in range(2):
            w = w - basis[:, : step + 1] @ (basis[:, : step + 1].T @ w)
        norm = float(np.linalg.norm(w))
        if step + 1 == steps or norm <= 1e-13 * max(abs(a) for a in alpha):
            break
        beta.append(norm)
        basis[:, step + 1] = w / norm
    small = np.diag(alpha) + np.diag(beta, 1) + np.diag(beta, -1)
    values = np.linalg.eigvalsh(small)
    return float(values[0]), float(values[-1])


def round_up(value: float) -> float:
    """The next of 1, 2, 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(value))
    for step in (1.0, 2.0, 5.0, 10.0):
        if step * power >= value * (1 - 1e-12):
            return float(f"{step * power:.1g}")
    return 10.0 * power
