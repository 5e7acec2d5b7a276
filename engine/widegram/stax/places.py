"""Arguments that say where a layer's batch and channels are, checked."""

from __future__ import annotations

from typing import Any

from widegram.errors import WidegramError, shown
from widegram.stax.axes import layers_of
from widegram.stax.branches import AxisPlaces, Placed
from widegram.stax.kernel_fn import Triple, triple

DEFAULT = AxisPlaces(0, -1)


def axes_of(name: str, batch_axis: Any, channel_axis: Any) -> AxisPlaces:
    """The places that two arguments name.

    Raises WidegramError for what is no integer.
    """
    for argument, axis in (("batch_axis", batch_axis), ("channel_axis", channel_axis)):
        if not isinstance(axis, int) or isinstance(axis, bool):
            raise WidegramError(f"stax.{name}: {argument} must be an integer, found {shown(axis)}")
    return AxisPlaces(batch_axis, channel_axis)


def placed(made: Triple, places: AxisPlaces, always: bool = False) -> Triple:
    """A layer that was made, at its places where they are not those of a network's inputs, or
    ``always``."""
    (layer,) = layers_of(made[2].items)
    channel = -1 if places.channel is None else places.channel
    if (places.batch, channel, places.out) == (0, -1, None) and not always:
        return made
    return triple(Placed(layer, places))


def dimensions(name: str, numbers: Any) -> tuple[AxisPlaces, tuple[int, ...] | None]:
    """The places that ``dimension_numbers`` of a convolution name, and of each axis that its
    filters move along, in the order of the inputs, which number of ``filter_shape`` is meant; None
    where they stand in that order.

    Raises WidegramError for texts that do not fit together.
    """
    if numbers is None:
        return DEFAULT, None
    try:
        inputs, filters, outputs = (str(axes) for axes in numbers)
    except (TypeError, ValueError):
        raise WidegramError(
            f"stax.{name}: dimension_numbers must be three texts such as ('NCHW', 'OIHW', 'NCHW'), "
            f"found {shown(numbers)}"
        ) from None
    along = [axis for axis in inputs if axis not in "NC"]
    same = {*along}.isdisjoint("IO") and len(set(inputs)) == len(inputs)
    wanted = (inputs, "NC"), (filters, "IO"), (outputs, "NC")
    if not same or any(sorted(axes) != sorted([*more, *along]) for axes, more in wanted):
        raise WidegramError(
            f"stax.{name}: dimension_numbers {shown(tuple(numbers))} do not fit together; the "
            "first and the last have N, C and the axes of images, the second I, O and the same axes"
        )
    moved = [axis for axis in filters if axis not in "IO"]
    order = tuple(moved.index(axis) for axis in along)
    out = None if outputs == inputs else tuple(inputs.index(axis) for axis in outputs)
    channel = inputs.index("C") - len(inputs)
    return AxisPlaces(inputs.index("N"), channel, out), order


def ordered(numbers: Any, order: tuple[int, ...] | None) -> Any:
    """A filter's numbers in the order of its inputs' axes; what is none as it is."""
    if order is None or not isinstance(numbers, tuple) or len(numbers) != len(order):
        return numbers
    return tuple(numbers[at] for at in order)
