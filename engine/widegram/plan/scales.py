"""Powers of two that keep every value in the middle of the floating point range.

A network of 200 ReLU layers with W_std = 1 halves its variances 200 times: 2^-200 is no number of
float32. So each value of the graph is carried as 4^e times itself, with an *exponent* e of its own,
0 wherever variances are of ordinary size. A convolution moves from one exponent to another by its
constants, which costs nothing; where two values with different exponents meet, or an activation
needs the true variance, :class:`~widegram.activations.scale.Rescale` stands between. All factors
are powers of two: results are the same bits. Outputs say their exponent; whoever reads them undoes
it.

Inputs have their own scale. Where the whole network is homogeneous, K(a x, b y) = (a b)^d K(x, y),
each image may be multiplied by a power of two of its own (:func:`degrees`); elsewhere all images
are multiplied by the one that the :class:`~widegram.plan.operations.Input` names.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from widegram.activations.scale import Rescale
from widegram.plan.graph_building import Node
from widegram.plan.masks import Pair
from widegram.plan.operation_base import Operation
from widegram.plan.pointwise import Act

Array = NDArray[np.float64]


class Ordinary(NamedTuple):
    """Variances from 2^``low`` to 2^``high`` are of ordinary size; smaller ones are taken to 1,
    larger ones to 2^``to``.

    Far inside the dtype's range: what is compared with it is the largest variance of a uniform
    image; single pixels, covariances, T and the sums of a pool may be much smaller or larger.
    """

    low: int
    high: int
    to: int


# Where each image has its own power, all are near 1. Elsewhere the largest of all is known, and
# others may be smaller by far: it stands high.
OWN = {"float32": Ordinary(-30, 30, 0), "float64": Ordinary(-200, 200, 0)}
SHARED = {"float32": Ordinary(-30, 90, 90), "float64": Ordinary(-200, 900, 900)}
_MOST = 1e300


def degrees(nodes: tuple[Node, ...]) -> tuple[int, ...] | None:
    """d of every node, with K(a x, b y) = (a b)^d K(x, y) and the same for T for a, b > 0; None
    where a node has none (a bias, an activation that is not homogeneous)."""
    found: list[int] = []
    for node in nodes:
        degree = node.operation.degree_of([found[j] for j in node.inputs] or [1])
        if degree is None:
            return None
        found.append(degree)
    return tuple(found)


def scaled(nodes: tuple[Node, ...], dtype: str, largest: float) -> tuple[Node, ...]:
    """The graph with exponents for ``dtype`` in its constants, its Input and its Outputs; unchanged
    where all of them are 0. ``largest``: the largest variance of an input pixel; where each image
    has its own power it is about 1, whatever it was."""
    own = degrees(nodes) is not None
    walk = _Walk(nodes, (OWN if own else SHARED)[dtype], 1.0 if own else largest)
    with np.errstate(all="ignore"):
        for node in nodes:
            walk.visit(node)
    return tuple(walk.out) if any(walk.exponent) else nodes


@dataclass
class _Walk:
    """The graph as operations put themselves into it (:class:`~.operation_base.Exponents`).

    ``at``: where each node of ``nodes`` stands in ``out``; of every node of ``out`` its exponent
    and ``profile``, the variances (1, h, w) that a uniform image has there, times 4^exponent.
    """

    nodes: tuple[Node, ...]
    window: Ordinary
    largest: float
    out: list[Node] = field(default_factory=list)
    at: list[int] = field(default_factory=list)
    exponent: list[int] = field(default_factory=list)
    profile: list[Array] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.readers: list[list[Operation]] = [[] for _ in self.nodes]
        for node in self.nodes:
            for i in node.inputs:
                self.readers[i].append(node.operation)

    def visit(self, node: Node) -> None:
        """Put the next node into it."""
        sources = tuple(self.at[j] for j in node.inputs)
        self.at.append(node.operation.place(len(self.at), node.shape, sources, self))

    def add(
        self, operation: Operation, sources: tuple[int, ...], shape: Pair, exponent: int,
        profile: Array,
    ) -> int:  # fmt: skip
        self.out.append(Node(operation, sources, shape))
        self.exponent.append(exponent)
        self.profile.append(np.minimum(profile, _MOST))
        return len(self.out) - 1

    def size(self, at: int) -> float:
        return float(np.log2(self.profile[at].max())) - 2 * self.exponent[at]

    def chosen(self, i: int, size: float, *free: int) -> int:
        """A power that a reader makes of the variances has to stay in range as well."""
        degree = max((operation.power for operation in self.readers[i]), default=1)
        return self.within(size, degree, *free)

    def within(self, size: float, degree: int, *free: int) -> int:
        low, high, to = (int(bound / degree) for bound in self.window)
        for exponent in (0, *free):
            if low <= size + 2 * exponent <= high or not np.isfinite(size):
                return exponent
        return int(((to if size > 0 else 0) - size) // 2)

    def moved(self, at: int, exponent: int) -> int:
        by = exponent - self.exponent[at]
        if not by:
            return at
        profile = np.ldexp(self.profile[at], 2 * by)
        return self.add(Act(Rescale(by), False), (at,), self.out[at].shape, exponent, profile)

    def wants_truth(self, i: int) -> bool:
        readers = self.readers[i]
        return bool(readers) and all(operation.needs_truth for operation in readers)
