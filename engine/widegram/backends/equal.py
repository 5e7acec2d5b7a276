"""Inputs that are equal, number by number.

Between two equal inputs the kernel is that of one with itself. Computed as that of two, a rounding
of c = 1 would become an angle, its square root: 6e-8 in float64.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from widegram.plan.operations import Keep
from widegram.plan.plan import Plan

Digests = NDArray[np.uint64]
Pairs = NDArray[np.int64]


def is_exact(plan: Plan) -> bool:
    """Whether two equal inputs have the kernel of one with itself: Dropout treats them apart."""
    return not any(isinstance(node.operation, Keep) for node in plan.nodes)


def digests(x: NDArray[Any], marked: bool = False) -> Digests:
    """128 bits for every input of x (n, ...), shape (n, 2); -0.0 counts as 0.0 unless it is where
    masked numbers are ``marked`` (:mod:`widegram.data.masked`)."""
    flat = np.ascontiguousarray(x.reshape(len(x), -1))
    flat = flat if marked else flat + x.dtype.type(0)
    found = b"".join(xxhash.xxh3_128_digest(row.data) for row in flat)
    return np.frombuffer(found, dtype=np.uint64).reshape(-1, 2)


def equal_pairs(a: Digests, b: Digests, mirrored: bool = False) -> Pairs:
    """(row, column), shape (pairs, 2), of equal inputs, by their digests; ``mirrored``: of the same
    inputs twice, those above the diagonal."""
    # Most tiles have none, which half of the bits show: they sort as numbers do, ten times as fast.
    none = np.empty((0, 2), np.int64)
    if mirrored:
        ordered = np.sort(a[:, 0])
        if not (ordered[1:] == ordered[:-1]).any():
            return none
        found = _equal(a, b)
        return found[found[:, 0] < found[:, 1]]
    return _equal(a, b) if _among(a[:, 0], b[:, 0]).any() else none


def _among(some: NDArray[Any], others: NDArray[Any]) -> NDArray[np.bool_]:
    """Whether each of ``some`` (n,) is one of ``others`` (m,): ``np.isin``, which imports a part
    of NumPy that takes longer than a small matrix."""
    if not len(others):
        return np.zeros(len(some), np.bool_)
    ordered = np.sort(others)
    place = np.minimum(np.searchsorted(ordered, some), len(others) - 1)
    return np.equal(ordered[place], some)


def _equal(a: Digests, b: Digests) -> Pairs:
    """(row, column), shape (pairs, 2), of equal digests, by all of their bits."""
    kinds = np.dtype([("low", np.uint64), ("high", np.uint64)])
    both = np.ascontiguousarray(np.concatenate([a, b])).view(kinds).ravel()
    numbers = np.unique(both, return_inverse=True)[1].ravel()
    rows, cols = numbers[: len(a)], numbers[len(a) :]
    order = np.argsort(cols, kind="stable")
    first, last = (np.searchsorted(cols[order], rows, side) for side in ("left", "right"))
    count = last - first
    i = np.repeat(np.arange(len(a)), count)
    start = np.repeat(first - np.cumsum(count) + count, count)
    return np.stack([i, order[start + np.arange(len(i))]], axis=1).astype(np.int64)


def without(pairs: Pairs, others: Pairs, width: int) -> Pairs:
    """The ``pairs`` (n, 2) that are not among ``others``; columns are below ``width``."""
    taken = _among(pairs[:, 0] * width + pairs[:, 1], others[:, 0] * width + others[:, 1])
    return pairs[~taken]
