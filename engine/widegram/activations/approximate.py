"""Functions of which sums leave something out: Hermite series and mixtures of error functions.

What is left out is known, because E[phi^2] and E[phi'^2] are, by quadrature.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from widegram.activations.base import Array, Formula

# Standard deviations beyond which phi changes within the panel nearest to 0.
_DEEP = 300.0
_TOGETHER = 64
Function = Callable[[Array], Array]


@lru_cache(maxsize=2)
def nodes(deep: bool = False) -> tuple[Array, Array]:
    """Nodes and weights for E[f(z)], z ~ N(0, 1): Gauss-Legendre panels graded towards a kink at 0,
    or towards what lies within 1e-13 of it (``deep``).

    |z| <= 13 leaves out a mass of 1e-38.
    """
    near = [0.0] + [2.0**-k for k in range(44 if deep else 14, 0, -2)]
    z, weight = normal_panels(np.array(near + [0.5 * k for k in range(1, 27)][1:]), 24)
    return np.concatenate([-z[::-1], z]), np.concatenate([weight[::-1], weight])


def normal_panels(edges: Array, order: int) -> tuple[Array, Array]:
    """Nodes and weights, (panels order,), for the integral of f(z) times the density of N(0, 1)
    from the first of ``edges`` to the last: Gauss-Legendre of that order between neighbours."""
    x, w = np.polynomial.legendre.leggauss(order)
    lo, hi = edges[:-1, None], edges[1:, None]
    z = (0.5 * (hi + lo) + 0.5 * (hi - lo) * x).ravel()
    return z, (0.5 * (hi - lo) * w).ravel() * np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi)


def weighted(rows: Array, function: Function, s: Array, deep: bool = False) -> Array:
    """Weighted sums over the nodes, ``rows`` (r, nodes) times function(z s), shape (r, s.size).

    The products always have _TOGETHER columns, so that a variance gives the same bits whatever
    others it is computed with.
    """
    z, _ = nodes(deep)
    out = np.empty((len(rows), s.size))
    for lo in range(0, s.size, _TOGETHER):
        part = s[lo : lo + _TOGETHER]
        padded = np.full(_TOGETHER, part[-1])
        padded[: part.size] = part
        out[:, lo : lo + part.size] = (rows @ function(z[:, None] * padded))[:, : part.size]
    return out


def expectations(function: Function, s: Array, deep: bool) -> Array:
    """E[function(s z)] for every s, (n,); ``deep``: s may be as large as 1e10."""
    return weighted(nodes(deep)[1][None], function, s, deep)[0]


@dataclass(frozen=True)
class Approximate(Formula):
    """A function given with its derivative, known by a sum that leaves something out.

    ``tail``: a bound on what that is, relative to E[phi^2] and E[phi'^2], at the largest variance
    that the sum was made for; ``jump``: that of phi' at 0.
    """

    function: Function
    derivative: Function
    tail: float = np.nan
    jump: float = 0.0
    sharpness = 1.0

    @property
    def kinked(self) -> bool:
        return super().kinked or self.jump != 0.0

    def near_one(self, error: float) -> tuple[float, float]:
        # What is left out of K makes another c of it. Where phi' jumps Kdot follows the angle, and
        # E[phi'^2] is at least about 1/2.
        carried = error + self.tail
        return carried, carried + self.jump**2 * float(np.sqrt(2 * error)) / np.pi

    @property
    @abstractmethod
    def size(self) -> str:
        """What the sum is, for messages."""

    def variance(self, q: Array) -> tuple[Array, Array]:
        q = np.asarray(q, dtype=np.float64)
        s = np.sqrt(np.maximum(q, 0.0)).reshape(-1)
        large = s > _DEEP
        found = np.empty((2, s.size))
        for n, function in enumerate((self.function, self.derivative)):

            def square(x: Array, function: Function = function) -> Array:
                return function(x) ** 2

            for deep in (False, True):
                some = large == deep
                found[n, some] = expectations(square, s[some], deep)
        return found[0].reshape(q.shape), found[1].reshape(q.shape)
