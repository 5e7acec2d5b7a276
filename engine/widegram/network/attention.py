"""Global self-attention of an infinite number of heads (Hron et al. 2020, arXiv:2006.10540).

With dot products scaled by the number of channels and tied keys and queries the weights with which
pixels attend to each other are no random numbers any more, but
G = zeta(W_query_std W_key_std C), with C the covariance of the input's pixels and of their
positional embeddings. K <- W_value_std^2 W_out_std^2 G K G'^T + b_std^2, and T what values and
outputs, and biases, add to that.

Scaled by the root of that number weights are random, with the mechanism IDENTITY of covariance
(W_query_std W_key_std)^2 C(p, p') C(q, q') between two inputs, so that
K <- (W_query_std W_key_std W_value_std W_out_std)^2 C sum(C V) + b_std^2: C and V the covariances
of keys and of values between two inputs, the sum over all pairs of pixels. T has four
contributions of the same size, of queries, keys, values and outputs, and what reaches each of the
first three from below.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from widegram.activations.expressions import expression, parsed_function
from widegram.errors import shown
from widegram.network.layers import GlobalSelfAttention

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]
MECHANISMS = ("SOFTMAX", "IDENTITY", "ABS", "RELU")
EMBEDDINGS = ("NONE", "SUM", "CONCAT")
# Distances are equal but for the roundings of a power and a sum.
_ALIKE = 1e-12


class Embedded(NamedTuple):
    """What of the input and of positional embeddings is in the sum of both; ``embedded`` 0 without
    any."""

    input: float
    embedded: float


def mixture(layer: GlobalSelfAttention, channels: int | None) -> Embedded:
    """What is in the sum that a layer sees behind so many ``channels``.

    They count where ``n_chan_pos_emb`` is given; else concatenated embeddings have as many.
    """
    if layer.pos_emb_type == "NONE":
        return Embedded(1.0, 0.0)
    own = embedded = 1.0
    if layer.pos_emb_type == "CONCAT":
        own = embedded = 0.5
        if layer.n_chan_pos_emb is not None:
            assert channels is not None
            own = channels / (channels + layer.n_chan_pos_emb)
            embedded = layer.n_chan_pos_emb / (channels + layer.n_chan_pos_emb)
    return Embedded(own, embedded * layer.W_pos_emb_std**2)


def embeddings(layer: GlobalSelfAttention, shape: tuple[int, ...]) -> Array:
    """The covariance (pixels, pixels) of positional embeddings of an image of that shape: a
    function of the sum over axes of distances to the power of ``pos_emb_p_norm``; where there is
    none, 1 for equal pixels."""
    pixels = np.indices(shape).reshape(len(shape), -1)
    apart = np.abs(pixels[:, :, None] - pixels[:, None, :]).astype(np.float64)
    return decayed(layer, (apart**layer.pos_emb_p_norm).sum(axis=0))


def distances(layer: GlobalSelfAttention, shape: tuple[int, ...]) -> Array:
    """The distances between pixels of an image of that shape, each once."""
    apart = np.indices(shape).reshape(len(shape), -1).astype(np.float64)
    return np.unique((apart**layer.pos_emb_p_norm).sum(axis=0))


def decayed(layer: GlobalSelfAttention, distances: Array) -> Array:
    """``pos_emb_decay_fn`` of distances; NaN where a table has none."""
    given = layer.pos_emb_decay_fn
    if given is None:
        return np.asarray(distances == 0, dtype=np.float64)
    if isinstance(given, str):
        return np.asarray(parsed_function(given)[0](distances))
    known, values = np.array(given).T
    at = np.searchsorted(known, distances * (1 - _ALIKE)).clip(max=len(known) - 1)
    there = np.abs(known[at] - distances) <= _ALIKE * distances
    return np.where(there, values[at], np.nan)


def decay(value: Any) -> Any:
    """A checked expression in x, or table of pairs (distance, value), sorted; a ValueError says
    what is wrong."""
    if isinstance(value, str):
        return expression(value)
    try:
        pairs = sorted((float(d), float(v)) for d, v in value)
    except (TypeError, ValueError, OverflowError):
        pairs = []
    apart = [d for d, _ in pairs]
    if not pairs or not np.isfinite(pairs).all() or apart[0] < 0 or len({*apart}) < len(apart):
        raise ValueError(
            "must be an expression in x, such as 'exp(-x)', or a table of [distance, value] with "
            f"finite numbers and no distance twice, found {shown(value)}"
        )
    return tuple(pairs)


def attended(
    layer: GlobalSelfAttention, covariance: Array, visible: Flags | None = None
) -> Array:
    """G of covariances (n, pixels, pixels) of keys, each row the weights of one pixel; ``visible``
    (n, pixels): those that are attended to, where some are masked."""
    scores = layer.W_query_std * layer.W_key_std * covariance
    if layer.attention_mechanism == "SOFTMAX":
        if visible is not None:
            scores = np.where(visible[:, None, :], scores, -np.inf)
        top = scores.max(axis=-1, keepdims=True)
        powers = np.exp(scores - np.where(np.isneginf(top), 0.0, top))
        total = powers.sum(axis=-1, keepdims=True)
        return np.asarray(powers / np.where(total == 0, 1.0, total))
    if visible is not None:
        scores = np.where(visible[:, None, :], scores, 0.0)
    match layer.attention_mechanism:
        case "ABS":
            return np.abs(scores)
        case "RELU":
            return np.maximum(scores, 0.0)
    return scores


def largest_sum(layer: GlobalSelfAttention, variance: float, pixels: int) -> float:
    """A bound of the sums of absolute weights of a pixel, where keys have at most that variance."""
    if layer.attention_mechanism == "SOFTMAX":
        return 1.0
    return layer.W_query_std * layer.W_key_std * variance * pixels
