"""Operations on the variances of one image: sums over windows, what LayerNorm divides by."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from widegram.plan.graph import Affine, Gather, Norm, Pair

Array = NDArray[np.float64]


def box(q: Array, operation: Affine | Gather, shape: Pair) -> Array:
    """Sums over the window of a convolution or pool, (n, h, w) -> (n, \\*shape).

    Pixels outside the image count as zero or, where the operation is circular, wrap.
    """
    if operation.window == (1, 1) and operation.strides == (1, 1):
        return q
    (a, b), (sy, sx), (h, w) = operation.window, operation.strides, shape
    lo = operation.lo
    hi = (
        max(0, sy * (h - 1) + a - lo[0] - q.shape[1]),
        max(0, sx * (w - 1) + b - lo[1] - q.shape[2]),
    )
    pads = [(0, 0), (lo[0], hi[0]), (lo[1], hi[1])]
    padded = np.pad(q, pads, mode="wrap") if operation.circular else np.pad(q, pads)
    total = np.zeros((len(q), h, w))
    for u in range(a):
        for v in range(b):
            total += padded[:, u : u + sy * (h - 1) + 1 : sy, v : v + sx * (w - 1) + 1 : sx]
    return total


def normalised_by(q: Array, operation: Norm) -> Array:
    """The variance (n, h, w) that LayerNorm divides by, at every pixel."""
    axes = tuple(a + 1 for a in operation.axes)
    return np.broadcast_to(q.mean(axis=axes, keepdims=True), q.shape) if axes else q
