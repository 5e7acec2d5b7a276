"""The double sum in the dual of a mixture of error functions, over a facade of operations.

The names are those of :mod:`~widegram.activations.mixture`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

# Factors of an image: two numbers, then these for every width.
BLOCKS = 5


def pair_sums(ops: Any, sums: Any, angle: Any, inverse: Any, z: Any, factors: Any) -> list[Any]:
    """What one (i, j) adds to the four ``sums`` over j of a width i.

    ``angle``: asin(z) / pi, ``inverse``: 1 / sqrt(1 - z^2), ``factors`` of j: sqrt(2) w,
    sqrt(2 / pi) w / r, sqrt(2) v, sqrt(2 / pi) v r.
    """
    steps, slopes, levels, sizes = factors
    # Rounding may put z a little beyond 1, where ``inverse`` is large.
    minus = ops.sub(ops.const(0.0), z)
    rest = ops.maximum(ops.fma(minus, z, ops.const(1.0)), ops.const(0.0))
    root = ops.mul(rest, inverse)
    # sqrt(1 - z^2) - 1, which is nothing beside 1 at the small z of wide noises.
    lean = ops.div(ops.mul(minus, z), ops.add(ops.const(1.0), root))
    arch = ops.fma(ops.mul(ops.const(np.pi), z), angle, lean)
    return [
        ops.fma(steps, angle, sums[0]),
        ops.fma(slopes, inverse, sums[1]),
        ops.fma(sizes, arch, sums[2]),
        ops.fma(levels, angle, sums[3]),
    ]


def join(ops: Any, value: Any, slope: Any, sums: Any, factors: Any) -> tuple[Any, Any]:
    """K and Kdot with the sums over j of one width i, whose ``factors`` are as above."""
    steps, slopes, levels, sizes = factors
    value = ops.fma(steps, sums[0], ops.fma(sizes, sums[2], value))
    return value, ops.fma(slopes, sums[1], ops.fma(levels, sums[3], slope))
