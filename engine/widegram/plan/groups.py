"""Groups: the nodes that one pass over displacement planes computes together.

Inside a group every value's displacement D corresponds to one base displacement d = sigma D, sigma
growing with the strides on the way, so a plane can go through all the group's nodes while it stays
in cache. Pools and reductions mix displacements: they end a group, and their result is stored for
a later one. Circular convolutions couple d with d - h; a group that has one walks the planes of a
torus of h sigma rows (columns), each made of the rectangles d and d - h.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from widegram.plan.graph_building import Node
from widegram.plan.masks import Pair
from widegram.plan.operations import Copy

Edge = tuple[int, int]


@dataclass(frozen=True)
class Group:
    """``members``: node positions in order. ``sigma``: displacement scale (rows, columns) of each.

    ``torus``: rows and columns of the torus, 0 for an axis without one. Members that
    are pools, reductions or copies are values loaded from their store.
    """

    members: tuple[int, ...]
    sigma: dict[int, Pair]
    torus: Pair


def _levels(nodes: tuple[Node, ...]) -> list[int]:
    """The place of each node in the order of groups; of a load, that of the group that loads it.

    The first walk counts the stores behind a node. The second moves a load, or the input, to where
    it is first used: its first direct reader, but before the group that loads a store made of it.
    That never lowers a level, since either bound holds after the first walk and only rises.
    """
    level: list[int] = []
    for node in nodes:
        level.append(max((level[j] + node.operation.stored for j in node.inputs), default=0))
    unread = len(nodes)
    last = [unread] * unread
    for i in reversed(range(len(nodes))):
        node = nodes[i]
        if last[i] < unread and (node.operation.stored or node.operation.made_anew):
            level[i] = last[i]
        for j in node.inputs:
            last[j] = min(last[j], level[i] - node.operation.stored)
    return level


def _edges(nodes: tuple[Node, ...]) -> list[Edge]:
    return [
        (j, i) for i, node in enumerate(nodes) if not node.operation.stored for j in node.inputs
    ]


def _insert(nodes: tuple[Node, ...], edges: set[Edge]) -> tuple[Node, ...]:
    """Put a store on each edge (a second Input where the edge starts at the input)."""
    out: list[Node] = []
    at: list[int] = []
    for i, node in enumerate(nodes):
        inputs = []
        for j in node.inputs:
            if (j, i) not in edges:
                inputs.append(at[j])
                continue
            source = nodes[j]
            anew = source.operation.made_anew
            copy = source if anew else Node(Copy(), (at[j],), source.shape)
            out.append(copy)
            inputs.append(len(out) - 1)
        out.append(Node(node.operation, tuple(inputs), node.shape))
        at.append(len(out) - 1)
    return tuple(out)


def _components(nodes: tuple[Node, ...], level: list[int]) -> list[list[int]]:
    """Connected nodes of one level, in the order in which they can run."""
    parent = list(range(len(nodes)))

    def root(i: int) -> int:
        while parent[i] != i:
            i = parent[i]
        return i

    for j, i in _edges(nodes):
        parent[root(i)] = root(j)
    found: dict[int, list[int]] = {}
    for i in range(len(nodes)):
        found.setdefault(root(i), []).append(i)
    return sorted(found.values(), key=lambda group: (level[group[0]], group[0]))


def _scales(nodes: tuple[Node, ...], members: list[int]) -> tuple[dict[int, Pair], set[Edge]]:
    """sigma of each member, 1 at the finest; and the edges along which it would be another one:
    branches may come to one shape by different strides."""
    links: dict[int, list[tuple[Edge, int, Fraction, Fraction]]] = {i: [] for i in members}
    for i in members:
        sy, sx = nodes[i].operation.coarser
        for j in nodes[i].inputs:
            if j in links and not nodes[i].operation.stored:
                links[j].append(((j, i), i, Fraction(sy), Fraction(sx)))
                links[i].append(((j, i), j, Fraction(1, sy), Fraction(1, sx)))
    scale, wrong = {members[0]: (Fraction(1), Fraction(1))}, set()
    waiting = [members[0]]
    while waiting:
        i = waiting.pop()
        for edge, j, ry, rx in links[i]:
            found = (scale[i][0] * ry, scale[i][1] * rx)
            if j not in scale:
                scale[j] = found
                waiting.append(j)
            elif scale[j] != found:
                wrong.add(edge)
    finest = (min(s[0] for s in scale.values()), min(s[1] for s in scale.values()))
    sigma = {i: (int(s[0] / finest[0]), int(s[1] / finest[1])) for i, s in scale.items()}
    return sigma, wrong


def _torus(
    nodes: tuple[Node, ...], members: list[int], sigma: dict[int, Pair]
) -> tuple[Pair, set[Edge]]:
    """The group's torus, and the edges into circular convolutions that need another one."""
    torus, wrong = [0, 0], set()
    for i in members:
        for axis in np.flatnonzero(nodes[i].operation.couples):
            (source,) = nodes[i].inputs
            size = nodes[source].shape[axis] * sigma[source][axis]
            if torus[axis] not in (0, size):
                wrong.add((source, i))
            else:
                torus[axis] = size
    return (torus[0], torus[1]), wrong


def _behind_strides(nodes: tuple[Node, ...]) -> set[Edge]:
    """The edges behind convolutions by whose strides an image shrinks exactly."""

    def shrinks(node: Node) -> bool:
        strides = node.operation.coarser
        if strides == (1, 1):
            return False
        scaled = tuple(n * s for n, s in zip(node.shape, strides, strict=True))
        return scaled == nodes[node.inputs[0]].shape

    return {(i, k) for k, node in enumerate(nodes) for i in node.inputs if shrinks(nodes[i])}


def partition(
    nodes: tuple[Node, ...], one_shape: bool = False
) -> tuple[tuple[Node, ...], list[Group]]:
    """The graph with stores inserted where needed, and its groups in the order in which they run.

    A store is inserted between values of different levels (one branch of a Residual has a pool,
    the other has not), where branches meet that came to one shape by different strides, and before
    a circular convolution whose torus differs from its group's; with ``one_shape`` also behind
    strided convolutions that shrink an image exactly.
    """
    if one_shape:
        nodes = _insert(nodes, _behind_strides(nodes))
    while True:
        level = _levels(nodes)
        wrong = {(j, i) for j, i in _edges(nodes) if level[j] != level[i]}
        groups = []
        if not wrong:
            for members in _components(nodes, level):
                sigma, conflicts = _scales(nodes, members)
                wrong |= conflicts
                if conflicts:
                    continue
                torus, conflicts = _torus(nodes, members, sigma)
                groups.append(Group(tuple(members), sigma, torus))
                wrong |= conflicts
        if not wrong:
            return nodes, groups
        nodes = _insert(nodes, wrong)
