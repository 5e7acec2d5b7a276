"""Recursions in mpmath, layer by layer, for networks of erf: the oracle beyond float64.

They import nothing of the package. One layer is the activation followed by Dense; inputs are
float64 numbers taken as exact.
"""

from __future__ import annotations

import mpmath as mp
import numpy as np


def unit_inputs(seed: int, count: int, features: int) -> np.ndarray:
    """Rows of mean square 1."""
    x = np.random.default_rng(seed).normal(size=(count, features))
    return x / np.sqrt((x**2).mean(axis=1, keepdims=True))


def erf_moments(q1, k, q2):
    """E[phi phi] and E[phi' phi'] of erf (Williams 1997)."""
    root = mp.sqrt((1 + 2 * q1) * (1 + 2 * q2))
    value = 2 / mp.pi * mp.asin(2 * k / root)
    return value, 4 / mp.pi / mp.sqrt(root**2 - 4 * k * k)


def erf_fixed_point(w, b):
    """q*, c*, chi_1, chi_c and the off-diagonal limit of Theta, to the working precision."""
    w, b = mp.mpf(str(w)), mp.mpf(str(b))
    tol = mp.mpf(10) ** (5 - mp.mp.dps)
    q = mp.findroot(lambda q: w * erf_moments(q, q, q)[0] + b - q, (mp.mpf("0.01"), mp.mpf(5)),
                    solver="anderson", tol=tol, maxsteps=500)
    chi_1 = w * erf_moments(q, q, q)[1]
    c = mp.mpf(1)
    if chi_1 > 1:
        # Without the trivial root at c = 1.
        def rest(c):
            return (w * erf_moments(q, c * q, q)[0] + b - q * c) / (1 - c)

        lo, hi = mp.mpf(0), 1 - (chi_1 - 1) / 1000
        while hi - lo > mp.mpf(10) ** (2 - mp.mp.dps) * 10:
            mid = (lo + hi) / 2
            lo, hi = (lo, mid) if rest(mid) < 0 else (mid, hi)
        c = (lo + hi) / 2
    chi_c = w * erf_moments(q, c * q, q)[1]
    return q, c, chi_1, chi_c, q * c / (1 - chi_c)


def erf_ntk(x, w, b, depths):
    """{l: (Theta, ascending eigenvalues)} of a fully connected network read out by a Dense."""
    w, b = mp.mpf(w), mp.mpf(b)
    rows = [[mp.mpf(float(v)) for v in row] for row in x]
    m, size = len(rows), len(rows[0])
    pairs = [(i, j) for i in range(m) for j in range(i, m)]
    k = {(i, j): w * sum(s * t for s, t in zip(rows[i], rows[j], strict=True)) / size + b
         for i, j in pairs}
    theta, found = dict(k), {}
    for depth in range(1, max(depths) + 1):
        moments = {(i, j): erf_moments(k[i, i], k[i, j], k[j, j]) for i, j in pairs}
        k = {pair: w * value + b for pair, (value, _) in moments.items()}
        theta = {pair: k[pair] + w * slope * theta[pair] for pair, (_, slope) in moments.items()}
        if depth in depths:
            matrix = mp.matrix(m, m)
            for i, j in pairs:
                matrix[i, j] = matrix[j, i] = theta[i, j]
            found[depth] = matrix, sorted(mp.eigsy(matrix, eigvals_only=True))
    return found


def erf_circle_ntk(x, w, b, depths, pooled):
    """The same for images (m, 1, W, C) with circular convolutions of three pixels in a row."""
    w, b = mp.mpf(w), mp.mpf(b)
    m, _, width, channels = x.shape
    pixels = [[[mp.mpf(float(v)) for v in p] for p in image[0]] for image in x]
    keys = [(i, j, p, r) for i in range(m) for j in range(m)
            for p in range(width) for r in range(width)]
    k = {(i, j, p, r): sum(s * t for s, t in zip(pixels[i][p], pixels[j][r], strict=True))
         / channels for i, j, p, r in keys}
    theta, found = {key: mp.mpf(0) for key in keys}, {}

    def conv(a):
        return {(i, j, p, r): sum(a[i, j, (p + t) % width, (r + t) % width]
                                  for t in (-1, 0, 1)) / 3 for i, j, p, r in keys}

    for depth in range(1, max(depths) + 1):
        k = {key: w * value + b for key, value in conv(k).items()}
        averaged = conv(theta)
        theta = {key: k[key] + w * averaged[key] for key in keys}
        moments = {(i, j, p, r): erf_moments(k[i, i, p, p], k[i, j, p, r], k[j, j, r, r])
                   for i, j, p, r in keys}
        k = {key: value for key, (value, _) in moments.items()}
        theta = {key: theta[key] * slope for key, (_, slope) in moments.items()}
        if depth in depths:
            chosen = [(p, r) for p in range(width) for r in range(width) if pooled or p == r]
            matrix = mp.matrix(m, m)
            for i in range(m):
                for j in range(m):
                    share = mp.mpf(1) / len(chosen)
                    kk = w * sum(k[i, j, p, r] for p, r in chosen) * share + b
                    matrix[i, j] = kk + w * sum(theta[i, j, p, r] for p, r in chosen) * share
            # Symmetric but for rounding of the working precision.
            matrix = (matrix + matrix.T) / 2
            found[depth] = matrix, sorted(mp.eigsy(matrix, eigvals_only=True))
    return found
