"""Layers as neural-tangents writes them, with open branches, and their closed form.

``serial`` concatenates items, so that FanOut, parallel and FanInSum may stand in different
``serial`` calls; :func:`close` turns a finished sequence into layers of a
:class:`~widegram.network.Network`, where FanOut -> parallel -> FanInSum is one Residual.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from widegram.errors import WidegramError
from widegram.network.kinds import layer_name
from widegram.network.layers import Activation, FanIn, FanInConcat, FanInSum, Layer, Residual
from widegram.network.weights import have_weights


@dataclass(frozen=True)
class FanOutItem:
    """One value becomes ``num`` equal ones."""

    num: int


@dataclass(frozen=True)
class ParallelItem:
    """Branch n acts on value n."""

    branches: tuple[tuple[Item, ...], ...]


@dataclass(frozen=True)
class FanInItem:
    """The values become one, by the layer ``kind``; along ``axis`` where that has one."""

    kind: type[FanIn]
    axis: int | None = None


@dataclass(frozen=True)
class AxisPlaces:
    """Which axes of its input a layer takes for the batch and the channels, None for whatever they
    are; ``out``: of each axis of the output, which axis of the input it is, where they move."""

    batch: int
    channel: int | None
    out: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Placed:
    """A layer for arrays with their axes at other ``places`` than a network's; parameters that
    name axes, or have a number for each, are meant as of those arrays. ``to_dense``: what the
    patterns of an Aggregate go through first."""

    layer: Layer
    places: AxisPlaces
    to_dense: Callable[[Any], Any] | None = None


Item = Layer | FanOutItem | ParallelItem | FanInItem | Placed


def close(items: Sequence[Item]) -> tuple[Layer, ...]:
    """The layers of a sequence from one value to one value.

    Raises WidegramError where FanOut, parallel and what joins branches do not fit together.
    """
    layers: list[Layer] = []
    branches: list[tuple[Item, ...]] | None = None
    for item in items:
        match item:
            case FanOutItem(num):
                if branches is not None:
                    raise WidegramError(
                        "stax.FanOut: follows another FanOut; put the inner one into a branch"
                    )
                branches = [()] * num
            case ParallelItem(parts):
                branches = _extended(branches, parts)
            case FanInItem():
                if branches is None:
                    raise WidegramError(
                        f"stax.{item.kind.__name__}: nothing to join; put stax.FanOut before it"
                    )
                layers.extend(_joined(item, [close(branch) for branch in branches]))
                branches = None
            case Placed():
                raise TypeError(f"{item}: its axes have not been arranged")
            case _:
                if branches is not None:
                    raise WidegramError(
                        f"stax.{layer_name(item)}: stands between FanOut and what joins branches; "
                        "put it into a branch of stax.parallel"
                    )
                layers.append(item)
    if branches is not None:
        raise WidegramError(
            f"stax.FanOut: {len(branches)} branches are left open; add stax.FanInSum() or another"
        )
    return tuple(layers)


def _extended(
    branches: list[tuple[Item, ...]] | None, parts: tuple[tuple[Item, ...], ...]
) -> list[tuple[Item, ...]]:
    if branches is None:
        raise WidegramError(
            "stax.parallel: acts on several inputs, and found one; put stax.FanOut before it, or "
            "give a list of inputs, or of their shapes"
        )
    if len(parts) != len(branches):
        raise WidegramError(
            f"stax.parallel: has {len(parts)} branches for the {len(branches)} of stax.FanOut"
        )
    return [(*before, *part) for before, part in zip(branches, parts, strict=True)]


def _joined(item: FanInItem, branches: Sequence[tuple[Layer, ...]]) -> tuple[Layer, ...]:
    """What joins branches: a sum as Residual(a, Residual(b, ...)), with an identity last, where
    these have weights."""
    if item.axis is not None:
        made = tuple(() if is_identity(branch) else branch for branch in branches)
        return (FanInConcat(made, item.axis),)
    if len(branches) == 1:
        return branches[0]
    ordered = sorted(branches, key=is_identity)
    weighted = all(have_weights(a) or have_weights(b) for a, b in pairwise(ordered))
    if item.kind is not FanInSum or not weighted:
        return (item.kind(tuple(() if is_identity(b) else b for b in branches)),)
    shortcut = () if is_identity(ordered[-1]) else ordered[-1]
    for branch in reversed(ordered[1:-1]):
        shortcut = (Residual(branch, shortcut),)
    return (Residual(ordered[0], shortcut),)


def is_identity(layers: tuple[Layer, ...]) -> bool:
    """Whether layers do nothing."""
    return all(isinstance(layer, Activation) and layer.name == "Identity" for layer in layers)
