"""Covariances of any layers, by the dense recursion: outputs that are images, and kernels to go on
from, which the planned backends do not have.

Arrays have neural-tangents' axes: (n1, n2, H, H, W, W) for all pairs of pixels, the first of each
two of x1, (n1, n2, H, W) for equal pixels alone, and nothing behind n2 for vectors.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from widegram import activations
from widegram.activations.hermite import Series
from widegram.errors import WidegramError
from widegram.machine import interrupts
from widegram.machine.budgets import budget, format_size
from widegram.machine.dtypes import FLOOR
from widegram.network import weights
from widegram.network.layers import Activation
from widegram.network.masking import Masked
from widegram.network.piece import Piece
from widegram.plan.formulas import SERIES_TOLERANCE
from widegram.plan.precision import check
from widegram.reference.pair import Array, Pair
from widegram.reference.pixel_pairs import same_pixel
from widegram.reference.runs import cross_pairs, input_pairs, self_pairs
from widegram.reference.tensors import Patterns

Numbers = NDArray[np.intp]

_BLOCK_BYTES = 128 * 1024**2
_EPS = float(np.finfo(np.float64).eps)
# Tensors over all pairs of pixels that one pair of inputs holds at once.
_TENSORS = 10
# Somewhat more than the floor of variances: this method does not scale.
_LEAST = 1e8 * FLOOR["float64"] ** 2


class Start(Protocol):
    """What layers begin with: ``n1`` and ``n2`` values, ``same`` where both are the same ones.

    ``largest``: the largest variance of a pixel; ``eps``: the rounding of covariances.
    """

    n1: int
    n2: int
    same: bool
    largest: float
    eps: float

    def own(self, second: bool, block: slice) -> Pair:
        """K and T of some of the first or second values with themselves, (B, H, W, H, W)."""
        ...

    def cross(self, i: Numbers, j: Numbers) -> Pair:
        """K and T of pairs of different values."""
        ...


class InputStart:
    """Images (n, H, W, C), as :func:`widegram.reference.runs.images` makes them; ``marked``:
    with marks of masked numbers (:mod:`widegram.data.masked`)."""

    def __init__(self, x1: Array, x2: Array | None, marked: bool = False) -> None:
        self._x1, self._x2, self._marked = x1, x1 if x2 is None else x2, marked
        self.n1, self.n2, self.same = len(x1), len(self._x2), x2 is None
        with np.errstate(over="ignore"):
            self.largest = max(float(np.square(x).mean(axis=-1).max()) for x in (x1, self._x2))
        self.eps = _EPS

    def own(self, second: bool, block: slice) -> Pair:
        x = (self._x2 if second else self._x1)[block]
        return input_pairs(x, x, self._marked)

    def cross(self, i: Numbers, j: Numbers) -> Pair:
        return input_pairs(self._x1[i], self._x2[j], self._marked)


@dataclass(frozen=True)
class Covariances:
    """Kernels of two batches, which may be the same.

    * ``nngp``, ``ntk``: of pairs; ``ntk`` None where it is not carried
    * ``cov1``, ``cov2``: of each batch with itself; ``cov2`` None where both are the same
    * ``mask1``, ``mask2``: (n, ..., 1) or (n, ..., channels); None where nothing is masked,
      ``mask2`` also where both batches are the same
    """

    nngp: Array
    ntk: Array | None
    cov1: Array
    cov2: Array | None
    mask1: Masked | None = None
    mask2: Masked | None = None


class KernelStart:
    """Covariances of values of spatial ``shape``, of equal pixels alone where ``diagonal``."""

    def __init__(self, given: Covariances, shape: tuple[int, ...], diagonal: bool) -> None:
        self.n1, self.n2 = given.nngp.shape[:2]
        self.same = given.cov2 is None
        known = [given.nngp, given.ntk, given.cov1, given.cov2]
        self._nngp, self._ntk, *self._own = (
            None if a is None else dense(a, a.ndim - axes(shape, diagonal), shape, diagonal)
            for a in known
        )
        self._masks = self._masks_of(given, shape)
        own = [same_pixel(k) for k in self._own if k is not None]
        self.largest = max(float(q.max()) for q in own)
        self.eps = float(np.finfo(given.nngp.dtype).eps)

    @staticmethod
    def _masks_of(given: Covariances, shape: tuple[int, ...]) -> tuple[Masked, Masked] | None:
        """Masks (n, H, W, c) of both; None where neither has any."""
        first, second = given.mask1, given.mask1 if given.cov2 is None else given.mask2
        if first is None and second is None:
            return None
        sides = (*[1] * (2 - len(shape)), *shape)
        found = []
        for mask, n in zip((first, second), given.nngp.shape, strict=False):
            whole = np.zeros((n, *shape, 1), dtype=np.bool_) if mask is None else mask
            found.append(whole.reshape(n, *sides, whole.shape[-1]))
        return found[0], found[1]

    def own(self, second: bool, block: slice) -> Pair:
        k = self._own[1] if second else self._own[0]
        assert k is not None
        mask = None if self._masks is None else self._masks[second][block]
        masked = None if mask is None else (mask, mask)
        if self.same and self._ntk is not None:
            each = np.arange(self.n1)[block]
            return Pair(k[block], self._ntk[each, each], masked)
        return Pair(k[block], np.zeros_like(k[block]), masked)

    def cross(self, i: Numbers, j: Numbers) -> Pair:
        assert self._nngp is not None
        k = self._nngp[i, j]
        masked = None if self._masks is None else (self._masks[0][i], self._masks[1][j])
        return Pair(k, np.zeros_like(k) if self._ntk is None else self._ntk[i, j], masked)


def propagate(
    piece: Piece, start: Start, ntk: bool, diagonal: bool, accept: float, patterns: Patterns = None
) -> Covariances:
    """The covariances behind the layers of ``piece``, float64; ``patterns``: of the first and the
    second values, where they are graphs.

    ``diagonal``: of equal pixels alone. Raises WidegramError where they do not fit into memory,
    where variances leave the range of float64, and as
    :func:`~widegram.plan.precision.check` for activations.
    """
    shape = piece.end.shape
    weights.announce(piece.layers)
    _check_memory(piece, start, ntk, diagonal)
    size = _block(piece)
    with np.errstate(all="ignore"):  # what leaves the range is refused
        first = _own(piece, start, False, size, patterns)
        second = first if start.same else _own(piece, start, True, size, patterns)
        for _, variances in (first, second):
            _check(piece, variances, accept)
        own1, own2 = (folded(own.k, shape, diagonal) for own in (first[0], second[0]))
        tail = own1.shape[1:]
        out = [np.empty((start.n1, start.n2, *tail)) for _ in range(1 + ntk)]
        for i, j in _pairs(start, size):
            interrupts.check()
            q1, q2 = [q[i] for q in first[1]], [q[j] for q in second[1]]
            both = None if patterns is None else (patterns[0][i], patterns[1][j])
            found = cross_pairs(piece, start.cross(i, j), q1, q2, both)
            for values, whole in zip((found.k, found.t), out, strict=False):
                whole[i, j] = folded(values, shape, diagonal)
                if start.same:
                    mirrored = values.transpose(0, 3, 4, 1, 2)
                    whole[j, i] = folded(mirrored, shape, diagonal)
        if start.same:
            each = np.arange(start.n1)
            for values, whole in zip((first[0].k, first[0].t), out, strict=False):
                whole[each, each] = folded(values, shape, diagonal)
    if not all(np.isfinite(values).all() for values in (*out, own1, own2)):
        raise WidegramError(_OUTSIDE.format("the output"))
    masks = [None if own.masked is None else own.masked[0] for own in (first[0], second[0])]
    mask1, mask2 = (
        None if m is None else m.reshape(len(m), *shape, m.shape[-1]) for m in masks
    )
    return Covariances(
        out[0], out[1] if ntk else None, own1, None if start.same else own2, mask1,
        None if start.same else mask2,
    )  # fmt: skip


def axes(shape: tuple[int, ...], diagonal: bool) -> int:
    """How many axes covariances of values of a spatial shape have behind those of the batch."""
    return len(shape) * (1 if diagonal else 2)


def dense(a: Array, lead: int, shape: tuple[int, ...], diagonal: bool) -> Array:
    """Covariances with ``lead`` axes in front as float64 (..., H, W, H, W): sequences are images
    of one row, vectors of one pixel; pairs of different pixels are 0 where ``a`` lacks them."""
    a = np.asarray(a, dtype=np.float64)
    front, pixels = a.shape[:lead], math.prod(shape)
    if diagonal:
        made = np.zeros((*front, pixels, pixels))
        made[..., np.arange(pixels), np.arange(pixels)] = a.reshape(*front, pixels)
    else:
        order = (*range(lead, a.ndim, 2), *range(lead + 1, a.ndim, 2))
        made = a.transpose(*range(lead), *order)
    sides = (*[1] * (2 - len(shape)), *shape)
    return made.reshape(*front, *sides, *sides)


def folded(a: Array, shape: tuple[int, ...], diagonal: bool) -> Array:
    """(B, H, W, H, W) back to (B, H, H, W, W), or (B, H, W) of equal pixels, for ``shape``."""
    n, pixels = len(a), math.prod(shape)
    if diagonal:
        square = a.reshape(n, pixels, pixels)
        return np.diagonal(square, axis1=1, axis2=2).reshape(n, *shape)
    order = [1 + axis + side * len(shape) for axis in range(len(shape)) for side in (0, 1)]
    return a.reshape(n, *shape, *shape).transpose(0, *order)


def _own(
    piece: Piece, start: Start, second: bool, size: int, patterns: Patterns
) -> tuple[Pair, list[Array]]:
    n = start.n2 if second else start.n1
    blocks = (slice(lo, lo + size) for lo in range(0, n, size))
    runs = [
        self_pairs(
            piece, start.own(second, block), None if patterns is None else patterns[second][block]
        )
        for block in blocks
    ]
    k, t = (np.concatenate([getattr(pair, f) for pair, _ in runs]) for f in ("k", "t"))
    masks = [pair.masked[0] for pair, _ in runs if pair.masked is not None]
    mask = np.concatenate(masks) if masks else None
    whole = Pair(k, t, None if mask is None else (mask, mask))
    return whole, [np.concatenate(q) for q in zip(*(q for _, q in runs), strict=True)]


def _pairs(start: Start, size: int) -> Iterator[tuple[Numbers, Numbers]]:
    """Numbers of pairs, ``size`` at a time; above the diagonal where both batches are the same."""
    if start.same:
        i, j = np.triu_indices(start.n1, 1)
    else:
        i, j = (a.ravel() for a in np.indices((start.n1, start.n2)))
    for lo in range(0, len(i), size):
        yield i[lo : lo + size], j[lo : lo + size]


_OUTSIDE = (
    "kernel_fn: variances at {} leave the range of float64; multiply the inputs by a power of two "
    "that brings them near 1"
)


def _check(piece: Piece, variances: list[Array], accept: float) -> None:
    for (where, layer), q in zip(piece.measured(), variances, strict=True):
        top = float(q.max())
        if not np.isfinite(top) or 0.0 < top < _LEAST:
            raise WidegramError(_OUTSIDE.format(where))
        if isinstance(layer, Activation):
            formula = activations.get(layer.name, dict(layer.params))
            if isinstance(formula, Series):
                formula = formula.for_range(top, SERIES_TOLERANCE["float64"])
            check(where, formula, top, "float64", accept)


def _block(piece: Piece) -> int:
    return max(1, _BLOCK_BYTES // (8 * _TENSORS * piece.end.pixels ** 2))


def _check_memory(piece: Piece, start: Start, ntk: bool, diagonal: bool) -> None:
    pixels = math.prod(piece.end.shape)
    values = start.n1 * start.n2 * pixels ** (1 if diagonal else 2) * (2 if ntk else 1)
    values += (start.n1 + start.n2) * pixels**2 * 3
    working = min(_block(piece), start.n1 * start.n2) * _TENSORS * piece.end.pixels ** 2
    needed, allowed = 8 * (values + working), budget(None)
    if needed > allowed:
        raise WidegramError(
            f"kernel_fn: kernels between all pixels of {start.n1} and {start.n2} images need "
            f"{format_size(needed)}, a quarter of what is free is {format_size(allowed)}; take "
            "fewer or smaller images, or end the network with Flatten or a global pool"
        )
