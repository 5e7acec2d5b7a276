"""What is known behind branches that meet, from what is known of each: the rules of a fan-in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod

from widegram.errors import WidegramError
from widegram.network.layers import FanIn, FanInConcat, FanInProd
from widegram.network.state import State, require_gaussian, shown
from widegram.validation import bounds


def joined(layer: FanIn, ends: Sequence[State], path: str) -> State:
    """The state behind the branches that end with ``ends``.

    Raises WidegramError where they do not fit together, or what joins them has no exact kernel.
    """
    if isinstance(layer, FanInConcat):
        return _concatenated(layer, ends, path)
    if len(ends) == 1:
        return ends[0]
    first = ends[0]
    for n, end in enumerate(ends):
        if end.shape != first.shape:
            raise WidegramError(
                f"{path}: branches[0] ends with {shown(first.shape)}, branches[{n}] with "
                f"{shown(end.shape)}; give all the same strides, paddings and pools"
            )
    _same_axes(ends, path)
    first = replace(
        first, affine=any(end.affine for end in ends), channels=_one_width(ends, path)
    )
    if isinstance(layer, FanInProd):
        return replace(first, lost_at=path)
    for n, end in enumerate(ends):
        require_gaussian(end, path, "", f"the output of branches[{n}]")
    return first


def spatial_axis(axis: int, spatial_ndim: int) -> int | None:
    """Which axis of an image (0 is the first that it has) an ``axis`` of the batch array is; None
    for the channels. The batch is -1."""
    found = axis % (spatial_ndim + 2)
    return None if found == spatial_ndim + 1 else found - 1


def _concatenated(layer: FanInConcat, ends: Sequence[State], path: str) -> State:
    _same_axes(ends, path)
    first, ndim = ends[0], len(ends[0].shape) + 2
    if not -ndim <= layer.axis < ndim:
        raise WidegramError(f"{path}: axis {layer.axis} does not exist in outputs of {ndim} axes")
    along = spatial_axis(layer.axis, len(first.shape))
    if along == -1:
        raise WidegramError(
            f"{path}: axis {layer.axis} is the batch, and a kernel may not depend on the other "
            f"inputs; join along axes 1 to {ndim - 1}"
        )
    affine = any(end.affine for end in ends)
    for n, end in enumerate(ends):
        if any(a != b for i, (a, b) in enumerate(zip(first.shape, end.shape, strict=True))
               if i != along):  # fmt: skip
            raise WidegramError(
                f"{path}: branches[0] ends with {shown(first.shape)}, branches[{n}] with "
                f"{shown(end.shape)}; they may differ along axis {layer.axis} alone"
            )
    if along is None:
        return replace(first, affine=affine, lost_at=path, channels=_all_channels(ends, path))
    for n, end in enumerate(ends):
        require_gaussian(end, path, "", f"the output of branches[{n}]")
    shape = list(first.shape)
    shape[along] = sum(end.shape[along] for end in ends)
    if prod(shape) > bounds.PIXELS:
        raise WidegramError(
            f"{path}: makes an image of {shown(tuple(shape))} pixels; one has at most "
            f"{bounds.PIXELS:,}"
        )
    return replace(first, shape=tuple(shape), affine=affine, channels=_one_width(ends, path))


def _all_channels(ends: Sequence[State], path: str) -> int:
    found = 0
    for n, end in enumerate(ends):
        if end.channels is None:
            raise WidegramError(
                f"{path}: counts branches by their channels, which are not known of branches[{n}]; "
                f"add 'width' to {end.unsaid_at}"
            )
        found += end.channels
    return found


def _same_axes(ends: Sequence[State], path: str) -> None:
    if any(end.axes != ends[0].axes for end in ends):
        raise WidegramError(
            f"{path}: its branches keep different axes of the image; take the same with Index in "
            "all of them"
        )


def _one_width(ends: Sequence[State], path: str) -> int | None:
    """The channels of branches that must have as many."""
    known = sorted({end.channels for end in ends if end.channels is not None})
    if len(known) > 1:
        raise WidegramError(
            f"{path}: its branches end with {known[0]:,} and with {known[-1]:,} channels; give all "
            "the same 'width'"
        )
    return known[0] if known else None
