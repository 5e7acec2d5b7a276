"""Whether a network commutes with flipped images of its inputs.

Turning both images of a pair along an axis turns every plane, as long as each operation treats the
axis the same from either end: windows that lie as far from one edge as from the other. Each
operation says whether it does (:meth:`~widegram.plan.operation_base.Operation.even`).
"""

from __future__ import annotations

from widegram.network import Network
from widegram.plan.graph import build_graph, is_vector
from widegram.plan.graph_building import Node
from widegram.plan.operations import Windowed
from widegram.validation.choices import FLIPS


def commutes(network: Network) -> bool:
    """Whether K(g x, g x') = K(x, x') for every g of the network's ``augment``."""
    plain = network.plain
    if is_vector(plain):
        return True
    if any(len(shape) == 2 for shape in plain.inputs):
        return False  # a sequence stays as it is where images are turned
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
    source = nodes[node.inputs[0]].shape if node.inputs else node.shape
    return node.operation.even(axis, source, node.shape)
