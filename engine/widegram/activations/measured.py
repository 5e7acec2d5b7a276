"""How far the sums for a function of the user's may be off, by which no one vouches for it.

Quadrature is exact for functions that are smooth on its panels; a kink or a jump elsewhere, and a
derivative that is another function's, show in two quadratures that disagree, and in Stein's
identities E[h_(n+1)(z) phi(s z)] sqrt(n + 1) = s E[h_n(z) phi'(s z)].
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from widegram.activations.approximate import Function, nodes, normal_panels
from widegram.activations.base import Array

# Variances, over the largest, that are looked at.
_SPREAD = (1.0, 0.3, 0.1, 1e-2, 1e-4)


@lru_cache(maxsize=1)
def _others() -> tuple[Array, Array]:
    """Another quadrature: panels that begin elsewhere, of another order."""
    return normal_panels(np.linspace(-13.1, 13.0, 66), 18)


def measured_error(phi: Function, slope: Function, largest: float) -> float:
    """The largest disagreement at variances up to ``largest``, relative to E[phi^2] and
    E[phi'^2]."""
    (z, w), (y, v) = nodes(), _others()
    worst = 0.0
    for part in _SPREAD:
        s = np.sqrt(largest * part)
        values, slopes = phi(s * z), slope(s * z)
        sizes = []
        for found, function in ((values, phi), (slopes, slope)):
            size = float(w @ found**2)
            sizes.append(size)
            worst = max(worst, _relative(size - float(v @ function(s * y) ** 2), size))
        first, second = w @ (z * values), w @ ((z * z - 1) * values)
        size = max(sizes[0], s * s * sizes[1]) ** 0.5
        worst = max(worst, _relative(first - s * (w @ slopes), size))
        worst = max(worst, _relative(second - s * (w @ (z * slopes)), size))
    return worst


def _relative(difference: float, size: float) -> float:
    return float(abs(difference) / size) if size else 0.0
