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

from widegram.errors import WidegramError
from widegram.network import layers as kinds
from widegram.network import maps
from widegram.network.contribution import channels_behind
from widegram.network.fitting import (
    behind_transposed,
    behind_windows,
    check_aggregate,
    check_attention,
    check_norm,
    check_pooled,
    check_size,
    indexed,
    named,
    require_image,
)
from widegram.network.joined import joined
from widegram.network.kinds import layer_name
from widegram.network.state import Shape, State, require_gaussian, shown
from widegram.network.weights import have_weights

LayerShapes = tuple[str, Shape, Shape]


def infer(
    input_shape: Shape, layers: tuple[kinds.Layer, ...], inputs: tuple[Shape, ...] = ()
) -> list[LayerShapes]:
    """Return (path, spatial shape before, spatial shape after) of every layer, depth first.

    Spatial shapes are (H, W) for images, (L,) for sequences and () for vectors; a Repeat's body is
    listed as its first repetition sees it. ``inputs``: the shapes of each of several inputs, which
    the branches of the first layer take; the largest stands for all before it.

    Raises WidegramError, which names the layer and what to change, where a layer does not fit its
    input, or the kernel has no exact form.
    """
    rows: list[LayerShapes] = []
    if inputs:
        state = _of_inputs(layers[0], inputs, rows)
        state = _sequence(layers[1:], state, "layers", "", rows, 1)
    else:
        state = _sequence(layers, _first(input_shape), "layers", "", rows)
    _require_vector(state, "network")
    return rows


def _require_vector(end: State, path: str) -> None:
    """Refuse an image, or a sequence, where a kernel is read off."""
    if end.shape:
        raise WidegramError(
            f"{path}: the output is still {named(end.shape)} of {shown(end.shape)} pixels; add "
            "Flatten or GlobalAvgPool"
        )


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


def follow_list(inputs: tuple[Shape, ...], layers: tuple[kinds.Layer, ...]) -> Ending:
    """Return what layers end with of which the first takes a list of inputs; raises as
    :func:`infer`, but the output may be an image."""
    rows: list[LayerShapes] = []
    state = _sequence(layers[1:], _of_inputs(layers[0], inputs, rows), "layers", "", rows, 1)
    return _ending(state, (*(shape[:-1] for shape in inputs), *(row[2] for row in rows)), rows)


def _ending(state: State, shapes: Iterable[Shape], rows: list[LayerShapes]) -> Ending:
    pixels = max(map(math.prod, shapes))
    return Ending(state.shape, state.lost_at is None, state.channels, pixels, tuple(rows))


