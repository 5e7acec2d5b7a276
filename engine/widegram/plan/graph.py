"""A network as a list of single operations on planes.

Nodes are in topological order and refer to their inputs by position. A value lives on an image of
``shape`` (h, w); vectors, and everything behind Flatten or a global pool, are (1, 1). Layers that
change nothing between two different inputs (Identity, Dropout) stay in the graph where the
variances of an image need them and are skipped by the planes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from widegram import activations
from widegram.activations import Formula
from widegram.network.geometry import padding
from widegram.network.layers import (
    Activation,
    Conv,
    Dense,
    Dropout,
    Flatten,
    GlobalPool,
    Layer,
    LayerNorm,
    Pool,
    Repeat,
    Residual,
)
from widegram.network.model import Network

Pair = tuple[int, int]


@dataclass(frozen=True)
class Input:
    """k0 = <x_p, x'_p'> / C; no NTK. Inputs are multiplied by 2^``exponent`` first."""

    exponent: int = 0


@dataclass(frozen=True)
class Affine:
    """Conv or Dense: K <- gain box(K) + bias, T <- K + gain box(T); box sums over the window.

    Output position p reads inputs ``strides`` p + t - ``lo``; positions outside the image count as
    zero or, where ``circular``, wrap.
    """

    window: Pair
    strides: Pair
    lo: Pair
    hi: Pair
    circular: bool
    gain: float
    bias: float


@dataclass(frozen=True)
class Act:
    """An activation; ``nonnegative`` says that its input is known to be >= 0, ``where`` names its
    layer for messages."""

    formula: Formula
    nonnegative: bool
    where: str = field(default="", compare=False, repr=False)


@dataclass(frozen=True)
class Norm:
    """LayerNorm; ``axes``: the image axes (0 rows, 1 columns) over which variances are averaged;
    its input comes times 4^``exponent``."""

    axes: tuple[int, ...]
    exponent: int = 0


@dataclass(frozen=True)
class Keep:
    """Dropout: an image's own variances, and its NTK with itself, are divided by ``rate``."""

    rate: float


@dataclass(frozen=True)
class Add:
    """Sum of two branches."""


@dataclass(frozen=True)
class Gather:
    """AvgPool or SumPool: ``scale`` times the sum over both windows."""

    window: Pair
    strides: Pair
    lo: Pair
    circular: bool
    scale: float


@dataclass(frozen=True)
class Reduce:
    """To a single number: over all pixel pairs, or over equal pixels (``diagonal``, Flatten)."""

    diagonal: bool
    scale: float


@dataclass(frozen=True)
class Copy:
    """A value kept in a store between two groups (:mod:`widegram.plan.groups` inserts these)."""


@dataclass(frozen=True)
class Output:
    """The kernel, times 4^``exponent``, at one readout depth (None without a depth sweep)."""

    depth: int | None
    exponent: int = 0


Operation = Input | Affine | Act | Norm | Keep | Add | Gather | Reduce | Copy | Output


@dataclass(frozen=True)
class Node:
    """One operation, its inputs (positions in the graph) and the image it lives on."""

    operation: Operation
    inputs: tuple[int, ...]
    shape: Pair


