"""Masked numbers of inputs, which count as 0 and are told from other zeros by their sign.

Where inputs are masked, -0.0 stands for a masked number and for no other. All that is computed of
it is what 0 gives; a product with a power of two keeps it, so does another dtype. So masks go
wherever inputs go.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Flags = NDArray[np.bool_]


def equals(x: NDArray[Any], constant: float) -> Flags:
    """Which numbers equal ``constant``, rounded to the dtype of x; NaN equals NaN. None does where
    the dtype does not reach that far."""
    if np.isnan(constant):
        return np.isnan(x)
    with np.errstate(over="ignore"):
        rounded = x.dtype.type(constant)
    if np.isinf(rounded) and np.isfinite(constant):
        return np.zeros(x.shape, dtype=np.bool_)
    return np.asarray(x == rounded)


def marked(x: NDArray[Any], masked: Flags) -> NDArray[Any]:
    """x with -0.0 for masked numbers, and 0.0 for other zeros."""
    return np.where(masked, x.dtype.type(-0.0), x + x.dtype.type(0.0))


def is_masked(x: NDArray[Any]) -> Flags:
    """Which numbers of marked inputs are masked."""
    return (x == 0) & np.signbit(x)


def kept(made: NDArray[Any], x: NDArray[Any]) -> NDArray[Any]:
    """``made`` of marked inputs x by rounding or scaling, but for numbers that became -0.0 and were
    not masked; changed in place."""
    made[(made == 0) & (x != 0)] = 0.0
    return made
