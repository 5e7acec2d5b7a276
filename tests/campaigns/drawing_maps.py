"""Random layers that map pixels to others, and the patterns of graphs that go with them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from campaigns.drawing import Drawing, Shape, Spec, State
from widegram.network import maps
from widegram.network.attention import EMBEDDINGS, MECHANISMS

SIZES = (-1, -1, 1, 2, 3, 5, 7)
LARGEST = 8  # pixels along an axis that transposed convolutions make
DECAYS = (None, "exp(-x)", "1 / (1 + x)")
FACTORS = (0.0, -1.5, 0.5, 2.0)


class Graph(NamedTuple):
    """What all Aggregate layers of a network take: ``axis`` as of the layer, the sizes along it."""

    axis: list[int] | None
    sizes: Shape
    sparse: bool


class Maps(Drawing):
    """Draws them; ``graph`` None without Aggregate layers."""

    graph: Graph | None = None
    attends = False
    standard = False

    def map(self, state: State, keep: bool) -> tuple[list[Spec], State]:
        """``keep``: the image's shape stays."""
        kinds = ["transpose", "weights", "number", "aggregate", "aggregate"]
        # Behind attention the channels are not known, which the standard parameterization reads.
        kinds += [] if self.standard else ["attention", "attention"]
        kinds += [] if keep else ["resize", "resize", "rows", "last", "turn", "drop"]
        match self.one_of(kinds):
            case "transpose":
                return self.transpose(state, keep)
            case "attention":
                return self.attention(state)
            case "aggregate":
                return self.aggregate(state)
            case "resize":
                return self.resize(state)
            case kind:
                return self.dot(kind, state)

    def transpose(self, state: State, keep: bool) -> tuple[list[Spec], State]:
        mode = self.one_of(("SAME", "CIRCULAR") if keep else ("SAME", "VALID", "CIRCULAR"))
        window = [self.whole(1, 4) for _ in state.shape]
        strides = [1 if keep else self.whole(1, max(1, LARGEST // n)) for n in state.shape]
        layer = {"layer": "ConvTranspose", "filter_shape": window, "strides": strides,
                 "padding": mode, **self.weights()}  # fmt: skip
        each = zip(state.shape, window, strides, strict=True)
        shape = tuple(maps.transposed(*one, mode).out for one in each)
        return [layer], State(shape, True, True)

    def resize(self, state: State) -> tuple[list[Spec], State]:
        sizes = tuple(self.one_of(SIZES) for _ in state.shape)
        layer = {"layer": "ImageResize", "shape": [-1, *sizes, -1],
                 "method": self.one_of(("linear", "nearest")),
                 "antialias": self.chance(0.5)}  # fmt: skip
        shape = tuple(a if b == -1 else b for a, b in zip(state.shape, sizes, strict=True))
        return [layer], state._replace(shape=shape)

    def dot(self, kind: str, state: State) -> tuple[list[Spec], State]:
        """A DotGeneral of a ``kind``: 'number'; 'weights' of every pixel; an array on the left of
        'rows', on the right of the 'last' axis, on its left, which puts it first ('turn'); with an
        axis the less ('drop')."""
        shape, axes = state.shape, list(range(len(state.shape)))
        out, last = self.whole(1, 4), len(state.shape) - 1
        match kind:
            case "number":
                return [{"layer": "DotGeneral", "rhs": self.one_of(FACTORS)}], state
            case "weights":
                side, array = [axes, [n + 1 for n in axes]], self.array(shape)
                return [_dot("lhs", array, [[], []], side)], state
            case "rows":
                layer = _dot("lhs", self.array((out, shape[0])), [[1], [1]])
                shape = (out, *shape[1:])
            case "last":
                layer = _dot("rhs", self.array((shape[-1], out)), [[last + 1], [0]])
                shape = (*shape[:-1], out)
            case "turn":
                layer = _dot("lhs", self.array((out, shape[-1])), [[1], [last + 1]])
                shape = (out, *shape[:-1])
            case _:
                axis = self.one_of(axes)
                layer = _dot("lhs", self.array((shape[axis],)), [[0], [axis + 1]])
                shape = tuple(n for k, n in enumerate(shape) if k != axis)
        return [layer], state._replace(shape=shape)

    def array(self, shape: Shape) -> list[Any]:
        """Numbers of two decimals; perhaps differences, which cancel, or many zeros."""
        made = self.rng.standard_normal(shape).round(2)
        match self.one_of(("any", "any", "differences", "sparse")):
            case "differences":
                rows = np.eye(shape[-1]) - np.eye(shape[-1], k=-1)
                made = rows[self.rng.integers(0, len(rows), shape[:-1])]
            case "sparse":
                made *= self.rng.random(shape) < 0.4
        return made.tolist()

    def aggregate(self, state: State) -> tuple[list[Spec], State]:
        if self.graph is None:
            axes = self.one_of([None, *([k + 1] for k in range(len(state.shape)))])
            self.graph = Graph(axes, _along(state.shape, axes), self.chance(0.4))
        graph = self.graph
        axes = graph.axis
        if max(axes or [0]) > len(state.shape) or _along(state.shape, axes) != graph.sizes:
            return self.dot("number", state)
        kind = "SPARSE" if graph.sparse else "DENSE"
        return [{"layer": "Aggregate", "aggregate_axis": axes, "implementation": kind}], state

    def attention(self, state: State) -> tuple[list[Spec], State]:
        self.attends = True
        mechanism = self.one_of((*MECHANISMS, "IDENTITY"))
        layer = {"layer": "GlobalSelfAttention", "attention_mechanism": mechanism,
                 "b_std": self.one_of((None, 0.0, 0.3))}  # fmt: skip
        if mechanism == "IDENTITY":
            layer["linear_scaling"] = self.chance(0.5)
        for name in ("W_key_std", "W_value_std", "W_query_std", "W_out_std"):
            layer[name] = self.number(0.5, 1.5)
        kind = self.one_of(EMBEDDINGS)
        if kind != "NONE":
            layer |= {"pos_emb_type": kind, "pos_emb_p_norm": self.one_of((1.0, 2.0)),
                      "pos_emb_decay_fn": self.one_of(DECAYS),
                      "W_pos_emb_std": self.number(0, 1.5),
                      "val_pos_emb": self.chance(0.5)}  # fmt: skip
        return [layer], State(state.shape, True, True)

    def patterns(self, n: int) -> np.ndarray:
        """Those of n inputs; some are equal."""
        assert self.graph is not None
        sizes = self.graph.sizes
        make = self.edges if self.graph.sparse else self.adjacency
        kinds = [make(sizes) for _ in range(3)]
        return np.stack([self.one_of(kinds) for _ in range(n)])

    def adjacency(self, sizes: Shape) -> np.ndarray:
        """Weights from each vertex to each: 0 and 1, any, the identity, or none."""
        shape = (*sizes, *sizes)
        match self.one_of(("graph", "graph", "any", "identity", "none")):
            case "graph":
                return np.float64(self.rng.random(shape) < 0.4)
            case "any":
                return self.rng.standard_normal(shape)
            case "identity":
                return np.eye(int(np.prod(sizes))).reshape(shape)
        return np.zeros(shape)

    def edges(self, sizes: Shape) -> np.ndarray:
        """Six edges, tail and head, of which some do not count."""
        tops = np.array(sizes)[:, None]
        made = self.rng.integers(0, tops, (6, len(sizes), 2))
        made[self.rng.random(6) < 0.3, :, 1] = -1
        return made


def _dot(side: str, array: list[Any], contracted: Any, batch: Any = ((), ())) -> Spec:
    numbers = [list(map(list, contracted)), list(map(list, batch))]
    return {"layer": "DotGeneral", side: array, "dimension_numbers": numbers}


def _along(shape: Shape, axes: list[int] | None) -> Shape:
    return shape if axes is None else tuple(shape[k - 1] for k in axes)
