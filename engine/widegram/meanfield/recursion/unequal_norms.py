"""Deviations of convolutional networks with CIRCULAR padding, and of inputs of unequal norm.

Unequal variances enter every moment, so the exact form of
:mod:`~widegram.meanfield.recursion.deviations` is not available. Two stretches instead:

1. The recursion on K[x, x', d](p) = cov(x at p, x' at p + d), for the displacements d that the
   readout needs (0 for Flatten, all for GlobalAvgPool), in float64, until every entry is within
   CROSSOVER of one common value.
2. From there the recursion linearised about that value, which continues exactly. A circular
   convolution keeps the mean over p, so the pooled deviations obey the recursion without any
   space in it: kappa (pooled K - q), a (mean q_x(p) - q) and tau (pooled Theta - level) follow

       kappa' = Kdot kappa + g (a_x + a_x'),  a' = V' a,
       tau'   = Kdot tau + level (h kappa + h_q (a_x + a_x'))

   with g = (V' - Kdot)/2 = dK/dq_x, h = dKdot/dk and h_q = (Kdot' - h)/2 = dKdot/dq_x.

Rounding at the crossover and the neglected squares are each near CROSSOVER / (1 - chi_1) of a
deviation: about seven digits. It ends where its premises end: zero padding and strides have no
constant fixed point, kinked activations no linearisation, and outside of the ordered phase the
deviations never become small (float64 then holds them).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from widegram.errors import WidegramError
from widegram.machine.budgets import require_memory
from widegram.meanfield.recursion.circular_mean import circular_mean, displacements, pixel_products
from widegram.meanfield.recursion.deviations import Deviations, LayerState
from widegram.meanfield.recursion.scaled import LogScaled
from widegram.meanfield.recursion.slope_series import Slopes
from widegram.meanfield.recursion.walker import refusal_of_sequences, trained_apart, walk
from widegram.meanfield.theory.one_layer import Array, layer_maps
from widegram.network import Network
from widegram.network import layers as kinds

CROSSOVER = 1e-8
_LIVE_ARRAYS = 7


def refusal(network: Network) -> str | None:
    """The reason why :func:`sweep` cannot run the network, None where it can."""
    prefix, body, _, suffix = network.sweep()
    if (
        len(network.input_shape) == 3
        and any(isinstance(layer, kinds.Flatten | kinds.GlobalPool) for layer in (*prefix, *body))
        and any(isinstance(layer, kinds.Conv) for layer in (*prefix, *body))
    ):
        return "the network pools before its last convolution"
    reason = trained_apart(network) or refusal_of_sequences(network)
    if reason is not None:
        return reason
    for layer in (*prefix, *body, *suffix):
        if isinstance(layer, kinds.Conv):
            if layer.padding != "CIRCULAR" or layer.strides != (1, 1):
                return "only CIRCULAR padding with stride 1 has a constant fixed point"
        elif isinstance(layer, kinds.GlobalPool):
            if layer.kind != "avg":
                return "GlobalSumPool has no fixed point"
        elif isinstance(layer, kinds.Activation):
            maps = layer_maps(layer)
            if maps.is_kinked():
                return f"{layer.name} has a kink: there is no linearisation at c = 1"
        elif not isinstance(layer, kinds.Dense | kinds.Flatten):
            return f"{type(layer).__name__} has no recursion in deviations"
    return None


def sweep(
    network: Network,
    x: Array,
    rows: Array,
    depths: Sequence[int],
    memory: str | int | None = None,
) -> Iterator[tuple[int, Deviations]]:
    """Yield (l, deviations (len(rows), len(x)) behind the suffix) for ascending ``depths``.

    ``x`` (m, *input_shape) and ``rows`` (n, *input_shape) are the inputs; where ``rows`` is ``x``
    the matrices are symmetric. Raises WidegramError for what :func:`refusal` refuses, or for
    tensors beyond ``memory``.
    """
    reason = refusal(network)
    if reason is not None:
        raise WidegramError(reason)
    prefix, _, _, suffix = network.sweep()
    flat = bool(prefix) and isinstance(prefix[0], kinds.Flatten)
    start = Pixels.of(_images(rows, flat), _images(x, flat), _pools(suffix), memory)
    yield from walk(network, start, depths)


def _pools(suffix: Sequence[kinds.Layer]) -> bool:
    return any(isinstance(layer, kinds.GlobalPool) for layer in suffix)


def _images(x: Array, flat: bool) -> Array:
    x = np.asarray(x, np.float64)
    return x.reshape(len(x), 1, 1, -1) if flat or x.ndim == 2 else x


@dataclass(frozen=True)
class Pixels(LayerState):
    """K and Theta of shape (n, m, D, H, W), the variances (n, H, W) and (m, H, W) beside them."""

    k: Array
    t: Array
    q_rows: Array
    q_cols: Array
    t_rows: Array
    shift: NDArray[np.intp]  # (D, H W): flat pixel p + d of every p

    @classmethod
    def of(cls, rows: Array, cols: Array, pooled: bool, memory: str | int | None) -> Pixels:
        h, w = rows.shape[1:3]
        count = h * w if pooled else 1
        size = len(rows) * len(cols) * count * h * w * 8
        require_memory(
            _LIVE_ARRAYS * size,
            memory,
            f"the recursion on {len(rows)} x {len(cols)} images of {h} x {w} pixels "
            f"({count} displacements)",
            "take fewer images, --method engine (kernels in float64),",
        )
        shift = displacements(h, w, pooled)
        k = pixel_products(rows, cols, shift)
        q_rows, q_cols = ((x**2).mean(axis=-1) for x in (rows, cols))
        return cls(k, np.zeros_like(k), q_rows, q_cols, np.zeros_like(q_rows), shift)

    def affine(self, w: float, b: float, filter_shape: tuple[int, int]) -> Pixels:
        k = w * circular_mean(self.k, filter_shape) + b
        q_rows, q_cols = self.q_rows, self.q_cols
        q_rows, q_cols = (w * circular_mean(q, filter_shape) + b for q in (q_rows, q_cols))
        return Pixels(
            k,
            k + w * circular_mean(self.t, filter_shape),
            q_rows,
            q_cols,
            q_rows + w * circular_mean(self.t_rows, filter_shape),
            self.shift,
        )

    def activate(self, slopes: Slopes) -> Pixels:
        dual = slopes.maps.dual
        m, count, h, w = self.k.shape[1:]
        q1 = self.q_rows[:, None, None]
        q2 = self.q_cols.reshape(m, h * w)[:, self.shift].reshape(m, count, h, w)[None]
        k, kdot = dual.moments(q1, self.k, q2)
        q_rows, slope = dual.variance(self.q_rows)
        q_cols, _ = dual.variance(self.q_cols)
        return Pixels(k, self.t * kdot, q_rows, q_cols, self.t_rows * slope, self.shift)

    def _base(self) -> tuple[float, float]:
        """The common q and the level of Theta: means over images and pixels."""
        return float(self.q_rows.mean()), float(self.t_rows.mean())

    def _farthest(self) -> float:
        """The largest relative distance of any entry of K from the common q."""
        q, _ = self._base()
        return float(max(np.abs(a - q).max() for a in (self.k, self.q_rows, self.q_cols)) / q)

    def settled(self) -> Pixels | Linear:
        return self._linearized() if self._farthest() < CROSSOVER else self

    def _linearized(self) -> Linear:
        """Pool, and subtract the common values."""
        q, level = self._base()
        axes = (-3, -2, -1)
        a = [(v.mean(axis=(-2, -1)) - q) for v in (self.q_rows, self.q_cols)]
        return Linear(
            q,
            level,
            LogScaled((self.k - q).mean(axis=axes)),
            LogScaled(np.add.outer(*a)),
            LogScaled((self.t - level).mean(axis=axes)),
        )

    def pooled(self) -> Pixels:
        """Flatten or GlobalAvgPool: one pixel is left. Nothing pointwise may follow."""
        k, t = (a.mean(axis=(-3, -2, -1), keepdims=True) for a in (self.k, self.t))
        q_rows, q_cols, t_rows = (
            a.mean(axis=(-2, -1), keepdims=True) for a in (self.q_rows, self.q_cols, self.t_rows)
        )
        return Pixels(k, t, q_rows, q_cols, t_rows, np.zeros((1, 1), np.intp))

    def readout(self) -> Deviations:
        """Plain float64 matrices about a common value (behind the pool)."""
        k, t = (a.reshape(a.shape[:2]) for a in (self.k, self.t))
        q, level = float(k.mean()), float(t.mean())
        return Deviations(q, level, LogScaled(q - k), LogScaled(level - t))


@dataclass(frozen=True)
class Linear(LayerState):
    """Pooled deviations (n, m): K = q + kappa, Theta = level + tau; ``a`` is a_x + a_x'."""

    q: float
    level: float
    kappa: LogScaled
    a: LogScaled
    tau: LogScaled

    def affine(self, w: float, b: float, _filter: tuple[int, int]) -> Linear:
        kappa = self.kappa.times(w).normalized()
        q = w * self.q + b
        return Linear(
            q,
            q + w * self.level,
            kappa,
            self.a.times(w).normalized(),
            kappa.plus(self.tau.times(w)).normalized(),
        )

    def activate(self, slopes: Slopes) -> Linear:
        series = slopes.at(self.q)
        power_slope, slope_slope = series.q_slopes
        h = series.bend
        g, h_q = (power_slope - series.slope) / 2, (slope_slope - h) / 2
        return Linear(
            float(series.maps.power(self.q)),
            self.level * series.slope,
            self.kappa.times(series.slope).plus(self.a.times(g)),
            self.a.times(power_slope),
            self.tau.times(series.slope)
            .plus(self.kappa.times(h * self.level))
            .plus(self.a.times(h_q * self.level)),
        )

    def pooled(self) -> Linear:
        return self

    def readout(self) -> Deviations:
        return Deviations(self.q, self.level, self.kappa.times(-1.0), self.tau.times(-1.0))
