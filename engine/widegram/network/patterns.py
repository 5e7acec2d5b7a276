"""Which patterns of edges a network with Aggregate layers takes beside its inputs.

A pattern of an input says which of its pixels, the vertices of a graph, send to which others, along
the axes that the layer aggregates. All layers of a network see the same one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from widegram.errors import WidegramError
from widegram.network.layers import Aggregate, Layer, lists_inside
from widegram.network.model import Network

Shape = tuple[int, ...]


class Pattern(NamedTuple):
    """The ``sizes`` of the axes that are aggregated, and whether patterns are lists of edges."""

    sizes: Shape
    sparse: bool

    @property
    def vertices(self) -> int:
        """Vertices of a graph."""
        return math.prod(self.sizes)

    def expected(self) -> str:
        """The shape of patterns, in words."""
        if self.sparse:
            k = len(self.sizes)
            return f"(n, edges, {k}, 2)" + (" or (n, edges, 2)" if k == 1 else "")
        return f"(n, {', '.join(map(str, self.sizes * 2))})"


def pattern_of(network: Network) -> Pattern | None:
    """The pattern that a network takes, None without Aggregate layers.

    Raises WidegramError where two of them take different ones.
    """
    layers = list(_aggregates(network.layers))
    if not layers:
        return None
    rows = [(path, before) for path, before, _ in network.shapes() if path.endswith(" Aggregate")]
    found: dict[Pattern, str] = {}
    for layer, (path, shape) in zip(layers, rows, strict=True):
        axes = layer.axes(len(shape))
        pattern = Pattern(tuple(shape[a] for a in axes), layer.implementation == "SPARSE")
        found.setdefault(pattern, path)
    if len(found) > 1:
        (first, one), (second, other) = list(found.items())[:2]
        raise WidegramError(
            f"{other}: takes patterns {second.expected()}, {one} takes {first.expected()}; all "
            "Aggregate layers of a network see one pattern"
        )
    return next(iter(found))


def _aggregates(layers: Iterable[Layer]) -> Iterator[Aggregate]:
    for layer in layers:
        if isinstance(layer, Aggregate):
            yield layer
        for inside in lists_inside(layer):
            yield from _aggregates(inside)
