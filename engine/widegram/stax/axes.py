"""Where layers expect the batch and the channels: ``batch_axis``, ``channel_axis``, and more.

A network as data has the batch first and channels last. A layer that was made for other arrays is a
:class:`Placed` one; :func:`arranged` follows the axes of an input through all layers, as
neural-tangents does, refuses those that do not fit, and turns the others into layers of a network
whose inputs were transposed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from widegram.errors import WidegramError, shown
from widegram.network.kinds import layer_name
from widegram.network.layers import (
    Activation,
    Aggregate,
    Convolution,
    DotGeneral,
    Dropout,
    Flatten,
    GlobalPool,
    ImageResize,
    Index,
    Layer,
    LayerNorm,
    Pool,
    Repeat,
)
from widegram.network.selection import ALL, Entry, expanded
from widegram.stax.branches import AxisPlaces, FanInItem, FanOutItem, Item, ParallelItem, Placed
from widegram.stax.kernel import Kernel

# What each axis of an array is: "N", "C", or the number of an axis of the network's inputs.
Axes = tuple[str | int, ...]
_DEFAULT = AxisPlaces(0, -1)


@dataclass(frozen=True)
class Entrance:
    """How inputs become those of a network.

    * ``order``: of their axes, as ``numpy.transpose`` takes it
    * ``rows``: slices of the batch that are taken, one after the other
    """

    order: tuple[int, ...]
    rows: tuple[slice, ...] = ()

    def through(self, x: NDArray[Any]) -> NDArray[Any]:
        """An input of the network, contiguous where it is not taken as it is.

        Raises WidegramError where it indexes the batch and leaves no input.
        """
        if self.plain:
            return x
        x = x.transpose(self.order)
        for rows in self.rows:
            x = x[rows]
        if not len(x):
            raise WidegramError("stax.Index: takes no input of the batch")
        return np.ascontiguousarray(x)

    @property
    def plain(self) -> bool:
        """Whether inputs are taken as they are."""
        return self.order == tuple(range(len(self.order))) and not self.rows


def arranged(
    items: tuple[Item, ...], ndim: int
) -> tuple[tuple[Item, ...], Entrance, Axes | None]:
    """Items without placed ones for inputs (batch, ..., channels), how arrays of ``ndim`` axes
    become such, and the axes of the outputs, None for (batch, ..., channels).

    Raises WidegramError where a layer has its batch or channels on another axis than its input.
    """
    first = _first(items)
    if first is None:
        return items, Entrance(tuple(range(ndim))), None
    batch = _axis(first.batch, ndim, "batch_axis")
    rest = [axis for axis in range(ndim) if axis != batch]
    channel = rest[-1] if first.channel is None else _axis(first.channel, ndim, "channel_axis")
    if channel == batch:
        raise WidegramError(f"stax: batch_axis and channel_axis are both {batch}")
    order = (batch, *(axis for axis in rest if axis != channel), channel)
    names: dict[int, str | int] = {axis: n - 1 for n, axis in enumerate(order)}
    names |= {batch: "N", channel: "C"}
    walk = _AxesThrough()
    found, after = walk.sequence(items, tuple(names[axis] for axis in range(ndim)))
    return found, Entrance(order, tuple(walk.rows)), after


def going_on(
    items: tuple[Item, ...], kernel: Kernel
) -> tuple[tuple[Item, ...], Kernel, Axes | None]:
    """As :func:`arranged`, for layers that go on from a Kernel: items, the Kernel of outputs
    (batch, ..., channels), and the axes of what they make.

    Raises WidegramError where a layer does not fit, or takes part of the batch.
    """
    ndim = len(kernel.shape1)
    axes = kernel.batch_axis, kernel.channel_axis
    turned = axes == (1, 0) and ndim == 2
    if not turned and axes != (0, ndim - 1):
        raise WidegramError(
            f"kernel_fn: goes on from outputs with the batch first and channels last; those of the "
            f"Kernel have them on axes {axes[0]} and {axes[1]}"
        )
    if turned:
        kernel = with_axes(kernel, ("C", "N"))
    if not turned and not is_placed(items):
        return items, kernel, None
    walk = _AxesThrough()
    start: Axes = ("C", "N") if turned else ("N", *range(ndim - 2), "C")
    found, after = walk.sequence(items, start)
    if walk.rows:
        raise WidegramError("stax.Index: takes part of the batch; index the Kernel instead")
    return found, kernel, after


def with_axes(kernel: Kernel, axes: Axes | None) -> Kernel:
    """The Kernel of outputs whose ``axes`` these are, given that of (batch, ..., channels); or the
    other way round, of vectors.

    Raises WidegramError for an output that is an image, with other axes.
    """
    if axes is None or axes == ("N", *sorted(a for a in axes if isinstance(a, int)), "C"):
        return kernel
    if len(axes) > 2:
        raise WidegramError(
            "kernel_fn: the kernels of outputs that are images have the batch first and channels "
            "last; let the layers keep these axes, or add Flatten or a global pool"
        )
    return kernel.replace(
        batch_axis=kernel.channel_axis, channel_axis=kernel.batch_axis,
        shape1=kernel.shape1[::-1], shape2=kernel.shape2[::-1],
        mask1=None if kernel.mask1 is None else kernel.mask1.T,
        mask2=None if kernel.mask2 is None else kernel.mask2.T,
    )  # fmt: skip


def _first(items: Sequence[Item]) -> AxisPlaces | None:
    """The places of the first layer that has any; None where no layer is placed."""
    if not is_placed(items):
        return None
    return next(item.places if isinstance(item, Placed) else _DEFAULT for item in every_layer(items)
                if not isinstance(item, Activation | Dropout))  # fmt: skip


def is_placed(items: Sequence[Item]) -> bool:
    """Whether some layer is."""
    return any(isinstance(item, Placed) for item in every_layer(items))


def layers_of(items: Sequence[Item]) -> Iterator[Layer]:
    """Every layer, those inside of branches and repeats too."""
    return (item.layer if isinstance(item, Placed) else item for item in every_layer(items))


def every_layer(items: Sequence[Item]) -> Iterator[Layer | Placed]:
    """As :func:`layers_of`, placed ones as they are."""
    for item in items:
        if isinstance(item, ParallelItem):
            for part in item.branches:
                yield from every_layer(part)
        elif isinstance(item, Repeat):
            yield from every_layer(item.body)
        elif not isinstance(item, FanOutItem | FanInItem):
            yield item


def _axis(axis: int, ndim: int, name: str) -> int:
    if not -ndim <= axis < ndim:
        raise WidegramError(f"stax: {name}={axis} does not exist in an array of {ndim} axes")
    return axis % ndim


class _AxesThrough:
    """Follows axes through layers; ``rows``: the slices of the batch met so far."""

    def __init__(self) -> None:
        self.rows: list[slice] = []
        self.inside = 0

    def sequence(self, items: Sequence[Item], axes: Axes) -> tuple[tuple[Item, ...], Axes]:
        """Items for channels-last arrays, and what the axes are behind them; raises WidegramError
        as :func:`arranged`."""
        found: list[Item] = []
        branches: list[Axes] | None = None
        for item in items:
            match item:
                case FanOutItem(num):
                    branches, self.inside = [axes] * num, self.inside + 1
                case ParallelItem(parts) if branches is not None and len(parts) == len(branches):
                    pairs = [self.sequence(*pair) for pair in zip(parts, branches, strict=True)]
                    branches = [after for _, after in pairs]
                    item = replace(item, branches=tuple(part for part, _ in pairs))
                case FanInItem() if branches is not None:
                    if len(set(branches)) > 1:
                        raise WidegramError(
                            f"stax.{item.kind.__name__}: its branches have the batch, the "
                            "channels or pixels on different axes"
                        )
                    axes, branches, self.inside = branches[0], None, self.inside - 1
                    item = _along(item, axes)
                case Repeat(times=times, body=body):
                    inner, axes = self.sequence(body * times, axes)
                    found.extend(inner)
                    continue
                case Placed(layer, places):
                    item, axes = self.layer(layer, places, axes)
                case Activation() | Dropout() | ParallelItem() | FanInItem():
                    pass
                case _:
                    item, axes = self.layer(item, _DEFAULT, axes)
            found.append(item)
        return tuple(found), axes

    def layer(self, layer: Layer, places: AxisPlaces, axes: Axes) -> tuple[Layer, Axes]:
        """One layer for channels-last arrays, and what the axes are behind it."""
        name = f"stax.{layer_name(layer)}"
        ndim, flat = len(axes), isinstance(layer, Flatten)
        wanted = [_axis(places.batch, ndim, f"{name} batch_axis")]
        if places.channel is not None and not flat:
            wanted.append(_axis(places.channel, ndim, f"{name} channel_axis"))
        there = [axes.index(which) for which in "NC"]
        if any(axis != at for axis, at in zip(wanted, there, strict=False)):
            raise WidegramError(
                f"{name}: takes batch_axis={wanted[0]}"
                + ("" if flat else f", channel_axis={wanted[-1]}")
                + f", but its input has the batch on axis {there[0]}, channels on axis {there[1]}"
            )
        spatial = [axis for axis in axes if isinstance(axis, int)]
        match layer:
            case Convolution(filter_shape=window, strides=strides):
                layer = replace(
                    layer, filter_shape=_sorted(window, spatial), strides=_sorted(strides, spatial)
                )
            case Pool(window_shape=window, strides=strides):
                layer = replace(
                    layer, window_shape=_sorted(window, spatial), strides=_sorted(strides, spatial)
                )
            case LayerNorm(axis=over):
                known = {"N": 0, "C": -1} | {a: 1 + n for n, a in enumerate(sorted(spatial))}
                chosen = {known[axes[_axis(a, ndim, f"{name} axis")]] for a in over}
                layer = replace(layer, axis=tuple(sorted(chosen)))
            case GlobalPool():
                axes = tuple(a for a in axes if isinstance(a, str))
            case Flatten():
                axes = ("N", "C") if places.out is None else ("C", "N")
            case ImageResize(shape=sizes) if len(sizes) == ndim:
                by = dict(zip(axes, sizes, strict=True))
                layer = replace(layer, shape=(by["N"], *(by[a] for a in sorted(spatial)), by["C"]))
            case Index():
                return self.index(layer, axes)
            case DotGeneral():
                return dotted(layer, axes)
            case Aggregate():
                layer = aggregated(layer, axes, spatial)
        if isinstance(layer, Convolution) and places.out is not None:
            if len(places.out) != ndim:
                raise WidegramError(
                    f"{name}: dimension_numbers are for arrays of {len(places.out)} axes, its "
                    f"input has {ndim}"
                )
            axes = tuple(axes[at] for at in places.out)
        return layer, axes

    def index(self, layer: Index, axes: Axes) -> tuple[Index, Axes]:
        """An Index of the network's axes; the slice of the batch is kept apart."""
        entries: dict[str | int, Entry] = dict(
            zip(axes, expanded(layer.idx, len(axes), "stax.Index"), strict=True)
        )
        rows = entries.pop("N")
        if rows != ALL:
            if isinstance(rows, int) or self.inside:
                raise WidegramError(
                    "stax.Index: the batch is kept, and sliced outside of branches alone; found "
                    f"{shown(rows)} on its axis"
                )
            self.rows.append(slice(*rows))
        channels = entries.pop("C")
        spatial = sorted(a for a in entries if isinstance(a, int))
        left = tuple(a for a in axes if not isinstance(entries.get(a), int))
        return Index((ALL, *(entries[a] for a in spatial), channels)), left


