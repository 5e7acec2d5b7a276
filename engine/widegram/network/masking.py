"""Which numbers of inputs, and pixels behind layers, are masked: neural-tangents' rules.

Numbers of an input that equal the network's ``mask`` count as 0. A Dense or Conv takes a pixel for
masked where all its channels are, and from there on K and T of masked pixels are 0, whatever biases
and activations say; the pixel in the middle of a window decides for what the window makes. Means
over pixels, of GlobalAvgPool and LayerNorm, are means over those that are visible; windows of
AvgPool and Flatten count masked pixels as zeros.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import reduce
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from widegram.errors import WidegramError, shown
from widegram.network import layers as kinds
from widegram.network import maps
from widegram.network.contribution import channels_behind
from widegram.network.geometry import centres
from widegram.network.joined import spatial_axis
from widegram.network.kinds import layer_name
from widegram.network.selection import chosen, expanded

Mask = float | str | None
# Of several inputs, that of each.
Masks = Mask | tuple[Mask, ...]
# Masks (n, H, W, c) of some inputs: c is 1 where a pixel is masked as a whole.
Masked = NDArray[np.bool_]

_NAMES = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
# What a masked network may have.
_KNOWN = (
    kinds.Conv, kinds.ConvLocal, kinds.ConvTranspose, kinds.ImageResize, kinds.DotGeneral,
    kinds.Dense, kinds.Activation, kinds.Pool, kinds.GlobalPool, kinds.Flatten, kinds.LayerNorm,
    kinds.Dropout, kinds.Index, kinds.Aggregate, kinds.GlobalSelfAttention, kinds.Residual,
    kinds.FanInSum, kinds.FanInProd, kinds.FanInConcat, kinds.Repeat, kinds.Readouts,
)  # fmt: skip


def parse_mask(value: Any) -> Mask:
    """A checked mask: a number, or 'nan', 'inf' or '-inf', which are none of JSON; None without.

    Raises WidegramError for anything else.
    """
    if value is None:
        return None
    if isinstance(value, str):
        name = value.strip().lower().replace("infinity", "inf").lstrip("+")
        if name not in _NAMES:
            known = ", ".join(map(repr, _NAMES))
            raise WidegramError(f"mask: must be a number or one of {known}, found {shown(value)}")
        return name
    try:
        number = float(value) if isinstance(value, Real) and not isinstance(value, bool) else None
    except OverflowError:
        number = None
    if number is None:
        raise WidegramError(f"mask: must be a number, 'nan', 'inf' or '-inf', found {shown(value)}")
    if math.isfinite(number):
        return number + 0.0  # -0.0 is 0.0, the same inputs equal them
    return next(name for name, other in _NAMES.items() if repr(number) == repr(other))


def parse_masks(value: Any, inputs: int) -> Masks:
    """A checked mask; of several ``inputs`` one for each, of a list, or one that all have.

    Raises WidegramError for anything else.
    """
    if not isinstance(value, (list, tuple)):
        mask = parse_mask(value)
        return mask if mask is None or not inputs else (mask,) * inputs
    if len(value) != inputs:
        what = f"a list of {len(value)}, and the input " + (
            f"one of {inputs}" if inputs else "no list"
        )
        raise WidegramError(f"mask: is {what}; give one number, or one for each input of a list")
    found = tuple(map(parse_mask, value))
    return None if found == (None,) * inputs else found


def constant(mask: float | str) -> float:
    """The number that masked ones equal."""
    return _NAMES[mask] if isinstance(mask, str) else mask


def constants(mask: Masks) -> float | tuple[float | None, ...]:
    """The number that masked ones equal, of each input of a list, None where there is none."""
    if isinstance(mask, tuple):
        return tuple(None if one is None else constant(one) for one in mask)
    assert mask is not None
    return constant(mask)


def check_masked(
    layers: tuple[kinds.Layer, ...], channels: Sequence[int], shapes: Mapping[str, tuple[int, ...]]
) -> None:
    """Raise WidegramError for a layer that has no meaning, or none that is known, on values of
    which single ``channels``, of each input, may be masked; ``shapes``: spatial ones behind layers,
    by path."""
    if len(channels) == 1:
        _check(layers, "layers", channels[0] > 1, shapes)
        return
    path = f"layers[0] {layer_name(layers[0])}"
    parts = zip(kinds.named_lists(layers[0]), channels, strict=True)
    ends = [_check(part, f"{path}.{name}", c > 1, shapes) for (name, part), c in parts]
    raw = _raw_behind(layers[0], path, ends, shapes)
    _check(layers[1:], "layers", raw, shapes, 1)


def _raw_behind(
    layer: kinds.Layer, path: str, ends: Sequence[bool], shapes: Mapping[str, tuple[int, ...]]
) -> bool:
    """Whether of a composition that makes something of what its lists end with."""
    if any(ends) or not isinstance(layer, kinds.FanInConcat):
        return any(ends)
    shape = shapes.get(path)
    return shape is None or spatial_axis(layer.axis, len(shape)) is None


def _check(
    layers: tuple[kinds.Layer, ...], where: str, raw: bool, shapes: Mapping[str, tuple[int, ...]],
    first: int = 0,
) -> bool:  # fmt: skip
    """``raw``: the values are inputs of several channels, or channels of several branches, of which
    some alone may be masked; whether what the layers make is."""
    for i, layer in enumerate(layers, first):
        path = f"{where}[{i}] {layer_name(layer)}"
        if not isinstance(layer, _KNOWN):
            raise WidegramError(f"{path}: is not supported with 'mask'; leave one of them out")
        match layer:
            case kinds.Activation(name="Identity"):
                pass
            case (
                kinds.Pool()
                | kinds.GlobalPool()
                | kinds.LayerNorm()
                | kinds.Activation()
                | kinds.Aggregate()
            ) if raw:
                raise _channels_masked(path)
            case kinds.GlobalSelfAttention() if raw and layer.pos_emb_type != "NONE":
                raise _channels_masked(path)
            case (
                kinds.Convolution() | kinds.Dense() | kinds.Flatten() | kinds.GlobalSelfAttention()
            ):
                raw = False
            case _:
                lists = kinds.named_lists(layer)
                ends = [_check(part, f"{path}.{name}", raw, shapes) for name, part in lists]
                raw = _raw_behind(layer, path, ends, shapes) if ends else raw
    return raw


def _channels_masked(path: str) -> WidegramError:
    return WidegramError(
        f"{path}: takes values of which single channels may be masked; put a Dense or Conv before "
        "it, which masks whole pixels"
    )


def behind(
    layer: kinds.Layer, masked: Masked, axes: Sequence[int], channels: int | None = None
) -> Masked:
    """The masks behind one layer that is no composition.

    ``axes``: those of (H, W) that the values have for layers, as in
    :mod:`widegram.reference.tensors`; ``channels``: how many they have in a network of finite
    width, which Flatten puts side by side, None where that is not known.
    """
    match layer:
        case kinds.ConvTranspose():
            return _transposed(_all(masked, -1), layer, axes)
        case kinds.Convolution(filter_shape=window):
            return _middles(_all(masked, -1), layer, window, axes)
        case kinds.Dense() | kinds.GlobalSelfAttention():
            return _all(masked, -1)
        case kinds.Pool(window_shape=window):
            return _middles(masked, layer, window, axes)
        case kinds.ImageResize():
            sizes = zip(axes, maps.resized(layer, _sizes(masked, axes), "ImageResize"), strict=True)
            for axis, out in sizes:
                matrix = maps.resizing(masked.shape[1 + axis], out, layer.method, layer.antialias)
                masked = ~_along(1 + axis, maps.reads(matrix), ~masked)
            return masked
        case kinds.DotGeneral():
            return _dotted(masked, layer, axes)
        case kinds.GlobalPool():
            return _all(masked, (1, 2))
        case kinds.Flatten():
            shape = (*masked.shape[:3], masked.shape[3] if channels is None else channels)
            return np.broadcast_to(masked, shape).reshape(len(masked), 1, 1, -1)
        case kinds.Index(idx=idx):
            _, *entries, _ = expanded(idx, len(axes) + 2, "Index")
            for axis, entry in zip(axes, entries, strict=True):
                taken = chosen(entry, masked.shape[1 + axis], "Index")
                masked = np.take(masked, taken, axis=1 + axis)
            return masked
        case _:
            return masked


def _all(masked: Masked, axis: int | tuple[int, ...]) -> Masked:
    return np.asarray(masked.all(axis=axis, keepdims=True))


def joined_masks(
    layer: kinds.Residual | kinds.FanIn, ends: Sequence[Masked], axes: Sequence[int],
    widths: Sequence[int | None],
) -> Masked:  # fmt: skip
    """The masks where branches meet, given those that they end with, and their channels."""
    if not isinstance(layer, kinds.FanInConcat):
        return reduce(np.logical_and, ends)
    along = spatial_axis(layer.axis, len(axes))
    if along is not None:
        most = max(end.shape[-1] for end in ends)
        alike = [np.broadcast_to(end, (*end.shape[:3], most)) for end in ends]
        return np.concatenate(alike, axis=1 + axes[along])
    wide = [
        np.broadcast_to(end, (*end.shape[:3], max(width or 1, end.shape[-1])))
        for end, width in zip(ends, widths, strict=True)
    ]
    return np.concatenate(wide, axis=-1)


def _concatenates_channels(layer: kinds.Layer, axes: Sequence[int]) -> bool:
    return isinstance(layer, kinds.FanInConcat) and spatial_axis(layer.axis, len(axes)) is None


# Masks, and the axes and channels of what has them.
Ends = tuple[Masked, tuple[int, ...], int | None]


def joined_ends(layer: kinds.Residual | kinds.FanIn, ends: Sequence[Ends]) -> Ends:
    """The masks where branches meet, and the axes and channels there, given those that they end
    with."""
    axes, widths = ends[0][1], [end[2] for end in ends]
    masked = joined_masks(layer, [end[0] for end in ends], axes, widths)
    channels = next((width for width in widths if width), None)
    if _concatenates_channels(layer, axes):
        channels = sum(width or 1 for width in widths)
    return masked, axes, channels


def behind_all(
    layers: Sequence[kinds.Layer], masked: Masked, axes: tuple[int, ...], channels: int | None
) -> Ends:
    """The masks behind some layers, and their axes and channels, given those before them."""
    for layer in layers:
        match layer:
            case kinds.Residual() | kinds.FanIn():
                ends = [
                    behind_all(branch, masked, axes, channels)
                    for branch in kinds.lists_inside(layer)
                ]
                masked, axes, channels = joined_ends(layer, ends)
            case kinds.Repeat(times=times, body=body):
                masked, axes, channels = behind_all(body * times, masked, axes, channels)
            case _:
                before, pixels = masked, masked.shape[1] * masked.shape[2]
                masked = behind(layer, masked, axes, channels)
                channels = channels_behind(layer, channels, pixels)
                if isinstance(layer, kinds.GlobalPool | kinds.Flatten):
                    axes = ()
                if isinstance(layer, kinds.DotGeneral) and maps.scalar(layer) is None:
                    shape = _sizes(before, axes)
                    axes = axes[: len(maps.dotted(layer, shape, "DotGeneral"))]
                if isinstance(layer, kinds.Index):
                    _, *entries, _ = expanded(layer.idx, len(axes) + 2, "Index")
                    kept = zip(axes, entries, strict=True)
                    axes = tuple(axis for axis, entry in kept if not isinstance(entry, int))
    return masked, axes, channels


def _sizes(masked: Masked, axes: Sequence[int]) -> tuple[int, ...]:
    return tuple(masked.shape[1 + axis] for axis in axes)


def _along(axis: int, support: NDArray[np.bool_], flags: Masked) -> Masked:
    """Along an axis, whether any of those that a row of ``support`` reads is set."""
    found = np.tensordot(support.astype(np.float64), flags.astype(np.float64), (1, axis))
    return np.asarray(np.moveaxis(found, 0, axis) > 0)


def _transposed(masked: Masked, layer: kinds.ConvTranspose, axes: Sequence[int]) -> Masked:
    """A pixel is masked where any is that reaches it."""
    for axis, window, stride in zip(axes, layer.filter_shape, layer.strides, strict=True):
        size = masked.shape[1 + axis]
        masked = _along(1 + axis, maps.reached(size, window, stride, layer.padding), masked)
    return masked


def _dotted(masked: Masked, layer: kinds.DotGeneral, axes: Sequence[int]) -> Masked:
    """A pixel is visible where any is that it reads."""
    factor = maps.scalar(layer)
    if factor is not None:
        return masked if factor else np.ones_like(masked)
    shape = _sizes(masked, axes)
    made = dict(zip(axes, maps.dotted(layer, shape, "DotGeneral"), strict=False))
    flat = masked.reshape(len(masked), -1, masked.shape[-1])
    visible = _along(1, maps.reads(maps.dotting(layer, shape, "DotGeneral")), ~flat)
    return ~visible.reshape(len(masked), made.get(0, 1), made.get(1, 1), -1)


def _middles(
    masked: Masked,
    layer: kinds.Convolution | kinds.Pool,
    window: tuple[int, ...],
    axes: Sequence[int],
) -> Masked:
    """Masks in the middle of windows."""
    taken = [slice(None)] * masked.ndim
    for axis, size, stride in zip(axes, window, layer.strides, strict=True):
        taken[1 + axis] = centres(masked.shape[1 + axis], size, stride, layer.padding)
    return masked[tuple(taken)]