def follow(
    input_shape: Shape, layers: tuple[kinds.Layer, ...], raw: bool = True, gaussian: bool = False
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
        state = State(state.shape, lost_at, True, state.axes, channels, "the layers before")
    rows: list[LayerShapes] = []
    state = _sequence(layers, state, "layers", "", rows)
    return _ending(state, (input_shape[:-1], *(row[2] for row in rows)), rows)


def _first(input_shape: Shape) -> State:
    shape = tuple(input_shape[:-1])
    return State(shape, "the raw input", False, tuple(range(len(shape))), input_shape[-1])


def _of_inputs(layer: kinds.Layer, inputs: tuple[Shape, ...], rows: list[LayerShapes]) -> State:
    """The state behind the first layer of a network of several inputs."""
    assert isinstance(layer, kinds.FanIn)
    path, inner = f"layers[0] {layer_name(layer)}", list[LayerShapes]()
    ends = [
        _sequence(branch, _first(shape), f"{path}.branches[{n}]", "", inner)
        for n, (branch, shape) in enumerate(zip(layer.branches, inputs, strict=True))
    ]
    after = joined(layer, ends, path)
    rows += [(path, max((s[:-1] for s in inputs), key=math.prod), after.shape), *inner]
    return after


def _sequence(
    layers: tuple[kinds.Layer, ...], state: State, where: str, note: str, rows: list[LayerShapes],
    first: int = 0,
) -> State:  # fmt: skip
    """``first``: the number of the first layer in its list."""
    for i, layer in enumerate(layers, first):
        path = f"{where}[{i}] {layer_name(layer)}"
        at = len(rows)
        after = _layer(layer, state, path, note, rows)
        rows.insert(at, (path, state.shape, after.shape))
        state = after
    return state


def _layer(
    layer: kinds.Layer, state: State, path: str, note: str, rows: list[LayerShapes]
) -> State:
    match layer:
        case kinds.ConvTranspose():
            return _affine(layer, state, behind_transposed(layer, state, path + note), path, note)
        case kinds.Convolution():
            shape = behind_windows(layer.filter_shape, layer, state, path + note)
            return _affine(layer, state, shape, path, note)
        case kinds.Dense():
            return _affine(layer, state, state.shape, path, note)
        case kinds.Activation(name="Identity"):
            return state
        case kinds.Activation():
            require_gaussian(state, path, note, "its input")
            return replace(state, lost_at=path)
        case kinds.Pool():
            shape = behind_windows(layer.window_shape, layer, state, path + note)
            return replace(state, shape=shape)
        case kinds.GlobalPool():
            require_image(state, path + note)
            check_pooled(state.shape, path + note)
            return replace(state, shape=(), axes=())
        case kinds.Flatten():
            channels = channels_behind(layer, state.channels, math.prod(state.shape))
            return replace(state, shape=(), axes=(), lost_at=path, channels=channels)
        case kinds.LayerNorm():
            require_gaussian(state, path, note, "its input")
            check_norm(layer, state, path + note)
            return state
        case kinds.Dropout():
            if not state.affine:
                raise WidegramError(
                    f"{path}{note}: Dropout cannot act on the raw input; "
                    "put a Dense or Conv layer before it"
                )
            return replace(state, lost_at=path)
        case kinds.Index():
            return indexed(layer, state, path + note)
        case kinds.ImageResize():
            shape = maps.resized(layer, state.shape, path + note)
            check_size(shape, path + note)
            return replace(state, shape=shape)
        case kinds.Aggregate():
            check_aggregate(layer, state, path + note)
            return state
        case kinds.GlobalSelfAttention():
            check_attention(layer, state, path + note)
            return State(state.shape, None, True, state.axes, layer.width, path)
        case kinds.DotGeneral():
            if maps.scalar(layer) is not None:
                return state
            shape = maps.dotted(layer, state.shape, path + note)
            return replace(state, shape=shape, axes=state.axes[: len(shape)])
        case kinds.Residual() | kinds.FanIn() | kinds.Repeat() | kinds.Readouts():
            return _branched(layer, state, path, note, rows)


def _branched(
    layer: kinds.Residual | kinds.FanIn | kinds.Repeat | kinds.Readouts, state: State, path: str,
    note: str, rows: list[LayerShapes],
) -> State:  # fmt: skip
    """The state behind a layer that is made of lists of layers."""
    match layer:
        case kinds.Residual():
            return _residual(layer, state, path, note, rows)
        case kinds.FanIn(branches=branches):
            ends = [
                _sequence(branch, state, f"{path}.branches[{n}]", note, rows)
                for n, branch in enumerate(branches)
            ]
            return joined(layer, ends, path + note)
        case kinds.Repeat():
            return _repeat(layer, state, path, note, rows)
        case kinds.Readouts(heads):
            ends = [
                _sequence(head, state, f"{path}.heads.{name}", note, rows) for name, head in heads
            ]
            for (name, _), end in zip(heads, ends, strict=True):
                _require_vector(end, f"{path}.heads.{name}")
            return ends[0]


def _affine(
    layer: kinds.Convolution | kinds.Dense, state: State, shape: Shape, path: str, note: str
) -> State:
    if layer.parameterization == "standard" and state.channels is None:
        raise WidegramError(
            f"{path}{note}: parameterization 'standard' depends on the channels of its input; add "
            f"'width' to {state.unsaid_at}"
        )
    return State(shape, None, True, state.axes, channels_behind(layer, state.channels, 1), path)


def normalized_axes(layer: kinds.LayerNorm, spatial_ndim: int) -> tuple[int, ...]:
    """Return the sorted spatial axes (0 is height) a LayerNorm averages the variance over."""
    ndim = spatial_ndim + 2
    axes = {axis % ndim for axis in layer.axis if -ndim <= axis < ndim}
    return tuple(sorted(axis - 1 for axis in axes - {0, ndim - 1}))


def _residual(
    layer: kinds.Residual, state: State, path: str, note: str, rows: list[LayerShapes]
) -> State:
    branch = _sequence(layer.branch, state, f"{path}.branch", note, rows)
    shortcut = _sequence(layer.shortcut, state, f"{path}.shortcut", note, rows)
    if branch.shape != shortcut.shape:
        raise WidegramError(
            f"{path}{note}: the branch ends with {shown(branch.shape)}, the shortcut with "
            f"{shown(shortcut.shape)}; give both the same strides, paddings and pools"
        )
    if branch.axes != shortcut.axes:
        raise WidegramError(
            f"{path}{note}: the branch and the shortcut keep different axes of the image; take the "
            "same with Index in both"
        )
    require_gaussian(branch, path, note, "the branch's output")
    require_gaussian(shortcut, path, note, "the shortcut's output")
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


def _repeat(
    layer: kinds.Repeat, state: State, path: str, note: str, rows: list[LayerShapes]
) -> State:
    for k in range(layer.times):
        again = f" (repetition {k + 1})" if k else ""
        after = _sequence(layer.body, state, f"{path}.body", note + again, rows if k == 0 else [])
        if after == state:
            break
        state = after
    return state
