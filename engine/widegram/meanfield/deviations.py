"""The recursion of fully connected networks carried in deviations, exact at any depth.

All inputs have one norm, hence one q. Carried are q, the common diagonal ``level`` of Theta, and
for every pair the two deviations delta = q - K and D = level - Theta, each as a matrix times an
exponential, so that neither rounding of q nor the range of float64 limits the depth:

    activation    K: q -> V(q),  delta -> delta m(delta),  m the mean of Kdot over [q - delta, q]
                  Theta: D -> Kdot(k) D + level (Kdot(q) - Kdot(k)),  level -> level Kdot(q)
    Dense         q -> w q + b, delta -> w delta, level -> q + w level, D -> delta + w D
    Residual      sums of both branches;  LayerNorm  everything over q + eps

Every term of D and delta is nonnegative for the usual activations: nothing cancels.
Theta itself is level - D. Source: recursion of arXiv:1912.13053, section 3, in this form.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from widegram import activations
from widegram.errors import WidegramError
from widegram.meanfield.maps import Array, LayerMaps
from widegram.meanfield.slopeline import Scaled, SlopeLine, is_kinked
from widegram.network import Activation, Dense, Flatten, Layer, LayerNorm, Network, Repeat, Residual

_EPS = 1e-12  # LayerNorm's, as in the engine
# Norms may differ by the rounding of a normalisation in float32.
NORM_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Deviations:
    """K = q - delta and Theta = level - drop for pairs of inputs that share the variance q.

    ``delta`` and ``drop`` hold arrays of any one shape.
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

    def activate(self, line: SlopeLine) -> Deviations:
        """Through the activation whose slopes at this q are ``line``."""
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

    Differences are taken before squaring, so near duplicates keep their digits. Raises
    WidegramError where the norms differ.
    """
    norms = np.concatenate([(x**2).mean(axis=1) for x in (x1, x2)])
    q = float(norms.mean())
    spread = float(np.ptp(norms))
    if q == 0 or spread > NORM_TOLERANCE * q:
        raise WidegramError(
            f"inputs: the mean squares range from {norms.min():.6g} to {norms.max():.6g}; deviations "
            "of a fully connected network need inputs of one norm (normalise them)"
        )
    delta = np.empty((len(x1), len(x2)))
    for i, row in enumerate(x1):
        delta[i] = ((x2 - row) ** 2).mean(axis=1) / 2
    zero = Scaled(np.zeros_like(delta))
    return Deviations(q, 0.0, Scaled(delta), zero)


def supports(network: Network) -> str | None:
    """None where :func:`sweep` can run the network, else the reason why not."""
    prefix, body, _, suffix = network.sweep()
    for layer in _walk((*prefix, *body, *suffix)):
        if not isinstance(layer, Dense | Activation | Flatten | LayerNorm | Residual | Repeat):
            return f"{type(layer).__name__} has no recursion in deviations of a fully connected network"
    if len(network.input_shape) == 3 and not (prefix and isinstance(prefix[0], Flatten)):
        return "images must be flattened first"
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
    for depth in range(1, wanted[-1] + 1):
        state = walker.run(body, state)
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
            case Dense():
                return state.dense(layer.W_std**2, layer.b_std**2)
            case Activation():
                maps, kinked = self._activation(layer)
                if not 0 < state.q < 1e150:
                    raise WidegramError(
                        f"the variance q = {state.q:g} has left the range of float64"
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

    def _activation(self, layer: Activation) -> tuple[LayerMaps, bool]:
        if layer not in self._maps:
            maps = LayerMaps(layer.name, activations.get(layer.name, dict(layer.params)))
            maps.require_slope()
            self._maps[layer] = maps, is_kinked(maps)
        return self._maps[layer]


def _walk(layers: Sequence[Layer]) -> Iterator[Layer]:
    for layer in layers:
        yield layer
        if isinstance(layer, Residual):
            yield from _walk((*layer.branch, *layer.shortcut))
        elif isinstance(layer, Repeat):
            yield from _walk(layer.body)


__all__ = ["Deviations", "input_deviations", "supports", "sweep"]
