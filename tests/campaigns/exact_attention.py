"""Global self-attention of pairs of images, in any arithmetic."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from campaigns import exact_pixels as pixels
from campaigns.duals import Values
from widegram.network import attention as rules
from widegram.network.layers import GlobalSelfAttention

if TYPE_CHECKING:
    from campaigns.exact_layers import Pair, Run


def attention(run: Run, layer: GlobalSelfAttention, k: Values, t: Values) -> Pair:
    """K and T behind the layer; masked pixels are attended to by none."""
    shape, number = (k.shape[1], k.shape[2]), run.a.number
    part, embedded = (number(v) for v in rules.mixture(layer, run.channels))
    sizes = tuple(shape[axis] for axis in run.axes)
    more = run.a.array(rules.embeddings(layer, sizes).reshape(1, *shape, *shape))
    if run.masks is not None:
        one, two = run.visible
        more = np.where(one[:, :, :, None, None] * two[:, None, None], more, 0 * more)
    keys = run.rounded(part * k + embedded * more)
    of_keys = part * t + embedded * more
    run.channels = layer.width
    values = (keys, of_keys) if layer.val_pos_emb and embedded else (k, t)
    gain, bias = number(layer.W_out_std * layer.W_value_std) ** 2, number(layer.b_std or 0) ** 2
    if layer.linear_scaling:
        first, second = (run.matrix(w) for w in _weights(run, layer, keys))
        k, t = (pixels.mapped(v, first, second, shape) for v in values)
        return run.rounded(gain * k + bias), run.rounded(gain * t + 2 * gain * k + bias)
    gain *= number(layer.W_query_std * layer.W_key_std) ** 2
    both = _total(keys * values[0])
    t = _total(keys * values[1] + values[0] * of_keys) * keys + both * of_keys
    k = both * keys
    return run.rounded(gain * k + bias), run.rounded(gain * t + 4 * gain * k + bias)


def _weights(run: Run, layer: GlobalSelfAttention, keys: Values) -> Pair:
    """Of both images of every pair, (pairs, pixels, pixels)."""
    if run.known is not None:
        return next(run.known)
    n = keys.shape[1] * keys.shape[2]
    scores = keys.reshape(-1, n, n) * run.a.number(layer.W_query_std * layer.W_key_std)
    seen: Any = True if run.masks is None else run.visible[0].reshape(-1, 1, n)
    match layer.attention_mechanism:
        case "SOFTMAX":
            least = scores.min(axis=-1, keepdims=True)
            top = np.where(seen, scores, least).max(axis=-1, keepdims=True)
            powers = run.a.exp(np.where(seen, scores, top) - top)
            powers = np.where(seen, powers, 0 * powers)
            total = powers.sum(axis=-1, keepdims=True)
            scores = powers / np.where(total == 0, total + 1, total)
        case "ABS":
            scores = abs(scores)
        case "RELU":
            scores = np.maximum(scores, 0 * scores)
    scores = run.rounded(np.where(seen, scores, 0 * scores))
    run.variances.append(scores)
    return scores, scores


def _total(values: Values) -> Values:
    """The sum over all pairs of pixels, (pairs, 1, 1, 1, 1)."""
    return values.sum(axis=(1, 2, 3, 4), keepdims=True)
