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
from itertools import zip_longest

import numpy as np

from widegram import activations
from widegram.errors import WidegramError
from widegram.network import attention, maps
from widegram.network.contribution import (
    Contribution,
    bias_variance,
    channels_behind,
    contribution,
)
from widegram.network.geometry import inside, padding
from widegram.network.layers import (
    Activation,
    Aggregate,
    Convolution,
    ConvTranspose,
    Dense,
    DotGeneral,
    Dropout,
    FanIn,
    Flatten,
    GlobalPool,
    GlobalSelfAttention,
    ImageResize,
    Index,
    Layer,
    LayerNorm,
    Padding,
    Pool,
    Readouts,
    Repeat,
    Residual,
)
from widegram.network.model import Network
from widegram.network.selection import chosen, expanded
from widegram.network.shapes import normalized_axes
from widegram.network.spec import layer_name
from widegram.plan.attention import Attend, Kept
from widegram.plan.counted import Counted
from widegram.plan.hiding import Hidden, Hide, Spreading, VisibleNorm
from widegram.plan.joined import scaled_by
from widegram.plan.joining import join
from widegram.plan.maps import EachMap, Map, Matrix
from widegram.plan.masks import Pair
from widegram.plan.operation_base import Array, Operation
from widegram.plan.operations import (
    CONVOLUTIONS,
    Act,
    Add,
    Affine,
    Copy,
    Gather,
    Input,
    Keep,
    Norm,
    Output,
    Reduce,
    Take,
    Weigh,
)
from widegram.tiling import End

