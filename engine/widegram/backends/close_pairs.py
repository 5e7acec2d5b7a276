"""Pairs of inputs that point in nearly the same direction, or in opposite ones.

Near c = 1 an angle is the square root of a difference: a single-precision rounding of c becomes
3e-4, and a deep network adds or multiplies it layer by layer. So a float32 run computes the few
pairs whose inputs are nearly parallel in float64. How near that is depends on the network
(:mod:`~widegram.plan.closeness`); a pair is found where it is less than about twice as far apart,
by sketches of directions or, where inner products are at hand, by their cosine.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from widegram.activations import Formula
from widegram.data.scaled_rows import ScaledRows
from widegram.network.inputs import InputPart
from widegram.plan.angles import FARTHEST, NEAREST
from widegram.plan.closeness import nearest_held
from widegram.plan.plan import Plan
from widegram.plan.precision import DoubleNeeded

Array = NDArray[np.float64]
_SKETCH = 24
# A pair on its own takes some hundred times as long as one among others.
_SHARE = 1 / 200
_FEW_PAIRS = 1 << 14
_SAMPLE = 256


def most_apart(angle: float) -> float:
    """The squared distance below which sketches are of nearly parallel inputs."""
    return (2 * angle) ** 2


def least_cosine(angle: float) -> float:
    """The cosine, in absolute value, above which inputs are nearly parallel."""
    return math.cos(2 * angle)


def sketch(x: Array) -> Array:
    """Directions of inputs (n, ...) in few numbers, shape (n, 24).

    Every coordinate is added, with a random sign, to one of 24 sums ("count sketch"). Squared
    distances of sketches estimate those of directions, within a factor of 2 or so; zero inputs
    give zeros. Sums run in the same order whatever block an input comes in.
    """
    flat = x.reshape(len(x), -1)
    groups = -(-flat.shape[1] // _SKETCH)
    signed = np.zeros((len(x), groups * _SKETCH))
    signs = np.random.default_rng(20).choice([-1.0, 1.0], flat.shape[1])
    np.multiply(flat, signs, out=signed[:, : flat.shape[1]])
    sums = signed.reshape(len(x), groups, _SKETCH).sum(axis=1)
    norm = np.sqrt(np.einsum("nd,nd->n", flat, flat))
    return sums / np.where(norm > 0, norm, np.inf)[:, None]


def sketches(x: Array, parts: Sequence[InputPart]) -> Array:
    """The sketch of inputs; of lists of them (n, D), whose inputs lie as ``parts`` say, those of
    each of these side by side, (n, 24 parts)."""
    if not parts:
        return sketch(x)
    return np.concatenate([sketch(x[:, part.numbers]) for part in parts], axis=1)


def close_pairs(a: Array, b: Array, angle: float) -> NDArray[np.int64]:
    """Rows (i, j), shape (pairs, 2), of sketches that are less than about twice ``angle`` apart, or
    opposite but for that; zero inputs never are. Of lists of inputs, where one of these is."""
    if a.shape[1] == _SKETCH:
        return _close(a, b, angle)
    found = [
        _close(a[:, at : at + _SKETCH], b[:, at : at + _SKETCH], angle)
        for at in range(0, a.shape[1], _SKETCH)
    ]
    return np.unique(np.concatenate(found), axis=0)


def _close(a: Array, b: Array, angle: float) -> NDArray[np.int64]:
    # BLAS, whose last bits depend on the shape, proposes pairs up to 1.4 times as far apart.
    limit = most_apart(angle)
    a2, b2 = (np.einsum("ik,ik->i", v, v) for v in (a, b))
    a2, b2 = (np.where(squares > 0, squares, np.inf) for squares in (a2, b2))
    product = a @ b.T
    np.abs(product, out=product)
    product -= a2[:, None] / 2
    i, j = np.divmod(np.flatnonzero(product > b2 / 2 - limit), len(b))
    near = np.full(len(i), np.inf)
    for sign in (1.0, -1.0):
        apart = a[i] - sign * b[j]
        near = np.minimum(near, np.einsum("pk,pk->p", apart, apart))
    close = near < limit
    return np.stack([i[close], j[close]], axis=1)


def nearest_computed(
    plan: Plan, formulas: dict[int, Formula], largest: float, x1: ScaledRows, x2: ScaledRows
) -> float:
    """The angle below which a float32 run computes pairs of inputs in float64.

    Raises :class:`DoubleNeeded` where that would be a large part of all pairs.
    """
    angle = nearest_held(plan, formulas, largest)
    if angle == NEAREST:
        return angle
    pairs = x1.shape[0] * x2.shape[0]
    if pairs > _FEW_PAIRS:
        share = 1.0 if np.isinf(angle) else share_within(angle, x1, x2)
        if share > _SHARE and share * pairs > _FEW_PAIRS:
            raise DoubleNeeded(
                f"float32 does not hold the kernels of inputs less than {angle:.1g} apart in this "
                f"network, as {share:.0%} of the pairs are; use float64"
            )
    return min(angle, FARTHEST)


def share_within(angle: float, x1: ScaledRows, x2: ScaledRows) -> float:
    """The share of pairs less than about twice ``angle`` apart, of rows at even distances."""
    first = _sketches(x1)
    if x2 is x1:
        pairs = close_pairs(first, first, angle)
        return (len(pairs) - len(first)) / max(1, len(first) * (len(first) - 1))
    second = _sketches(x2)
    return len(close_pairs(first, second, angle)) / (len(first) * len(second))


def _sketches(x: ScaledRows) -> Array:
    n = x.shape[0]
    rows = np.unique(np.linspace(0, n - 1, min(n, _SAMPLE)).astype(int))
    some = np.concatenate([x.read(row, row + 1).astype(np.float64) for row in rows])
    return sketches(some, x.parts)
