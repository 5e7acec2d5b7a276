"""What ``kernel_fn`` does with the patterns of graphs that Aggregate takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from widegram.data import Source, open_source
from widegram.data.patterns import PatternedSource, check_pattern, with_pattern
from widegram.errors import WidegramError, shown
from widegram.network.layers import Aggregate, Layer, with_lists
from widegram.network.model import Network
from widegram.network.patterns import pattern_of
from widegram.stax.axes import every_layer
from widegram.stax.branches import Item, Placed
from widegram.validation.arrays import real

Array = NDArray[Any]
Patterns = tuple[Array, Array]


def patterns_of(items: Sequence[Item], given: Any, single: bool) -> Patterns | None:
    """The arrays of ``pattern=(pattern1, pattern2)``, decoded; None without any. ``single``: there
    is one batch of inputs, whose pattern may be given once, or twice.

    Raises WidegramError for what is no pair of arrays, and where one of them is missing.
    """
    if given is None or (isinstance(given, (tuple, list)) and all(p is None for p in given)):
        return None
    if not isinstance(given, (tuple, list)) or len(given) != 2:
        raise WidegramError(
            f"kernel_fn: pattern must be (pattern1, pattern2), arrays for x1 and x2, found "
            f"{shown(type(given).__name__)}"
        )
    first, second = given
    if single and second is None:
        second = first
    if first is None or second is None:
        raise WidegramError("kernel_fn: pattern has one of two arrays only; give both, or None")
    functions = {
        item.to_dense for item in every_layer(items)
        if isinstance(item, Placed) and item.to_dense is not None
    }  # fmt: skip
    if len(functions) > 1:
        raise WidegramError("stax.Aggregate: layers of one network must have the same to_dense")
    for function in functions:
        first, second = function(first), first if second is first else function(second)
    return real(first, "kernel_fn: pattern1"), real(second, "kernel_fn: pattern2")


def without_aggregates(layers: tuple[Layer, ...]) -> tuple[Layer, ...]:
    """The layers with every Aggregate left out, which without a pattern does nothing."""
    return tuple(
        with_lists(layer, without_aggregates)
        for layer in layers
        if not isinstance(layer, Aggregate)
    )


def sources(network: Network, x1: Any, x2: Any, patterns: Patterns | None) -> list[Any]:
    """The inputs with their patterns, where the network has Aggregate layers and they are given."""
    if patterns is None or pattern_of(network) is None:
        return [x1, x2]
    first, second = patterns
    return [
        _source(network, x1, first, "pattern1"),
        None if x2 is None else _source(network, x2, second, "pattern2"),
    ]


def weights(network: Network, rows: tuple[int, int], patterns: Patterns | None) -> Patterns | None:
    """Weights (n, vertices, vertices) of both batches, as many as there are ``rows``."""
    pattern = pattern_of(network)
    if patterns is None or pattern is None:
        return None
    found = []
    for n, array, name in zip(rows, patterns, ("pattern1", "pattern2"), strict=True):
        source = _source(network, np.zeros((n, *network.input_shape)), array, name)
        assert isinstance(source, PatternedSource)
        found.append(source.dense(0, n, pattern))
    return found[0], found[1]


def _source(network: Network, x: Array | Source, array: Array, name: str) -> Source:
    if array.shape[:1] != x.shape[:1]:
        raise WidegramError(
            f"kernel_fn: {name} has shape {array.shape}; it needs a row for each of the "
            f"{x.shape[0]} inputs"
        )
    try:
        found = with_pattern(open_source(x), array)
        check_pattern(found, pattern_of(network))
    except WidegramError as error:
        raise WidegramError(f"kernel_fn: {name}: {str(error).removeprefix('pattern: ')}") from None
    return found
