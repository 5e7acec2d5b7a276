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

from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from widegram.activations.scale import Rescale
from widegram.network.contribution import Contribution
from widegram.plan.graph import Node
from widegram.plan.operations import Act, Add, Affine, Input

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
        below = {found[j] for j in node.inputs} or {1}
        if len(below) > 1:
            return None
        degree = node.operation.degree(*below)
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
    for i in range(len(nodes)):
        with np.errstate(all="ignore"):
            walk.visit(i)
    return tuple(walk.out) if any(walk.exponent) else nodes


@dataclass
class _Walk:
    """``at``: where each node of ``nodes`` stands in ``out``; of every node of ``out`` its exponent
    and ``profile``, the variances (1, h, w) that a uniform image has there, times 4^exponent."""

    nodes: tuple[Node, ...]
    window: Ordinary
    largest: float
    out: list[Node] = field(default_factory=list)
    at: list[int] = field(default_factory=list)
    exponent: list[int] = field(default_factory=list)
    profile: list[Array] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.readers: list[list[int]] = [[] for _ in self.nodes]
        for k, node in enumerate(self.nodes):
            for i in node.inputs:
                self.readers[i].append(k)

    def add(self, node: Node, exponent: int, profile: Array) -> int:
        self.out.append(node)
        self.exponent.append(exponent)
        self.profile.append(np.minimum(profile, _MOST))
        return len(self.out) - 1

    def size(self, i: int) -> float:
        """log2 of the largest variance of node i of ``out``, without its exponent."""
        return float(np.log2(self.profile[i].max())) - 2 * self.exponent[i]

    def chosen(self, i: int, size: float, *free: int) -> int:
        """An exponent for the variances 2^``size`` of node i of ``nodes``: 0 or one of those that
        are ``free`` if they do. A power that a reader makes of them has to stay in range as well.
        """
        degree = max((self.nodes[k].operation.power for k in self.readers[i]), default=1)
        low, high, to = (int(bound / degree) for bound in self.window)
        for exponent in (0, *free):
            if low <= size + 2 * exponent <= high or not np.isfinite(size):
                return exponent
        return int(((to if size > 0 else 0) - size) // 2)

    def moved(self, i: int, exponent: int) -> int:
        """Node i of ``out``, or one behind it with that exponent."""
        by = exponent - self.exponent[i]
        if not by:
            return i
        operation = Act(Rescale(by), False)
        node = Node(operation, (i,), self.out[i].shape)
        return self.add(node, exponent, np.ldexp(self.profile[i], 2 * by))

    def visit(self, i: int) -> None:
        node = self.nodes[i]
        inputs = tuple(self.at[j] for j in node.inputs)
        if isinstance(node.operation, Input):
            exponent = self.chosen(i, float(np.log2(self.largest)))
            node = replace(node, operation=Input(exponent))
            profile = np.full((1, *node.shape), np.ldexp(self.largest, 2 * exponent))
            self.at.append(self.add(node, exponent, profile))
        elif isinstance(node.operation, Affine):
            self.at.append(self.affine(i, node.operation, *inputs))
        elif isinstance(node.operation, Add):
            self.at.append(self.sum(i, node, inputs))
        else:
            self.at.append(self.single(node, *inputs))

    def affine(self, i: int, operation: Affine, source: int) -> int:
        shape, before = self.nodes[i].shape, self.exponent[source]
        sums = operation.sums(self.profile[source], shape)
        size = np.logaddexp2(
            np.log2(operation.gain) + np.log2(sums.max()) - 2 * before, np.log2(operation.bias)
        )
        exponent = 0 if self.needs_truth(i) else self.chosen(i, float(size), before)
        power = 2 * (exponent - before)
        contribution = operation.contribution
        if contribution is not None:
            biases = float(np.ldexp(contribution.biases, 2 * exponent))
            contribution = Contribution(_scaled(contribution.weights, power), biases)
        made = replace(
            operation,
            gain=_scaled(operation.gain, power),
            bias=float(np.ldexp(operation.bias, 2 * exponent)),
            contribution=contribution,
        )
        return self.add(Node(made, (source,), shape), exponent, made.gain * sums + made.bias)

    def needs_truth(self, i: int) -> bool:
        """Whether all readers of a node are activations that need its true variance."""
        readers = [self.nodes[k].operation for k in self.readers[i]]
        return bool(readers) and all(operation.needs_truth for operation in readers)

    def sum(self, i: int, node: Node, inputs: tuple[int, ...]) -> int:
        size = np.logaddexp2.reduce([self.size(j) for j in inputs])
        exponent = self.chosen(i, float(size), *(self.exponent[j] for j in inputs))
        inputs = tuple(self.moved(j, exponent) for j in inputs)
        profile = np.sum([self.profile[j] for j in inputs], axis=0)
        return self.add(replace(node, inputs=inputs), exponent, profile)

    def single(self, node: Node, source: int) -> int:
        """An operation with one input that has no constants to absorb a change of exponent."""
        if node.operation.needs_truth:
            source = self.moved(source, 0)
        operation, exponent = node.operation.rescaled(self.exponent[source])
        profile = operation.profile(self.profile[source], node.shape)
        return self.add(Node(operation, (source,), node.shape), exponent, profile)


def _scaled(factor: float, power: int) -> float:
    """A factor of sums times 2^power: never 0 where it was not, since what it makes must be seen to
    be too small."""
    least = float(np.finfo(np.float64).smallest_subnormal) if factor else 0.0
    return float(np.ldexp(factor, power)) or least