@dataclass
class _Builder:
    dtype: str
    nodes: list[Node] = field(default_factory=list)
    nonnegative: list[bool] = field(default_factory=list)
    where: str = "layers"

    def add(
        self, operation: Operation, inputs: tuple[int, ...], shape: Pair, nonnegative: bool
    ) -> int:
        self.nodes.append(Node(operation, inputs, shape))
        self.nonnegative.append(nonnegative)
        return len(self.nodes) - 1

    def rounded(self, value: float) -> float:
        """A constant as the kernels will use it: variances and covariances must agree on it, or
        their quotient drifts from layer to layer. Its size is no matter (see
        :mod:`~widegram.plan.scales`)."""
        fraction, power = math.frexp(value)
        return math.ldexp(float(np.dtype(self.dtype).type(fraction)), power)

    def sequence(self, layers: Iterable[Layer], at: int, part: str = "", first: int = 0) -> int:
        """Add layers, the first being number ``first`` of its list, which is a ``part`` of the
        layer that is under construction."""
        outer = self.where
        for n, layer in enumerate(layers, first):
            self.where = f"{outer}{part}[{n}]"
            at = self.layer(layer, at)
        self.where = outer
        return at

    def layer(self, layer: Layer, at: int) -> int:
        h, w = self.nodes[at].shape
        sign = self.nonnegative[at]
        match layer:
            case Conv():
                return self._conv(layer, at)
            case Dense(W_std, b_std):
                one = (1, 1)
                gain, bias = self.rounded(W_std**2), self.rounded(b_std**2)
                op = Affine(one, one, (0, 0), (0, 0), False, gain, bias)
                return self.add(op, (at,), (h, w), sign)
            case Activation(name, params):
                formula = activations.get(name, dict(params)).rounded(self.dtype)
                if formula.code == "identity":
                    return at
                result = formula.nonnegative(sign)
                act = Act(formula, sign, f"{self.where} {name}")
                return self.add(act, (at,), (h, w), result)
            case LayerNorm(axis):
                axes = tuple(sorted({a % 4 - 1 for a in axis} & {0, 1})) if h * w > 1 else ()
                return self.add(Norm(axes), (at,), (h, w), sign)
            case Dropout(rate):
                return self.add(Keep(rate), (at,), (h, w), sign)
            case Pool():
                return self._pool(layer, at)
            case GlobalPool(kind):
                scale = 1.0 / (h * w) ** 2 if kind == "avg" else 1.0
                return self.add(Reduce(False, scale), (at,), (1, 1), sign)
            case Flatten():
                if (h, w) == (1, 1):
                    return at
                return self.add(Reduce(True, 1.0 / (h * w)), (at,), (1, 1), sign)
            case Residual(branch, shortcut):
                left = self.sequence(branch, at, ".branch")
                right = self.sequence(shortcut, at, ".shortcut")
                both = self.nonnegative[left] and self.nonnegative[right]
                return self.add(Add(), (left, right), self.nodes[left].shape, both)
            case Repeat(times, body):
                for _ in range(times):
                    at = self.sequence(body, at, ".body")
                return at

    def _conv(self, layer: Conv, at: int) -> int:
        (h, w), (a, b) = self.nodes[at].shape, layer.filter_shape
        rows = padding(h, a, layer.strides[0], layer.padding)
        cols = padding(w, b, layer.strides[1], layer.padding)
        op = Affine(
            (a, b),
            layer.strides,
            (rows[1], cols[1]),
            (rows[2], cols[2]),
            layer.padding == "CIRCULAR" and a * b > 1,
            layer.W_std**2 / (a * b),
            layer.b_std**2,
        )
        return self.add(op, (at,), (rows[0], cols[0]), self.nonnegative[at])

    def _pool(self, layer: Pool, at: int) -> int:
        (h, w), (a, b) = self.nodes[at].shape, layer.window_shape
        rows = padding(h, a, layer.strides[0], layer.padding)
        cols = padding(w, b, layer.strides[1], layer.padding)
        scale = 1.0 / (a * b) ** 2 if layer.kind == "avg" else 1.0
        op = Gather((a, b), layer.strides, (rows[1], cols[1]), layer.padding == "CIRCULAR", scale)
        return self.add(op, (at,), (rows[0], cols[0]), self.nonnegative[at])


def is_vector(network: Network) -> bool:
    """Whether the network sees its input as a vector: no image axes, or Flatten comes first."""
    if len(network.input_shape) == 1:
        return True
    return isinstance(network.unrolled().layers[0], Flatten)


def build_graph(
    network: Network, depths: tuple[int, ...] | None = None, dtype: str = "float64"
) -> tuple[Node, ...]:
    """The nodes of ``network``, with one Output per depth of a sweep, constants for ``dtype``.

    Raises:
        WidegramError: ``depths`` without exactly one top-level Repeat.
    """
    build = _Builder(dtype)
    shape = (1, 1) if is_vector(network) else (network.input_shape[0], network.input_shape[1])
    at = build.add(Input(), (), shape, False)
    if depths is None:
        at = build.sequence(network.layers, at)
        build.add(Output(None), (at,), (1, 1), False)
        return tuple(build.nodes)
    prefix, body, _, suffix = network.sweep()
    network.at_depth(max(depths))
    at = build.sequence(prefix, at)
    for depth in range(1, max(depths) + 1):
        at = build.sequence(body, at, f"[{len(prefix)}].body")
        if depth in depths:
            end = build.sequence(suffix, at, first=len(prefix) + 1)
            build.add(Output(depth), (end,), (1, 1), False)
    return tuple(build.nodes)
