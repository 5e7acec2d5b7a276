"""Pairs of images through the layers of a network, in any arithmetic."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import reduce
from typing import Any, NamedTuple

import numpy as np

from campaigns import exact_pixels as pixels
from campaigns.duals import Arithmetic, Params, Values, closed, moments
from campaigns.exact_attention import attention
from widegram import activations
from widegram.activations.hermite import OWN_SUMS, Series
from widegram.network import Network, maps
from widegram.network import layers as kinds
from widegram.network.contribution import trained_by
from widegram.network.inputs import InputPart, parts_of
from widegram.network.joined import spatial_axis
from widegram.network.masking import behind, joined_masks
from widegram.network.selection import chosen, expanded
from widegram.network.shapes import normalized_axes

Both = tuple[np.ndarray, np.ndarray]
Pair = tuple[Values, Values]


class Noise(NamedTuple):
    """Random roundings.

    * ``eps``: of every layer's values
    * ``series``: what an activation without a closed form leaves out
    * ``apart``: whether that has the signs that move c from 1, else random ones
    * ``maps``: of the numbers that maps between pixels multiply by
    * ``alike``: whether equal values are rounded alike, so that pools do not average that away (a
      zero image), or each for itself, as in a program that makes them in other orders (pixels that
      coincide at a kink)
    """

    rng: np.random.Generator
    eps: float
    series: float = 0.0
    apart: bool = False
    maps: float = 0.0
    alike: bool = True


class End(NamedTuple):
    """What a branch ends with: K, T, channels and masks as :class:`Run` has them."""

    k: Values
    t: Values
    channels: int | None
    masks: Both | None


class Run:
    """Pairs of images through the layers.

    * ``axes``: those of images (0 rows, 1 columns) that the values have for layers.
    * ``known``: the variances of both, layer by layer (of attention its weights), or None for
      images with themselves, which leave theirs in ``variances``.
    * ``weights``, ``masks``: of both images of every pair, where they are graphs, or masked.
    """

    def __init__(
        self,
        a: Arithmetic,
        axes: tuple[int, ...],
        noise: Noise | None,
        known: Iterator[Pair] | None,
        weights: Both | None,
        masks: Both | None,
    ) -> None:
        self.a, self.axes, self.noise, self.known = a, axes, noise, known
        self.weights, self.masks = weights, masks
        self.variances: list[Values] = []
        self.channels: int | None = None

    def kernels(self, network: Network, x: Values, y: Values) -> np.ndarray:
        """(2, pairs), float64."""
        if network.inputs:
            k, t = self.of_several(network, x, y)
            both = self.sequence(network.layers[1:], k, t)
        else:
            k = self.entering(x, y)
            both = self.sequence(network.layers, k, 0 * k)
        return np.array([value.reshape(len(x)).astype(np.float64) for value in both])

    def entering(self, x: Values, y: Values) -> Values:
        """K of images."""
        products = (
            x[:, :, :, None, None, c] * y[:, None, None, :, :, c] for c in range(x.shape[-1])
        )
        self.channels = x.shape[-1]
        return self.rounded(sum(products) / self.a.number(x.shape[-1]))

    def of_several(self, network: Network, x: Values, y: Values) -> Pair:
        """Each input of lists, rows (pairs, 1, 1, numbers), through its branch, joined."""
        layer, masks, ends = network.layers[0], self.masks, []
        assert isinstance(layer, kinds.FanIn)
        for part, branch in zip(parts_of(network.inputs), layer.branches, strict=True):

            def images(rows: Any, part: InputPart = part) -> Any:
                return rows[..., part.numbers].reshape(len(rows), *part.shape)

            self.axes = part.axes
            self.masks = None if masks is None else (images(masks[0]), images(masks[1]))
            k = self.entering(images(x), images(y))
            k, t = self.sequence(branch, k, 0 * k)
            ends.append(End(k, t, self.channels, self.masks))
        return self.met(layer, ends)

    def rounded(self, values: Values) -> Values:
        if self.noise is None:
            return values
        if self.noise.alike:
            which, at = np.unique(values.astype(np.float64), return_inverse=True)
            u = self.noise.rng.uniform(-1, 1, len(which))[at].reshape(values.shape)
        else:
            u = self.noise.rng.uniform(-1, 1, values.shape)
        return values * (1 + self.noise.eps * u)

    def matrix(self, values: Any) -> Values:
        """The numbers of a map, each product of which is rounded for itself."""
        made = self.a.array(values)
        if self.noise is None:
            return made
        return made * (1 + self.noise.maps * self.noise.rng.uniform(-1, 1, made.shape))

    def sequence(self, layers: tuple[kinds.Layer, ...], k: Values, t: Values) -> Pair:
        for layer in layers:
            if self.masks is None or isinstance(layer, kinds.Residual | kinds.FanIn | kinds.Repeat):
                k, t = self.layer(layer, k, t)
                continue
            after = [behind(layer, m, self.axes, self.channels) for m in self.masks]
            k, t = self.layer(layer, k, t)
            self.masks = after[0], after[1]
            shown = self.visible[0][:, :, :, None, None] * self.visible[1][:, None, None, :, :]
            k, t = (np.where(shown, v, 0 * v) for v in (k, t))
        return k, t

    @property
    def visible(self) -> Both:
        assert self.masks is not None
        first, second = (~m.all(axis=-1) for m in self.masks)
        return first, second

    def layer(self, layer: kinds.Layer, k: Values, t: Values) -> Pair:
        match layer:
            case kinds.Convolution() | kinds.Dense():
                return self.affine(layer, k, t)
            case kinds.Index():
                return self.index(layer, k, t)
            case kinds.Activation(name=name, params=params):
                q, q2 = self.known_variances(k)
                q, q2 = q[:, :, :, None, None], q2[:, None, None, :, :]
                value, slope = moments(self.a, name, dict(params), q, k, q2)
                more = self.left_out(name, dict(params), q, q2)
                return self.rounded(value + more[0]), self.rounded(t * (slope + more[1]))
            case kinds.LayerNorm():
                axes = tuple(self.axes[n] for n in normalized_axes(layer, len(self.axes)))
                scale = self.norm(axes, self.a.number(layer.eps), k)
                return self.rounded(k / scale), self.rounded(t / scale)
            case kinds.Pool():
                return self.both(lambda v: pixels.pool(v, layer, self.axes), k, t)
            case kinds.GlobalPool(kind=kind):
                return self.global_pool(kind, k, t)
            case kinds.Flatten():
                self.axes = ()
                n = pixels.same(k)[0].size
                self.channels = None if self.channels is None else self.channels * n
                count = self.a.number(n)
                return self.both(
                    lambda v: pixels.same(v).sum(axis=(1, 2))[:, None, None, None, None] / count,
                    k, t,
                )  # fmt: skip
            case kinds.Dropout(rate=rate):
                return self.dropout(self.a.number(rate), k, t)
            case (
                kinds.ImageResize()
                | kinds.DotGeneral()
                | kinds.Aggregate()
                | kinds.GlobalSelfAttention()
            ):
                return self.mapped(layer, k, t)
            case kinds.Residual() | kinds.FanIn():
                return self.joined(layer, k, t)
            case kinds.Repeat(times=times, body=body):
                for _ in range(times):
                    k, t = self.sequence(body, k, t)
                return k, t
        raise AssertionError(layer)

    def both(self, function: Any, k: Values, t: Values) -> Pair:
        return self.rounded(function(k)), self.rounded(function(t))

    def left_out(self, name: str, params: Params, q: Values, q2: Values) -> tuple[Any, Any]:
        """What a sum leaves out of K and Kdot, the engine's or the one here: bounded relative to
        those of both inputs with themselves, and no noise, but much the same at all pixels: as
        large as it may be."""
        if self.noise is None or closed(name):
            return 0, 0
        formula = activations.get(name, params)
        first, second = (formula.variance(v.astype(np.float64)) for v in (q, q2))
        signs = self.noise.rng.choice((-1.0, 1.0), 2)
        if self.noise.apart:
            signs[0] = 1.0 if self.known is None else -1.0
        largest = max(float(v.max(initial=0.0)) for v in (q, q2))
        own = formula.for_range(largest, OWN_SUMS).tail if isinstance(formula, Series) else 0.0
        u = max(self.noise.series, own) * signs
        return tuple(s * np.sqrt(a * b) for s, a, b in zip(u, first, second, strict=True))

    def affine(self, layer: kinds.Convolution | kinds.Dense, k: Values, t: Values) -> Pair:
        """K <- W_std^2 A[K] + b_std^2, T <- the layer's own + W_std^2 A[T] (arXiv:2001.07301)."""
        number, taps = self.a.number, 1
        if isinstance(layer, kinds.Convolution):
            taps = math.prod(layer.filter_shape)
            mean = pixels.spread_out if isinstance(layer, kinds.ConvTranspose) else pixels.conv
            k, t = mean(k, layer, self.axes), mean(t, layer, self.axes)
        gain, bias = (number(v or 0.0) ** 2 for v in (layer.W_std, layer.b_std))
        own = value = self.rounded(gain * k + bias)
        if trained_by(layer):
            weights, biases = gain, bias
            if layer.parameterization == "standard":
                assert self.channels is not None
                weights = number(self.channels * taps) / number(layer.s[0])
                biases = number(int(layer.b_std is not None))
            biases = number(layer.b_rate) * biases
            biases = biases if layer.b_grad is None else number(layer.b_grad)
            own = number(layer.W_rate) * weights * k + biases
        self.channels = layer.width
        if layer.width is not None and not isinstance(layer, kinds.ConvLocal):
            self.channels = layer.width * layer.s[1]
        t = self.rounded(own + gain * t)
        if isinstance(layer, kinds.ConvLocal):  # other filters, other biases at other places
            value, t = pixels.at_same(value), pixels.at_same(t)
        return value, t

    def index(self, layer: kinds.Index, k: Values, t: Values) -> Pair:
        _, *entries, _ = expanded(layer.idx, len(self.axes) + 2, "Index")
        taken = [slice(None), slice(None)]
        for axis, entry in zip(self.axes, entries, strict=True):
            at = chosen(entry, k.shape[1 + axis], "Index")
            taken[axis] = slice(at.start, at.stop, at.step)
        kept = zip(self.axes, entries, strict=True)
        self.axes = tuple(axis for axis, entry in kept if not isinstance(entry, int))
        rows, cols = taken
        return k[:, rows, cols, rows, cols], t[:, rows, cols, rows, cols]

    def global_pool(self, kind: str, k: Values, t: Values) -> Pair:
        self.axes, n = (), k[0].size if kind == "avg" else 1
        count: Any = self.a.number(n)
        if kind == "avg" and self.masks is not None:  # of those pixels that are visible
            seen = [np.maximum(v.sum(axis=(1, 2)), 1) for v in self.visible]
            count = self.a.array(seen[0] * seen[1])[:, None, None, None, None]
        return self.both(lambda v: v.sum(axis=(1, 2, 3, 4), keepdims=True) / count, k, t)

    def dropout(self, rate: Any, k: Values, t: Values) -> Pair:
        if self.known is not None:
            return k, t
        k, t = k.copy(), t.copy()
        for part in map(pixels.same, (k, t)):
            part /= rate
        return k, t

    def mapped(self, layer: kinds.Layer, k: Values, t: Values) -> Pair:
        """Layers that map pixels to others: A K A'^T."""
        shape = k.shape[1], k.shape[2]
        match layer:
            case kinds.ImageResize():
                sizes = tuple(shape[axis] for axis in self.axes)
                for axis, out in zip(self.axes, maps.resized(layer, sizes, ""), strict=True):
                    one = maps.resizing(k.shape[1 + axis], out, layer.method, layer.antialias)
                    first, second = self.matrix(one), self.matrix(one)
                    k, t = (pixels.along(v, first, second, axis) for v in (k, t))
                return self.rounded(k), self.rounded(t)
            case kinds.Aggregate():
                assert self.weights is not None
                over = [self.axes[n] for n in layer.axes(len(self.axes))]
                first, second = (
                    self.matrix(pixels.between_all(w, shape, over)) for w in self.weights
                )
            case kinds.GlobalSelfAttention():
                return attention(self, layer, k, t)
            case kinds.DotGeneral() if maps.scalar(layer) is not None:
                square = self.a.number(maps.scalar(layer)) ** 2
                return square * k, square * t
            case kinds.DotGeneral():
                sizes = tuple(shape[axis] for axis in self.axes)
                made = maps.dotted(layer, sizes, "")
                one = maps.dotting(layer, sizes, "")
                first, second = self.matrix(one), self.matrix(one)
                self.axes = self.axes[: len(made)]
                by_axis = dict(zip(self.axes, made, strict=True))
                shape = by_axis.get(0, 1), by_axis.get(1, 1)
            case _:
                raise AssertionError(layer)
        return self.both(lambda v: pixels.mapped(v, first, second, shape), k, t)

    def joined(self, layer: kinds.Residual | kinds.FanIn, k: Values, t: Values) -> Pair:
        before, ends = (self.axes, self.channels, self.masks), []
        for branch in kinds.lists_inside(layer):
            self.axes, self.channels, self.masks = before
            ends.append(End(*self.sequence(branch, k, t), self.channels, self.masks))
        return self.met(layer, ends)

    def met(self, layer: kinds.Residual | kinds.FanIn, ends: Sequence[End]) -> Pair:
        """What branches with those ends make together."""
        channels = [end.channels for end in ends]
        self.channels = next((known for known in channels if known), None)
        if self.masks is not None:
            sides = [[end.masks[side] for end in ends if end.masks is not None] for side in (0, 1)]
            first, second = (joined_masks(layer, side, self.axes, channels) for side in sides)
            self.masks = first, second
        pairs = [(end.k, end.t) for end in ends]
        if isinstance(layer, kinds.FanInProd):
            k, t = reduce(_product, pairs)
            return self.rounded(k), self.rounded(t)
        if isinstance(layer, kinds.FanInConcat):
            return self.concatenated(layer, pairs, channels)
        k, t = (sum(parts) for parts in zip(*pairs, strict=True))
        return self.rounded(k), self.rounded(t)

    def concatenated(
        self, layer: kinds.FanInConcat, ends: Sequence[Pair], channels: Sequence[int | None]
    ) -> Pair:
        along = spatial_axis(layer.axis, len(self.axes))
        if along is not None:
            k, t = (pixels.beside([end[n] for end in ends], self.axes[along]) for n in (0, 1))
            return k, t
        widths = [width or 1 for width in channels]
        self.channels = total = sum(widths)
        shares = [self.a.number(width) / self.a.number(total) for width in widths]
        k, t = (sum(s * end[n] for s, end in zip(shares, ends, strict=True)) for n in (0, 1))
        return self.rounded(k), self.rounded(t)

    def known_variances(self, k: Values) -> Pair:
        if self.known is not None:
            return next(self.known)
        q = pixels.same(k).copy()
        self.variances.append(q)
        return q, q

    def norm(self, axes: tuple[int, ...], eps: Any, k: Values) -> Values:
        """What a LayerNorm divides by; the last axis, of channels, has one entry here."""
        scales = []
        seen: Any = (True, True) if self.masks is None else self.visible
        over = tuple(axis + 1 for axis in axes)
        for q, shown in zip(self.known_variances(k), seen, strict=True):
            shown = np.broadcast_to(shown, q.shape)
            count = self.a.array(shown.sum(axis=over, keepdims=True))
            total = np.where(shown, q + eps, 0 * q).sum(axis=over, keepdims=True)
            one = self.a.number(1)
            mean = np.where(count > 0, total / np.where(count > 0, count, one), one)
            scales.append(mean + 0 * q)
        return self.a.sqrt(scales[0][:, :, :, None, None] * scales[1][:, None, None, :, :])


def _product(one: Pair, two: Pair) -> Pair:
    return one[0] * two[0], one[1] * two[0] + one[0] * two[1]
