"""Random networks of finite width in either parameterization, with products of their gradients.

Plain NumPy. A layer takes h (images, H, W, channels) and returns its output with a function that
turns the output's gradient into the input's and records the products of the gradients of its own
parameters, times their learning rates, for every pair of images. A vector is a 1 x 1 image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy.special import erf

from widegram.network import Conv, Dense, Flatten, GlobalPool, Pool, Residual
from widegram.network.contribution import channels_behind
from widegram.network.layers import Activation, FanInProd, GlobalSelfAttention, Layer

Array = np.ndarray
Backward = Callable[[Array], Array]

# Heads of an attention, and channels of each.
HEADS = 40
PHI = {
    "Relu": (lambda x: np.maximum(x, 0), lambda x: (x > 0) * 1.0),
    "Erf": (erf, lambda x: 2 / np.sqrt(np.pi) * np.exp(-x * x)),
}


def _axis(size: int, window: int, stride: int, mode: str) -> tuple[Array, Array]:
    """Input position of every (output, tap), and whether it lies inside the image."""
    out = (size - window) // stride + 1 if mode == "VALID" else -(-size // stride)
    total = max((out - 1) * stride + window - size, 0)
    lo = 0 if mode == "VALID" else total // 2
    at = stride * np.arange(out)[:, None] + np.arange(window) - lo
    inside = np.ones_like(at, dtype=bool) if mode == "CIRCULAR" else (at >= 0) & (at < size)
    return at % size, inside


class Sample:
    """One draw of a network's parameters, run on some inputs.

    ``value`` (images, outputs); :meth:`tangent` the products of parameter gradients of output 0.
    ``visible``: 1 for pixels (images, H, W, 1) that are, 0 for masked ones, which every layer sees
    as zeros; of layers that keep pixels where they are.
    """

    def __init__(
        self, layers: Sequence[Layer], x: Array, width: int, outputs: int, seed: int,
        visible: Array | None = None,
    ) -> None:  # fmt: skip
        self.rng, self.width = np.random.default_rng(seed), width
        self.visible = visible
        self.products: list[Array] = []
        *body, last = layers
        h, self._back = self._sequence(body, x)
        self._readout = self._affine(last, h, outputs)
        self.value = self._readout[0][:, 0, 0, :]

    def tangent(self) -> Array:
        """<df(x)/dtheta, df(x')/dtheta> of output 0 over all parameters, (images, images)."""
        gradient = np.zeros_like(self._readout[0])
        gradient[..., 0] = 1.0
        self._back(self._readout[1](gradient))
        return np.sum(self.products, axis=0)

    def _record(self, a: Array, g: Array) -> None:
        """Add the products of the gradients sum_p a_p g_p^T of a matrix between ``a`` (n, pixels,
        c) and what has the gradient ``g`` (n, pixels, o), without writing the matrices down."""
        n, pixels = a.shape[:2]
        a, g = (b.reshape(n * pixels, -1) for b in (a, g))
        both = (a @ a.T) * (g @ g.T)
        self.products.append(both.reshape(n, pixels, n, pixels).sum(axis=(1, 3)))

    def _sequence(self, layers: Sequence[Layer], h: Array) -> tuple[Array, Backward]:
        steps = []
        for layer in layers:
            h, step = self._layer(layer, h)
            steps.append(step)
            if self.visible is not None and h.shape[1:3] == self.visible.shape[1:3]:
                h = h * self.visible
                steps.append(lambda g: g * self.visible)

        def back(g: Array) -> Array:
            for step in reversed(steps):
                g = step(g)
            return g

        return h, back

    def _layer(self, layer: Layer, h: Array) -> tuple[Array, Backward]:
        match layer:
            case Conv() | Dense():
                return self._affine(layer, h, channels_behind(layer, None, 1) or self.width)
            case Activation(name=name):
                phi, slope = PHI[name]
                return phi(h), lambda g: g * slope(h)
            case Pool():
                patches, back = self._patches(h, layer.window_shape, layer.strides, layer.padding)
                taps = patches.shape[3]
                return patches.mean(axis=3), lambda g: back(
                    np.repeat(g[:, :, :, None] / taps, taps, axis=3)
                )
            case GlobalPool():
                pixels: Any = h.shape[1] * h.shape[2]
                if self.visible is not None:
                    pixels = self.visible.sum(axis=(1, 2), keepdims=True)
                mean = h.sum(axis=(1, 2), keepdims=True) / pixels
                return mean, lambda g: np.broadcast_to(g / pixels, h.shape)
            case Flatten():
                return h.reshape(len(h), 1, 1, -1), lambda g: g.reshape(h.shape)
            case Residual(branch=branch, shortcut=shortcut):
                left, left_back = self._sequence(branch, h)
                right, right_back = self._sequence(shortcut, h)
                return left + right, lambda g: left_back(g) + right_back(g)
            case FanInProd(branches=branches):
                ends, backs = zip(*(self._sequence(b, h) for b in branches), strict=True)
                return np.prod(ends, axis=0), lambda g: sum(
                    back(g * np.prod(ends[:n] + ends[n + 1 :], axis=0))
                    for n, back in enumerate(backs)
                )
            case GlobalSelfAttention():
                return self._attention(layer, h)
        raise TypeError(f"{layer!r} is not sampled")

    def _attention(self, layer: GlobalSelfAttention, h: Array) -> tuple[Array, Backward]:
        """Heads of keys, queries and values with as many channels as there are heads; weights as
        neural-tangents draws and scales them."""
        n, channels, heads = len(h), h.shape[-1], HEADS
        x = h.reshape(n, -1, channels)
        pixels = x.shape[1]
        seen = None if self.visible is None else self.visible.reshape(n, 1, 1, pixels) > 0
        queries, keys, values = (
            self.rng.standard_normal((heads, channels, heads)) for _ in range(3)
        )
        queries = keys if layer.linear_scaling else queries
        out = self.rng.standard_normal((heads * heads, self.width))
        bias, b_std = self.rng.standard_normal(self.width), layer.b_std or 0.0
        scale = layer.W_query_std * layer.W_key_std / channels
        scale /= heads if layer.linear_scaling else np.sqrt(heads)
        gain = layer.W_out_std * layer.W_value_std / np.sqrt(heads * heads * channels)
        q, k, v = (np.einsum("npc,hcm->nhpm", x, w, optimize=True) for w in (queries, keys, values))
        scores = scale * q @ np.swapaxes(k, 2, 3)
        soft = layer.attention_mechanism == "SOFTMAX"
        if soft:
            scores = scores if seen is None else np.where(seen, scores, -np.inf)
            powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
            weights = powers / powers.sum(axis=-1, keepdims=True)
        else:
            weights = scores
        joined = np.moveaxis(weights @ v, 1, 2).reshape(n, pixels, -1)

        def record(a: Array, g: Array) -> None:
            self._record(a, np.moveaxis(g, 1, 2))

        def back(g: Array) -> Array:
            g = g.reshape(n, pixels, -1)
            self._record(np.full((n, 1, 1), b_std), g.sum(axis=1)[:, None])
            record(gain * joined, g[:, None])
            gh = np.moveaxis((gain * g @ out.T).reshape(n, pixels, heads, heads), 2, 1)
            gv = np.swapaxes(weights, 2, 3) @ gh
            gs = gh @ np.swapaxes(v, 2, 3)
            if soft:
                gs = weights * (gs - (gs * weights).sum(axis=-1, keepdims=True))
            gq, gk = scale * gs @ k, scale * np.swapaxes(gs, 2, 3) @ q
            record(x, gv)
            if layer.linear_scaling:
                record(x, gq + gk)
            else:
                record(x, gq)
                record(x, gk)
            pairs = (gq, queries), (gk, keys), (gv, values)
            made = sum(np.einsum("nhpm,hcm->npc", a, w, optimize=True) for a, w in pairs)
            return made.reshape(h.shape)

        return (gain * joined @ out + b_std * bias).reshape(*h.shape[:3], -1), back

    def _patches(
        self, h: Array, window: tuple[int, int], strides: tuple[int, int], mode: str
    ) -> tuple[Array, Backward]:
        """(images, H', W', taps, channels), zero outside the image, and its transpose."""
        (i, in_i), (j, in_j) = (_axis(h.shape[1 + a], window[a], strides[a], mode) for a in (0, 1))
        rows, cols = i[:, None, :, None], j[None, :, None, :]
        inside = (in_i[:, None, :, None] & in_j[None, :, None, :]).astype(float)[None, ..., None]
        patches = h[:, rows, cols] * inside
        shape = (*patches.shape[:3], -1, h.shape[-1])

        def back(g: Array) -> Array:
            out = np.zeros_like(h)
            np.add.at(out, (slice(None), rows, cols), g.reshape(patches.shape) * inside)
            return out

        return patches.reshape(shape), back

    def _affine(self, layer: Any, h: Array, width: int) -> tuple[Array, Backward]:
        one = (1, 1)
        geometry = (
            (layer.filter_shape, layer.strides, layer.padding)
            if isinstance(layer, Conv)
            else (one, one, "VALID")
        )
        patches, patches_back = self._patches(h, *geometry)
        shape = patches.shape
        flat = patches.reshape(*shape[:3], -1)
        fan_in = flat.shape[-1]
        weights = self.rng.standard_normal((fan_in, width))
        bias = self.rng.standard_normal(width)
        # 'ntk': outputs gain W x + b_std beta, of parameters W and beta. 'standard': the same are
        # the outputs W' x / sqrt(s) + beta', of parameters W' = gain sqrt(s) W, beta' = b_std beta.
        gain, b_std = layer.W_std / np.sqrt(fan_in), layer.b_std or 0.0
        slopes = gain, b_std
        if layer.parameterization == "standard":
            slopes = 1 / np.sqrt(layer.s[0]), float(layer.b_std is not None)
        rated = np.sqrt(layer.W_rate) * slopes[0], np.sqrt(layer.b_rate) * slopes[1]
        if layer.b_grad is not None:
            rated = rated[0], np.sqrt(layer.b_grad)

        def back(g: Array) -> Array:
            n, width = len(h), g.shape[-1]
            self._record(rated[0] * flat.reshape(n, -1, fan_in), g.reshape(n, -1, width))
            self._record(np.full((n, 1, 1), rated[1]), g.sum(axis=(1, 2))[:, None])
            return patches_back((gain * g @ weights.T).reshape(shape))

        return gain * flat @ weights + b_std * bias, back
