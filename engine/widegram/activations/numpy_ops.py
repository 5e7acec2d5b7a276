"""The facade of operations on NumPy arrays: textbook functions, float64."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from widegram.activations.mixture_sums import BLOCKS, join, pair_sums
from widegram.machine.dtypes import FLOOR, SNAP

add = np.add
sub = np.subtract
mul = np.multiply
div = np.divide
sqrt = np.sqrt
abs_ = np.abs
maximum = np.maximum
minimum = np.minimum
exp = np.exp
expm1 = np.expm1


def const(value: float) -> Any:
    """A constant as an operand."""
    return np.float64(value)


def least() -> Any:
    """The smallest product of two standard deviations."""
    return np.float64(FLOOR["float64"] ** 2)


def fma(a: Any, b: Any, c: Any) -> Any:
    """a b + c."""
    return a * b + c


def where_nonnegative(c: Any, a: Any, b: Any) -> Any:
    """a where c >= 0, else b."""
    return np.where(c >= 0, a, b)


def _from_one(c: Any) -> Any:
    """1 - c, where c within a few roundings of 1 gives 0 (see ``SNAP``)."""
    return np.maximum((1.0 - SNAP["float64"]) - c, 0.0)


def angle(c: Any) -> Any:
    """acos(c) / pi for c >= 0; c above 1 counts as 1. Accurate near c = 1."""
    return 2 / np.pi * np.arcsin(np.sqrt(_from_one(c) / 2))


def angle_and_area(c: Any) -> tuple[Any, Any]:
    """acos(c) / pi and (sqrt(1 - c^2) - c acos(c)) / pi for c >= 0; c above 1 counts as 1.

    The difference cancels towards c = 1; its Taylor series in the angle t takes over there.
    """
    t = 2 * np.arcsin(np.sqrt(_from_one(c) / 2))
    # sin t - t cos t = t^3/3 - t^5/30 + t^7/840 - t^9/45360 + t^11/3991680: at t = 0.1 the next
    # term is below 1e-19 of the sum.
    t2 = t * t
    series = t * t2 * (1 / 3 - t2 * (1 / 30 - t2 * (1 / 840 - t2 * (1 / 45360 - t2 / 3991680))))
    area = np.where(t < 0.1, series, np.sin(t) - t * np.cos(t))
    return t / np.pi, area / np.pi


def arcsine(z: Any) -> tuple[Any, Any]:
    """asin(z) / pi and 1 / sqrt(1 - z^2); 1 - |z| is held above its resolution."""
    rest = np.maximum((1.0 - z) * (1.0 + z), 2.0**-53)
    return np.arcsin(np.clip(z, -1.0, 1.0)) / np.pi, 1.0 / np.sqrt(rest)


def series(c: Any, fx: Any, fy: Any) -> tuple[Any, Any]:
    """sum_n fx[n + 1] fy[n + 1] c^n and its derivative in c, by Horner's rule."""
    value = fx[-1] * fy[-1] + 0.0 * c
    slope = np.zeros_like(value)
    for a, b in zip(fx[-2:0:-1], fy[-2:0:-1], strict=True):
        slope = slope * c + value
        value = value * c + a * b
    return value, slope


def mixture(k: Any, fx: Any, fy: Any) -> tuple[Any, Any]:
    """The double sum of :class:`~widegram.activations.mixture.Mixture`: K and Kdot."""
    ops = sys.modules[__name__]
    first, second = (np.reshape(f[2:], (BLOCKS, -1, *np.shape(f)[1:])) for f in (fx, fy))
    value = slope = np.zeros(())
    for i in range(first.shape[1]):
        scaled = k * first[0, i]
        sums = [np.zeros(())] * (BLOCKS - 1)
        for j in range(second.shape[1]):
            z = scaled * second[0, j]
            sums = pair_sums(ops, sums, *arcsine(z), z, second[1:, j])
        value, slope = join(ops, value, slope, sums, first[1:, i])
    return value, slope
