"""The nodes of a graph, and the graph under construction."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from widegram.network.contribution import Contribution, contribution
from widegram.network.kinds import layer_name
from widegram.network.layers import Convolution, Dense, Layer
from widegram.plan.hiding import Hidden, Hide
from widegram.plan.maps import Map, Matrix
from widegram.plan.masks import Pair
from widegram.plan.operation_base import Array, Operation
from widegram.plan.operations import Copy

Axes = tuple[int, ...]


@dataclass(frozen=True)
class Node:
    """One operation, its inputs (positions in the graph) and the image it lives on."""

    operation: Operation
    inputs: tuple[int, ...]
    shape: Pair


@dataclass
class Building:
    """Nodes one after the other, with what is known of their values: ``nonnegative``, ``channels``
    and ``axes``, those of the plan that a value has for layers; ``where``: the layer at hand."""

    dtype: str
    nodes: list[Node] = field(default_factory=list)
    nonnegative: list[bool] = field(default_factory=list)
    channels: list[int | None] = field(default_factory=list)
    axes: list[Axes] = field(default_factory=list)
    where: str = "layers"
    # Of a network with a mask.
    hidden: Hidden | None = None
    # The largest sum of absolute weights of edges to a vertex of an input's pattern.
    received: float = 1.0

    def add(
        self, operation: Operation, inputs: tuple[int, ...], shape: Pair, nonnegative: bool,
        axes: Axes | None = None,
    ) -> int:  # fmt: skip
        """A node; ``axes``: those of the plan that its value has for layers, as its first input's
        where they are not given."""
        if self.hidden is not None:
            for j in self.hidden.needed(operation, inputs):
                self.shown(j)
            # Where a value has been hidden all that follows reads that: the other is then made and
            # hidden in one step.
            inputs = tuple(self.hidden.behind.get(j, j) for j in inputs)
            self.hidden.see(operation, inputs)
        self.nodes.append(Node(operation, inputs, shape))
        self.nonnegative.append(nonnegative)
        self.channels.append(next((c for j in inputs if (c := self.channels[j])), None))
        self.axes.append(self.axes[inputs[0]] if axes is None else axes)
        return len(self.nodes) - 1

    def shown(self, at: int, mean: bool = False) -> int:
        """Node ``at``, 0 at masked pixels; ``mean``: for a mean over visible ones."""
        assert self.hidden is not None
        if mean or at not in self.hidden.behind:
            end = self.add(Hide(mean), (at,), self.nodes[at].shape, self.nonnegative[at])
            if mean:
                return end
            self.hidden.behind[at] = end
        return self.hidden.behind[at]

    def rounded(self, value: float) -> float:
        """A constant as the kernels will use it: variances and covariances must agree on it, or
        their quotient drifts from layer to layer. Its size is no matter (see
        :mod:`~widegram.plan.scales`)."""
        fraction, power = math.frexp(value)
        return math.ldexp(float(np.dtype(self.dtype).type(fraction)), power)

    def rounded_all(self, values: Array) -> Array:
        """As :meth:`rounded`, of the numbers of an array."""
        fractions, powers = np.frexp(values)
        return np.ldexp(fractions.astype(self.dtype).astype(np.float64), powers)

    def shape_of(self, at: int) -> Pair:
        """The image that a node lives on."""
        return self.nodes[at].shape

    def mixable(self, at: int) -> int:
        """Node ``at``, 0 at masked pixels where there are some: for what mixes pixels."""
        return at if self.hidden is None or self.hidden.zero[at] else self.shown(at)

    def stored(self, at: int) -> int:
        """A node whose planes are kept, which has the values of node ``at``."""
        operation = self.nodes[at].operation
        if operation.stored and not operation.reduced:
            return at
        return self.add(Copy(), (at,), self.nodes[at].shape, self.nonnegative[at])

    def mapped(
        self, layer: Layer, matrices: list[Array], at: int, shape: Pair, axes: Axes | None = None
    ) -> int:
        """A map of all pixels, or one of the rows and one of the columns."""
        at = self.stored(self.mixable(at))
        rounded = tuple(Matrix(self.rounded_all(matrix)) for matrix in matrices)
        sign = self.nonnegative[at] and all((m.values >= 0).all() for m in rounded)
        return self.add(Map(rounded, f"{self.where} {layer_name(layer)}"), (at,), shape, sign, axes)

    def contribution(self, layer: Convolution | Dense, at: int) -> Contribution | None:
        """What a layer adds to T of the sums over its windows."""
        own = contribution(layer, self.channels[at])
        if own is None:
            return None
        taps = math.prod(layer.filter_shape) if isinstance(layer, Convolution) else 1
        return Contribution(self.rounded(own.weights / taps), self.rounded(own.biases))

    def pair(self, numbers: tuple[int, ...], at: int) -> Pair:
        """One number for each axis of node ``at``, by axes of the plan; 1 along others."""
        known = dict(zip(self.axes[at], numbers, strict=True))
        return known.get(0, 1), known.get(1, 1)
