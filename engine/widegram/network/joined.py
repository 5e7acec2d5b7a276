"""What is known behind branches that meet, from what is known of each: the rules of a fan-in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from widegram.errors import WidegramError
from widegram.network.layers import FanIn
from widegram.network.state import State, require_gaussian, shown


def joined(layer: FanIn, ends: Sequence[State], path: str) -> State:
    """Behind the branches that end with ``ends``.

    Raises:
        WidegramError: they do not fit together, or what joins them has no exact kernel.
    """
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
    channels = _one_width(ends, path)
    for n, end in enumerate(ends):
        require_gaussian(end, path, "", f"the output of branches[{n}]")
    return replace(first, affine=any(end.affine for end in ends), channels=channels)


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
