"""What layers do to tensors (B, H, W, H, W) over all pairs of pixels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from widegram.network import maps, padding
from widegram.network.layers import Convolution, ConvTranspose, ImageResize, Padding, Pool
from widegram.reference.pair import Array


def same_pixel(a: Array) -> Array:
    """View the entries p = p' of (B, H, W, H, W) as (B, H, W); writing changes ``a``."""
    b, h, w = a.shape[:3]
    s = a.strides
    return np.lib.stride_tricks.as_strided(
        a, (b, h, w), (s[0], s[1] + s[3], s[2] + s[4]), writeable=True
    )


def between_equal_pixels(a: Array) -> Array:
    """The entries p = p' of (B, H, W, H, W), all others 0."""
    made = np.zeros_like(a)
    same_pixel(made)[...] = same_pixel(a)
    return made


def padded(a: Array, axes: tuple[int, ...], widths: tuple[int, int], mode: Padding) -> Array:
    """With ``widths`` more before and behind along ``axes``, as the mode of padding says."""
    padding_widths = [widths if axis in axes else (0, 0) for axis in range(a.ndim)]
    return np.pad(a, padding_widths, mode="wrap" if mode == "CIRCULAR" else "constant")


def window_means(a: Array, layer: Convolution, over: tuple[int, ...]) -> Array:
    """Mean over the filter's taps t of a at (s p + t, s p' + t), the same t for both pixels."""
    for d, window, stride in zip(over, layer.filter_shape, layer.strides, strict=True):
        axes = (1 + d, 3 + d)
        out, lo, hi = padding(a.shape[axes[0]], window, stride, layer.padding)
        edged = padded(a, axes, (lo, hi), layer.padding)
        total = np.zeros([out if axis in axes else n for axis, n in enumerate(a.shape)])
        for tap in range(window):
            part = slice(tap, tap + stride * (out - 1) + 1, stride)
            index = tuple(part if axis in axes else slice(None) for axis in range(a.ndim))
            total += edged[index]
        a = total / window
    return a


def pool_windows(a: Array, layer: Pool, over: tuple[int, ...]) -> Array:
    """Sum or mean over the windows of both images, all pairs of taps; padding counts as zeros."""
    shape = a.shape[1:]
    windows = list(zip(over, layer.window_shape, layer.strides, strict=True))
    for axis, window, stride in [(d + i, w, s) for i in (1, 3) for d, w, s in windows]:
        out, lo, hi = padding(a.shape[axis], window, stride, layer.padding)
        edged = padded(a, (axis,), (lo, hi), layer.padding)
        starts = stride * np.arange(out)
        total = sum(np.take(edged, starts + tap, axis=axis) for tap in range(window))
        a = np.asarray(total) / (window if layer.kind == "avg" else 1)
    if layer.normalize_edges and layer.padding == "SAME":
        # What the same mean makes of ones is the share of each window that lies in the image.
        shares = pool_windows(np.ones((1, *shape)), replace(layer, normalize_edges=False), over)
        a = a / shares
    return a


def transposed(a: Array, layer: ConvTranspose, over: tuple[int, ...]) -> Array:
    """Mean over the filter's taps t: a pixel p of both images goes to s p + t, the same t."""
    for d, window, stride in zip(over, layer.filter_shape, layer.strides, strict=True):
        axes, size = (1 + d, 3 + d), a.shape[1 + d]
        geometry = maps.transposed(size, window, stride, layer.padding)
        total = np.zeros([geometry.out if axis in axes else n for axis, n in enumerate(a.shape)])
        for tap in range(window):
            places = geometry.first + stride * np.arange(size) + geometry.lo - tap
            if layer.padding == "CIRCULAR":
                places %= geometry.out
            inside = np.flatnonzero((places >= 0) & (places < geometry.out))
            index = [places[inside] if axis in axes else np.arange(n)
                     for axis, n in enumerate(a.shape)]  # fmt: skip
            total[np.ix_(*index)] += a.take(inside, axes[0]).take(inside, axes[1])
        a = total / window
    return a


def resized(a: Array, layer: ImageResize, over: tuple[int, ...]) -> Array:
    """Both images resized, one axis after the other."""
    shape = maps.resized(layer, tuple(a.shape[1 + d] for d in over), "ImageResize")
    for d, out in zip(over, shape, strict=True):
        matrix = maps.resizing(a.shape[1 + d], out, layer.method, layer.antialias)
        for axis in (1 + d, 3 + d):
            a = np.moveaxis(np.tensordot(matrix, a, (1, axis)), 0, axis)
    return a


def map_pixels(a: Array, first: Array, second: Array, shape: tuple[int, int]) -> Array:
    """A K A'^T with matrices between all pixels, to images of that shape."""
    pixels = a.shape[1] * a.shape[2]
    found = first @ a.reshape(-1, pixels, pixels) @ np.swapaxes(second, -1, -2)
    return found.reshape(-1, *shape, *shape)


def turned(a: Array) -> Array:
    """``a`` with the two images exchanged."""
    return a.transpose(0, 3, 4, 1, 2)


def aggregated(a: Array, weights: Array, along: list[int]) -> Array:
    """Sums over the vertices of the first image that send, along its axes ``along``."""
    axes = [1 + axis for axis in along]
    first = np.moveaxis(a, axes, range(1, 1 + len(axes)))
    flat = first.reshape(len(a), weights.shape[1], -1)
    made = (np.swapaxes(weights, 1, 2) @ flat).reshape(first.shape)
    return np.moveaxis(made, range(1, 1 + len(axes)), axes)


def over_all_pixels(a: Array, kind: str) -> Array:
    """The mean ('avg') or sum over all pairs of pixels, (B, 1, 1, 1, 1)."""
    reduce = np.mean if kind == "avg" else np.sum
    return np.asarray(reduce(a, axis=(1, 2, 3, 4), keepdims=True))


def mean_of_equal_pixels(a: Array) -> Array:
    """The mean over entries p = p', (B, 1, 1, 1, 1)."""
    return same_pixel(a).mean(axis=(1, 2))[:, None, None, None, None]
