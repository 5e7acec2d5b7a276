"""Coefficients of gradient flow at finite times, for matrices in memory and larger.

alpha_t = K^-1 (1 - exp(-s K)) Y with s = 2 t / lambda_max, t in units of the maximal learning rate:
by a Chebyshev expansion of (1 - exp(-s x)) / x, an entire function, whose degree grows like
sqrt(t) and which streams the matrix once per degree for all times together; by an
eigendecomposition where that is cheaper and its vectors fit in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dct

from widegram.errors import WidegramError
from widegram.linalg.eigen import full_eigen
from widegram.linalg.operator import GramOperator
from widegram.machine.progress import Progress, ProgressCallback

Array = NDArray[Any]
_TOL = 1e-13
_MOST_DEGREE = 1 << 17
# |T_j(z)| <= 1 on [-1, 1]: what grows by more than roundings has eigenvalues outside.
_GROWTH = 1.1
# Times in floating-point operations at the rate of a product: an eigendecomposition takes 9 n^3, of
# which the reduction runs at a fraction of that rate; one entry read and converted takes some 60.
_EIGEN_COST = 18.0
_ENTRY_COST = 60.0


def eigen_fits(n: int, k: int, memory: int) -> bool:
    """Whether eigenvectors of n rows, and what a few times of k right-hand sides hold, fit."""
    return 8 * (2 * n * n + n * (8 * k + 512)) + memory // 16 <= memory


def flow_coefficients(
    operator: GramOperator,
    y: Array,
    times: Sequence[float],
    top: float,
    *,
    memory: int,
    progress: ProgressCallback | None = None,
) -> list[Array]:
    """alpha_t of shape (n, k) for each time; ``top`` is lambda_max of K without its shift.

    Raises WidegramError where ``top`` is not positive, so that times have no unit.
    """
    if top <= 0.0:
        raise WidegramError(
            "the training matrix has no positive eigenvalue, so that time in units of the maximal "
            "learning rate 2 / lambda_max means nothing; leave out --time"
        )
    rates = [2.0 * t / top for t in times]
    n, k = y.shape
    bound = 1.01 * top + operator.shift
    tables: list[Array] = []
    too_late: float | None = None
    for t, rate in zip(times, rates, strict=True):
        table = chebyshev_coefficients(partial(filter_value, rate=rate), bound)
        if table is None:
            too_late = t
        else:
            tables.append(table)
    degrees = max(table.size for table in tables) if too_late is None else _MOST_DEGREE
    cheaper = _EIGEN_COST * n < degrees * (_ENTRY_COST + 2.0 * k)
    if cheaper and eigen_fits(n, k, memory):
        return _by_eigen(operator, y, rates, memory, progress)
    if too_late is not None:
        raise WidegramError(
            f"time {too_late:g}: more than {_MOST_DEGREE // 2:,} products would be needed, and the "
            f"eigenvectors of {n:,} rows do not fit in memory; give more --memory, an earlier "
            "time, or inf"
        )
    for dtype in (np.dtype(np.float64), operator.dtype):
        if dtype.itemsize * n * n <= memory // 2:
            return _by_chebyshev(operator.cached(dtype), y, tables, bound, progress)
    return _by_chebyshev(operator, y, tables, bound, progress)


def filter_value(x: Array, rate: float) -> Array:
    """(1 - exp(-rate x)) / x, continued by ``rate`` at 0."""
    small = np.abs(x) * max(rate, 1.0) < 1e-12
    safe = np.where(small, 1.0, x)
    return np.where(small, rate, -np.expm1(-rate * safe) / safe)


def chebyshev_coefficients(function: Callable[[Array], Array], bound: float) -> Array | None:
    """Coefficients of ``function`` on [0, bound], cut where the rest is negligible beside the
    largest; None where that takes more than half of 2^17.

    From its values at Chebyshev nodes, doubled until the last coefficients are negligible.
    """
    count = 32
    while True:
        angles = np.pi * (np.arange(count) + 0.5) / count
        values = function(bound * np.cos(0.5 * angles) ** 2)  # no cancellation near 0
        found = dct(values, type=2) / count
        found[0] /= 2.0
        scale = np.abs(found).max()
        large = np.flatnonzero(np.abs(found) > _TOL * scale)
        if scale == 0.0 or large[-1] < count // 2:
            return np.asarray(found[: large[-1] + 1 if large.size else 1])
        if count >= _MOST_DEGREE:
            return None
        count *= 2


def _by_eigen(
    operator: GramOperator,
    y: Array,
    rates: Sequence[float],
    memory: int,
    progress: ProgressCallback | None,
) -> list[Array]:
    pairs = full_eigen(
        replace(operator, memory=memory // 16),
        vectors=True,
        memory=memory - memory // 16,
        progress=progress,
    )
    assert pairs.vectors is not None
    values = np.maximum(pairs.values, 0.0)  # as in neural-tangents: the matrix is semidefinite
    rotated = pairs.vectors.T @ y
    return [pairs.vectors @ (filter_value(values, rate)[:, None] * rotated) for rate in rates]


def _by_chebyshev(
    operator: GramOperator,
    y: Array,
    tables: Sequence[Array],
    bound: float,
    progress: ProgressCallback | None,
) -> list[Array]:
    """Clenshaw-free forward recurrence T_{j+1} = 2 z T_j - T_{j-1} with z = 2 K / bound - 1."""
    degrees = max(table.size for table in tables)
    previous, current = np.zeros_like(y), y.copy()
    results = [table[0] * y for table in tables]
    most = _GROWTH * np.linalg.norm(y, axis=0)
    for degree in range(1, degrees):
        following = operator.matmat(current)
        following *= (2.0 if degree == 1 else 4.0) / bound
        following -= current if degree == 1 else 2.0 * current
        following -= previous
        previous, current = current, following
        if not (np.linalg.norm(current, axis=0) <= most).all():
            raise WidegramError(
                "the training matrix has eigenvalues below 0, which gradient flow of such times "
                "would blow up; solve with a larger --diag-reg, or give earlier times"
            )
        for result, table in zip(results, tables, strict=True):
            if degree < table.size:
                result += table[degree] * current
        if progress:
            progress(Progress(degree + 1, degrees, what="gradient flow"))
    return results
