"""phi(x) as a table: a natural cubic spline through its rows, straight beyond its ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from widegram.activations.base import Array
from widegram.errors import shown
from widegram.validation import bounds
from widegram.validation.arrays import loaded

Rows = tuple[tuple[float, float], ...]
LEAST, MOST = 3, 512
"""Rows of a table: a network holds them."""


def table(value: Any) -> Rows:
    """The rows (x, phi(x)) of a list, or of a .npy file of shape (n, 2); raises a ValueError that
    says what is wrong."""
    if isinstance(value, str):
        value = _read(value)
    try:
        rows = np.array(value, dtype=np.float64) if len(value) else np.empty((0, 2))
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"must be a .npy file or rows [x, phi], found {shown(value)}") from None
    if not rows.size:
        return ()
    if rows.ndim != 2 or rows.shape[1] != 2 or not LEAST <= len(rows) <= MOST:
        raise ValueError(
            f"must have {LEAST} to {MOST} rows of x and phi(x), found the shape {rows.shape}"
        )
    if not (np.abs(rows) <= bounds.MAGNITUDE).all():
        raise ValueError("has a number that is not finite, or too large")
    if not (np.diff(rows[:, 0]) > 0).all():
        at = int(np.flatnonzero(np.diff(rows[:, 0]) <= 0)[0])
        raise ValueError(f"must have ascending x; row {at + 1} does not ascend")
    return tuple((float(x), float(y)) for x, y in rows)


def _read(name: str) -> Any:
    found = loaded(name)
    if not isinstance(found, np.ndarray) or found.ndim != 2 or found.size > 2 * MOST:
        shape = getattr(found, "shape", "an archive")
        raise ValueError(f"{shown(name)} must hold an array of shape (n, 2), found {shape}")
    return np.array(found)


def spline(rows: Rows) -> tuple[Callable[[Array], Array], Callable[[Array], Array]]:
    """phi and phi' of arrays."""
    from scipy.interpolate import CubicSpline  # SciPy takes long to import

    x, y = np.array(rows).T
    inside = CubicSpline(x, y, bc_type="natural")
    slopes = inside.derivative()

    def phi(z: Array) -> Array:
        z = np.asarray(z, dtype=np.float64)
        near = np.clip(z, x[0], x[-1])
        return np.asarray(inside(near) + slopes(near) * (z - near))

    def slope(z: Array) -> Array:
        return np.asarray(slopes(np.clip(z, x[0], x[-1])))

    return phi, slope
