"""What layers do to arrays (B, H, W, H, W) between all pixels, in any arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from campaigns.duals import Values
from widegram.network import maps, padding
from widegram.network.layers import Convolution, ConvTranspose, Pool


def same(a: Values) -> Values:
    """View the entries p = p' of (B, H, W, H, W) as (B, H, W)."""
    b, h, w = a.shape[:3]
    s = a.strides
    return np.lib.stride_tricks.as_strided(a, (b, h, w), (s[0], s[1] + s[3], s[2] + s[4]))


def at_same(a: Values) -> Values:
    """Zeros where p and p' differ."""
    found = 0 * a
    same(found)[...] = same(a)
    return found


def conv(a: Values, layer: Convolution, over: tuple[int, ...]) -> Values:
    """Mean over a filter's taps, the same for both pixels."""
    for d, window, stride in zip(over, layer.filter_shape, layer.strides, strict=True):
        a = _window_sum(a, (1 + d, 3 + d), window, stride, layer.padding) / window
    return a


def spread_out(a: Values, layer: ConvTranspose, over: tuple[int, ...]) -> Values:
    """Mean over a filter's taps t, the same for both pixels p, each of which goes to s p + t."""
    for d, window, stride in zip(over, layer.filter_shape, layer.strides, strict=True):
        size = a.shape[1 + d]
        to = maps.transposed(size, window, stride, layer.padding)
        total: Any = 0
        for tap in range(window):
            places = to.first + stride * np.arange(size) + to.lo - tap
            if layer.padding == "CIRCULAR":
                places %= to.out
            matrix = (np.arange(to.out)[:, None] == places).astype(int)
            total = total + along(a, matrix, matrix, d)
        a = total / window
    return a


def pool(a: Values, layer: Pool, over: tuple[int, ...]) -> Values:
    """Sum or mean over the windows of both images."""
    for d, window, stride in zip(over, layer.window_shape, layer.strides, strict=True):
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


def along(a: Values, first: Values, second: Values, axis: int) -> Values:
    """Both images mapped along one axis, by matrices (out, size)."""
    for matrix, n in ((first, 1 + axis), (second, 3 + axis)):
        a = np.moveaxis(np.tensordot(matrix, a, (1, n)), 0, n)
    return a


def mapped(a: Values, first: Values, second: Values, shape: tuple[int, int]) -> Values:
    """A K A'^T with matrices between all pixels, (out, size) or (B, out, size), to images of that
    shape."""
    n = a.shape[1] * a.shape[2]
    found = first @ a.reshape(-1, n, n) @ np.swapaxes(second, -1, -2)
    return found.reshape(-1, *shape, *shape)


def between_all(weights: Values, shape: tuple[int, int], over: Sequence[int]) -> Values:
    """Matrices (B, pixels, pixels) that add up what sends to each pixel, of weights (B, vertices,
    vertices) from each to each along some axes; pixels along others go alike."""
    names = {0: "ab", 1: "cd"}
    h, w = shape
    sizes = [shape[axis] for axis in over]
    apart = weights.reshape(-1, *sizes, *sizes)  # of all vertices that send, of all that receive
    send, receive = ("".join(names[axis][n] for axis in over) for n in (1, 0))
    rest = [axis for axis in (0, 1) if axis not in over]
    terms = [f"z{send}{receive}", *(names[axis] for axis in rest)]
    eyes = [np.eye(shape[axis], dtype=int) for axis in rest]
    return np.einsum(",".join(terms) + "->zacbd", apart, *eyes).reshape(-1, h * w, h * w)


def beside(parts: Sequence[Values], axis: int) -> Values:
    """Images side by side along ``axis``; zeros between pixels of different ones."""
    sizes = [part.shape[1 + axis] for part in parts]
    rows = []
    for i, part in enumerate(parts):
        row = []
        for j, size in enumerate(sizes):
            shape = list(part.shape)
            shape[3 + axis] = size
            row.append(part if i == j else np.zeros(shape, dtype=part.dtype))
        rows.append(np.concatenate(row, axis=3 + axis))
    return np.concatenate(rows, axis=1 + axis)
