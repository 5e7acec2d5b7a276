"""Which displacements each value is needed at: one walk backwards through the graph."""

from __future__ import annotations

from widegram.plan.graph_building import Node
from widegram.plan.masks import Mask, empty, full


def needed(nodes: tuple[Node, ...], outputs: bool = True, variances: bool = False) -> list[Mask]:
    """The mask of every node.

    ``outputs``: the kernel is wanted at every Output. ``variances``: every activation and
    LayerNorm wants its input at d = 0 (an image with itself).
    """
    masks = [empty(node.shape) for node in nodes]
    for i in reversed(range(len(nodes))):
        node = nodes[i]
        if outputs and node.operation.read_out:
            masks[i] = full(node.shape)
        if variances and node.inputs:
            source = node.inputs[0]
            masks[source] |= node.operation.own_needs(nodes[source].shape)
        if masks[i].any():
            for j in node.inputs:
                masks[j] |= node.operation.needs(masks[i], nodes[j].shape)
    return masks
