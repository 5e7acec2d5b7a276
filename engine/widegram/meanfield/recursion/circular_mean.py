"""Pixels of images that wrap around: displacements, products, and the mean over a filter's taps."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from widegram.meanfield.theory.one_layer import Array
from widegram.network import padding


def displacements(h: int, w: int, pooled: bool) -> NDArray[np.intp]:
    """(D, h w): the flat pixel p + d of every p; only d = 0 unless ``pooled``."""
    i, j = np.divmod(np.arange(h * w), w)
    di, dj = np.divmod(np.arange(h * w if pooled else 1), w)
    return np.asarray(((i + di[:, None]) % h) * w + (j + dj[:, None]) % w)


def pixel_products(rows: Array, cols: Array, shifts: NDArray[np.intp]) -> Array:
    """(n, m, D, H, W): the mean over channels of x(p) x'(p + d), for images ``rows`` (n, H, W, C)
    and ``cols`` (m, H, W, C), ``shifts`` as :func:`displacements` gives them."""
    n, h, w, channels = rows.shape
    first, second = (x.reshape(len(x), h * w, channels) for x in (rows, cols))
    out = np.empty((n, len(cols), len(shifts), h, w))
    for d, moved in enumerate(shifts):
        products = np.einsum("npc,mpc->nmp", first, second[:, moved], optimize=True)
        out[:, :, d] = products.reshape(n, len(cols), h, w)
    out /= channels
    return out


def circular_mean(a: Array, filter_shape: tuple[int, int]) -> Array:
    """Circular mean over the filter's taps along the last two axes, same shape as ``a``.

    Sums of a few terms, no running sums: tiny entries keep their relative precision.
    """
    if filter_shape == (1, 1):
        return a
    h, w = a.shape[-2:]
    _, up, down = padding(h, filter_shape[0], 1, "CIRCULAR")
    _, left, right = padding(w, filter_shape[1], 1, "CIRCULAR")
    planes = np.ascontiguousarray(a).reshape(-1, h, w)
    out = np.empty_like(planes)
    _mean_planes(planes, out, up, down, left, right)
    return out.reshape(a.shape)


@njit(nogil=True, cache=True, fastmath=False, error_model="numpy")
def _mean_planes(planes, out, up, down, left, right):  # type: ignore[no-untyped-def]  # Numba's
    count, h, w = planes.shape
    row = np.empty(w + left + right)
    share = 1.0 / ((up + down + 1) * (left + right + 1))
    for n in range(count):
        for i in range(h):
            middle = row[left : left + w]
            middle[:] = 0.0
            for t in range(-up, down + 1):
                source = planes[n, (i + t) % h]
                for j in range(w):
                    middle[j] += source[j]
            for j in range(left):
                row[left - 1 - j] = middle[(w - 1 - j) % w]
            for j in range(right):
                row[left + w + j] = middle[j % w]
            target = out[n, i]
            for j in range(w):
                target[j] = row[j]
            for t in range(1, left + right + 1):
                for j in range(w):
                    target[j] += row[j + t]
            for j in range(w):
                target[j] *= share