Axes = tuple[int, ...]
# Windows of this many rows and columns: their sums over both images, made tap by tap where they
# reach over borders, cost more than all the rest.
_LOCAL = 5


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
    channels: list[int | None] = field(default_factory=list)
    axes: list[Axes] = field(default_factory=list)
    where: str = "layers"
    # Of a network with a mask.
    hidden: Hidden | None = None
    # The largest sum of absolute weights of edges to a vertex of an input's pattern.
    received: float = 1.0
    # The least rows and columns of windows whose pools are one with the Flatten behind them.
    large: int = _LOCAL

    def add(
        self, operation: Operation, inputs: tuple[int, ...], shape: Pair, nonnegative: bool,
        axes: Axes | None = None,
    ) -> int:  # fmt: skip
        """A node; ``axes``: those of the plan that its value has for layers, as its first input's
        where they are not given."""
        if self.hidden is not None:
            behind = {j: self.shown(j) for j in self.hidden.needed(operation, inputs)}
            inputs = tuple(behind.get(j, j) for j in inputs)
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
        """The same of an array."""
        fractions, powers = np.frexp(values)
        return np.ldexp(fractions.astype(self.dtype).astype(np.float64), powers)

    def sequence(self, layers: Iterable[Layer], at: int, part: str = "", first: int = 0) -> int:
        """Add layers, the first being number ``first`` of its list, which is a ``part`` of the
        layer that is under construction."""
        outer, layers = self.where, tuple(layers)
        local: Pool | None = None
        for n, (layer, after) in enumerate(zip_longest(layers, layers[1:]), first):
            self.where = f"{outer}{part}[{n}]"
            if isinstance(layer, Pool) and isinstance(after, Flatten) and self._is_local(layer):
                local = layer
            elif local is not None:
                at, local = self._local(local, at), None
            else:
                at = self.layer(layer, at)
        self.where = outer
        return at

    def layer(self, layer: Layer, at: int) -> int:
        """Add a layer, and say how many channels it has."""
        end = self._layer(layer, at)
        if not isinstance(layer, Residual | FanIn | Repeat):
            pixels = math.prod(self.nodes[at].shape)
            self.channels[end] = channels_behind(layer, self.channels[at], pixels)
        return end

    def _layer(self, layer: Layer, at: int) -> int:
        h, w = self.nodes[at].shape
        sign = self.nonnegative[at]
        match layer:
            case ConvTranspose():
                return self._transposed(layer, at)
            case Convolution():
                return self._conv(layer, at)
            case Dense(W_std):
                one = (1, 1)
                gain, bias = self.rounded(W_std**2), self.rounded(bias_variance(layer))
                own = self._contribution(layer, at)
                op = Affine(one, one, (0, 0), False, (0, 0), gain, bias, own)
                return self.add(op, (at,), (h, w), sign)
            case Activation(name, params):
                formula = activations.get(name, dict(params)).rounded(self.dtype)
                if formula.code == "identity":
                    return at
                result = formula.nonnegative(sign)
                act = Act(formula, sign, f"{self.where} {name}")
                return self.add(act, (at,), (h, w), result)
            case LayerNorm(eps=eps):
                known = self.axes[at]
                over = normalized_axes(layer, len(known)) if h * w > 1 else ()
                make = Norm if self.hidden is None else VisibleNorm
                norm = make(tuple(known[a] for a in over), eps)
                return self.add(norm, (at,), (h, w), sign)
            case Dropout(rate):
                return self.add(Keep(rate), (at,), (h, w), sign)
            case Pool():
                return self._pool(layer, at)
            case Index():
                return self._index(layer, at)
            case ImageResize():
                return self._resized(layer, at)
            case DotGeneral():
                return self._dotted(layer, at)
            case Aggregate():
                return self._aggregated(layer, at)
            case GlobalSelfAttention():
                return self._attended(layer, at)
            case GlobalPool(kind):
                scale = 1.0 / (h * w) ** 2 if kind == "avg" else 1.0
                if self.hidden is not None and kind == "avg":
                    at = self.shown(at, mean=True)
                return self.add(Reduce(False, scale), (at,), (1, 1), sign, ())
            case Flatten():
                if (h, w) == (1, 1):
                    return at
                if self.large == 1:  # Others may pool: a step of all displacements
                    one = (1, 1)
                    counted = Counted(True, 1.0 / (h * w), one, (0, 0), (h, w))
                    return self.add(counted, (at,), one, sign, ())
                return self.add(Reduce(True, 1.0 / (h * w)), (at,), (1, 1), sign, ())
            case Residual(branch, shortcut):
                left = self.sequence(branch, at, ".branch")
                right = self.sequence(shortcut, at, ".shortcut")
                both = self.nonnegative[left] and self.nonnegative[right]
                return self.add(Add(), (left, right), self.nodes[left].shape, both)
            case FanIn(branches):
                ends = [self.sequence(b, at, f".branches[{n}]") for n, b in enumerate(branches)]
                return join(layer, ends, self)
            case Repeat(times, body):
                for _ in range(times):
                    at = self.sequence(body, at, ".body")
                return at
            case Readouts():
                raise TypeError("Readouts have several ends; see _Builder.end")

    def shape_of(self, at: int) -> Pair:
        """The image that a node lives on."""
        return self.nodes[at].shape

    def end(
        self, layers: tuple[Layer, ...], at: int, first: int = 0, depth: int | None = None
    ) -> None:
        """Add the last layers of a network, the first being its number ``first``, and where its
        kernels are read out."""
        last = layers[-1] if layers else None
        if not isinstance(last, Readouts):
            at = self.sequence(layers, at, first=first)
            self.add(Output(End(depth)), (at,), (1, 1), False)
            return
        at = self.sequence(layers[:-1], at, first=first)
        self.large, number = 1, first + len(layers) - 1
        for name, head in last.heads:
            end = self.sequence(head, at, f"[{number}] Readouts.heads.{name}")
            self.add(Output(End(depth, name)), (end,), (1, 1), False)

    def _conv(self, layer: Convolution, at: int) -> int:
        (a, b), strides = (self._pair(n, at) for n in (layer.filter_shape, layer.strides))
        shape, lo, hi = self._windows((a, b), strides, layer.padding, at)
        circular = layer.padding == "CIRCULAR" and a * b > 1
        gain, bias = layer.W_std**2 / (a * b), bias_variance(layer)
        own = self._contribution(layer, at)
        op = CONVOLUTIONS[type(layer)]((a, b), strides, lo, circular, hi, gain, bias, own)
        return self.add(op, (at,), shape, self.nonnegative[at])

    def _transposed(self, layer: ConvTranspose, at: int) -> int:
        """Pixels set apart, then a window of stride 1."""
        (a, b), strides = (self._pair(n, at) for n in (layer.filter_shape, layer.strides))
        before = self.nodes[at].shape
        sizes = zip(before, (a, b), strides, strict=True)
        rows, cols = (maps.transposed(*each, layer.padding) for each in sizes)
        shape, lo = (rows.out, cols.out), (rows.lo, cols.lo)
        if shape != before:
            ends = zip(before, strides, (rows, cols), strict=True)
            at = self.mapped(layer, [maps.stuffing(*end) for end in ends], at, shape)
        circular = layer.padding == "CIRCULAR" and a * b > 1
        gain, bias = layer.W_std**2 / (a * b), bias_variance(layer)
        own = self._contribution(layer, at)
        hi = a - 1 - rows.lo, b - 1 - cols.lo
        geometry = (a, b), (1, 1), lo, circular, hi, gain, bias, own
        op = Affine(*geometry)
        if self.hidden is not None:
            first = rows.first, cols.first
            axes = zip(before, (a, b), strides, first, shape, strict=True)
            reached = tuple(_reached(*axis, layer.padding) for axis in axes)
            op = Spreading(*geometry, reached=reached)
        return self.add(op, (at,), shape, self.nonnegative[at])

    def _resized(self, layer: ImageResize, at: int) -> int:
        before = self.nodes[at].shape
        known = [before[axis] for axis in self.axes[at]]
        shape = self._pair(maps.resized(layer, tuple(known), self.where), at)
        if shape == before:
            return at
        sizes = zip(before, shape, strict=True)
        matrices = [maps.resizing(*size, layer.method, layer.antialias) for size in sizes]
        return self.mapped(layer, matrices, at, shape)

    def _dotted(self, layer: DotGeneral, at: int) -> int:
        factor, known = maps.scalar(layer), self.axes[at]
        if factor is not None:
            sign, shape = self.nonnegative[at] and factor >= 0, self.nodes[at].shape
            number = scaled_by(self.rounded(factor**2))
            return at if factor == 1 else self.add(number, (at,), shape, sign)
        spatial = tuple(self.nodes[at].shape[axis] for axis in known)
        made = maps.dotted(layer, spatial, self.where)
        sizes = dict(zip(known, made, strict=False))
        matrix = maps.dotting(layer, spatial, self.where)
        shape = sizes.get(0, 1), sizes.get(1, 1)
        return self.mapped(layer, [matrix], at, shape, known[: len(made)])

    def _aggregated(self, layer: Aggregate, at: int) -> int:
        known = self.axes[at]
        along = tuple(known[axis] for axis in layer.axes(len(known)))
        source = self._stored(at)
        size = math.prod(self.nodes[at].shape[axis] for axis in along)
        where = f"{self.where} {layer_name(layer)}"
        # Weights may be negative.
        op = EachMap(size, along, self.received, where)
        return self.add(op, (source,), self.nodes[at].shape, False)

    def _attended(self, layer: GlobalSelfAttention, at: int) -> int:
        """Positional embeddings, the map by weights, and what values, outputs and biases add."""
        where, shape = f"{self.where} {layer_name(layer)}", self.nodes[at].shape
        known, (part, embedded) = self.axes[at], attention.mixture(layer)
        covariance = attention.embeddings(layer, tuple(shape[axis] for axis in known))
        gain, shift = (layer.W_out_std * layer.W_value_std) ** 2, None
        if layer.val_pos_emb and embedded:
            # Of part K + embedded R the first factor is left to the gain behind the map.
            gain, shift = gain * part, Matrix(self.rounded_all(embedded / part * covariance))
        gain = self.rounded(gain)
        source = self.add(Kept(), (at,), shape, self.nonnegative[at])
        op = Attend(math.prod(shape), known, 1.0, where, layer=layer, input=part,
                    embedded=Matrix(embedded * covariance), shift=shift)  # fmt: skip
        at = self.add(op, (source,), shape, False)
        bias = self.rounded((layer.b_std or 0.0) ** 2)
        one, own = (1, 1), Contribution(2 * gain, bias)
        affine = Affine(one, one, (0, 0), False, (0, 0), gain, bias, own)
        return self.add(affine, (at,), shape, False)

    def _stored(self, at: int) -> int:
        """A node whose planes are kept, which has the values of node ``at``."""
        operation = self.nodes[at].operation
        if operation.stored and not operation.reduced:
            return at
        return self.add(Copy(), (at,), self.nodes[at].shape, self.nonnegative[at])

    def mapped(
        self, layer: Layer, matrices: list[Array], at: int, shape: Pair, axes: Axes | None = None
    ) -> int:
        """A map of all pixels, or one of the rows and one of the columns."""
        if self.hidden is not None and not self.hidden.zero[at]:
            at = self.shown(at)
        at = self._stored(at)
        rounded = tuple(Matrix(self.rounded_all(matrix)) for matrix in matrices)
        sign = self.nonnegative[at] and all((m.values >= 0).all() for m in rounded)
        return self.add(Map(rounded, f"{self.where} {layer_name(layer)}"), (at,), shape, sign, axes)

    def _contribution(self, layer: Convolution | Dense, at: int) -> Contribution | None:
        """What a layer adds to T of the sums over its windows."""
        own = contribution(layer, self.channels[at])
        if own is None:
            return None
        taps = math.prod(layer.filter_shape) if isinstance(layer, Convolution) else 1
        return Contribution(self.rounded(own.weights / taps), self.rounded(own.biases))

    def _pool(self, layer: Pool, at: int) -> int:
        (a, b), strides = (self._pair(n, at) for n in (layer.window_shape, layer.strides))
        shape, lo, _ = self._windows((a, b), strides, layer.padding, at)
        scale = 1.0 / (a * b) ** 2 if layer.kind == "avg" else 1.0
        op = Gather((a, b), strides, lo, layer.padding == "CIRCULAR", scale)
        pooled = self.add(op, (at,), shape, self.nonnegative[at])
        if not layer.normalize_edges or layer.padding != "SAME":
            return pooled
        weights = [
            tuple(window / n for n in inside(size, window, stride))
            for size, window, stride in zip(self.nodes[at].shape, (a, b), strides, strict=True)
        ]
        if {1.0}.issuperset(weights[0] + weights[1]):
            return pooled
        return self.add(Weigh(*weights), (pooled,), shape, self.nonnegative[at])

    def _is_local(self, pool: Pool) -> bool:
        """Whether a pool is made in one with the Flatten behind it."""
        if self.hidden is not None:  # what it pools is masked before Flatten
            return False
        plain = pool.padding == "SAME" and not pool.normalize_edges
        return min(pool.window_shape) >= self.large and plain and pool.strides == (1, 1)

    def _local(self, layer: Pool, at: int) -> int:
        """A pool of stride 1 and Flatten behind it, in one."""
        a, b = self._pair(layer.window_shape, at)
        shape, lo, _ = self._windows((a, b), (1, 1), layer.padding, at)
        scale = (1.0 / (a * b) ** 2 if layer.kind == "avg" else 1.0) / (shape[0] * shape[1])
        op = Counted(True, scale, (a, b), lo, shape)
        end = self.add(op, (at,), (1, 1), self.nonnegative[at], ())
        self.channels[end] = channels_behind(Flatten(), self.channels[at], math.prod(shape))
        return end

    def _index(self, layer: Index, at: int) -> int:
        known, shape = self.axes[at], self.nodes[at].shape
        _, *entries, _ = expanded(layer.idx, len(known) + 2, self.where)
        taken = [range(n) for n in shape]
        for axis, entry in zip(known, entries, strict=True):
            taken[axis] = chosen(entry, shape[axis], self.where)
        left = tuple(a for a, e in zip(known, entries, strict=True) if not isinstance(e, int))
        if left == known and taken == [range(n) for n in shape]:
            return at
        rows, cols = taken
        op = Take((1, 1), (rows.step, cols.step), (-rows.start, -cols.start), False, 1.0)
        return self.add(op, (at,), (len(rows), len(cols)), self.nonnegative[at], left)

    def _pair(self, numbers: tuple[int, ...], at: int) -> Pair:
        """One number for each axis of node ``at``, by axes of the plan; 1 along others."""
        known = dict(zip(self.axes[at], numbers, strict=True))
        return known.get(0, 1), known.get(1, 1)

    def _windows(
        self, window: Pair, strides: Pair, mode: Padding, at: int
    ) -> tuple[Pair, Pair, Pair]:
        """The shape behind windows, and the padding before and after."""
        sizes = zip(self.nodes[at].shape, window, strides, strict=True)
        rows, cols = (padding(size, a, stride, mode) for size, a, stride in sizes)
        return (rows[0], cols[0]), (rows[1], cols[1]), (rows[2], cols[2])