def dotted(layer: DotGeneral, axes: Axes) -> tuple[DotGeneral, Axes]:
    """A DotGeneral of channels-last arrays, and what the axes are behind it: those that go side by
    side first, then what is left of the left factor, then of the right one.

    Raises WidegramError for images whose axes are not in the order of the network's inputs.
    """
    spatial = [axis for axis in axes if isinstance(axis, int)]
    if spatial != sorted(spatial):
        raise WidegramError(
            "stax.DotGeneral: takes images with their axes in the order of the network's inputs"
        )
    place: dict[str | int, int] = {"N": 0, "C": len(axes) - 1}
    place |= {axis: 1 + n for n, axis in enumerate(spatial)}
    left = layer.rhs is None
    pairs = [pair if left else pair[::-1] for pair in layer.dimension_numbers]
    named = [axis for _, image in pairs for axis in image]
    turned = [
        (own, tuple(place[axes[n]] if 0 <= n < len(axes) else n for n in image))
        for own, image in pairs
    ]
    first, second = (pair if left else pair[::-1] for pair in turned)
    other = np.ndim(layer.lhs if left else layer.rhs)
    free: list[str | int] = [-1] * (other - sum(len(own) for own, _ in pairs))
    kept = [axis for n, axis in enumerate(axes) if n not in named]
    side = [axes[n] for n in pairs[1][1] if 0 <= n < len(axes)]
    made = [*side, *(free + kept if left else kept + free)]
    count = iter(range(len(made)))
    after = tuple(axis if isinstance(axis, str) else next(count) for axis in made)
    return replace(layer, dimension_numbers=(first, second)), after


