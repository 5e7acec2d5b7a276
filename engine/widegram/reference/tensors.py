"""The kernel recursion on full tensors: K[pair, i, j, i', j'] over all pixel pairs, in float64.

Obviously right rather than fast. Vectors are 1 x 1 images. Sources: Novak et al. 2019, "Bayesian
deep convolutional networks with many channels are Gaussian processes", section 3; Arora et al.
2019, "On exact computation with an infinitely wide neural net", section 4.

Here is the walk through the layers; what it is run on, and where the variances of images come from,
is in :mod:`widegram.reference.runs`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from widegram import activations
from widegram.network import Network, attention, maps
from widegram.network import layers as kinds
from widegram.network.contribution import bias_variance, channels_behind, contribution
from widegram.network.inputs import parts_of
from widegram.network.joined import spatial_axis
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
    transposed,
    turned,
    window_means,
)

Patterns = tuple[Array, Array] | None


class Forward(ABC):
    """Walks the layers; what differs between (x, x) and (x, x') is left to its subclasses.

    ``axes``: those of images (0 rows, 1 columns) that the values have for layers at this place.
    ``channels``: of a network of finite width, as far as its widths say. ``patterns``: of both
    images of every pair; without them Aggregate does nothing.
    """

    def __init__(self, network: Network, patterns: Patterns) -> None:
        self.patterns = patterns
        self.axes: tuple[int, ...] = ((), (1,), (0, 1))[len(network.input_shape) - 1]
        self.channels: int | None = network.input_shape[-1]

    def whole(self, network: Network, pair: Pair | Sequence[Pair]) -> Pair:
        """All layers of a network; of a list of inputs each goes through a branch of the first."""
        if isinstance(pair, Pair):
            return self.sequence(network.layers, pair)
        first = network.layers[0]
        assert isinstance(first, kinds.FanIn)
        ends, channels = [], []
        for part, layers, start in zip(parts_of(network.inputs), first.branches, pair, strict=True):
            self.axes, self.channels = part.axes, part.shape[-1]
            ends.append(self.sequence(layers, start))
            channels.append(self.channels)
        self.channels = next((known for known in channels if known), None)
        joined = self.met(first, ends, channels)
        return self.sequence(network.layers[1:], joined)

    def sequence(self, layers: tuple[kinds.Layer, ...], pair: Pair) -> Pair:
        for layer in layers:
            pair = self.layer(layer, pair)
        return pair

    def layer(self, layer: kinds.Layer, pair: Pair) -> Pair:
        if pair.masked is None or isinstance(layer, kinds.Residual | kinds.FanIn | kinds.Repeat):
            return self.through(layer, pair)
        first, second = (behind(layer, m, self.axes, self.channels) for m in pair.masked)
        return self.through(layer, pair).under((first, second))

    def through(self, layer: kinds.Layer, pair: Pair) -> Pair:
        """What one layer makes, whatever is masked behind it."""
        match layer:
            case kinds.Conv():
                return self.affine(layer, pair.map(lambda a: window_means(a, layer, self.axes)))
            case kinds.ConvTranspose():
                mean = pair.map(lambda a: transposed(a, layer, self.axes))
                return self.affine(layer, mean)
            case kinds.ConvLocal():
                mean = pair.map(lambda a: window_means(a, layer, self.axes))
                return self.affine(layer, mean).map(between_equal_pixels)
            case kinds.Dense():
                return self.affine(layer, pair)
            case kinds.Activation():
                formula = activations.get(layer.name, dict(layer.params))
                return self.activation(formula.or_zero(), pair)
            case kinds.Pool():
                return pair.map(lambda a: pool_windows(a, layer, self.axes))
            case kinds.Index():
                return self.index(layer, pair)
            case kinds.ImageResize():
                return pair.map(lambda a: resized(a, layer, self.axes))
            case kinds.DotGeneral():
                return self.dotted(layer, pair)
            case kinds.Aggregate():
                return self.aggregated(layer, pair)
            case kinds.GlobalSelfAttention():
                return self.attention(layer, pair)
            case kinds.GlobalPool():
                self.axes = ()
                pooled = pair.map(lambda a: over_all_pixels(a, layer.kind))
                return mean_of_visible(pooled, pair) if layer.kind == "avg" else pooled
            case kinds.Flatten():
                self.axes = ()
                pixels = pair.k.shape[1] * pair.k.shape[2]
                self.channels = channels_behind(layer, self.channels, pixels)
                return pair.map(mean_of_equal_pixels)
            case kinds.LayerNorm():
                over = (self.axes[a] for a in normalized_axes(layer, len(self.axes)))
                return self.layer_norm(tuple(over), layer.eps, pair)
            case kinds.Dropout():
                return self.dropout(layer.rate, pair)
            case kinds.Residual():
                return self.residual(layer, pair)
            case kinds.FanIn():
                return self.fan_in(layer, pair)
            case kinds.Repeat():
                for _ in range(layer.times):
                    pair = self.sequence(layer.body, pair)
                return pair
            case kinds.Readouts():
                raise TypeError("Readouts have several ends: run one of Network.ending")

    def affine(self, layer: kinds.Convolution | kinds.Dense, mean: Pair) -> Pair:
        """K <- W_std^2 A[K] + b_std^2, T <- w A[K] + b + W_std^2 A[T], given A[K] and A[T]."""
        k = layer.W_std**2 * mean.k + bias_variance(layer)
        own = contribution(layer, self.channels)
        t = k if own is None else own.weights * mean.k + own.biases
        self.channels = channels_behind(layer, self.channels, 1)
        return Pair(k, t + layer.W_std**2 * mean.t)

    def index(self, layer: kinds.Index, pair: Pair) -> Pair:
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

    def dotted(self, layer: kinds.DotGeneral, pair: Pair) -> Pair:
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

    def attention(self, layer: kinds.GlobalSelfAttention, pair: Pair) -> Pair:
        """K <- (OV)^2 G K G'^T + b^2, T <- the same of T and the contributions of values, outputs
        and biases, with the weights G of each image; of random weights (QK OV)^2 C sum(C V) + b^2,
        with C the covariances of keys and V those of values."""
        shape = pair.k.shape[1], pair.k.shape[2]
        part, embedded = attention.mixture(layer, self.channels)
        sides = tuple(shape[axis] for axis in self.axes)
        more = attention.embeddings(layer, sides).reshape(1, *shape, *shape)
        if pair.visible is not None:
            first, second = pair.visible
            more = more * first[:, :, :, None, None] * second[:, None, None, :, :]
        keys = Pair(part * pair.k + embedded * more, part * pair.t + embedded * more, pair.masked)
        values = keys if layer.val_pos_emb and embedded else pair
        self.channels = layer.width
        gain, bias = (layer.W_out_std * layer.W_value_std) ** 2, (layer.b_std or 0.0) ** 2
        if layer.linear_scaling:
            own, other = self.weights_of(layer, keys)
            mapped = values.map(lambda a: map_pixels(a, own, other, shape))
            parts = 2
        else:
            gain *= (layer.W_query_std * layer.W_key_std) ** 2
            both = _total(keys.k * values.k)
            t = _total(keys.k * values.t + values.k * keys.t) * keys.k + both * keys.t
            mapped, parts = Pair(both * keys.k, t), 4
        added = parts * gain * mapped.k + bias
        return Pair(gain * mapped.k + bias, gain * mapped.t + added)

    @abstractmethod
    def weights_of(self, layer: kinds.GlobalSelfAttention, keys: Pair) -> tuple[Array, Array]:
        """Weights (B, pixels, pixels) of both images of every pair, of their keys."""

    def aggregated(self, layer: kinds.Aggregate, pair: Pair) -> Pair:
        """Sums over what sends to each vertex, by the pattern of each image."""
        if self.patterns is None:
            return pair
        along = [self.axes[axis] for axis in layer.axes(len(self.axes))]
        first, second = self.patterns
        found = pair.map(lambda a: aggregated(a, first, along))
        return found.map(lambda a: turned(aggregated(turned(a), second, along)))

    def residual(self, layer: kinds.Residual, pair: Pair) -> Pair:
        ends, _ = self.branches((layer.branch, layer.shortcut), pair)
        branch, shortcut = ends
        return Pair(branch.k + shortcut.k, branch.t + shortcut.t, masked_in_all(ends))

    def fan_in(self, layer: kinds.FanIn, pair: Pair) -> Pair:
        """What branches make together, as if they were independent."""
        return self.met(layer, *self.branches(layer.branches, pair))

    def met(self, layer: kinds.FanIn, ends: Sequence[Pair], channels: Sequence[int | None]) -> Pair:
        """What branches with those ends, and so many channels, make together."""
        joined = self.joined(layer, ends, channels)
        masks = [end.masked for end in ends if end.masked is not None]
        if not masks:
            return joined
        first, second = (
            joined_masks(layer, side, self.axes, channels) for side in zip(*masks, strict=True)
        )
        return replace(joined, masked=(first, second))

    def joined(
        self, layer: kinds.FanIn, ends: Sequence[Pair], channels: Sequence[int | None]
    ) -> Pair:
        """K and T of what branches make together."""
        if isinstance(layer, kinds.FanInProd):
            return _product(ends)
        if isinstance(layer, kinds.FanInConcat):
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
        self, lists: Sequence[tuple[kinds.Layer, ...]], pair: Pair
    ) -> tuple[list[Pair], list[int | None]]:
        """The pair behind each of several branches, and their channels; those known are that of the
        end."""
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

    @abstractmethod
    def variances_of(self, pair: Pair) -> tuple[Array, Array]:
        """Return the variances (B, H, W) of both images of every pair at this layer."""

    @abstractmethod
    def dropout(self, rate: float, pair: Pair) -> Pair:
        """Scale what belongs to the same pixel of the same input."""


def _total(a: Array) -> Array:
    """The sum over all pairs of pixels, (B, 1, 1, 1, 1)."""
    return np.asarray(a.sum(axis=(1, 2, 3, 4), keepdims=True))


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
