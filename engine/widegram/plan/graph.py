"""A network as a list of single operations on planes.

Nodes are in topological order and refer to their inputs by position. A value lives on an image of
``shape`` (h, w); vectors, and everything behind Flatten or a global pool, are (1, 1). Layers that
change nothing between two different inputs (Identity, Dropout) stay in the graph where the
variances of an image need them and are skipped by the planes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import zip_longest

from widegram import activations
from widegram.errors import WidegramError
from widegram.machine.remembering import remembered
from widegram.network import layers as kinds
from widegram.network.contribution import (
    bias_variance,
    channels_behind,
)
from widegram.network.geometry import inside, padding
from widegram.network.inputs import InputPart, parts_of
from widegram.network.model import Network
from widegram.network.selection import chosen, expanded
from widegram.network.shapes import normalized_axes
from widegram.plan import graph_maps
from widegram.plan.counted import Counted
from widegram.plan.graph_building import Building, Node
from widegram.plan.hiding import Hidden, VisibleNorm
from widegram.plan.joining import join
from widegram.plan.masks import Pair
from widegram.plan.operations import (
    CONVOLUTIONS,
    Act,
    Add,
    Affine,
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

# Windows of this many rows and columns: their sums over both images, made tap by tap where they
# reach over borders, cost more than all the rest.
_LOCAL = 5
# Of graphs that are kept, together: those with maps between all pixels hold large matrices.
_KEPT_BYTES = 2**23


@dataclass
class _Builder(Building):
    """``large``: the least rows and columns of windows whose pools are one with the Flatten behind
    them. ``numbered``: some layer's meaning depends on how many axes values have, so that a Flatten
    of one pixel is none that can be left out."""

    large: int = _LOCAL
    numbered: bool = False

    def begin(self, network: Network, vector: bool) -> tuple[int, int]:
        """Add the input, as a ``vector`` or as it is, or those of a list and the layer that takes
        them; where that leads, and how many layers that was."""
        if network.inputs:
            layer = network.layers[0]
            assert isinstance(layer, kinds.FanIn)
            self.where = "layers[0]"
            starts = [self._part(n, part) for n, part in enumerate(parts_of(network.inputs))]
            ends = [
                self.sequence(branch, start, f".branches[{n}]")
                for n, (branch, start) in enumerate(zip(layer.branches, starts, strict=True))
            ]
            end = join(layer, ends, self)
            self.where = "layers"
            return end, 1
        *spatial, _ = (1,) if vector else network.input_shape
        height, width = [1] * (2 - len(spatial)) + spatial
        # A sequence lies along the columns.
        at = self.add(Input(), (), (height, width), False, tuple(range(2))[2 - len(spatial) :])
        self.channels[at] = math.prod(network.input_shape) // (height * width) or None
        return at, 0

    def _part(self, n: int, part: InputPart) -> int:
        """Input ``n`` of a list."""
        *shape, channels = part.shape
        at = self.add(Input(part=n), (), (shape[0], shape[1]), False, part.axes)
        self.channels[at] = channels
        return at

    def sequence(
        self, layers: Iterable[kinds.Layer], at: int, part: str = "", first: int = 0
    ) -> int:
        """Add layers, the first being number ``first`` of its list, which is a ``part`` of the
        layer that is under construction."""
        outer, layers = self.where, tuple(layers)
        local: kinds.Pool | None = None
        for n, (layer, after) in enumerate(zip_longest(layers, layers[1:]), first):
            self.where = f"{outer}{part}[{n}]"
            if (
                isinstance(layer, kinds.Pool)
                and isinstance(after, kinds.Flatten)
                and self._is_local(layer)
            ):
                local = layer
            elif local is not None:
                at, local = self._local(local, at), None
            else:
                at = self.layer(layer, at)
        self.where = outer
        return at

    def layer(self, layer: kinds.Layer, at: int) -> int:
        """Add a layer, and say how many channels it has."""
        end = self._layer(layer, at)
        if not isinstance(layer, kinds.Residual | kinds.FanIn | kinds.Repeat):
            pixels = math.prod(self.nodes[at].shape)
            self.channels[end] = channels_behind(layer, self.channels[at], pixels)
        return end

    def _layer(self, layer: kinds.Layer, at: int) -> int:
        h, w = self.nodes[at].shape
        sign = self.nonnegative[at]
        match layer:
            case kinds.ConvTranspose():
                return graph_maps.transposed(layer, at, self)
            case kinds.Convolution():
                return self._conv(layer, at)
            case kinds.Dense(W_std):
                gain, bias = self.rounded(W_std**2), self.rounded(bias_variance(layer))
                own = self.contribution(layer, at)
                op = Affine((1, 1), (1, 1), (0, 0), False, (0, 0), gain, bias, own)
                return self.add(op, (at,), (h, w), sign)
            case kinds.Activation(name, params):
                formula = activations.get(name, dict(params)).rounded(self.dtype)
                if formula.code == "identity":
                    return at
                result = formula.nonnegative(sign)
                act = Act(formula, sign, f"{self.where} {name}")
                return self.add(act, (at,), (h, w), result)
            case kinds.LayerNorm(eps=eps):
                known = self.axes[at]
                over = normalized_axes(layer, len(known)) if h * w > 1 else ()
                make = Norm if self.hidden is None else VisibleNorm
                norm = make(tuple(known[a] for a in over), eps)
                return self.add(norm, (at,), (h, w), sign)
            case kinds.Dropout(rate):
                return self.add(Keep(rate), (at,), (h, w), sign)
            case kinds.Pool():
                return self._pool(layer, at)
            case kinds.Index():
                return self._index(layer, at)
            case kinds.ImageResize():
                return graph_maps.resized(layer, at, self)
            case kinds.DotGeneral():
                return graph_maps.dotted(layer, at, self)
            case kinds.Aggregate():
                return graph_maps.aggregated(layer, at, self)
            case kinds.GlobalSelfAttention():
                return graph_maps.attended(layer, at, self)
            case kinds.GlobalPool(kind):
                scale = 1.0 / (h * w) ** 2 if kind == "avg" else 1.0
                if self.hidden is not None and kind == "avg":
                    at = self.shown(at, mean=True)
                return self.add(Reduce(False, scale), (at,), (1, 1), sign, ())
            case kinds.Flatten():
                return self._flatten(at)
            case kinds.Residual() | kinds.FanIn() | kinds.Repeat() | kinds.Readouts():
                return self._branched(layer, at)

    def _branched(
        self, layer: kinds.Residual | kinds.FanIn | kinds.Repeat | kinds.Readouts, at: int
    ) -> int:
        match layer:
            case kinds.Residual(branch, shortcut):
                left = self.sequence(branch, at, ".branch")
                right = self.sequence(shortcut, at, ".shortcut")
                both = self.nonnegative[left] and self.nonnegative[right]
                return self.add(Add(), (left, right), self.nodes[left].shape, both)
            case kinds.FanIn(branches):
                ends = [self.sequence(b, at, f".branches[{n}]") for n, b in enumerate(branches)]
                return join(layer, ends, self)
            case kinds.Repeat(times, body):
                for _ in range(times):
                    at = self.sequence(body, at, ".body")
                return at
            case kinds.Readouts():
                raise TypeError("Readouts have several ends; see _Builder.end")

    def end(
        self, layers: tuple[kinds.Layer, ...], at: int, first: int = 0, depth: int | None = None
    ) -> None:
        """Add the last layers of a network, the first being its number ``first``, and where its
        kernels are read out."""
        last = layers[-1] if layers else None
        if not isinstance(last, kinds.Readouts):
            at = self.sequence(layers, at, first=first)
            self.add(Output(End(depth)), (at,), (1, 1), False)
            return
        at = self.sequence(layers[:-1], at, first=first)
        self.large, number = 1, first + len(layers) - 1
        for name, head in last.heads:
            end = self.sequence(head, at, f"[{number}] Readouts.heads.{name}")
            self.add(Output(End(depth, name)), (end,), (1, 1), False)

    def _conv(self, layer: kinds.Convolution, at: int) -> int:
        (a, b), strides = (self.pair(n, at) for n in (layer.filter_shape, layer.strides))
        shape, lo, hi = self._windows((a, b), strides, layer.padding, at)
        circular = layer.padding == "CIRCULAR" and a * b > 1
        gain, bias = layer.W_std**2 / (a * b), bias_variance(layer)
        own = self.contribution(layer, at)
        op = CONVOLUTIONS[type(layer)]((a, b), strides, lo, circular, hi, gain, bias, own)
        return self.add(op, (at,), shape, self.nonnegative[at])

    def _pool(self, layer: kinds.Pool, at: int) -> int:
        (a, b), strides = (self.pair(n, at) for n in (layer.window_shape, layer.strides))
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

    def _flatten(self, at: int) -> int:
        (h, w), sign = self.nodes[at].shape, self.nonnegative[at]
        if (h, w) == (1, 1) and not (self.numbered and self.axes[at]):
            return at
        if self.large == 1:  # Others may pool: a step of all displacements
            one = (1, 1)
            counted = Counted(True, 1.0 / (h * w), one, (0, 0), (h, w))
            return self.add(counted, (at,), one, sign, ())
        return self.add(Reduce(True, 1.0 / (h * w)), (at,), (1, 1), sign, ())

    def _is_local(self, pool: kinds.Pool) -> bool:
        """Whether a pool is made in one with the Flatten behind it."""
        if self.hidden is not None:  # what it pools is masked before Flatten
            return False
        plain = pool.padding == "SAME" and not pool.normalize_edges
        return min(pool.window_shape) >= self.large and plain and pool.strides == (1, 1)

    def _local(self, layer: kinds.Pool, at: int) -> int:
        """A pool of stride 1 and Flatten behind it, in one."""
        a, b = self.pair(layer.window_shape, at)
        shape, lo, _ = self._windows((a, b), (1, 1), layer.padding, at)
        scale = (1.0 / (a * b) ** 2 if layer.kind == "avg" else 1.0) / (shape[0] * shape[1])
        op = Counted(True, scale, (a, b), lo, shape)
        end = self.add(op, (at,), (1, 1), self.nonnegative[at], ())
        self.channels[end] = channels_behind(kinds.Flatten(), self.channels[at], math.prod(shape))
        return end

    def _index(self, layer: kinds.Index, at: int) -> int:
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

    def _windows(
        self, window: Pair, strides: Pair, mode: kinds.Padding, at: int
    ) -> tuple[Pair, Pair, Pair]:
        """The shape behind windows, and the padding before and after."""
        sizes = zip(self.nodes[at].shape, window, strides, strict=True)
        rows, cols = (padding(size, a, stride, mode) for size, a, stride in sizes)
        return (rows[0], cols[0]), (rows[1], cols[1]), (rows[2], cols[2])


def first_map(nodes: Iterable[Node]) -> str:
    """Where the first layer is that makes all its planes at once, which not every backend does;
    empty without."""
    return next((n.operation.where for n in nodes if n.operation.at_once), "")


def is_vector(network: Network) -> bool:
    """Whether the network sees its input as a vector: no image axes, or Flatten comes first."""
    if network.inputs:
        return False
    if len(network.input_shape) == 1:
        return True
    first = network.layers[0]
    while isinstance(first, kinds.Repeat):
        first = first.body[0]
    return isinstance(first, kinds.Flatten)


def piece_graph(piece: Network, received: float = 1.0) -> tuple[Node, ...]:
    """The nodes of layers that may begin with values of others and end with an image, constants for
    float64; ``received`` as of :func:`build_graph`."""
    build = _builder(piece, "float64", received)
    at, begun = build.begin(piece, False)
    build.sequence(piece.layers[begun:], at, first=begun)
    return tuple(build.nodes)


def _builder(network: Network, dtype: str, received: float) -> _Builder:
    hidden = None if network.mask is None else Hidden()
    numbered = _is_numbered(network.layers)
    return _Builder(dtype, hidden=hidden, received=received, numbered=numbered)


def _is_numbered(layers: Iterable[kinds.Layer]) -> bool:
    """Whether a FanInConcat counts its axis from the first."""
    return any(
        (isinstance(layer, kinds.FanInConcat) and layer.axis != -1)
        or any(map(_is_numbered, kinds.lists_inside(layer)))
        for layer in layers
    )  # fmt: skip


def build_graph(
    network: Network, depths: tuple[int, ...] | None = None, dtype: str = "float64",
    received: float = 1.0,
) -> tuple[Node, ...]:  # fmt: skip
    """The nodes of ``network``, with one Output per depth of a sweep and head of Readouts,
    constants for ``dtype``; ``received`` as of :class:`widegram.data.scaled_rows.InputVariances`.

    Raises WidegramError for ``depths`` without exactly one top-level Repeat, and for ``augment``.
    """
    if network.augment:
        raise WidegramError("augment: a plan is of the plain network; evaluators take the means")
    return _graph(network, None if depths is None else tuple(depths), dtype, received)


@remembered(_KEPT_BYTES)  # many small kernels of one network spend their time on plans
def _graph(
    network: Network, depths: tuple[int, ...] | None, dtype: str, received: float
) -> tuple[Node, ...]:
    """The nodes of a network without flips."""
    build = _builder(network, dtype, received)
    at, begun = build.begin(network, is_vector(network))
    if depths is None:
        build.end(network.layers[begun:], at, begun)
        return tuple(build.nodes)
    prefix, body, _, suffix = network.sweep()
    network.at_depth(max(depths))
    at = build.sequence(prefix[begun:], at, first=begun)
    for depth in range(1, max(depths) + 1):
        at = build.sequence(body, at, f"[{len(prefix)}].body")
        if depth in depths:
            build.end(suffix, at, len(prefix) + 1, depth)
    return tuple(build.nodes)
