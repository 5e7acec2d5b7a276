"""Sets of displacements.

A value on an (h, w) image has planes at displacements d = (i' - i, j' - j), |d| < (h, w). A mask is
a boolean array of shape (2h - 1, 2w - 1), centred on d = 0.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Pair = tuple[int, int]
Mask = NDArray[np.bool_]
Ints = NDArray[np.int64]


def empty(shape: Pair) -> Mask:
    """No displacement of an image of this shape."""
    return np.zeros((2 * shape[0] - 1, 2 * shape[1] - 1), dtype=np.bool_)


def full(shape: Pair) -> Mask:
    """Every displacement of an image of this shape."""
    return ~empty(shape)


def centre(shape: Pair) -> Mask:
    """d = 0 alone."""
    return marked(np.zeros((1, 2), dtype=np.int64), shape)


def marked(d: Ints, shape: Pair) -> Mask:
    """The displacements of d (n, 2) that an image of this shape has."""
    mask = empty(shape)
    index = d + (np.array(shape) - 1)
    inside = np.all((index >= 0) & (index < mask.shape), axis=1)
    mask[index[inside, 0], index[inside, 1]] = True
    return mask


def displacements(mask: Mask) -> Ints:
    """The displacements of a mask, shape (n, 2), in row-major order."""
    return np.argwhere(mask) - np.array([mask.shape[0] // 2, mask.shape[1] // 2])


def wrapped(d: Ints, shape: Pair) -> Ints:
    """d with every displacement that a torus identifies with it: d and d -+ (h, w) per axis."""
    shifts = [(i * shape[0], j * shape[1]) for i in (-1, 0, 1) for j in (-1, 0, 1)]
    return np.concatenate([d + np.array(shift) for shift in shifts])


def differences(window: Pair) -> Ints:
    """All t' - t of taps t, t' of one window."""
    a, b = window
    return np.array([(i, j) for i in range(1 - a, a) for j in range(1 - b, b)])
