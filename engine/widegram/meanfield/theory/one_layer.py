"""The one-layer maps of mean field theory for any activation that has a dual.

One layer is the activation followed by Dense: q -> w V(q) + b and k -> w K(q, k, q) + b, with
w = W_std^2, b = b_std^2, V(q) = E[phi(u)^2], K = E[phi(u) phi(v)] and Kdot = E[phi'(u) phi'(v)].
By Price's theorem dK/dk = Kdot, so the slope of the correlation map is w Kdot, and deviations are
integrals of Kdot: q' - k' = w * integral of Kdot from k to q. That form keeps every digit however
close k is to q, where the difference of the two moments would keep none.

Source: arXiv:1912.13053, sections 2 and 3.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from widegram import activations
from widegram.activations import Formula
from widegram.errors import WidegramError
from widegram.network import Activation

Array = NDArray[np.float64]

# Kdot changes over angles of 1 / sqrt(q). Gauss-Legendre with 24 nodes is good to rounding, at
# 1e-16 sqrt(q) or so, on stretches of this many of them.
_NODES, _STRETCH = 24, 5.0
# From 1 - c = 1/4 on the plain difference has lost at most two bits.
_DIRECT = 0.25


@dataclass(frozen=True)
class LayerMaps:
    """The maps of one activation. ``name`` is for messages, ``dual`` does the work."""

    name: str
    dual: Formula
    params: dict[str, Any] = field(default_factory=dict, compare=False)

    @classmethod
    def of(cls, act: str | LayerMaps) -> LayerMaps:
        """Read ``erf``, ``relu``, ``leakyrelu:alpha=0.1``; case does not matter.

        Raises WidegramError for an unknown name or parameter.
        """
        if isinstance(act, LayerMaps):
            return act
        name, params = parse_activation(act)
        return cls(name, activations.get(name, params), params)

    def power(self, q: ArrayLike) -> Array:
        """V(q) = E[phi(u)^2]."""
        return np.asarray(self.dual.variance(np.asarray(q, np.float64))[0])

    def slope(self, q: ArrayLike) -> Array:
        """E[phi'(u)^2]: the slope of the correlation map at c = 1, over w."""
        return np.asarray(self.dual.variance(np.asarray(q, np.float64))[1])

    def slope_at(self, q: ArrayLike, delta: ArrayLike) -> Array:
        """Kdot(q, q - delta, q)."""
        q = np.asarray(q, np.float64)
        return np.asarray(self.dual.moments(q, q - np.asarray(delta), q)[1])

    def mean_slope(self, q: ArrayLike, delta: ArrayLike) -> Array:
        """Mean of Kdot over k in [q - delta, q], to full relative precision for any delta >= 0.

        ``delta * mean_slope(q, delta)`` is V(q) - K(q, q - delta, q). Arrays broadcast.
        """
        q, delta = np.broadcast_arrays(np.asarray(q, np.float64), np.asarray(delta, np.float64))
        shape, q, delta = q.shape, q.ravel(), delta.ravel()
        result = np.empty(q.size)
        near = delta < _DIRECT * q
        result[near] = self._mean_slope_near(q[near], delta[near])
        far = ~near
        if far.any():
            qf, df = q[far], delta[far]
            with np.errstate(divide="ignore", invalid="ignore"):
                value = (self.power(qf) - self.dual.moments(qf, qf - df, qf)[0]) / df
            result[far] = np.where(df > 0, value, self.slope(qf))
        return result.reshape(shape)

    def _mean_slope_near(self, q: Array, delta: Array) -> Array:
        """Gauss-Legendre in the angle theta, k = q cos theta: dk = q sin(theta) dtheta.

        Written with sinc factors so that nothing is divided by delta.
        """
        if q.size == 0:
            return np.empty(0)
        top = 2 * np.arcsin(np.sqrt(delta / (2 * q)))
        result = np.empty(q.size)
        panels = 1 + np.ceil(np.log2(np.maximum(top * np.sqrt(q) / _STRETCH, 1)))
        for count in np.unique(panels):
            rows = panels == count
            result[rows] = self._mean_over(q[rows], top[rows], *_graded(int(count)))
        return result

    def _mean_over(self, q: Array, top: Array, nodes: Array, weights: Array) -> Array:
        theta = top[:, None] * nodes
        k = q[:, None] * (1 - 2 * np.sin(theta / 2) ** 2)
        kdot = self.dual.moments(q[:, None], k, q[:, None])[1]
        # q sin(theta) top / delta, with delta = 2 q sin^2(top/2)
        jacobian = 2 * nodes * _sinc(theta) / _sinc(top / 2)[:, None] ** 2
        return np.asarray((kdot * jacobian) @ weights)

    def variances(self, w: float, b: float, q_input: float, layers: int) -> Array:
        """q_1 .. q_layers (layers,) behind each Dense: q_1 = w q_input + b, q' = w V(q) + b."""
        q = np.empty(layers)
        q[0] = w * q_input + b
        for l in range(1, layers):
            q[l] = w * float(self.power(q[l - 1])) + b
        return q

    def homogeneity(self) -> float | None:
        """The a with V(q) = a q and E[phi'^2] = a for every q (ReLU and its family, Identity), else
        None. (Of a kernel that is that of no function the second may be another number.)"""
        q = np.array([1e-3, 0.7, 1.0, 40.0])
        with np.errstate(all="ignore"):
            ratio = np.append(self.power(q) / q, self.slope(q[2]))
        return float(ratio[2]) if np.ptp(ratio) <= 1e-12 * abs(ratio[2]) else None

    def is_kinked(self, q: float = 1.0) -> bool:
        """Whether phi' jumps: Kdot then falls linearly in the angle, else as its square.

        Seen at the variance ``q``.
        """
        theta = np.array([1e-3, 2e-3])
        drop = self.slope(q) - self.slope_at(q, 2 * q * np.sin(theta / 2) ** 2)
        floor = 1e-12 * abs(float(self.slope(q)))
        return bool(drop[0] > floor and drop[1] / drop[0] < 2.8)

    def require_slope(self) -> None:
        """Refuse activations whose phi' has no mean square (Sign): Kdot is not dK/dk there."""
        q, k = np.array([1.0]), np.array([0.3])
        step = 1e-5
        high, low = (self.dual.moments(q, k + s, q)[0] for s in (step, -step))
        kdot = self.dual.moments(q, k, q)[1]
        slope = (high - low) / (2 * step)
        if np.abs(slope - kdot).max() > 1e-4 * (1 + np.abs(slope).max()):
            raise WidegramError(
                f"{self.name}: the derivative has no mean square, so chi_1 is infinite and there "
                "is no order-to-chaos transition; choose a continuous activation"
            )


@lru_cache(maxsize=32)
def layer_maps(layer: Activation) -> LayerMaps:
    """The maps of an activation layer of a network."""
    return LayerMaps(layer.name, activations.get(layer.name, dict(layer.params)))


def parse_activation(text: str) -> tuple[str, dict[str, float]]:
    """``leakyrelu:alpha=0.1`` -> ("LeakyRelu", {"alpha": 0.1}), names in any case.

    Raises WidegramError where the name is unknown or a parameter is no number.
    """
    head, _, tail = text.partition(":")
    known = {name.lower(): name for name in activations.DEFAULTS}
    key = head.strip().lower().replace("_", "").replace("-", "")
    if key not in known:
        raise WidegramError(
            f"unknown activation {head.strip()!r}; choose from {', '.join(sorted(known))}"
        )
    params: dict[str, float] = {}
    for part in filter(None, (p.strip() for p in tail.split(","))):
        label, equals, value = part.partition("=")
        try:
            params[label.strip()] = float(value)
        except ValueError:
            equals = ""
        if not equals:
            raise WidegramError(f"activation {text!r}: {part!r} is not NAME=NUMBER")
    return known[key], params


@lru_cache(maxsize=16)
def _graded(panels: int) -> tuple[Array, Array]:
    """Nodes and weights on [0, 1] in that many panels, each twice as long as the one before."""
    x, w = np.polynomial.legendre.leggauss(_NODES)
    x, w = ((a / 2).astype(np.float64) for a in (x + 1, w))
    edges = np.append(0.0, 2.0 ** np.arange(1 - panels, 1))
    lengths = np.diff(edges)[:, None]
    return (edges[:-1, None] + lengths * x).ravel(), (lengths * w).ravel()


def _sinc(x: Array) -> Array:
    return np.asarray(np.sinc(x / np.pi))
