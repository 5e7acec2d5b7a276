"""Shape inference and the rules that decide whether a network has an exact kernel.

Three facts travel with the shape. *Gaussian*: an activation, LayerNorm or a sum of branches has a
closed form only for mean-zero Gaussian inputs, which Dense and Conv make, pools keep, and
activations, Dropout and Flatten lose (the rules of neural-tangents). *Affine*: whether a Dense or
Conv lies behind, since Dropout has no meaning on the raw input. *Channels*: how many a network of
finite width has there, which the 'standard' parameterization depends on.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from widegram.errors import WidegramError
from widegram.network import attention, maps
from widegram.network.contribution import channels_behind
from widegram.network.geometry import padding
from widegram.network.joined import joined
from widegram.network.kinds import layer_name
from widegram.network.layers import (
    Activation,
    Aggregate,
    Convolution,
    ConvTranspose,
    Dense,
    DotGeneral,
    Dropout,
    FanIn,
    Flatten,
    GlobalPool,
    GlobalSelfAttention,
    ImageResize,
    Index,
    Layer,
    LayerNorm,
    Pool,
    Readouts,
    Repeat,
    Residual,
)
from widegram.network.selection import ALL, chosen, expanded
from widegram.network.state import Shape
from widegram.network.state import State as _State
from widegram.network.state import require_gaussian as _require_gaussian
from widegram.network.state import shown as _show
from widegram.network.weights import have_weights
from widegram.validation import bounds

LayerShapes = tuple[str, Shape, Shape]


def infer(
    input_shape: Shape, layers: tuple[Layer, ...], inputs: tuple[Shape, ...] = ()
) -> list[LayerShapes]:
    """Return (path, spatial shape before, spatial shape after) of every layer, depth first.

    Spatial shapes are (H, W) for images, (L,) for sequences and () for vectors; a Repeat's body is
    listed as its first repetition sees it. ``inputs``: the shapes of each of several inputs, which
    the branches of the first layer take; the largest stands for all before it.

    Raises:
        WidegramError: a layer does not fit its input, or the kernel has no exact form; the
            message names the layer and what to change.
    """
    rows: list[LayerShapes] = []
    if inputs:
        state = _of_inputs(layers[0], inputs, rows)
        state = _sequence(layers[1:], state, "layers", "", rows, 1)
    else:
        state = _sequence(layers, _first(input_shape), "layers", "", rows)
    if state.shape:
        raise WidegramError(
            f"network: the output is still {_what(state.shape)} of {_show(state.shape)} pixels; "
            "add Flatten or GlobalAvgPool"
        )
    return rows


@dataclass(frozen=True)
class Ending:
    """What layers end with: the spatial shape, whether the values are Gaussian, the number of
    channels, None where no width says it, the pixels of the largest image on the way, and what
    :func:`infer` returns."""

    shape: Shape
    gaussian: bool
    channels: int | None
    pixels: int
    rows: tuple[LayerShapes, ...]


def follow_list(inputs: tuple[Shape, ...], layers: tuple[Layer, ...]) -> Ending:
    """Return what layers end with of which the first takes a list of inputs; raises as
    :func:`infer`, but the output may be an image."""
    rows: list[LayerShapes] = []
    state = _sequence(layers[1:], _of_inputs(layers[0], inputs, rows), "layers", "", rows, 1)
    return _ending(state, (*(shape[:-1] for shape in inputs), *(row[2] for row in rows)), rows)


def _ending(state: _State, shapes: Iterable[Shape], rows: list[LayerShapes]) -> Ending:
    pixels = max(map(math.prod, shapes))
    return Ending(state.shape, state.lost_at is None, state.channels, pixels, tuple(rows))


def follow(
    input_shape: Shape, layers: tuple[Layer, ...], raw: bool = True, gaussian: bool = False
) -> Ending:
    """Return what layers of one input end with; raises as :func:`infer`, but the output may be an
    image.

    ``raw``: they begin with inputs, otherwise with values of other layers, ``gaussian`` or not,
    whose channels may be 0: not known.
    """
    state = _first(input_shape)
    if not raw:
        lost_at = None if gaussian else "the layers before"
        channels = input_shape[-1] or None
        state = _State(state.shape, lost_at, True, state.axes, channels, "the layers before")
    rows: list[LayerShapes] = []
    state = _sequence(layers, state, "layers", "", rows)
    return _ending(state, (input_shape[:-1], *(row[2] for row in rows)), rows)


def _first(input_shape: Shape) -> _State:
    shape = tuple(input_shape[:-1])
    return _State(shape, "the raw input", False, tuple(range(len(shape))), input_shape[-1])


def _of_inputs(layer: Layer, inputs: tuple[Shape, ...], rows: list[LayerShapes]) -> _State:
    """Behind the first layer of a network of several inputs."""
    assert isinstance(layer, FanIn)
    path, inner = f"layers[0] {layer_name(layer)}", list[LayerShapes]()
    ends = [
        _sequence(branch, _first(shape), f"{path}.branches[{n}]", "", inner)
        for n, (branch, shape) in enumerate(zip(layer.branches, inputs, strict=True))
    ]
    after = joined(layer, ends, path)
    rows += [(path, max((s[:-1] for s in inputs), key=math.prod), after.shape), *inner]
    return after


def _what(shape: Shape) -> str:
    return "a sequence" if len(shape) == 1 else "an image"


def _sequence(
    layers: tuple[Layer, ...], state: _State, where: str, note: str, rows: list[LayerShapes],
    first: int = 0,
) -> _State:  # fmt: skip
    """``first``: the number of the first layer in its list."""
    for i, layer in enumerate(layers, first):
        path = f"{where}[{i}] {layer_name(layer)}"
        at = len(rows)
        after = _layer(layer, state, path, note, rows)
        rows.insert(at, (path, state.shape, after.shape))
        state = after
    return state


def _layer(layer: Layer, state: _State, path: str, note: str, rows: list[LayerShapes]) -> _State:
    match layer:
        case ConvTranspose():
            return _affine(layer, state, _transposed(layer, state, path + note), path, note)
        case Convolution():
            shape = _windows(layer.filter_shape, layer, state, path + note)
            return _affine(layer, state, shape, path, note)
        case Dense():
            return _affine(layer, state, state.shape, path, note)
        case Activation(name="Identity"):
            return state
        case Activation():
            _require_gaussian(state, path, note, "its input")
            return replace(state, lost_at=path)
        case Pool():
            return replace(state, shape=_windows(layer.window_shape, layer, state, path + note))
        case GlobalPool():
            _require_image(state, path + note)
            _check_pixels(state.shape, path + note)
            return replace(state, shape=(), axes=())
        case Flatten():
            channels = channels_behind(layer, state.channels, math.prod(state.shape))
            return replace(state, shape=(), axes=(), lost_at=path, channels=channels)
        case LayerNorm():
            _require_gaussian(state, path, note, "its input")
            _check_axis(layer, state, path + note)
            return state
        case Dropout():
            if not state.affine:
                raise WidegramError(
                    f"{path}{note}: Dropout cannot act on the raw input; "
                    "put a Dense or Conv layer before it"
                )
            return replace(state, lost_at=path)
        case Index():
            return _index(layer, state, path + note)
        case ImageResize():
            shape = maps.resized(layer, state.shape, path + note)
            _check_image(shape, path + note)
            return replace(state, shape=shape)
        case Aggregate():
            _check_aggregate(layer, state, path + note)
            return state
        case GlobalSelfAttention():
            _check_attention(layer, state, path + note)
            return _State(state.shape, None, True, state.axes, layer.width, path)
        case DotGeneral():
            if maps.scalar(layer) is not None:
                return state
            shape = maps.dotted(layer, state.shape, path + note)
            return replace(state, shape=shape, axes=state.axes[: len(shape)])
        case Residual():
            return _residual(layer, state, path, note, rows)
        case FanIn(branches=branches):
            ends = [
                _sequence(branch, state, f"{path}.branches[{n}]", note, rows)
                for n, branch in enumerate(branches)
            ]
            return joined(layer, ends, path + note)
        case Repeat():
            return _repeat(layer, state, path, note, rows)
        case Readouts(heads):
            ends = [
                _sequence(head, state, f"{path}.heads.{name}", note, rows) for name, head in heads
            ]
            for (name, _), end in zip(heads, ends, strict=True):
                if end.shape:
                    raise WidegramError(
                        f"{path}.heads.{name}: the output is still {_what(end.shape)} of "
                        f"{_show(end.shape)} pixels; add Flatten or GlobalAvgPool"
                    )
            return ends[0]


def _affine(
    layer: Convolution | Dense, state: _State, shape: Shape, path: str, note: str
) -> _State:
    if layer.parameterization == "standard" and state.channels is None:
        raise WidegramError(
            f"{path}{note}: parameterization 'standard' depends on the channels of its input; add "
            f"'width' to {state.unsaid_at}"
        )
    return _State(
        shape, None, True, state.axes, channels_behind(layer, state.channels, 1), path
    )


def _require_image(state: _State, path: str) -> None:
    if not state.shape:
        raise WidegramError(
            f"{path}: needs an image (H, W, C) or a sequence (L, C), but its input is a vector; "
            "move it before Flatten or global pooling, or remove it"
        )


def _check_pixels(shape: Shape, path: str) -> None:
    if math.prod(shape) > bounds.POOLED_PIXELS:
        raise WidegramError(
            f"{path}: couples all pairs of {_show(shape)} pixels, at most "
            f"{bounds.POOLED_PIXELS:,} are taken; pool or stride before it, or use Flatten"
        )


def _require_axes(window: Shape, what: str, state: _State, path: str) -> None:
    _require_image(state, path)
    if len(window) != len(state.shape):
        raise WidegramError(
            f"{path}: {what} {list(window)} does not fit {_what(state.shape)} of "
            f"{_show(state.shape)} pixels; give a number for each of its axes"
        )


def _windows(window: Shape, layer: Convolution | Pool, state: _State, path: str) -> Shape:
    what = "filter_shape" if isinstance(layer, Convolution) else "window_shape"
    _require_axes(window, what, state, path)
    try:
        return tuple(
            padding(size, w, s, layer.padding)[0]
            for size, w, s in zip(state.shape, window, layer.strides, strict=True)
        )
    except WidegramError:
        raise WidegramError(
            f"{path}: {what} {_show(window)} is larger than its image of {_show(state.shape)} "
            "pixels with padding VALID; use a smaller one, or padding SAME or CIRCULAR"
        ) from None


def _transposed(layer: ConvTranspose, state: _State, path: str) -> Shape:
    _require_axes(layer.filter_shape, "filter_shape", state, path)
    sizes = zip(state.shape, layer.filter_shape, layer.strides, strict=True)
    shape = tuple(maps.transposed(size, w, s, layer.padding).out for size, w, s in sizes)
    _check_image(shape, path)
    return shape


def _check_attention(layer: GlobalSelfAttention, state: _State, path: str) -> None:
    """Refuse what is no image, or embeddings with channels that do not fit those of the input."""
    _require_image(state, path)
    _check_pairs(state, path)
    if layer.pos_emb_type != "NONE" and not callable(layer.pos_emb_decay_fn):
        apart = attention.distances(layer, state.shape)
        made = attention.decayed(layer, apart)
        if not np.isfinite(made).all():
            raise WidegramError(
                f"{path}: pos_emb_decay_fn has no finite value at distance "
                f"{apart[~np.isfinite(made)][0]:g}, which two of {_show(state.shape)} pixels have"
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


def _check_aggregate(layer: Aggregate, state: _State, path: str) -> None:
    _require_image(state, path)
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


def _check_pairs(state: _State, path: str) -> None:
    pixels = math.prod(state.shape)
    if pixels**2 > bounds.MATRIX:
        raise WidegramError(
            f"{path}: couples all pairs of {pixels:,} pixels; at most {bounds.MATRIX:,} pairs are "
            "taken"
        )


def _check_image(shape: Shape, path: str) -> None:
    if math.prod(shape) > bounds.PIXELS:
        raise WidegramError(
            f"{path}: makes an image of {_show(shape)} pixels; one has at most {bounds.PIXELS:,}"
        )


def normalized_axes(layer: LayerNorm, spatial_ndim: int) -> tuple[int, ...]:
    """Return the sorted spatial axes (0 is height) a LayerNorm averages the variance over."""
    ndim = spatial_ndim + 2
    axes = {axis % ndim for axis in layer.axis if -ndim <= axis < ndim}
    return tuple(sorted(axis - 1 for axis in axes - {0, ndim - 1}))


def _check_axis(layer: LayerNorm, state: _State, path: str) -> None:
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


def _index(layer: Index, state: _State, path: str) -> _State:
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


def _residual(
    layer: Residual, state: _State, path: str, note: str, rows: list[LayerShapes]
) -> _State:
    branch = _sequence(layer.branch, state, f"{path}.branch", note, rows)
    shortcut = _sequence(layer.shortcut, state, f"{path}.shortcut", note, rows)
    if branch.shape != shortcut.shape:
        raise WidegramError(
            f"{path}{note}: the branch ends with {_show(branch.shape)}, the shortcut with "
            f"{_show(shortcut.shape)}; give both the same strides, paddings and pools"
        )
    if branch.axes != shortcut.axes:
        raise WidegramError(
            f"{path}{note}: the branch and the shortcut keep different axes of the image; take the "
            "same with Index in both"
        )
    _require_gaussian(branch, path, note, "the branch's output")
    _require_gaussian(shortcut, path, note, "the shortcut's output")
    if not (have_weights(layer.branch) or have_weights(layer.shortcut)):
        raise WidegramError(
            f"{path}{note}: branch and shortcut share all their random weights, so that the kernel "
            "of their sum is not the sum of their kernels; put a Dense or Conv layer in the branch"
        )
    known = {side.channels for side in (branch, shortcut) if side.channels is not None}
    if len(known) > 1:
        raise WidegramError(
            f"{path}{note}: the branch ends with {branch.channels:,} channels, the shortcut with "
            f"{shortcut.channels:,}; give both the same 'width'"
        )
    return replace(branch, channels=max(known, default=None))


def _repeat(layer: Repeat, state: _State, path: str, note: str, rows: list[LayerShapes]) -> _State:
    for k in range(layer.times):
        again = f" (repetition {k + 1})" if k else ""
        after = _sequence(layer.body, state, f"{path}.body", note + again, rows if k == 0 else [])
        if after == state:
            break
        state = after
    return state
