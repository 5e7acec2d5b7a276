"""The kernels of a network in many digits, or with random roundings: who is right, and how far
rounding alone moves the result.

The recursion of ``widegram.reference`` written again over any arithmetic. Where every layer's
values are multiplied by 1 + eps u, u random in [-1, 1] (Monte Carlo arithmetic: Parker, Pierce and
Eggert 2000), the spread of several runs is what any program that keeps kernels in numbers of that
precision must be expected to be off by: at kinks, where pixels coincide, the root of eps.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from campaigns.duals import Arithmetic, Digits, Extended, Params, Values, closed, moments
from widegram import activations
from widegram.network import Network, padding
from widegram.network.contribution import trained_by
from widegram.network.layers import (
    Activation,
    ConvLocal,
    Convolution,
    Dense,
    Dropout,
    Flatten,
    GlobalPool,
    Index,
    Layer,
    LayerNorm,
    Pool,
    Repeat,
    Residual,
)
from widegram.network.shapes import normalized_axes

DIGITS = 40  # a root of a root of a root of a rounding is below 1e-5 even so
RUNS = 5
Kernels = dict[str, np.ndarray]


class Noise(NamedTuple):
    """Random roundings: ``eps`` of every layer's values; ``series``: what an activation without a
    closed form leaves out; ``apart``: with the signs that move c from 1, else with random ones."""

    rng: np.random.Generator
    eps: float
    series: float = 0.0
    apart: bool = False


def digits(network: Network, x1: np.ndarray, x2: np.ndarray | None) -> Kernels:
    """NNGP and NTK, computed in 40 digits (but for series) and rounded to float64."""
    return _kernels(Digits(DIGITS), network, x1, x2, None)


def extended(network: Network, x1: np.ndarray, x2: np.ndarray | None) -> Kernels:
    """The same in extended precision, quicker: 19 digits where the machine has them."""
    return _kernels(Extended(), network, x1, x2, None)


def spread(
    network: Network, x1: np.ndarray, x2: np.ndarray | None, eps: float, series: float = 0.0
) -> Kernels:
    """How far, entry by entry, random roundings move the kernels: the largest of a few runs. (Not
    their range: at c = 1 all roundings move a kernel the same way.) ``eps``, ``series``: see
    :class:`Noise`."""
    noises = (Noise(np.random.default_rng(run), eps, series, run == 0) for run in range(RUNS))
    return _largest(
        extended(network, x1, x2), (_kernels(Extended(), network, x1, x2, n) for n in noises)
    )


def spread_of_inputs(
    network: Network, x1: np.ndarray, x2: np.ndarray | None, eps: float
) -> Kernels:
    """The same where nothing but the inputs is rounded."""
    moved = []
    for run in range(RUNS):
        rng = np.random.default_rng(run)
        near = [x if x is None else _moved(x, eps, rng) for x in (x1, x2)]
        moved.append(_kernels(Extended(), network, near[0], near[1], None))
    return _largest(extended(network, x1, x2), moved)


def _moved(x: np.ndarray, eps: float, rng: np.random.Generator) -> np.ndarray:
    return x.astype(np.longdouble) * (1 + eps * rng.uniform(-1, 1, x.shape))


def _largest(exact: Kernels, runs: Iterable[Kernels]) -> Kernels:
    """The largest distance of any run from what is exact."""
    found = {key: np.zeros_like(value) for key, value in exact.items()}
    for run in runs:
        for key, value in found.items():
            np.maximum(value, abs(run[key] - exact[key]), out=value)
    return found


def _kernels(
    a: Arithmetic, network: Network, x1: np.ndarray, x2: np.ndarray | None, noise: Noise | None
) -> Kernels:
    images = x1 if x2 is None else np.concatenate([x1, x2])
    # Vectors and sequences as images, the axes that they lack of size 1.
    *spatial, channels = images.shape[1:]
    shape = (len(images), *spatial, *[1] * (2 - len(spatial)), channels)
    images, axes = a.array(images.reshape(shape)), len(spatial)
    columns = range(0 if x2 is None else len(x1), len(images))
    a.at_zero = 1  # c of an input of variance 0 with itself: the limit
    own = _Run(a, axes, noise, None)
    diagonal = own.kernels(network, images, images)
    a.at_zero = 0
    pairs = [(i, j) for i in range(len(x1)) for j in columns if i < j]
    found = np.zeros((2, len(images), len(images)))
    found[:, range(len(images)), range(len(images))] = diagonal
    if pairs:
        i, j = np.array(pairs).T
        known = iter([(q[i], q[j]) for q in own.variances])
        run = _Run(a, axes, noise, known)
        found[:, i, j] = found[:, j, i] = run.kernels(network, images[i], images[j])
    if not any(path.endswith("Dropout") for path, _, _ in network.shapes()):
        zero = np.flatnonzero([not image.any() for image in images])  # the same input
        found[:, zero[:, None], zero] = diagonal[:, zero[:1]][:, :, None]
    part = found[:, : len(x1), columns.start :]
    return {"nngp": part[0], "ntk": part[1]}


class _Run:
    """Pairs of images through the layers; ``axes``: how many they have beside their channels;
    ``known``: the variances of both, layer by layer, or None for images with themselves, which
    leave theirs in ``variances``."""

    def __init__(
        self,
        a: Arithmetic,
        axes: int,
        noise: Noise | None,
        known: Iterator[tuple[Values, Values]] | None,
    ) -> None:
        self.a, self.axes, self.noise, self.known = a, axes, noise, known
        self.variances: list[Values] = []
        self.channels: int | None = None

    def kernels(self, network: Network, x: Values, y: Values) -> np.ndarray:
        """(2, pairs), float64."""
        products = (
            x[:, :, :, None, None, c] * y[:, None, None, :, :, c] for c in range(x.shape[-1])
        )
        self.channels = x.shape[-1]
        k = self.rounded(sum(products) / self.a.number(x.shape[-1]))
        both = self.sequence(network.layers, k, 0 * k)
        return np.array([value.reshape(len(x)).astype(np.float64) for value in both])

    def rounded(self, values: Values) -> Values:
        if self.noise is None:
            return values
        # Equal values are rounded alike, so that pools do not average that away: a zero image.
        which, at = np.unique(values.astype(np.float64), return_inverse=True)
        u = self.noise.rng.uniform(-1, 1, len(which))[at].reshape(values.shape)
        return values * (1 + self.noise.eps * u)

    def left_out(self, name: str, params: Params, q: Values, q2: Values) -> tuple[Any, Any]:
        """What a sum leaves out of K and Kdot: bounded relative to those of both inputs with
        themselves, and no noise, but much the same at all pixels: as large as it may be."""
        if self.noise is None or closed(name):
            return 0, 0
        formula = activations.get(name, params)
        first, second = (formula.variance(v.astype(np.float64)) for v in (q, q2))
        signs = self.noise.rng.choice((-1.0, 1.0), 2)
        if self.noise.apart:
            signs[0] = 1.0 if self.known is None else -1.0
        u = self.noise.series * signs
        return tuple(s * np.sqrt(a * b) for s, a, b in zip(u, first, second, strict=True))

    def sequence(self, layers: tuple[Layer, ...], k: Values, t: Values) -> tuple[Values, Values]:
        for layer in layers:
            k, t = self.layer(layer, k, t)
        return k, t

    def layer(self, layer: Layer, k: Values, t: Values) -> tuple[Values, Values]:
        number = self.a.number
        match layer:
            case Convolution() | Dense():
                return self.affine(layer, k, t)
            case Index():
                rows, cols = (slice(*e) for e in (*layer.idx[1:], (None,))[:2])
                return k[:, rows, cols, rows, cols], t[:, rows, cols, rows, cols]
            case Activation(name=name, params=params):
                q, q2 = self.known_variances(k)
                q, q2 = q[:, :, :, None, None], q2[:, None, None, :, :]
                value, slope = moments(self.a, name, dict(params), q, k, q2)
                more = self.left_out(name, dict(params), q, q2)
                return self.rounded(value + more[0]), self.rounded(t * (slope + more[1]))
            case LayerNorm():
                axes = normalized_axes(layer, self.axes)
                scale = self.norm(axes, self.a.number(layer.eps), k)
                return self.rounded(k / scale), self.rounded(t / scale)
            case Pool():
                return self.rounded(_pool(k, layer)), self.rounded(_pool(t, layer))
            case GlobalPool(kind=kind):
                self.axes = 0
                n = number(k[0].size if kind == "avg" else 1)
                k, t = (v.sum(axis=(1, 2, 3, 4), keepdims=True) / n for v in (k, t))
                return self.rounded(k), self.rounded(t)
            case Flatten():
                self.axes = 0
                pixels = _same_pixel(k)[0].size
                self.channels = None if self.channels is None else self.channels * pixels
                n = number(_same_pixel(k)[0].size)
                k, t = (_same_pixel(v).sum(axis=(1, 2))[:, None, None, None, None] / n
                        for v in (k, t))  # fmt: skip
                return self.rounded(k), self.rounded(t)
            case Dropout(rate=rate):
                if self.known is not None:
                    return k, t
                k, t = k.copy(), t.copy()
                for same in map(_same_pixel, (k, t)):
                    same /= number(rate)
                return k, t
            case Residual(branch=branch, shortcut=shortcut):
                before = self.axes, self.channels
                k1, t1 = self.sequence(branch, k, t)
                self.axes, self.channels = before
                k2, t2 = self.sequence(shortcut, k, t)
                return k1 + k2, t1 + t2
            case Repeat(times=times, body=body):
                for _ in range(times):
                    k, t = self.sequence(body, k, t)
                return k, t
        raise AssertionError(layer)

    def affine(self, layer: Convolution | Dense, k: Values, t: Values) -> tuple[Values, Values]:
        """K <- W_std^2 A[K] + b_std^2, T <- the layer's own + W_std^2 A[T] (arXiv:2001.07301)."""
        number, taps = self.a.number, 1
        if isinstance(layer, Convolution):
            k, t, taps = _conv(k, layer), _conv(t, layer), math.prod(layer.filter_shape)
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
        if layer.width is not None and not isinstance(layer, ConvLocal):
            self.channels = layer.width * layer.s[1]
        t = self.rounded(own + gain * t)
        if isinstance(layer, ConvLocal):  # other filters, other biases at other places
            value, t = _at_same_pixels(value), _at_same_pixels(t)
        return value, t

    def known_variances(self, k: Values) -> tuple[Values, Values]:
        if self.known is not None:
            return next(self.known)
        q = _same_pixel(k).copy()
        self.variances.append(q)
        return q, q

    def norm(self, axes: tuple[int, ...], eps: Any, k: Values) -> Values:
        """What a LayerNorm divides by; the last axis, of channels, has one entry here."""
        scales = []
        for q in self.known_variances(k):
            over = tuple(axis + 1 for axis in axes if axis + 1 < q.ndim)
            n = self.a.number(int(np.prod([q.shape[axis] for axis in over])))
            mean = (q + eps).sum(axis=over, keepdims=True) / n
            scales.append(mean + 0 * q)
        return self.a.sqrt(scales[0][:, :, :, None, None] * scales[1][:, None, None, :, :])


