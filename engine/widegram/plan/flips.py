"""Whether a network commutes with flipped images of its inputs.

Turning both images of a pair along an axis turns every plane, as long as each operation treats the
axis the same from either end: windows that lie as far from one edge as from the other. Operations
that are not known to do so count as if they did not.
"""

from __future__ import annotations

from widegram.network import Network
from widegram.plan.counted import Counted
from widegram.plan.graph import build_graph, is_vector
from widegram.plan.graph_building import Node
from widegram.plan.hiding import Hide, VisibleNorm
from widegram.plan.joined import Multiply, Scaled
from widegram.plan.operations import (
    Act,
    Add,
    Affine,
    Gather,
    Input,
    Keep,
    Local,
    Norm,
    Output,
    Reduce,
    Weigh,
    Windowed,
)
from widegram.validation.choices import FLIPS

# What does the same at every pixel, or to all of them.
_EVEN = {Input, Act, Norm, VisibleNorm, Hide, Keep, Add, Multiply, Reduce, Output}


def commutes(network: Network) -> bool:
    """Whether K(g x, g x') = K(x, x') for every g of the network's ``augment``."""
    plain = network.plain
    if is_vector(plain):
        return True
    nodes = build_graph(plain)
    axes = [FLIPS[name] - 1 for name in network.augment]
    if plain.mask is not None and not all(_has_middles(node, axes) for node in nodes):
        return False
    return all(_even(nodes, node, axis) for node in nodes for axis in axes)


def _has_middles(node: Node, axes: list[int]) -> bool:
    """Whether the windows of a node have one pixel in the middle, which says what is masked."""
    operation = node.operation
    return not isinstance(operation, Windowed) or all(operation.window[axis] % 2 for axis in axes)


def pairs_per_entry(network: Network) -> int:
    """Pairs of images of which an entry is the mean: over one side where that is enough."""
    turned = 2 ** len(network.augment)
    return turned if commutes(network) else turned**2


def _even(nodes: tuple[Node, ...], node: Node, axis: int) -> bool:
    """Whether a node treats an axis the same from either end."""
    operation, kind = node.operation, type(node.operation)
    if kind in _EVEN:
        return True
    if isinstance(operation, Weigh) and kind is Weigh:
        weights = (operation.rows, operation.cols)[axis]
        return weights == weights[::-1]
    size = nodes[node.inputs[0]].shape[axis]
    if isinstance(operation, Counted):
        window, stride, lo, out = operation.window, 1, operation.lo, operation.pooled[axis]
        circular = False
    elif isinstance(operation, Affine | Gather) and kind in (Affine, Local, Scaled, Gather):
        window, stride, lo = operation.window, operation.strides[axis], operation.lo
        out, circular = node.shape[axis], operation.circular
    else:
        return False
    # What is left in front of the first window, less what is left behind the last one.
    rest = 2 * lo[axis] - (stride * (out - 1) + window[axis] - size)
    return rest % size == 0 if circular else rest == 0
