"""The recursion carried in deviations, exact at any depth, for inputs that share one variance.

Vectors of one norm have one q; so have images whose every pixel has one norm over the channels, as
long as convolutions are CIRCULAR with stride 1. Carried are q, the common diagonal ``level`` of
Theta, and for every pair the two deviations delta = q - K and D = level - Theta, each as a matrix
times an exponential, so that neither rounding of q nor the range of float64 limits the depth:

    activation    K: q -> V(q),  delta -> delta m(delta),  m the mean of Kdot over [q - delta, q]
                  Theta: D -> Kdot(k) D + level (Kdot(q) - Kdot(k)),  level -> level Kdot(q)
    Dense         q -> w q + b, delta -> w delta, level -> q + w level, D -> delta + w D
    Conv          the mean of delta and D over the filter's taps, then as Dense
    Residual      sums of both branches;  LayerNorm  everything over q + eps
    Flatten, GlobalAvgPool   means of delta and D, at the end

Every term of D and delta is nonnegative for the usual activations: nothing cancels.
Theta itself is level - D. Source: recursion of arXiv:1912.13053, section 3, in this form.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from widegram import activations
from widegram.errors import WidegramError
from widegram.meanfield.recursion.circular_mean import displacements, mean_taps
from widegram.meanfield.recursion.scaled import Scaled
from widegram.meanfield.recursion.slope_series import SlopeLine
from widegram.meanfield.theory.maps import Array, LayerMaps
from widegram.network import (
    Activation,
    Conv,
    Dense,
    Flatten,
    GlobalPool,
    Layer,
    LayerNorm,
    Network,
    Repeat,
    Residual,
)

_EPS = 1e-12  # LayerNorm's, as in the engine
# Below this share of q the squares of delta are beyond rounding.
_LINEAR = 1e-17
# From this many pairs on an activation runs as compiled polynomials.
_MANY = 4096
_BLOCK = 2**15
# Below this share of q a delta is computed again by differences.
_NEAR = 1e-3
# Norms may differ by the rounding of a normalisation in float32.
NORM_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Deviations:
    """K = q - delta and Theta = level - drop for pairs of inputs that share the variance q.

    ``delta`` and ``drop`` hold arrays of one shape: (n, m) for vectors, (n, m, D, H, W) for images,
    entry [x, x', d, p] belonging to pixel p of x and p + d of x'.
    """

    q: float
    level: float
    delta: Scaled
    drop: Scaled

    def dense(self, w: float, b: float) -> Deviations:
        """K <- w K + b, Theta <- K + w Theta."""
        delta = self.delta.times(w)
        q = w * self.q + b
        drop = self.drop.times(w).plus(delta).normalized()
        return Deviations(q, q + w * self.level, delta.normalized(), drop)

    def averaged(self, filter_shape: tuple[int, int]) -> Deviations:
        """Circular means over the filter's taps."""
        delta, drop = (
            Scaled(mean_taps(part.value, filter_shape), part.log_scale)
            for part in (self.delta, self.drop)
        )
        return Deviations(self.q, self.level, delta, drop)

    def pooled(self) -> Deviations:
        """Means over pixels and displacements; matrices stay as they are."""
        axes = tuple(range(2, self.delta.value.ndim))
        delta, drop = (
            Scaled(part.value.mean(axis=axes), part.log_scale) for part in (self.delta, self.drop)
        )
        return Deviations(self.q, self.level, delta, drop)

    def is_linear(self) -> bool:
        """Whether a smooth activation acts on delta and D as a factor, to float64's rounding."""
        return float(self.delta.plain().max()) < _LINEAR * self.q

    def activate(self, line: SlopeLine) -> Deviations:
        """Through the activation whose slopes at this q are ``line``."""
        if self.delta.value.size >= _MANY and self.delta.log_scale == self.drop.log_scale == 0:
            return self._activate_many(line) or self._activate_in_blocks(line)
        return self._activate_few(line)

    def _activate_few(self, line: SlopeLine) -> Deviations:
        plain = self.delta.plain()
        fall = line.drop(self.delta)
        kdot = line.slope - fall.plain()
        drop = self.drop.times(kdot).plus(fall.times(self.level))
        return Deviations(
            float(line.maps.power(self.q)),
            self.level * line.slope,
            self.delta.times(line.mean(plain)),
            drop,
        )

    def _activate_many(self, line: SlopeLine) -> Deviations | None:
        """The same by two polynomials per entry, to 1e-11; None where they are not as good."""
        from widegram.meanfield.recursion.elementwise import TOLERANCE, layer_table

        delta, drop = self.delta.value.ravel().copy(), self.drop.value.ravel().copy()
        table = layer_table(line, self.level, max(float(delta.max()), 1e-300))
        if table.tail > TOLERANCE:
            return None
        table.run(delta, drop, 1.0, 0.0)
        shape = self.delta.value.shape
        power = float(line.maps.power(self.q))
        moved = (Scaled(part.reshape(shape)) for part in (delta, drop))
        return Deviations(power, self.level * line.slope, *moved)

    def _activate_in_blocks(self, line: SlopeLine) -> Deviations:
        """:meth:`_activate_few` on slices: it holds many values per entry."""
        delta, drop = self.delta.value.ravel(), self.drop.value.ravel()
        parts = [
            replace(self, delta=Scaled(delta[block]), drop=Scaled(drop[block]))._activate_few(line)
            for block in (slice(lo, lo + _BLOCK) for lo in range(0, delta.size, _BLOCK))
        ]
        shape = self.delta.value.shape
        whole = [
            Scaled(np.concatenate([part.plain() for part in column]).reshape(shape))
            for column in ([p.delta for p in parts], [p.drop for p in parts])
        ]
        return Deviations(parts[0].q, parts[0].level, *whole)

    def plus(self, other: Deviations) -> Deviations:
        """The sum of two branches."""
        return Deviations(
            self.q + other.q,
            self.level + other.level,
            self.delta.plus(other.delta),
            self.drop.plus(other.drop),
        )

    def over(self, scale: float) -> Deviations:
        """Everything divided by ``scale``."""
        return Deviations(
            self.q / scale,
            self.level / scale,
            self.delta.times(1 / scale),
            self.drop.times(1 / scale),
        )


def input_deviations(x1: Array, x2: Array) -> Deviations:
    """delta = |x - x'|^2 / (2 D) between the rows of x1 (n1, D) and x2 (n2, D) of one norm.

    By one matrix product; near duplicates, whose digits it would lose, by differences before
    squaring. Raises WidegramError where the norms differ.
    """
    norms = np.concatenate([(x**2).mean(axis=1) for x in (x1, x2)])
    q = float(norms.mean())
    spread = float(np.ptp(norms))
    if q == 0 or spread > NORM_TOLERANCE * q:
        raise WidegramError(
            f"inputs: the mean squares range from {norms.min():.6g} to {norms.max():.6g}; "
            "deviations of a fully connected network need inputs of one norm (normalise them)"
        )
    delta = ((x1**2).mean(axis=1)[:, None] + (x2**2).mean(axis=1)) / 2 - x1 @ x2.T / x1.shape[1]
    for i, j in zip(*np.nonzero(delta < _NEAR * q), strict=True):
        delta[i, j] = ((x1[i] - x2[j]) ** 2).mean() / 2
    zero = Scaled(np.zeros_like(delta))
    return Deviations(q, 0.0, Scaled(delta), zero)


def pixel_deviations(rows: Array, cols: Array, pooled: bool) -> Deviations:
    """delta between pixels of images (n, H, W, C) and (m, H, W, C), pixels of one norm.

    All displacements where ``pooled``, else only d = 0. Raises WidegramError where norms differ.
    """
    n, h, w, channels = rows.shape
    norms = np.concatenate([(x**2).mean(axis=-1).ravel() for x in (rows, cols)])
    q = float(norms.mean())
    if q == 0 or float(np.ptp(norms)) > NORM_TOLERANCE * q:
        raise WidegramError(
            f"inputs: the pixels' mean squares range from {norms.min():.6g} to {norms.max():.6g}; "
            "exact deviations of a convolutional network need pixels of one norm"
        )
    first, second = (x.reshape(len(x), h * w, channels) for x in (rows, cols))
    shifts = displacements(h, w, pooled)
    delta = np.empty((n, len(cols), len(shifts), h, w))
    for d, moved in enumerate(shifts):
        products = np.einsum("npc,mpc->nmp", first, second[:, moved], optimize=True) / channels
        delta[:, :, d] = np.maximum(q - products, 0.0).reshape(n, len(cols), h, w)
    if rows is cols or np.array_equal(rows[: len(cols)], cols):
        same = np.arange(len(cols))
        delta[same, same, 0] = 0.0
    return Deviations(q, 0.0, Scaled(delta), Scaled(np.zeros_like(delta)))


def is_convolutional(network: Network) -> bool:
    """Whether images reach a convolution or a pool as images."""
    prefix, _, _, _ = network.sweep()
    flat = bool(prefix) and isinstance(prefix[0], Flatten)
    return len(network.input_shape) == 3 and not flat


def supports(network: Network) -> str | None:
    """None where :func:`sweep` can run the network, else the reason why not."""
    prefix, body, _, suffix = network.sweep()
    if is_convolutional(network):
        return _supports_images((*prefix, *body), suffix)
    return _unsupported((*prefix, *body, *suffix), (*_POINTWISE, Flatten))


_POINTWISE = (Dense, Activation, LayerNorm, Residual, Repeat)


def _supports_images(layers: Sequence[Layer], suffix: Sequence[Layer]) -> str | None:
    for layer in _walk(layers):
        if isinstance(layer, Conv) and (layer.padding != "CIRCULAR" or layer.strides != (1, 1)):
            return "only CIRCULAR padding with stride 1 leaves all pixels alike"
        if isinstance(layer, LayerNorm) and layer.axis not in ((-1,), (3,)):
            return "LayerNorm over pixels has no recursion in deviations"
    for layer in suffix:
        if isinstance(layer, GlobalPool) and layer.kind != "avg":
            return "GlobalSumPool has no fixed point"
    return _unsupported(layers, (*_POINTWISE, Conv)) or _unsupported(
        suffix, (Dense, Flatten, GlobalPool)
    )


def _unsupported(layers: Sequence[Layer], known: tuple[type, ...]) -> str | None:
    for layer in _walk(layers):
        if not isinstance(layer, known):
            return f"{type(layer).__name__} has no recursion in deviations at this place"
    return None


def sweep(
    network: Network, start: Deviations, depths: Sequence[int]
) -> Iterator[tuple[int, Deviations]]:
    """Yield (l, deviations behind the suffix) for the ascending ``depths`` from one pass.

    ``start`` are the inputs' deviations. Raises WidegramError for layers outside of
    :func:`supports`.
    """
    reason = supports(network)
    if reason is not None:
        raise WidegramError(reason)
    prefix, body, _, suffix = network.sweep()
    walker = _Walker()
    state = walker.run(prefix, start)
    wanted = sorted(set(depths))
    smooth = not any(walker.kinked(layer) for layer in _walk(body) if isinstance(layer, Activation))
    for depth in range(1, wanted[-1] + 1):
        state = walker.run(body, state)
        if smooth and _has_pixels(state) and state.is_linear():
            # Circular means keep the mean over pixels: pool now what would be pooled at the end.
            state = state.pooled()
        if depth in wanted:
            yield depth, walker.run(suffix, state)


class _Walker:
    """Applies layers; keeps the tables of slopes of the last few (activation, q)."""

    def __init__(self) -> None:
        self._line = lru_cache(maxsize=16)(SlopeLine)
        self._maps: dict[Activation, tuple[LayerMaps, bool]] = {}

    def run(self, layers: Sequence[Layer], state: Deviations) -> Deviations:
        for layer in layers:
            state = self._apply(layer, state)
        return state

    def _apply(self, layer: Layer, state: Deviations) -> Deviations:
        match layer:
            case Conv():
                averaged = state.averaged(layer.filter_shape) if _has_pixels(state) else state
                return averaged.dense(layer.W_std**2, layer.b_std**2)
            case Flatten() | GlobalPool():
                return state.pooled()
            case Dense():
                return state.dense(layer.W_std**2, layer.b_std**2)
            case Activation():
                maps, kinked = self._activation(layer)
                if not 1e-150 < state.q < 1e150:
                    raise WidegramError(
                        f"the variance q = {state.q:g} leaves the range of float64 at this depth; "
                        "read out fewer layers"
                    )
                return state.activate(self._line(maps, state.q, kinked))
            case LayerNorm():
                return state.over(state.q + _EPS)
            case Residual():
                return self.run(layer.branch, state).plus(self.run(layer.shortcut, state))
            case Repeat():
                for _ in range(layer.times):
                    state = self.run(layer.body, state)
                return state
            case _:
                return state

    def kinked(self, layer: Activation) -> bool:
        """Whether phi' jumps."""
        return self._activation(layer)[1]

    def _activation(self, layer: Activation) -> tuple[LayerMaps, bool]:
        if layer not in self._maps:
            maps = LayerMaps(layer.name, activations.get(layer.name, dict(layer.params)))
            maps.require_slope()
            kinked = maps.is_kinked()
            if kinked and maps.dual.code == "series":
                raise WidegramError(
                    f"{layer.name}: its derivative jumps and only a Hermite series is known, which "
                    "ends before the kink; use --method engine"
                )
            self._maps[layer] = maps, kinked
        return self._maps[layer]


def _has_pixels(state: Deviations) -> bool:
    return state.delta.value.ndim > 2


def _walk(layers: Sequence[Layer]) -> Iterator[Layer]:
    for layer in layers:
        yield layer
        if isinstance(layer, Residual):
            yield from _walk((*layer.branch, *layer.shortcut))
        elif isinstance(layer, Repeat):
            yield from _walk(layer.body)


__all__ = [
    "Deviations",
    "input_deviations",
    "is_convolutional",
    "pixel_deviations",
    "supports",
    "sweep",
]
