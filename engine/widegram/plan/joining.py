"""Where branches meet: the operations of each kind of fan-in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from widegram.network.joined import spatial_axis
from widegram.network.layers import FanIn, FanInConcat, FanInProd
from widegram.plan.graph_building import Building
from widegram.plan.joined import Multiply, scaled_by
from widegram.plan.operation_base import Operation
from widegram.plan.pointwise import Add


def join(layer: FanIn, ends: Sequence[int], graph: Building) -> int:
    """Add what makes one value of those at nodes ``ends``, several of which may be one node."""
    match layer:
        case FanInProd():
            return _together(ends, Multiply(), graph)
        case FanInConcat(axis=axis):
            along = spatial_axis(axis, len(graph.axes[ends[0]]))
            if along is not None:
                return _side_by_side(layer, ends, graph.axes[ends[0]][along], graph)
            return _mean(ends, graph)
    return _weighted({end: float(ends.count(end)) for end in ends}, graph)


def _weighted(weights: Mapping[int, float], graph: Building) -> int:
    """The sum of nodes times numbers."""
    return _together([_scaled(end, weights[end], graph) for end in weights], Add(), graph)


def _scaled(at: int, factor: float, graph: Building) -> int:
    if factor == 1:
        return at
    factor = graph.rounded(factor)
    return graph.add(scaled_by(factor), (at,), graph.shape_of(at), graph.nonnegative[at])


def _together(parts: Sequence[int], operation: Operation, graph: Building) -> int:
    """One operation of two values after the other."""
    first, *rest = parts
    for part in rest:
        both = graph.nonnegative[first] and graph.nonnegative[part]
        first = graph.add(operation, (first, part), graph.shape_of(part), both)
    return first


def _mean(ends: Sequence[int], graph: Building) -> int:
    """Channels one behind the other: the mean of K, and of T, over all of them."""
    widths = [graph.channels[end] or 1 for end in ends]
    total = sum(widths)
    weights = dict.fromkeys(ends, 0.0)
    for end, width in zip(ends, widths, strict=True):
        weights[end] += width / total
    at = _weighted(weights, graph)
    graph.channels[at] = total
    return at


def _side_by_side(layer: FanIn, ends: Sequence[int], along: int, graph: Building) -> int:
    """Images side by side; pixels of different ones are independent."""
    sizes = [graph.shape_of(end)[along] for end in ends]
    parts, first = [], 0
    for end, size in zip(ends, sizes, strict=True):
        shape = list(graph.shape_of(end))
        matrices = [np.eye(n) for n in shape]
        shape[along] = sum(sizes)
        matrices[along] = np.zeros((sum(sizes), size))
        matrices[along][first + np.arange(size), np.arange(size)] = 1.0
        parts.append(graph.mapped(layer, matrices, end, (shape[0], shape[1])))
        first += size
    return _together(parts, Add(), graph)