def _same_pixel(a: Values) -> Values:
    """View the entries p = p' of (B, H, W, H, W) as (B, H, W)."""
    b, h, w = a.shape[:3]
    s = a.strides
    return np.lib.stride_tricks.as_strided(a, (b, h, w), (s[0], s[1] + s[3], s[2] + s[4]))


def _at_same_pixels(a: Values) -> Values:
    """Zeros where p and p' differ."""
    found = 0 * a
    _same_pixel(found)[...] = _same_pixel(a)
    return found


def _conv(a: Values, layer: Convolution) -> Values:
    """Mean over a filter's taps, the same for both pixels."""
    for d, window in enumerate(layer.filter_shape):
        a = _window_sum(a, (1 + d, 3 + d), window, layer.strides[d], layer.padding) / window
    return a


def _pool(a: Values, layer: Pool) -> Values:
    """Sum or mean over the windows of both images."""
    for d, (window, stride) in enumerate(zip(layer.window_shape, layer.strides, strict=True)):
        for axis in (1 + d, 3 + d):
            ones = np.ones([a.shape[axis] if n == axis else 1 for n in range(a.ndim)])
            a = _window_sum(a, (axis,), window, stride, layer.padding)
            if layer.normalize_edges and layer.padding == "SAME":
                a = a / _window_sum(ones, (axis,), window, stride, layer.padding).astype(int)
            elif layer.kind == "avg":
                a = a / window
    return a


def _window_sum(a: Values, axes: tuple[int, ...], window: int, stride: int, mode: str) -> Values:
    """Sum over taps that move along ``axes`` at once."""
    out, lo, hi = padding(a.shape[axes[0]], window, stride, mode)
    widths = [(lo, hi) if axis in axes else (0, 0) for axis in range(a.ndim)]
    padded = np.pad(a, widths, mode="wrap" if mode == "CIRCULAR" else "constant")
    total: Any = 0
    for tap in range(window):
        part = padded
        for axis in axes:
            part = np.take(part, stride * np.arange(out) + tap, axis=axis)
        total = total + part
    return total
