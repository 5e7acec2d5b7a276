"""Running a network on full tensors: on images with themselves, and on pairs of different ones.

An image's own variances, which activations and LayerNorm need, come from running the network on
(x, x): that run records them, layer by layer, and the run on (x, x') reads them back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from widegram.data.masked import is_masked
from widegram.network import Network, attention
from widegram.network.inputs import parts_of
from widegram.network.layers import GlobalSelfAttention
from widegram.reference.pair import Array, Pair
from widegram.reference.pixel_pairs import same_pixel
from widegram.reference.tensors import Forward, Patterns


def images(x: NDArray[Any]) -> Array:
    """View inputs (n, D), (n, L, C) or (n, H, W, C) as float64 images (n, H, W, C): vectors as
    1 x 1, sequences as 1 x L."""
    x = np.asarray(x, dtype=np.float64)
    return x.reshape(len(x), *[1] * (4 - x.ndim), *x.shape[1:])


def self_kernels(
    network: Network, x: Array, patterns: Array | None = None
) -> tuple[Array, Array, list[Array]]:
    """Run the network on every image of ``x`` (B, H, W, C) with itself.

    Returns ``(nngp, ntk, variances)``: two arrays (B,), and for every activation and LayerNorm, in
    the order in which they are met, the variances (B, H, W) of its input. ``patterns``: weights
    (B, vertices, vertices) for Aggregate layers.
    """
    pair, variances = self_pairs(network, _begin(network, x, x), patterns)
    return pair.k.reshape(len(x)), pair.t.reshape(len(x)), variances


def self_pairs(
    network: Network, pair: Pair | Sequence[Pair], patterns: Array | None = None
) -> tuple[Pair, list[Array]]:
    """Run layers on B values with themselves, or on lists of such; as :func:`self_kernels`, for any
    output."""
    run = _SelfRun(network, None if patterns is None else (patterns, patterns))
    return run.whole(network, pair), run.variances


def cross_kernels(
    network: Network, x1: Array, x2: Array, q1: list[Array], q2: list[Array],
    patterns: Patterns = None,
) -> tuple[Array, Array]:  # fmt: skip
    """Run the network on B pairs (x1[b], x2[b]) of different images, treated as independent.

    Returns ``(nngp, ntk)``, arrays (B,).

    * ``x1``, ``x2``: images (B, H, W, C)
    * ``q1``, ``q2``: their variances as :func:`self_kernels` gives them
    * ``patterns``: those of both, for Aggregate layers
    """
    pair = cross_pairs(network, _begin(network, x1, x2), q1, q2, patterns)
    return pair.k.reshape(len(x1)), pair.t.reshape(len(x1))


def cross_pairs(
    network: Network, pair: Pair | Sequence[Pair], q1: list[Array], q2: list[Array],
    patterns: Patterns = None,
) -> Pair:  # fmt: skip
    """Run layers on B pairs of different values, or on lists of such; as :func:`cross_kernels`, for
    any output."""
    run = _CrossRun(network, iter(zip(q1, q2, strict=True)), patterns)
    return run.whole(network, pair)


def _begin(network: Network, x1: Array, x2: Array) -> Pair | list[Pair]:
    """Pairs of inputs; of lists of them, rows (B, 1, 1, D), for each."""
    masked = network.mask is not None
    if not network.inputs:
        return input_pairs(x1, x2, masked)
    found = []
    for part in parts_of(network.inputs):
        first, second = (x[..., part.numbers].reshape(len(x), *part.shape) for x in (x1, x2))
        found.append(input_pairs(first, second, masked))
    return found


def input_pairs(x1: Array, x2: Array, marked: bool = False) -> Pair:
    """The mean over channels of products of B pairs of images (B, H, W, C); no T. ``marked``:
    masked numbers are marked in them (:mod:`widegram.data.masked`)."""
    k = np.einsum("bijc,bklc->bijkl", x1, x2) / x1.shape[-1]
    masked = (is_masked(x1), is_masked(x2)) if marked else None
    return Pair(k, np.zeros_like(k), masked)


class _SelfRun(Forward):
    """(x, x): its variances are K's own diagonal; same-pixel moments are the exact ones."""

    def __init__(self, network: Network, patterns: Patterns) -> None:
        super().__init__(network, patterns)
        self.variances: list[Array] = []

    def variances_of(self, pair: Pair) -> tuple[Array, Array]:
        q = same_pixel(pair.k).copy()
        self.variances.append(q)
        return q, q

    def weights_of(self, layer: GlobalSelfAttention, keys: Pair) -> tuple[Array, Array]:
        n, pixels = len(keys.k), keys.k.shape[1] * keys.k.shape[2]
        seen = None if keys.visible is None else keys.visible[0].reshape(n, pixels) > 0
        weights = attention.attended(layer, keys.k.reshape(n, pixels, pixels), seen)
        self.variances.append(weights)
        return weights, weights

    def activation(self, formula: Any, pair: Pair) -> Pair:
        k, slope = formula.variance(same_pixel(pair.k))
        t = same_pixel(pair.t) * slope
        after = super().activation(formula, pair)
        same_pixel(after.k)[...] = k
        same_pixel(after.t)[...] = t
        return after

    def dropout(self, rate: float, pair: Pair) -> Pair:
        after = Pair(pair.k.copy(), pair.t.copy())
        for a in (after.k, after.t):
            same = same_pixel(a)
            same /= rate
        return after


class _CrossRun(Forward):
    """(x, x') with variances known from the runs on (x, x) and (x', x')."""

    def __init__(
        self, network: Network, variances: Iterator[tuple[Array, Array]], patterns: Patterns
    ) -> None:
        super().__init__(network, patterns)
        self.known = variances

    def variances_of(self, pair: Pair) -> tuple[Array, Array]:
        return next(self.known)

    def weights_of(self, layer: GlobalSelfAttention, keys: Pair) -> tuple[Array, Array]:
        return next(self.known)

    def dropout(self, rate: float, pair: Pair) -> Pair:
        return pair
