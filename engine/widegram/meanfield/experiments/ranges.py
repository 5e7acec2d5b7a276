"""Ranges of variances on the command line."""

from __future__ import annotations

import math

import numpy as np

from widegram.errors import WidegramError
from widegram.meanfield.theory.one_layer import Array


def parse_range(text: str, name: str) -> Array:
    """``0:3:0.01`` (both ends included), ``0.5,1,2`` or one number, as ascending float64.

    A colon range whose end is a whole number of steps away includes it in spite of rounding.
    Raises WidegramError for empty, backward or endless ranges, negative and non-finite numbers.
    """
    parts = text.split(":")
    try:
        numbers = [float(part) for part in (parts if len(parts) > 1 else text.split(","))]
    except ValueError:
        raise WidegramError(
            f"{name} = {text!r}: give START:STOP:STEP, A,B,C or one number"
        ) from None
    if not all(math.isfinite(number) for number in numbers):
        raise WidegramError(f"{name} = {text!r}: every number must be finite")
    one = len(parts) == 1
    values = np.unique(np.array(numbers)) if one else _colon_range(numbers, text, name)
    if values.size and values[0] < 0:
        raise WidegramError(f"{name} = {text!r}: a variance cannot be negative")
    return values


def _colon_range(numbers: list[float], text: str, name: str) -> Array:
    if len(numbers) != 3:
        raise WidegramError(f"{name} = {text!r}: a range has three numbers, START:STOP:STEP")
    start, stop, step = numbers
    if step <= 0:
        raise WidegramError(f"{name} = {text!r}: the step must be positive")
    if stop < start:
        raise WidegramError(f"{name} = {text!r}: an empty range, STOP is below START")
    count = math.floor((stop - start) / step * (1 + 1e-12) + 1e-9) + 1
    if count > 10**8:
        raise WidegramError(f"{name} = {text!r}: {count} values; give a larger step")
    # k * step rounds once; the tidy form of 0.1 * 3 is taken from the decimal text's precision.
    return np.round(start + step * np.arange(count), 15)
