"""Pairs of nearly parallel inputs, in double precision.

Near c = 1 an angle is the square root of a difference: a single-precision rounding of c becomes
3e-4, and a deep network adds or multiplies it layer by layer. So a float32 run computes the few
pairs whose inputs point in nearly the same direction, or opposite ones, in float64, one pair to a
lane. How near that is depends on the network (:mod:`~widegram.cpu.closeness`).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from widegram.cpu.kernels.vector_ops import LANES
from widegram.cpu.self_kernels import ItselfRunner
from widegram.cpu.tables import encode
from widegram.cpu.workspace import Workspace, aligned
from widegram.network.model import Network
from widegram.plan.formulas import choose_formulas, factor_layout
from widegram.plan.plan import Plan, build

Array = NDArray[np.float64]
_DTYPE = "float64"
_LANES = LANES[_DTYPE]

_SKETCH = 24


def sketch(x: Array) -> Array:
    """Directions of inputs (n, ...) in few numbers, shape (n, 24).

    Every coordinate is added, with a random sign, to one of 24 sums ("count sketch"). Squared
    distances of sketches estimate those of directions, within a factor of 2 or so; zero inputs
    give zeros. Sums run in the same order whatever block an input comes in.
    """
    flat = x.reshape(len(x), -1)
    groups = -(-flat.shape[1] // _SKETCH)
    signed = np.zeros((len(x), groups * _SKETCH))
    signs = np.random.default_rng(20).choice([-1.0, 1.0], flat.shape[1])
    np.multiply(flat, signs, out=signed[:, : flat.shape[1]])
    sums = signed.reshape(len(x), groups, _SKETCH).sum(axis=1)
    norm = np.sqrt(np.einsum("nd,nd->n", flat, flat))
    return sums / np.where(norm > 0, norm, np.inf)[:, None]


def close_pairs(a: Array, b: Array, angle: float) -> NDArray[np.int64]:
    """Rows (i, j), shape (pairs, 2), of sketches that are less than about twice ``angle`` apart, or
    opposite but for that; zero inputs never are."""
    # BLAS, whose last bits depend on the shape, proposes pairs up to 1.4 times as far apart.
    limit = (2 * angle) ** 2
    a2, b2 = (np.einsum("ik,ik->i", v, v) for v in (a, b))
    a2, b2 = (np.where(squares > 0, squares, np.inf) for squares in (a2, b2))
    product = a @ b.T
    np.abs(product, out=product)
    product -= a2[:, None] / 2
    i, j = np.divmod(np.flatnonzero(product > b2 / 2 - limit), len(b))
    near = np.full(len(i), np.inf)
    for sign in (1.0, -1.0):
        apart = a[i] - sign * b[j]
        near = np.minimum(near, np.einsum("pk,pk->p", apart, apart))
    close = near < limit
    return np.stack([i[close], j[close]], axis=1)


class PairRunner:
    """Runs a list of pairs in float64.

    ``largest``, ``zeros`` as for :func:`choose_formulas`; ``like``: the plan in whose powers of two
    inputs come and results are given.
    """

    def __init__(
        self,
        network: Network,
        get: tuple[str, ...],
        depths: tuple[int, ...] | None,
        largest: float,
        zeros: bool,
        like: Plan,
    ) -> None:
        self.plan = build(network, get, depths, largest=largest)
        formulas = choose_formulas(self.plan, largest, _DTYPE, math.inf, zeros)
        self.layout = factor_layout(self.plan, formulas)
        self._input = self.plan.input_exponent - like.input_exponent
        powers = zip(like.exponents, self.plan.exponents, strict=True)
        self._powers = np.array([2 * (wanted - made) for wanted, made in powers])
        self.tables = encode(self.plan, self.plan.cross, self.layout, _DTYPE, paired=True)
        self.runner = ItselfRunner(self.plan, self.layout, False, _DTYPE)
        self.work = Workspace(self.tables, _DTYPE, paired=True)

    def run(self, x: Array, y: Array) -> tuple[Array, Array]:
        """K and T, (outputs, n), of the pairs (x[i], y[i]); images (n, h, w, C), float64."""
        n, kinds = len(x), len(self.plan.outputs)
        x, y = (np.ldexp(images, self._input) for images in (x, y))
        found = np.empty((2, kinds, n))
        for lo in range(0, n, _LANES):
            index = np.minimum(np.arange(lo, lo + _LANES), n - 1)
            x_lanes, x_factors = self._lanes(x[index] / x.shape[-1], x[index])
            y_lanes, y_factors = self._lanes(y[index], y[index])
            out = aligned((2, kinds, 1, _LANES), _DTYPE)
            out[...] = 0.0
            one = np.zeros(1, dtype=np.int64)
            self.work.run_strips(
                x_lanes[None], x_factors[None], y_lanes, y_factors, out[0], out[1], one, one
            )
            hi = min(lo + _LANES, n)
            found[:, :, lo:hi] = out[:, :, 0, : hi - lo]
        found = np.ldexp(found, self._powers[:, None])
        return found[0], found[1]

    def _lanes(self, scaled: Array, x: Array) -> tuple[NDArray[Any], NDArray[Any]]:
        """Images and their factors with the lane last."""
        factors = aligned((self.layout.total + 1, _LANES), _DTYPE)
        factors[...] = self.runner.run(x).factors.T
        lanes = aligned((*x.shape[1:], _LANES), _DTYPE)
        lanes[...] = np.moveaxis(scaled, 0, -1)
        return lanes, factors
