"""Deviations of inputs of one norm: where they start from, and through which networks they go."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from widegram.errors import WidegramError
from widegram.meanfield.recursion.circular_mean import displacements, pixel_products
from widegram.meanfield.recursion.deviations import Deviations
from widegram.meanfield.recursion.scaled import LogScaled
from widegram.meanfield.recursion.walker import (
    all_layers,
    refusal_of_sequences,
    trained_apart,
    walk,
)
from widegram.meanfield.theory.one_layer import Array
from widegram.network import Network
from widegram.network import layers as kinds

_POINTWISE = (kinds.Dense, kinds.Activation, kinds.LayerNorm, kinds.Residual, kinds.Repeat)
# Below this share of q a delta is computed again by differences.
_NEAR = 1e-3
# Norms may differ by the rounding of a normalisation in float32.
NORM_TOLERANCE = 1e-6


def sweep(
    network: Network, start: Deviations, depths: Sequence[int]
) -> Iterator[tuple[int, Deviations]]:
    """Yield (l, deviations behind the suffix) for the ascending ``depths`` from one pass.

    ``start`` are the inputs' deviations. Raises WidegramError for layers outside of
    :func:`refusal`.
    """
    reason = refusal(network)
    if reason is not None:
        raise WidegramError(reason)
    yield from walk(network, start, depths)


def input_deviations(x1: Array, x2: Array) -> Deviations:
    """delta = |x - x'|^2 / (2 D) between the rows of x1 (n1, D) and x2 (n2, D) of one norm.

    By one matrix product; near duplicates, whose digits it would lose, by differences before
    squaring. Raises WidegramError where the norms differ.
    """
    norms = [(x**2).mean(axis=1) for x in (x1, x2)]
    q = _common(
        np.concatenate(norms), "the mean squares",
        "deviations of a fully connected network need inputs of one norm (normalise them)",
    )  # fmt: skip
    delta = (norms[0][:, None] + norms[1]) / 2 - x1 @ x2.T / x1.shape[1]
    for i, j in zip(*np.nonzero(delta < _NEAR * q), strict=True):
        delta[i, j] = ((x1[i] - x2[j]) ** 2).mean() / 2
    return Deviations(q, 0.0, LogScaled(delta), LogScaled(np.zeros_like(delta)))


def pixel_deviations(rows: Array, cols: Array, pooled: bool) -> Deviations:
    """delta between pixels of images (n, H, W, C) and (m, H, W, C), pixels of one norm.

    All displacements where ``pooled``, else only d = 0. Raises WidegramError where norms differ.
    """
    q = _common(
        np.concatenate([(x**2).mean(axis=-1).ravel() for x in (rows, cols)]),
        "the pixels' mean squares",
        "exact deviations of a convolutional network need pixels of one norm",
    )
    height, width = rows.shape[1:3]
    delta = pixel_products(rows, cols, displacements(height, width, pooled))
    np.subtract(q, delta, out=delta)
    np.maximum(delta, 0.0, out=delta)
    if rows is cols or np.array_equal(rows[: len(cols)], cols):
        same = np.arange(len(cols))
        delta[same, same, 0] = 0.0
    return Deviations(q, 0.0, LogScaled(delta), LogScaled(np.zeros_like(delta)))


def have_one_norm(norms: Array) -> bool:
    """Whether mean squares are one number, up to the rounding of a normalisation."""
    return bool(np.ptp(norms) <= NORM_TOLERANCE * norms.mean())


def _common(norms: Array, what: str, need: str) -> float:
    q = float(norms.mean())
    if q == 0 or not have_one_norm(norms):
        raise WidegramError(
            f"inputs: {what} range from {norms.min():.6g} to {norms.max():.6g}; {need}"
        )
    return q


def is_convolutional(network: Network) -> bool:
    """Whether images reach a convolution or a pool as images."""
    prefix, _, _, _ = network.sweep()
    flat = bool(prefix) and isinstance(prefix[0], kinds.Flatten)
    return len(network.input_shape) == 3 and not flat


def refusal(network: Network) -> str | None:
    """The reason why :func:`sweep` cannot run the network, None where it can."""
    prefix, body, _, suffix = network.sweep()
    reason = trained_apart(network)
    if reason is not None:
        return reason
    if is_convolutional(network):
        return _refusal_of_images((*prefix, *body), suffix)
    found = refusal_of_sequences(network)
    return found or _unknown((*prefix, *body, *suffix), (*_POINTWISE, kinds.Flatten))


def _refusal_of_images(layers: Sequence[kinds.Layer], suffix: Sequence[kinds.Layer]) -> str | None:
    for layer in all_layers(layers):
        if isinstance(layer, kinds.Conv) and (
            layer.padding != "CIRCULAR" or layer.strides != (1, 1)
        ):
            return "only CIRCULAR padding with stride 1 leaves all pixels alike"
        if isinstance(layer, kinds.LayerNorm) and layer.axis not in ((-1,), (3,)):
            return "LayerNorm over pixels has no recursion in deviations"
    for layer in suffix:
        if isinstance(layer, kinds.GlobalPool) and layer.kind != "avg":
            return "GlobalSumPool has no fixed point"
    return _unknown(layers, (*_POINTWISE, kinds.Conv)) or _unknown(
        suffix, (kinds.Dense, kinds.Flatten, kinds.GlobalPool)
    )


def _unknown(layers: Sequence[kinds.Layer], known: tuple[type, ...]) -> str | None:
    for layer in all_layers(layers):
        if not isinstance(layer, known):
            return f"{type(layer).__name__} has no recursion in deviations at this place"
    return None
