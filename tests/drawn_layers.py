"""Hypothesis strategies for single layers of random networks.

A network is drawn layer by layer with what must be known to keep it valid: the image's shape, and
whether the values are Gaussian (an activation, LayerNorm or sum needs a Dense or Conv before it).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from vocabulary import GROWING, Vocabulary
from widegram.network import maps, padding

Spec = dict[str, Any]

CONVOLUTIONS = ("Conv", "Conv", "Conv", "ConvLocal")
STRIDES = st.sampled_from([(1, 1), (1, 1), (2, 2), (2, 1), (1, 2), (3, 2), (1, 3)])
BIASES = st.sampled_from([None, 0.0, 0.1, 0.4])
# Of all layers, so that branches agree; kernels of the standard parameterization depend on it.
WIDTH = 3


class State(NamedTuple):
    """``shape``: (H, W) of an image, () of a vector; ``gaussian``, ``affine`` as in the module."""

    shape: tuple[int, ...]
    gaussian: bool
    affine: bool


@st.composite
def _number(draw: st.DrawFn, low: float, high: float) -> float:
    """A number with two decimals."""
    return draw(st.integers(round(100 * low), round(100 * high))) / 100


@st.composite
def activations(draw: st.DrawFn, vocabulary: Vocabulary) -> Spec:
    name = draw(st.sampled_from(vocabulary.activations))
    params: Spec = {}
    if name == "LeakyRelu":
        params = {"alpha": draw(_number(-0.5, 0.9))}
    elif name == "ABRelu":
        params = {"a": draw(_number(-1, 1)), "b": draw(_number(0.1, 1.5))}
    elif name in ("Erf", "Sin", "Cos"):
        params = {
            "a": draw(_number(-1.5, 1.5)),
            "b": draw(_number(0.2, 1.5)),
            "c": draw(_number(-1, 1)),
        }
    elif name == "Rbf":
        params = {"gamma": draw(_number(0.1, 1.5))}
    elif name == "Elu":
        params = {"alpha": draw(_number(0.2, 1))}
    elif name == "ExpNormalized":
        params = {"gamma": draw(_number(0, 2)), "shift": draw(_number(-1.5, 0))}
    elif name == "Exp":
        params = {"a": draw(_number(-1, 1)), "b": draw(_number(-0.5, 0.5))}
    elif name == "Polynomial":
        params = {"coef": draw(st.lists(_number(-1, 1), min_size=1, max_size=4))}
    elif name in GROWING:
        # Of the rectified ones (x >= 0) jumps, as a sign does.
        least = 1 if name == "RectifiedMonomial" else 0
        params = {"degree": draw(st.integers(least, 3))}
    return {"layer": name, **params}


@st.composite
def affine_parameters(draw: st.DrawFn, vocabulary: Vocabulary) -> Spec:
    bias = draw(BIASES) if vocabulary.bias else None
    weights = {"W_std": draw(_number(0.6, 1.6)), "b_std": bias, "width": WIDTH}
    if not vocabulary.trained or draw(st.integers(0, 3)):
        return weights
    kinds = ["frozen", "rates", "standard", *(["b_grad"] if vocabulary.bias else [])]
    match draw(st.sampled_from(kinds)):
        case "frozen":
            return {**weights, "W_rate": 0, "b_rate": 0}
        case "rates":
            return {**weights, "W_rate": draw(_number(0, 3)), "b_rate": draw(_number(0, 3))}
        case "b_grad":
            return {**weights, "b_grad": draw(_number(0, 2))}
    return {**weights, "parameterization": "standard", "s": [draw(st.integers(1, 3)), 1]}


@st.composite
def geometries(
    draw: st.DrawFn, shape: tuple[int, ...], vocabulary: Vocabulary, keep: bool
) -> Spec:
    """padding, strides and window of images or sequences; ``keep``: the shape stays."""
    mode = draw(st.sampled_from(vocabulary.paddings))
    if keep and mode == "VALID":
        mode = "SAME"
    strides = (1, 1) if keep else draw(STRIDES)
    if mode == "VALID":
        window = tuple(draw(st.integers(1, min(n, 4))) for n in shape)
    else:
        window = draw(
            st.one_of(
                st.just((3, 3)),
                st.tuples(st.integers(1, 5), st.integers(1, 5)),
                st.tuples(st.integers(1, 9), st.integers(1, 9)),
            )
        )
    axes = len(shape)
    return {"padding": mode, "strides": list(strides[:axes]), "window": list(window[:axes])}


def shape_after(shape: tuple[int, ...], geometry: Spec) -> tuple[int, ...]:
    return tuple(
        padding(n, w, s, geometry["padding"])[0]
        for n, w, s in zip(shape, geometry["window"], geometry["strides"], strict=True)
    )


def windowed(name: str, geometry: Spec, **rest: Any) -> Spec:
    window = "window_shape" if name.endswith("Pool") else "filter_shape"
    return {
        "layer": name,
        window: geometry["window"],
        "strides": geometry["strides"],
        "padding": geometry["padding"],
        **rest,
    }


@st.composite
def affine_layers(draw: st.DrawFn, state: State, vocabulary: Vocabulary, keep: bool) -> Any:
    """(layers, state): a Conv or Dense, then perhaps LayerNorm, an activation, Dropout."""
    weights = draw(affine_parameters(vocabulary))
    shape = state.shape
    if shape and draw(st.integers(0, 4)):
        geometry = draw(geometries(shape, vocabulary, keep))
        name = draw(st.sampled_from(CONVOLUTIONS))
        layers = [windowed(name, geometry, **weights)]
        shape = shape_after(shape, geometry)
    else:
        layers = [{"layer": "Dense", **weights}]
    gaussian = True
    if vocabulary.layer_norm and draw(st.integers(0, 5)) == 0:
        axes = ([-1, 1], [-1, 2, [1, 2]], [-1, 3, [1, 3], [2, 3], [1, 2, 3]])[len(shape)]
        layers.append({"layer": "LayerNorm", "axis": draw(st.sampled_from(axes)),
                       "eps": draw(st.sampled_from([1e-12, 1e-3, 0.5]))})  # fmt: skip
    if draw(st.integers(0, 5)):
        layers.append(draw(activations(vocabulary)))
        gaussian = layers[-1]["layer"] == "Identity"
    if vocabulary.dropout and draw(st.integers(0, 7)) == 0:
        layers.append({"layer": "Dropout", "rate": draw(_number(0.4, 1))})
        gaussian = False
    return layers, State(shape, gaussian, True)


@st.composite
def _index(draw: st.DrawFn, state: State) -> Any:
    """An Index that keeps all axes."""
    taken = []
    for size in state.shape:
        start = draw(st.integers(0, size - 1))
        taken.append((start, draw(st.integers(start + 1, size)), draw(st.integers(1, 3))))
    layers = [{"layer": "Index", "idx": [":", *("{}:{}:{}".format(*each) for each in taken)]}]
    return layers, state._replace(shape=tuple(len(range(*each)) for each in taken))


@st.composite
def pools(draw: st.DrawFn, state: State, vocabulary: Vocabulary, keep: bool) -> Any:
    if not keep and draw(st.integers(0, 3)) == 0:
        return draw(_index(state))
    geometry = draw(geometries(state.shape, vocabulary, keep))
    name = draw(st.sampled_from(["AvgPool", "AvgPool", "SumPool"]))
    if math.prod(geometry["window"]) > 9:
        name = "AvgPool"
    edges = {"normalize_edges": True} if name == "AvgPool" and draw(st.booleans()) else {}
    layers = [windowed(name, geometry, **edges)]
    return layers, state._replace(shape=shape_after(state.shape, geometry))


@st.composite
def pixel_maps(draw: st.DrawFn, state: State, vocabulary: Vocabulary) -> Any:
    """(layers, state): a layer that maps pixels to others; images stay small."""
    axes, largest = len(state.shape), 8
    match draw(st.sampled_from(["resize", "transpose", "dot", "number"])):
        case "resize":
            shape = tuple(draw(st.sampled_from([-1, 1, 2, 3, 5, 7])) for _ in range(axes))
            layer = {"layer": "ImageResize", "shape": [-1, *shape, -1],
                     "method": draw(st.sampled_from(["linear", "nearest"])),
                     "antialias": draw(st.booleans())}  # fmt: skip
            shape = tuple(a if b == -1 else b for a, b in zip(state.shape, shape, strict=True))
        case "transpose":
            window = [draw(st.integers(1, 4)) for _ in range(axes)]
            strides = [draw(st.integers(1, max(1, largest // n))) for n in state.shape]
            mode = draw(st.sampled_from(vocabulary.paddings))
            layer = windowed("ConvTranspose", {"padding": mode, "strides": strides,
                              "window": window}, **draw(affine_parameters(vocabulary)))  # fmt: skip
            each = zip(state.shape, window, strides, strict=True)
            shape = tuple(maps.transposed(*one, mode).out for one in each)
            return [layer], State(shape, True, True)
        case "dot":
            rng = np.random.default_rng(draw(st.integers(0, 2**16)))
            axis, out = draw(st.integers(0, axes - 1)), draw(st.integers(1, 4))
            array = rng.standard_normal((out, state.shape[axis])).round(2)
            layer = {"layer": "DotGeneral", "lhs": array.tolist(),
                     "dimension_numbers": [[[1], [axis + 1]], [[], []]]}  # fmt: skip
            shape = (out, *(n for k, n in enumerate(state.shape) if k != axis))
        case _:
            layer = {"layer": "DotGeneral", "rhs": draw(_number(-2, 2))}
            shape = state.shape
    return [layer], state._replace(shape=shape)