def _along(item: FanInItem, axes: Axes) -> FanInItem:
    """A fan-in along an axis of arrays whose ``axes`` these are, as one of a network's."""
    if item.axis is None:
        return item
    spatial = sorted(a for a in axes if isinstance(a, int))
    known = {"N": 0, "C": -1} | {a: 1 + n for n, a in enumerate(spatial)}
    axis = _axis(item.axis, len(axes), "FanInConcat axis")
    return replace(item, axis=known[axes[axis]])


def aggregated(layer: Aggregate, axes: Axes, spatial: list[int]) -> Aggregate:
    """An Aggregate of channels-last arrays.

    Raises WidegramError for images whose axes are not in the order of the network's inputs, and for
    an axis that is none of pixels or named twice.
    """
    ndim, named = len(axes), spatial
    if layer.aggregate_axis is not None:
        over = [_axis(a, ndim, "stax.Aggregate aggregate_axis") for a in layer.aggregate_axis]
        named = [a for n in sorted(set(over)) if isinstance(a := axes[n], int)]
        if len(named) < len(over):
            raise WidegramError(
                "stax.Aggregate: aggregate_axis names the batch, the channels or an axis twice; it "
                "may name axes of pixels"
            )
    if named != sorted(named):
        raise WidegramError(
            "stax.Aggregate: takes images with their axes in the order of the network's inputs"
        )
    if layer.aggregate_axis is None:
        return layer
    place = {axis: 1 + n for n, axis in enumerate(sorted(spatial))}
    return replace(layer, aggregate_axis=tuple(place[axis] for axis in named))


def _sorted(numbers: tuple[int, ...], spatial: list[int]) -> tuple[int, ...]:
    """Numbers that stand in the order of an array's axes in that of the network's."""
    if len(numbers) != len(spatial):  # the network says so
        return numbers
    return tuple(number for _, number in sorted(zip(spatial, numbers, strict=True)))
