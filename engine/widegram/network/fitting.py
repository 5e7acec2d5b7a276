"""What one layer asks of the shape in front of it, and the shape behind it.

Shapes are spatial: (H, W) of images, (L,) of sequences, () of vectors. ``path`` names the layer in
the messages of :class:`WidegramError`, with which all of these refuse what does not fit.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from widegram.errors import WidegramError
from widegram.network import attention, maps
from widegram.network.geometry import padding
from widegram.network.layers import (
    Aggregate,
    Convolution,
    ConvTranspose,
    GlobalSelfAttention,
    Index,
    LayerNorm,
    Pool,
)
from widegram.network.selection import ALL, chosen, expanded
from widegram.network.state import Shape, State, shown
from widegram.validation import bounds


def named(shape: Shape) -> str:
    """What has a shape of pixels."""
    return "a sequence" if len(shape) == 1 else "an image"


def require_image(state: State, path: str) -> None:
    """Refuse a vector."""
    if not state.shape:
        raise WidegramError(
            f"{path}: needs an image (H, W, C) or a sequence (L, C), but its input is a vector; "
            "move it before Flatten or global pooling, or remove it"
        )


def check_pooled(shape: Shape, path: str) -> None:
    """Refuse a global pool of more pixels than can be coupled pair by pair."""
    if math.prod(shape) > bounds.POOLED_PIXELS:
        raise WidegramError(
            f"{path}: couples all pairs of {shown(shape)} pixels, at most "
            f"{bounds.POOLED_PIXELS:,} are taken; pool or stride before it, or use Flatten"
        )


def _require_axes(window: Shape, what: str, state: State, path: str) -> None:
    require_image(state, path)
    if len(window) != len(state.shape):
        raise WidegramError(
            f"{path}: {what} {list(window)} does not fit {named(state.shape)} of "
            f"{shown(state.shape)} pixels; give a number for each of its axes"
        )


def behind_windows(window: Shape, layer: Convolution | Pool, state: State, path: str) -> Shape:
    """The shape behind a convolution, or a pool, with these windows.

    Raises WidegramError where a window does not fit.
    """
    what = "filter_shape" if isinstance(layer, Convolution) else "window_shape"
    _require_axes(window, what, state, path)
    try:
        return tuple(
            padding(size, w, s, layer.padding)[0]
            for size, w, s in zip(state.shape, window, layer.strides, strict=True)
        )
    except WidegramError:
        raise WidegramError(
            f"{path}: {what} {shown(window)} is larger than its image of {shown(state.shape)} "
            "pixels with padding VALID; use a smaller one, or padding SAME or CIRCULAR"
        ) from None


def behind_transposed(layer: ConvTranspose, state: State, path: str) -> Shape:
    """The shape behind a transposed convolution."""
    _require_axes(layer.filter_shape, "filter_shape", state, path)
    sizes = zip(state.shape, layer.filter_shape, layer.strides, strict=True)
    shape = tuple(maps.transposed(size, w, s, layer.padding).out for size, w, s in sizes)
    check_size(shape, path)
    return shape


def check_attention(layer: GlobalSelfAttention, state: State, path: str) -> None:
    """Refuse what is no image, or embeddings with channels that do not fit those of the input."""
    require_image(state, path)
    _check_pairs(state, path)
    if layer.pos_emb_type != "NONE" and not callable(layer.pos_emb_decay_fn):
        apart = attention.distances(layer, state.shape)
        made = attention.decayed(layer, apart)
        if not np.isfinite(made).all():
            raise WidegramError(
                f"{path}: pos_emb_decay_fn has no finite value at distance "
                f"{apart[~np.isfinite(made)][0]:g}, which two of {shown(state.shape)} pixels have"
            )
    embedded, channels = layer.n_chan_pos_emb, state.channels
    if embedded is None:
        return
    if layer.pos_emb_type == "SUM" and channels not in (None, embedded):
        raise WidegramError(
            f"{path}: n_chan_pos_emb {embedded:,} are added to an input of {channels:,} channels; "
            "leave it out, or use pos_emb_type CONCAT"
        )
    if layer.pos_emb_type == "CONCAT" and channels is None:
        raise WidegramError(
            f"{path}: n_chan_pos_emb counts beside the channels of its input; add 'width' to "
            f"{state.unsaid_at}"
        )


def check_aggregate(layer: Aggregate, state: State, path: str) -> None:
    """Refuse what has no vertices, or axes that are none of pixels."""
    require_image(state, path)
    ndim = len(state.shape) + 2
    for axis in layer.aggregate_axis or ():
        if not -ndim <= axis < ndim or axis % ndim in (0, ndim - 1):
            raise WidegramError(
                f"{path}: aggregate_axis {axis} is no axis of pixels of an input with {ndim} axes, "
                f"which are 1 to {ndim - 2}"
            )
    axes = layer.axes(len(state.shape))
    if len(set(axes)) < len(axes):
        raise WidegramError(f"{path}: aggregate_axis names an axis twice")
    _check_pairs(state, path)


def _check_pairs(state: State, path: str) -> None:
    pixels = math.prod(state.shape)
    if pixels**2 > bounds.MATRIX:
        raise WidegramError(
            f"{path}: couples all pairs of {pixels:,} pixels; at most {bounds.MATRIX:,} pairs are "
            "taken"
        )


def check_size(shape: Shape, path: str) -> None:
    """Refuse an image of more pixels than are taken."""
    if math.prod(shape) > bounds.PIXELS:
        raise WidegramError(
            f"{path}: makes an image of {shown(shape)} pixels; one has at most {bounds.PIXELS:,}"
        )


def check_norm(layer: LayerNorm, state: State, path: str) -> None:
    """Refuse axes that are none, the batch, or not the channels."""
    ndim = len(state.shape) + 2
    shape = ("(batch, features)", "(batch, L, C)", "(batch, H, W, C)")[len(state.shape)]
    for axis in layer.axis:
        if not -ndim <= axis < ndim:
            raise WidegramError(f"{path}: axis {axis} does not exist in an input {shape}")
    axes = {axis % ndim for axis in layer.axis}
    if 0 in axes:
        raise WidegramError(
            f"{path}: axis 0 is the batch, and a kernel may not depend on the other inputs; "
            f"normalise over axes 1 to {ndim - 1} of {shape}"
        )
    if ndim - 1 not in axes:
        raise WidegramError(
            f"{path}: axis {list(layer.axis)} leaves out the channels, without which there is no "
            f"infinite-width limit; add axis {ndim - 1} (or -1) of {shape}"
        )


def indexed(layer: Index, state: State, path: str) -> State:
    """The state behind an Index: which axes are left, and how long they are.

    Raises WidegramError for one that takes part of the batch or of the channels.
    """
    batch, *entries, channels = expanded(layer.idx, len(state.shape) + 2, path)
    for name, entry in (("batch", batch), ("channels", channels)):
        if entry != ALL:
            raise WidegramError(
                f"{path}: idx takes part of the {name}, which a kernel keeps whole; write ':' there"
            )
    kept: list[tuple[int, int]] = []
    for axis, size, entry in zip(state.axes, state.shape, entries, strict=True):
        taken = chosen(entry, size, path)
        if not isinstance(entry, int):
            kept.append((axis, len(taken)))
    axes, shape = (tuple(pair[n] for pair in kept) for n in (0, 1))
    return replace(state, shape=shape, axes=axes)
