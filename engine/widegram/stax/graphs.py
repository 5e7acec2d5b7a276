"""Layers of networks on graphs, with neural-tangents' signatures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any

from widegram.errors import WidegramError, shown
from widegram.stax.axes import layers_of
from widegram.stax.branches import Placed
from widegram.stax.kernel_fn import Triple, triple
from widegram.stax.making import integers, make
from widegram.stax.places import axes_of


class AggregateImplementation(Enum):
    """How patterns are written; the name may be given as text."""

    DENSE = "DENSE"
    SPARSE = "SPARSE"


def _same(pattern: Any) -> Any:
    """A pattern as it is."""
    return pattern


def Aggregate(
    aggregate_axis: int | Sequence[int] | None = None,
    batch_axis: int = 0,
    channel_axis: int = -1,
    to_dense: Callable[[Any], Any] | None = _same,
    implementation: str | AggregateImplementation = "DENSE",
) -> Triple:
    """Sums over the vertices that send to each vertex, the pixels along ``aggregate_axis`` or all.

    Which do, ``kernel_fn(x1, x2, get, pattern=(pattern1, pattern2))`` is told: 'DENSE', weights
    (n, sizes, sizes) from each to each, which ``to_dense`` may decode; 'SPARSE', integers
    (n, edges, axes, 2). Without patterns it does nothing.
    """
    places = axes_of("Aggregate", batch_axis, channel_axis)
    name = implementation.value if isinstance(implementation, Enum) else implementation
    axes = None if aggregate_axis is None else integers(_listed(aggregate_axis))
    made = make("Aggregate", aggregate_axis=axes, implementation=name)
    if to_dense is not None and not callable(to_dense):
        raise WidegramError(f"stax.Aggregate: to_dense must be a function, found {shown(to_dense)}")
    (layer,) = layers_of(made[2].items)
    dense = str(name).upper() == "DENSE" and to_dense is not _same
    return triple(Placed(layer, places, to_dense if dense else None))


def _listed(axes: Any) -> Any:
    return axes if isinstance(axes, Sequence) else (axes,)
