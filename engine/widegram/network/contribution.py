"""What layers with weights add to K and T, and how many channels they see.

A layer makes K <- W_std^2 A[K] + b_std^2 and T <- w A[K] + b + W_std^2 A[T], with A the mean over
its filter's taps. Its own contribution (w, b) is the product of its parameters' gradients:

* 'ntk', with outputs W_std / sqrt(fan_in) W x + b_std beta, all parameters of unit variance:
  (W_std^2, b_std^2), so that T <- K + W_std^2 A[T].
* 'standard', with outputs W x / sqrt(s_0) + beta, the weights of variance W_std^2 s_0 / fan_in and
  the biases of variance b_std^2: (fan_in / s_0, 1), without biases (fan_in / s_0, 0)
  (Sohl-Dickstein et al. 2020, arXiv:2001.07301). fan_in is counted in a network of finite width.

Learning rates of a layer multiply its contribution.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from widegram.network.layers import (
    ConvLocal,
    Convolution,
    Dense,
    Flatten,
    GlobalSelfAttention,
    Layer,
)


class Contribution(NamedTuple):
    """(w, b) in T <- w A[K] + b + W_std^2 A[T]."""

    weights: float
    biases: float


def bias_variance(layer: Convolution | Dense) -> float:
    """b_std^2, 0 without biases."""
    return (layer.b_std or 0.0) ** 2


def trained_by(layer: Convolution | Dense) -> str:
    """The first parameter by which T is not K + W_std^2 A[T]; empty where it is."""
    known = ("parameterization", "ntk"), ("W_rate", 1), ("b_rate", 1), ("b_grad", None)
    return next((name for name, plain in known if getattr(layer, name) != plain), "")


def contribution(layer: Convolution | Dense, channels: int | None) -> Contribution | None:
    """What a layer adds to T for inputs of so many ``channels``, None where T <- K + W_std^2 A[T].

    A layer of the 'standard' parameterization must know ``channels``:
    :func:`widegram.network.shapes.infer` has refused networks where it does not.
    """
    if not trained_by(layer):
        return None
    if layer.parameterization == "standard":
        assert channels is not None
        taps = math.prod(layer.filter_shape) if isinstance(layer, Convolution) else 1
        weights, biases = channels * taps / layer.s[0], float(layer.b_std is not None)
    else:
        weights, biases = layer.W_std**2, bias_variance(layer)
    biases = layer.b_rate * biases if layer.b_grad is None else layer.b_grad
    return Contribution(layer.W_rate * weights, biases)


def channels_behind(layer: Layer | Convolution, channels: int | None, pixels: int) -> int | None:
    """Channels behind a single layer that sees ``channels`` at each of so many ``pixels``; None
    where no width says how many."""
    match layer:
        case Convolution() | Dense():
            if layer.width is None or isinstance(layer, ConvLocal):
                return layer.width  # neural-tangents' ConvLocal does not multiply it by s
            return layer.width * layer.s[1]
        case GlobalSelfAttention():
            return layer.width
        case Flatten():
            return None if channels is None else channels * pixels
    return channels