def _reached(size: int, window: int, stride: int, first: int, out: int, mode: Padding) -> Matrix:
    """Which pixels that were set apart, from ``first`` on, reach which of ``out`` (row) along an
    axis."""
    found = np.zeros((out, out))
    found[:, first + stride * np.arange(size)] = maps.reached(size, window, stride, mode)
    return Matrix(found)


def first_map(nodes: Iterable[Node]) -> str:
    """Where the first layer is that makes all its planes at once, which not every backend does;
    empty without."""
    return next((n.operation.where for n in nodes if isinstance(n.operation, Map | EachMap)), "")


def is_vector(network: Network) -> bool:
    """Whether the network sees its input as a vector: no image axes, or Flatten comes first."""
    if len(network.input_shape) == 1:
        return True
    first = network.layers[0]
    while isinstance(first, Repeat):
        first = first.body[0]
    return isinstance(first, Flatten)


def build_graph(
    network: Network, depths: tuple[int, ...] | None = None, dtype: str = "float64",
    received: float = 1.0,
) -> tuple[Node, ...]:  # fmt: skip
    """The nodes of ``network``, with one Output per depth of a sweep and head of Readouts,
    constants for ``dtype``; ``received`` as of :class:`widegram.data.scaled_rows.Spread`.

    Raises:
        WidegramError: ``depths`` without exactly one top-level Repeat, or ``augment``.
    """
    if network.augment:
        raise WidegramError("augment: a plan is of the plain network; evaluators take the means")
    hidden = None if network.mask is None else Hidden()
    build = _Builder(dtype, hidden=hidden, received=received)
    *spatial, _ = (1,) if is_vector(network) else network.input_shape
    height, width = [1] * (2 - len(spatial)) + spatial
    # A sequence lies along the columns.
    at = build.add(Input(), (), (height, width), False, tuple(range(2))[2 - len(spatial) :])
    build.channels[at] = math.prod(network.input_shape) // (height * width)
    if depths is None:
        build.end(network.layers, at)
        return tuple(build.nodes)
    prefix, body, _, suffix = network.sweep()
    network.at_depth(max(depths))
    at = build.sequence(prefix, at)
    for depth in range(1, max(depths) + 1):
        at = build.sequence(body, at, f"[{len(prefix)}].body")
        if depth in depths:
            build.end(suffix, at, len(prefix) + 1, depth)
    return tuple(build.nodes)
