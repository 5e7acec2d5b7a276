"""Statistics of training inputs and their use, for values of every size.

Squares of 1e200 overflow and those of 1e-200 vanish, so that each channel or feature is first
divided by a power of two near its largest value, which is exact. A feature is constant where its
values differ by rounding at most: subtracting a rounded mean from it would leave nothing but noise,
which the division by its own size blows up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from widegram.errors import WidegramError

Array = NDArray[Any]
# Normalizations that subtract a mean and divide by a standard deviation.
CENTRED = ("standardize", "channel", "global")
ROUNDINGS = 2
"""Values within so many units of rounding (of float32 or float64) of the largest are one value."""

_SINGLE = np.finfo(np.float32)


@dataclass(frozen=True)
class Scaling:
    """Statistics per channel or feature, of values that were multiplied by 2^-``exponent``.

    ``scaled_mean`` and ``scaled_std`` (float64) are of that size, about 1.
    """

    exponent: Array
    scaled_mean: Array
    scaled_std: Array

    @property
    def mean(self) -> Array:
        """Means of the raw values, float64."""
        return np.ldexp(self.scaled_mean, self.exponent)

    @property
    def std(self) -> Array:
        """Standard deviations of the raw values, float64; 1 for constants."""
        return np.ldexp(self.scaled_std, self.exponent)


def measure(blocks: Callable[[], Iterable[Array]], channels: int, dtype: np.dtype[Any]) -> Scaling:
    """The statistics of finite rows (..., ``channels``) that ``blocks()`` yields, in float64.

    ``dtype`` is the type that they were stored in: what counts as rounding.
    """
    low, high, count = np.full(channels, np.inf), np.full(channels, -np.inf), 0
    for rows in blocks():
        flat = rows.reshape(-1, channels)
        low, high = np.minimum(low, flat.min(axis=0)), np.maximum(high, flat.max(axis=0))
        count += len(flat)
    largest = np.maximum(abs(low), abs(high))
    exact = dtype.kind != "f" or dtype.itemsize < 4
    rounding = 0.0 if exact else ROUNDINGS * float(np.finfo(_narrow(dtype)).eps)
    constant = is_constant(low, high, rounding)
    exponent = np.where(constant, 0, np.frexp(largest)[1])
    mean, squares, rest = np.zeros(channels), np.zeros(channels), np.zeros(channels)
    for rows in blocks():
        mean += np.ldexp(rows.reshape(-1, channels), -exponent).sum(axis=0) / count
    for rows in blocks():
        deviations = np.ldexp(rows.reshape(-1, channels), -exponent) - mean
        with np.errstate(over="ignore"):  # of constants, whose squares are not used
            squares += (deviations**2).sum(axis=0) / count
        rest += deviations.sum(axis=0) / count
    # The deviations' own mean, which rounding leaves, is no part of the variance.
    variance = np.maximum(squares - rest**2, 0.0)
    constant |= variance == 0
    mean = np.where(constant & (exponent == 0), middle(low, high), mean)
    return Scaling(exponent, mean, np.where(constant, 1.0, np.sqrt(variance)))


def is_constant(low: Array, high: Array, rounding: float) -> Array:
    """Whether columns with values from ``low`` to ``high`` (k,) hold one value each, ``rounding``
    times the largest one aside."""
    largest = np.maximum(abs(low), abs(high))
    # Halves, because the difference of the largest numbers of both signs is none.
    return np.asarray(high / 2 - low / 2 <= rounding * (largest / 2))


def middle(low: Array, high: Array) -> Array:
    """The numbers half-way, those themselves where both are one."""
    return np.asarray(low + (high / 2 - low / 2))


def _narrow(dtype: np.dtype[Any]) -> type:
    """The type in which values were rounded: float128 is read as float64."""
    return np.float32 if dtype.itemsize == 4 else np.float64


def normalized(rows: Array, normalize: str, scaling: Scaling) -> Array:
    """Finite rows (n, ...) scaled, in float64; each depends on its own numbers alone."""
    axes = tuple(range(1, rows.ndim))
    with np.errstate(over="ignore", under="ignore"):
        if normalize in CENTRED:
            return (np.ldexp(rows, -scaling.exponent) - scaling.scaled_mean) / scaling.scaled_std
        if normalize == "none":
            return rows
        largest = abs(rows).max(axis=axes, keepdims=True)
        scaled = np.ldexp(rows, -np.frexp(largest)[1])
        squares = (scaled**2).sum(axis=axes, keepdims=True)
        if normalize == "unit-square":
            squares /= rows[0].size
        return scaled / np.where(squares == 0, 1.0, np.sqrt(squares))


def narrowed(scaled: Array) -> Array:
    """Rows in float32; infinite where that cannot hold a number, NaN where every number of a row
    is too small for it."""
    largest = abs(scaled).max(axis=tuple(range(1, scaled.ndim)), keepdims=True)
    lost = (largest > 0) & (largest < _SINGLE.tiny)
    with np.errstate(over="ignore", under="ignore"):
        return np.where(lost, np.nan, scaled).astype(np.float32)


def check_held(held: Array, rows: Array, numbers: Array, name: str, remedy: str) -> None:
    """Refuse what float32 cannot hold; ``numbers`` are those of the rows in the source ``name``.

    Raises :class:`WidegramError` naming the first such row, its value and ``remedy``.
    """
    bad = np.flatnonzero(~np.isfinite(held).reshape(len(held), -1).all(axis=1))
    if not len(bad):
        return
    row = bad[0]
    at = np.flatnonzero(~np.isfinite(held[row]).ravel())[0]
    value = rows[row].ravel()[at]
    small = np.isnan(held[row]).any()
    why = "is too small for float32" if small else "exceeds what float32 holds"
    raise WidegramError(f"{name}: row {numbers[row]} holds {value:.6g}, which {why}; {remedy}")
