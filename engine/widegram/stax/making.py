"""From neural-tangents' arguments to checked layers."""

from __future__ import annotations

from collections.abc import Sequence
from operator import index
from typing import Any

from widegram.errors import WidegramError
from widegram.network.spec import parse_layers
from widegram.stax.kernel_fn import Triple, triple


def make(name: str, **parameters: Any) -> Triple:
    """The triple of one layer, its parameters checked as in a network specification.

    Raises WidegramError, naming ``stax.`` and the layer, for a parameter that it has not.
    """
    try:
        return triple(*parse_layers([{"layer": name, **parameters}]))
    except WidegramError as error:
        message = str(error).replace("layers[0] ", "stax.", 1)
        raise WidegramError(message) from None


def number(value: Any) -> Any:
    """A Python float where ``value`` is any kind of number (an array of one as well)."""
    try:
        return value if value is None or isinstance(value, (bool, str)) else float(value)
    except (TypeError, ValueError, OverflowError):
        return value


def numbers(value: Sequence[float] | Any) -> Any:
    """A tuple of floats, whatever sequence it was."""
    if isinstance(value, str):
        return value
    try:
        return tuple(number(v) for v in value)
    except TypeError:
        return value


def integers(value: Sequence[int] | Any) -> Any:
    """A tuple of integers, whatever sequence it was."""
    if isinstance(value, str):
        return value
    try:
        return tuple(int(v) if isinstance(v, bool) else integer(v) for v in value)
    except TypeError:
        return value


def trained(
    out: Any, W_std: Any, b_std: Any, parameterization: Any, s: Any, W_rate: Any, b_rate: Any,
    b_grad: Any,
) -> dict[str, Any]:  # fmt: skip
    """Parameters of a layer with weights and ``out`` channels; what 'ntk' ignores may be anything:
    a layer of the standard parameterization behind says so where it misses a width."""
    given = {"W_std": number(W_std), "b_std": number(b_std), "parameterization": parameterization}
    given |= {"W_rate": W_rate, "b_rate": b_rate, "b_grad": b_grad}
    if str(parameterization).lower() == "standard":
        return {**given, "width": integer(out), "s": integers(s)}
    return {**given, "width": width_of(out)}


def width_of(out: Any) -> int | None:
    """The channels that an argument says, None where it is anything else."""
    width = integer(out)
    return width if isinstance(width, int) and width > 0 else None


def integer(value: Any) -> Any:
    """A Python integer where ``value`` is any kind of integer."""
    try:
        return value if isinstance(value, bool) else index(value)
    except TypeError:
        return value
