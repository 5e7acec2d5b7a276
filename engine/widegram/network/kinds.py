"""The table of layers: names, parameters with their checks and defaults."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from widegram.network import checks, maps
from widegram.network.attention import EMBEDDINGS, MECHANISMS, decay
from widegram.network.layers import (
    EPSILON,
    Activation,
    Aggregate,
    Conv,
    ConvLocal,
    ConvTranspose,
    Dense,
    DotGeneral,
    Dropout,
    FanInConcat,
    FanInProd,
    FanInSum,
    Flatten,
    GlobalPool,
    GlobalSelfAttention,
    ImageResize,
    Index,
    Layer,
    LayerNorm,
    Pool,
)
from widegram.network.selection import parse_idx

REQUIRED = object()


@dataclass(frozen=True)
class Parameter:
    """A parameter of a layer.

    * ``check``: returns a value as it is kept; a ValueError says what is wrong with it
    * ``default``: the value where none is given
    * ``unwritten``: whether the default is left out of what is written, so that networks that are
      older than the parameter keep their fingerprints
    """

    check: Callable[[Any], Any]
    default: Any = REQUIRED
    unwritten: bool = False


@dataclass(frozen=True)
class LayerKind:
    """What a layer's name stands for.

    * ``make``: its class
    * ``fixed``: fields that the name decides
    * ``parameters``: by name
    * ``settle``: changes or refuses parameters that are checked, each for itself, by one another; a
      ValueError says what is wrong
    """

    make: type
    fixed: Mapping[str, Any]
    parameters: Mapping[str, Parameter]
    settle: Callable[[dict[str, Any]], None] | None = None

    def unsaid(self, name: str, value: Any, default: Any) -> bool:
        """Whether a field with that value is not written, or of no meaning under this name."""
        parameter = self.parameters.get(name)
        return value == default if parameter is None else (
            parameter.unwritten and value == parameter.default
        )


_AFFINE = {
    "W_std": Parameter(checks.std, 1.0),
    "b_std": Parameter(checks.optional(checks.std), None),
    "parameterization": Parameter(checks.parameterization, "ntk", unwritten=True),
    "width": Parameter(checks.optional(checks.width), None, unwritten=True),
    "s": Parameter(checks.scales, (1, 1), unwritten=True),
    "W_rate": Parameter(checks.at_least_0, 1.0, unwritten=True),
    "b_rate": Parameter(checks.at_least_0, 1.0, unwritten=True),
    "b_grad": Parameter(checks.optional(checks.at_least_0), None, unwritten=True),
}
_WINDOW = {
    "strides": Parameter(checks.strides, None),
    "padding": Parameter(checks.padding, "VALID"),
}
_POOL = {"window_shape": Parameter(checks.window), **_WINDOW}
_EDGES = {"normalize_edges": Parameter(checks.flag, False, unwritten=True)}

_FILTER = {"filter_shape": Parameter(checks.window), **_WINDOW, **_AFFINE}
_NORM = {
    "axis": Parameter(checks.axes, (-1,)),
    "eps": Parameter(checks.positive, EPSILON, unwritten=True),
}

_RESIZE = {
    "shape": Parameter(maps.resize_shape),
    "method": Parameter(maps.resize_method),
    "antialias": Parameter(checks.flag, True),
}
_DOT = {
    "lhs": Parameter(maps.tensor, None),
    "rhs": Parameter(maps.tensor, None),
    "dimension_numbers": Parameter(maps.dimension_numbers, (((), ()), ((), ()))),
}

_AGGREGATE = {
    "aggregate_axis": Parameter(checks.optional(checks.axes), None),
    "implementation": Parameter(maps.implementation, "DENSE"),
}

_ATTENTION = {
    "linear_scaling": Parameter(checks.flag, True),
    "W_key_std": Parameter(checks.std, 1.0),
    "W_value_std": Parameter(checks.std, 1.0),
    "W_query_std": Parameter(checks.std, 1.0),
    "W_out_std": Parameter(checks.std, 1.0),
    "b_std": Parameter(checks.optional(checks.std), None),
    "attention_mechanism": Parameter(checks.one_of(*MECHANISMS), "SOFTMAX"),
    "pos_emb_type": Parameter(checks.one_of(*EMBEDDINGS), "NONE"),
    "pos_emb_p_norm": Parameter(checks.positive, 2.0),
    "pos_emb_decay_fn": Parameter(checks.optional(decay), None),
    "n_chan_pos_emb": Parameter(checks.optional(checks.width), None),
    "W_pos_emb_std": Parameter(checks.std, 1.0),
    "val_pos_emb": Parameter(checks.flag, False),
    "width": Parameter(checks.optional(checks.width), None, unwritten=True),
}

LAYERS: Mapping[str, LayerKind] = {
    "Conv": LayerKind(Conv, {}, _FILTER, checks.stride_of_each_axis),
    "ConvLocal": LayerKind(ConvLocal, {}, _FILTER, checks.stride_of_each_axis),
    "ConvTranspose": LayerKind(ConvTranspose, {}, _FILTER, checks.stride_of_each_axis),
    "Dense": LayerKind(Dense, {}, _AFFINE),
    "AvgPool": LayerKind(Pool, {"kind": "avg"}, {**_POOL, **_EDGES}, checks.stride_of_each_axis),
    "SumPool": LayerKind(Pool, {"kind": "sum"}, _POOL, checks.stride_of_each_axis),
    "GlobalAvgPool": LayerKind(GlobalPool, {"kind": "avg"}, {}),
    "GlobalSumPool": LayerKind(GlobalPool, {"kind": "sum"}, {}),
    "Flatten": LayerKind(Flatten, {}, {}),
    "LayerNorm": LayerKind(LayerNorm, {}, _NORM),
    "Dropout": LayerKind(Dropout, {}, {"rate": Parameter(checks.rate)}),
    "Index": LayerKind(Index, {}, {"idx": Parameter(parse_idx)}),
    "ImageResize": LayerKind(ImageResize, {}, _RESIZE),
    "DotGeneral": LayerKind(DotGeneral, {}, _DOT, maps.one_array),
    "Aggregate": LayerKind(Aggregate, {}, _AGGREGATE),
    "GlobalSelfAttention": LayerKind(GlobalSelfAttention, {}, _ATTENTION, checks.attention),
}
_JOIN = {"parallel": Parameter(checks.flag, False, unwritten=True)}
FAN_IN: Mapping[str, LayerKind] = {
    "FanInSum": LayerKind(FanInSum, {}, _JOIN),
    "FanInProd": LayerKind(FanInProd, {}, _JOIN),
    "FanInConcat": LayerKind(FanInConcat, {}, {"axis": Parameter(checks.axis, -1), **_JOIN}),
}


def layer_name(layer: Layer) -> str:
    """Return the specification's name of a layer, such as ``'AvgPool'`` or ``'Relu'``."""
    match layer:
        case Activation(name=name):
            return name
        case Pool(kind=kind):
            return f"{kind.capitalize()}Pool"
        case GlobalPool(kind=kind):
            return f"Global{kind.capitalize()}Pool"
        case _:
            return type(layer).__name__
