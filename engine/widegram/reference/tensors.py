"""The kernel recursion on full tensors: K[pair, i, j, i', j'] over all pixel pairs, in float64.

Obviously right rather than fast. Vectors are 1 x 1 images. Sources: Novak et al. 2019, "Bayesian
deep convolutional networks with many channels are Gaussian processes", section 3; Arora et al.
2019, "On exact computation with an infinitely wide neural net", section 4.

An image's own variances, which activations and LayerNorm need, come from running the network on
(x, x): that run records them, layer by layer, and the run on (x, x') reads them back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from widegram import activations
from widegram.data.masked import is_masked
from widegram.network import Network, attention, maps
from widegram.network.contribution import bias_variance, channels_behind, contribution
from widegram.network.joined import spatial_axis
from widegram.network.layers import (
    Activation,
    Aggregate,
    Conv,
    ConvLocal,
    Convolution,
    ConvTranspose,
    Dense,
    DotGeneral,
    Dropout,
    FanIn,
    FanInConcat,
    FanInProd,
    Flatten,
    GlobalPool,
    GlobalSelfAttention,
    ImageResize,
    Index,
    Layer,
    LayerNorm,
    Pool,
    Readouts,
    Repeat,
    Residual,
)
from widegram.network.masking import behind, joined_masks
from widegram.network.selection import chosen, expanded
from widegram.network.shapes import normalized_axes
from widegram.reference.pair import Array, Pair, masked_in_all, mean, mean_of_visible
from widegram.reference.pixel_pairs import (
    aggregated,
    between_equal_pixels,
    map_pixels,
    mean_of_equal_pixels,
    over_all_pixels,
    pool_windows,
    resized,
    same_pixel,
    transposed,
    turned,
    window_means,
)

Patterns = tuple[Array, Array] | None


def images(x: NDArray[Any]) -> Array:
    """View inputs (n, D), (n, L, C) or (n, H, W, C) as float64 images (n, H, W, C): vectors as
    1 x 1, sequences as 1 x L."""
    x = np.asarray(x, dtype=np.float64)
    return x.reshape(len(x), *[1] * (4 - x.ndim), *x.shape[1:])


def self_kernels(
    network: Network, x: Array, patterns: Array | None = None
) -> tuple[Array, Array, list[Array]]:
    """Run the network on every image with itself.

    Args:
        network: the network.
        x: images (B, H, W, C).
        patterns: weights (B, vertices, vertices) for Aggregate layers.

    Returns:
        ``(nngp, ntk, variances)``: two arrays (B,), and for every activation and LayerNorm, in the
        order in which they are met, the variances (B, H, W) of its input.
    """
    pair, variances = self_pairs(network, input_pairs(x, x, network.mask is not None), patterns)
    return pair.k.reshape(len(x)), pair.t.reshape(len(x)), variances


def self_pairs(
    network: Network, pair: Pair, patterns: Array | None = None
) -> tuple[Pair, list[Array]]:
    """Run layers on B values with themselves; as :func:`self_kernels`, for any output."""
    run = _SelfRun(network, None if patterns is None else (patterns, patterns))
    return run.sequence(network.layers, pair), run.variances


def cross_kernels(
    network: Network, x1: Array, x2: Array, q1: list[Array], q2: list[Array],
    patterns: Patterns = None,
) -> tuple[Array, Array]:  # fmt: skip
    """Run the network on B pairs (x1[b], x2[b]) of different images, treated as independent.

    Args:
        network: the network.
        x1: images (B, H, W, C).
        x2: images (B, H, W, C).
        q1: the variances of ``x1`` as :func:`self_kernels` gives them.
        q2: those of ``x2``.
        patterns: those of both, for Aggregate layers.

    Returns:
        ``(nngp, ntk)``, arrays (B,).
    """
    pair = input_pairs(x1, x2, network.mask is not None)
    pair = cross_pairs(network, pair, q1, q2, patterns)
    return pair.k.reshape(len(x1)), pair.t.reshape(len(x1))


def cross_pairs(
    network: Network, pair: Pair, q1: list[Array], q2: list[Array], patterns: Patterns = None
) -> Pair:
    """Run layers on B pairs of different values; as :func:`cross_kernels`, for any output."""
    run = _CrossRun(network, iter(zip(q1, q2, strict=True)), patterns)
    return run.sequence(network.layers, pair)


def input_pairs(x1: Array, x2: Array, marked: bool = False) -> Pair:
    """The mean over channels of products of B pairs of images (B, H, W, C); no T. ``marked``:
    masked numbers are marked in them (:mod:`widegram.data.masked`)."""
    k = np.einsum("bijc,bklc->bijkl", x1, x2) / x1.shape[-1]
    masked = (is_masked(x1), is_masked(x2)) if marked else None
    return Pair(k, np.zeros_like(k), masked)


class _Forward:
    """Walks the layers; what differs between (x, x) and (x, x') is left to the two subclasses.

    ``axes``: those of images (0 rows, 1 columns) that the values have for layers at this place.
    ``channels``: of a network of finite width, as far as its widths say. ``patterns``: of both
    images of every pair; without them Aggregate does nothing.
    """

    def __init__(self, network: Network, patterns: Patterns) -> None:
        self.patterns = patterns
        self.axes: tuple[int, ...] = ((), (1,), (0, 1))[len(network.input_shape) - 1]
        self.channels: int | None = network.input_shape[-1]

    def sequence(self, layers: tuple[Layer, ...], pair: Pair) -> Pair:
        for layer in layers:
            pair = self.layer(layer, pair)
        return pair

    def layer(self, layer: Layer, pair: Pair) -> Pair:
        if pair.masked is None or isinstance(layer, Residual | FanIn | Repeat):
            return self.through(layer, pair)
        first, second = (behind(layer, m, self.axes, self.channels) for m in pair.masked)
        return self.through(layer, pair).under((first, second))

    def through(self, layer: Layer, pair: Pair) -> Pair:
        """What one layer makes, whatever is masked behind it."""
        match layer:
            case Conv():
                return self.affine(layer, pair.map(lambda a: window_means(a, layer, self.axes)))
            case ConvTranspose():
                mean = pair.map(lambda a: transposed(a, layer, self.axes))
                return self.affine(layer, mean)
            case ConvLocal():
                mean = pair.map(lambda a: window_means(a, layer, self.axes))
                return self.affine(layer, mean).map(between_equal_pixels)
            case Dense():
                return self.affine(layer, pair)
            case Activation():
                formula = activations.get(layer.name, dict(layer.params))
                return self.activation(formula.or_zero(), pair)
            case Pool():
                return pair.map(lambda a: pool_windows(a, layer, self.axes))
            case Index():
                return self.index(layer, pair)
            case ImageResize():
                return pair.map(lambda a: resized(a, layer, self.axes))
            case DotGeneral():
                return self.dotted(layer, pair)
            case Aggregate():
                return self.aggregated(layer, pair)
            case GlobalSelfAttention():
                return self.attention(layer, pair)
            case GlobalPool():
                self.axes = ()
                pooled = pair.map(lambda a: over_all_pixels(a, layer.kind))
                return mean_of_visible(pooled, pair) if layer.kind == "avg" else pooled
            case Flatten():
                self.axes = ()
                pixels = pair.k.shape[1] * pair.k.shape[2]
                self.channels = channels_behind(layer, self.channels, pixels)
                return pair.map(mean_of_equal_pixels)
            case LayerNorm():
                over = (self.axes[a] for a in normalized_axes(layer, len(self.axes)))
                return self.layer_norm(tuple(over), layer.eps, pair)
            case Dropout():
                return self.dropout(layer.rate, pair)
            case Residual():
                return self.residual(layer, pair)
            case FanIn():
                return self.fan_in(layer, pair)
            case Repeat():
                for _ in range(layer.times):
                    pair = self.sequence(layer.body, pair)
                return pair
            case Readouts():
                raise TypeError("Readouts have several ends: run one of Network.ending")

    def affine(self, layer: Convolution | Dense, mean: Pair) -> Pair:
        """K <- W_std^2 A[K] + b_std^2, T <- w A[K] + b + W_std^2 A[T], given A[K] and A[T]."""
        k = layer.W_std**2 * mean.k + bias_variance(layer)
        own = contribution(layer, self.channels)
        t = k if own is None else own.weights * mean.k + own.biases
        self.channels = channels_behind(layer, self.channels, 1)
        return Pair(k, t + layer.W_std**2 * mean.t)

    def index(self, layer: Index, pair: Pair) -> Pair:
        """Both images' pixels that an Index takes."""
        _, *entries, _ = expanded(layer.idx, len(self.axes) + 2, "Index")
        taken = [slice(None), slice(None)]
        for axis, entry in zip(self.axes, entries, strict=True):
            positions = chosen(entry, pair.k.shape[1 + axis], "Index")
            taken[axis] = slice(positions.start, positions.stop, positions.step)
        kept = zip(self.axes, entries, strict=True)
        self.axes = tuple(axis for axis, entry in kept if not isinstance(entry, int))
        rows, cols = taken
        return pair.map(lambda a: a[:, rows, cols, rows, cols])

    def dotted(self, layer: DotGeneral, pair: Pair) -> Pair:
        """The product with an array, of both images."""
        factor = maps.scalar(layer)
        if factor is not None:
            return pair.map(lambda a: factor**2 * a)
        shape = tuple(pair.k.shape[1 + axis] for axis in self.axes)
        made = maps.dotted(layer, shape, "DotGeneral")
        matrix = maps.dotting(layer, shape, "DotGeneral")
        self.axes = self.axes[: len(made)]
        sizes = dict(zip(self.axes, made, strict=True))
        return pair.map(lambda a: map_pixels(a, matrix, matrix, (sizes.get(0, 1), sizes.get(1, 1))))

    def attention(self, layer: GlobalSelfAttention, pair: Pair) -> Pair:
        """K <- (OV)^2 G K G'^T + b^2, T <- the same of T and the contributions of values, outputs
        and biases, with the weights G of each image."""
        shape = pair.k.shape[1], pair.k.shape[2]
        part, embedded = attention.mixture(layer)
        sides = tuple(shape[axis] for axis in self.axes)
        more = attention.embeddings(layer, sides).reshape(*shape, *shape)
        keys = part * pair.k + embedded * more
        first, second = self.weights_of(layer, keys)
        self.channels = None
        if layer.val_pos_emb and embedded:
            pair = Pair(keys, part * pair.t + embedded * more)
        mapped = pair.map(lambda a: map_pixels(a, first, second, shape))
        gain, bias = (layer.W_out_std * layer.W_value_std) ** 2, (layer.b_std or 0.0) ** 2
        own = 2 * gain * mapped.k + bias
        return Pair(gain * mapped.k + bias, gain * mapped.t + own)

    def weights_of(self, layer: GlobalSelfAttention, keys: Array) -> tuple[Array, Array]:
        """Weights (B, pixels, pixels) of both images of every pair, of keys (B, H, W, H, W)."""
        raise NotImplementedError

    def aggregated(self, layer: Aggregate, pair: Pair) -> Pair:
        """Sums over what sends to each vertex, by the pattern of each image."""
        if self.patterns is None:
            return pair
        along = [self.axes[axis] for axis in layer.axes(len(self.axes))]
        first, second = self.patterns
        found = pair.map(lambda a: aggregated(a, first, along))
        return found.map(lambda a: turned(aggregated(turned(a), second, along)))

    def residual(self, layer: Residual, pair: Pair) -> Pair:
        ends, _ = self.branches((layer.branch, layer.shortcut), pair)
        branch, shortcut = ends
        return Pair(branch.k + shortcut.k, branch.t + shortcut.t, masked_in_all(ends))

    def fan_in(self, layer: FanIn, pair: Pair) -> Pair:
        """What branches make together, as if they were independent."""
        ends, channels = self.branches(layer.branches, pair)
        joined = self.joined(layer, ends, channels)
        masks = [end.masked for end in ends if end.masked is not None]
        if not masks:
            return joined
        first, second = (
            joined_masks(layer, side, self.axes, channels) for side in zip(*masks, strict=True)
        )
        return replace(joined, masked=(first, second))

    def joined(
        self, layer: FanIn, ends: Sequence[Pair], channels: Sequence[int | None]
    ) -> Pair:
        """K and T of what branches make together."""
        if isinstance(layer, FanInProd):
            return _product(ends)
        if isinstance(layer, FanInConcat):
            along = spatial_axis(layer.axis, len(self.axes))
            if along is not None:
                return _side_by_side(ends, self.axes[along])
            widths = [width or 1 for width in channels]
            self.channels = sum(widths)
            shares = [width / sum(widths) for width in widths]
            ends = [Pair(s * e.k, s * e.t, e.masked) for s, e in zip(shares, ends, strict=True)]
        k, t = (np.sum([getattr(end, field) for end in ends], axis=0) for field in ("k", "t"))
        return Pair(k, t)

    def branches(
        self, lists: Sequence[tuple[Layer, ...]], pair: Pair
    ) -> tuple[list[Pair], list[int | None]]:
        """Behind each of several branches, and their channels; those known are that of the end."""
        axes, before = self.axes, self.channels
        ends, channels = [], []
        for layers in lists:
            self.axes, self.channels = axes, before
            ends.append(self.sequence(layers, pair))
            channels.append(self.channels)
        self.channels = next((known for known in channels if known), None)
        return ends, channels

    def layer_norm(self, axes: tuple[int, ...], eps: float, pair: Pair) -> Pair:
        q1, q2 = self.variances_of(pair)
        over = tuple(a + 1 for a in axes)
        seen = pair.visible or (None, None)
        v1, v2 = (
            np.broadcast_to(mean(q + eps, shown, over), q.shape)
            for q, shown in zip((q1, q2), seen, strict=True)
        )
        scale = np.sqrt(v1[:, :, :, None, None] * v2[:, None, None, :, :])
        return pair.map(lambda a: a / scale)

    def activation(self, formula: Any, pair: Pair) -> Pair:
        q1, q2 = self.variances_of(pair)
        k, slope = formula.moments(q1[:, :, :, None, None], pair.k, q2[:, None, None, :, :])
        return Pair(k, pair.t * slope)

    def variances_of(self, pair: Pair) -> tuple[Array, Array]:
        """Return the variances (B, H, W) of both images of every pair at this layer."""
        raise NotImplementedError

    def dropout(self, rate: float, pair: Pair) -> Pair:
        """Scale what belongs to the same pixel of the same input."""
        raise NotImplementedError


def _product(ends: Sequence[Pair]) -> Pair:
    """K = K1 K2 ..., T = T1 K2 ... + K1 T2 ... + ..."""
    made = ends[0]
    for end in ends[1:]:
        made = Pair(made.k * end.k, made.t * end.k + made.k * end.t)
    return made


def _side_by_side(ends: Sequence[Pair], axis: int) -> Pair:
    """Images side by side along ``axis``; zeros between pixels of different ones."""
    sizes = [end.k.shape[1 + axis] for end in ends]
    shape = list(ends[0].k.shape)
    shape[1 + axis] = shape[3 + axis] = sum(sizes)
    made = Pair(np.zeros(shape), np.zeros(shape))
    first = 0
    for end, size in zip(ends, sizes, strict=True):
        part = slice(first, first + size)
        where = tuple(part if n in (1 + axis, 3 + axis) else slice(None) for n in range(5))
        made.k[where], made.t[where] = end.k, end.t
        first += size
    return made


class _SelfRun(_Forward):
    """(x, x): its variances are K's own diagonal; same-pixel moments are the exact ones."""

    def __init__(self, network: Network, patterns: Patterns) -> None:
        super().__init__(network, patterns)
        self.variances: list[Array] = []

    def variances_of(self, pair: Pair) -> tuple[Array, Array]:
        q = same_pixel(pair.k).copy()
        self.variances.append(q)
        return q, q

    def weights_of(self, layer: GlobalSelfAttention, keys: Array) -> tuple[Array, Array]:
        pixels = keys.shape[1] * keys.shape[2]
        weights = attention.attended(layer, keys.reshape(-1, pixels, pixels))
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


class _CrossRun(_Forward):
    """(x, x') with variances known from the runs on (x, x) and (x', x')."""

    def __init__(
        self, network: Network, variances: Iterator[tuple[Array, Array]], patterns: Patterns
    ) -> None:
        super().__init__(network, patterns)
        self.known = variances

    def variances_of(self, pair: Pair) -> tuple[Array, Array]:
        return next(self.known)

    def weights_of(self, layer: GlobalSelfAttention, keys: Array) -> tuple[Array, Array]:
        return next(self.known)

    def dropout(self, rate: float, pair: Pair) -> Pair:
        return pair
