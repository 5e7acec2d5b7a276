"""Hypothesis strategies: valid random networks over the whole vocabulary, and inputs for them.

A network is drawn layer by layer with what must be known to keep it valid: the image's shape, and
whether the values are Gaussian (an activation, LayerNorm or sum needs a Dense or Conv before it).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from widegram.errors import WidegramError
from widegram.network import Network, load_network, maps, padding
from widegram.network.masking import constant

Spec = dict[str, Any]

# Kdot jumps or has an infinite slope at |c| = 1 (Sign: K too): rounding of K enters as its root.
KINKED = ("Relu", "LeakyRelu", "ABRelu", "Abs", "Sign")
# Series of functions with a kink converge slowly: what a truncation leaves out is about its
# degree^-2, at any precision.
ROUGH = ("Elu", "Softsign")
CLOSED = (
    "Erf", "Gelu", "Gaussian", "Sin", "Cos", "Rbf", "Sigmoid_like", "Identity", "Gabor",
    "ExpNormalized",
)  # fmt: skip
# Their values grow with a power of their inputs', or faster: only at moderate variances.
GROWING = ("Exp", "Monomial", "RectifiedMonomial", "Hermite", "Polynomial")
SERIES = ("Tanh", "Sigmoid", "Softplus", "Swish", "Silu", "Mish", "Arctan")
HOMOGENEOUS = ("Relu", "LeakyRelu", "ABRelu", "Abs")
SMOOTH = (*CLOSED, *SERIES)

CONVOLUTIONS = ("Conv", "Conv", "Conv", "ConvLocal")
PADDINGS = st.sampled_from(["SAME", "VALID", "CIRCULAR"])
STRIDES = st.sampled_from([(1, 1), (1, 1), (2, 2), (2, 1), (1, 2), (3, 2), (1, 3)])
BIASES = st.sampled_from([None, 0.0, 0.1, 0.4])
# Of all layers, so that branches agree; kernels of the standard parameterization depend on it.
WIDTH = 3


class Vocabulary(NamedTuple):
    """What a drawn network may contain."""

    activations: tuple[str, ...] = (*KINKED, *SMOOTH)
    layer_norm: bool = True
    dropout: bool = True
    bias: bool = True
    trained: bool = True
    paddings: tuple[str, ...] = ("SAME", "VALID", "CIRCULAR")
    joins: tuple[str, ...] = ("FanInSum", "FanInProd", "FanInConcat")
    maps: bool = False


# Without a sign: its jump turns rounding at c = 0 or 1 into numbers of order one.
CONTINUOUS = Vocabulary(activations=tuple(a for a in (*KINKED, *SMOOTH) if a != "Sign"))


EVERYTHING = Vocabulary()
# With maps between all pixels, which not every backend has.
MAPPED = CONTINUOUS._replace(maps=True)


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
def _activation(draw: st.DrawFn, vocabulary: Vocabulary) -> Spec:
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
def _weights(draw: st.DrawFn, vocabulary: Vocabulary) -> Spec:
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
def _geometry(
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


def _shape_after(shape: tuple[int, ...], geometry: Spec) -> tuple[int, ...]:
    return tuple(
        padding(n, w, s, geometry["padding"])[0]
        for n, w, s in zip(shape, geometry["window"], geometry["strides"], strict=True)
    )


def _windowed(name: str, geometry: Spec, **rest: Any) -> Spec:
    window = "window_shape" if name.endswith("Pool") else "filter_shape"
    return {
        "layer": name,
        window: geometry["window"],
        "strides": geometry["strides"],
        "padding": geometry["padding"],
        **rest,
    }


@st.composite
def _affine(draw: st.DrawFn, state: State, vocabulary: Vocabulary, keep: bool) -> Any:
    """(layers, state): a Conv or Dense, then perhaps LayerNorm, an activation, Dropout."""
    weights = draw(_weights(vocabulary))
    shape = state.shape
    if shape and draw(st.integers(0, 4)):
        geometry = draw(_geometry(shape, vocabulary, keep))
        name = draw(st.sampled_from(CONVOLUTIONS))
        layers = [_windowed(name, geometry, **weights)]
        shape = _shape_after(shape, geometry)
    else:
        layers = [{"layer": "Dense", **weights}]
    gaussian = True
    if vocabulary.layer_norm and draw(st.integers(0, 5)) == 0:
        axes = ([-1, 1], [-1, 2, [1, 2]], [-1, 3, [1, 3], [2, 3], [1, 2, 3]])[len(shape)]
        layers.append({"layer": "LayerNorm", "axis": draw(st.sampled_from(axes)),
                       "eps": draw(st.sampled_from([1e-12, 1e-3, 0.5]))})  # fmt: skip
    if draw(st.integers(0, 5)):
        layers.append(draw(_activation(vocabulary)))
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
def _pool(draw: st.DrawFn, state: State, vocabulary: Vocabulary, keep: bool) -> Any:
    if not keep and draw(st.integers(0, 3)) == 0:
        return draw(_index(state))
    geometry = draw(_geometry(state.shape, vocabulary, keep))
    name = draw(st.sampled_from(["AvgPool", "AvgPool", "SumPool"]))
    if math.prod(geometry["window"]) > 9:
        name = "AvgPool"
    edges = {"normalize_edges": True} if name == "AvgPool" and draw(st.booleans()) else {}
    layers = [_windowed(name, geometry, **edges)]
    return layers, state._replace(shape=_shape_after(state.shape, geometry))


@st.composite
def _map(draw: st.DrawFn, state: State, vocabulary: Vocabulary) -> Any:
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
            layer = _windowed("ConvTranspose", {"padding": mode, "strides": strides,
                              "window": window}, **draw(_weights(vocabulary)))  # fmt: skip
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


@st.composite
def _side(
    draw: st.DrawFn, state: State, change: Spec | None, vocabulary: Vocabulary, depth: int
) -> Any:
    """One side of a Residual: layers that keep the shape around one that makes ``change``."""
    layers: list[Spec] = []
    if state.gaussian and draw(st.booleans()):
        layers.append(draw(_activation(vocabulary)))
        state = state._replace(gaussian=layers[-1]["layer"] == "Identity")
    for _ in range(draw(st.integers(0, 1))):
        more, state = draw(_block(state, vocabulary, True, depth))
        layers += more
    if change is not None:
        if draw(st.integers(0, 2)):
            layers.append(_windowed("Conv", change, **draw(_weights(vocabulary))))
            state = state._replace(gaussian=True, affine=True)
        else:
            layers.append(_windowed("AvgPool", change))
        state = state._replace(shape=_shape_after(state.shape, change))
    if not state.gaussian:
        layers.append({"layer": "Dense", **draw(_weights(vocabulary))})
        state = state._replace(gaussian=True, affine=True)
    return layers, state


@st.composite
def _residual(draw: st.DrawFn, state: State, vocabulary: Vocabulary, keep: bool, depth: int) -> Any:
    change = None
    if state.shape and not keep and draw(st.booleans()):
        change = draw(_geometry(state.shape, vocabulary, False))
    branch, after = draw(_side(state, change, vocabulary, depth + 1))
    if not any(layer["layer"] in (*CONVOLUTIONS, "Dense") for layer in branch):
        branch.append({"layer": "Dense", **draw(_weights(vocabulary))})
    shortcut: list[Spec] = []
    if change is not None or not state.gaussian or draw(st.booleans()):
        shortcut, _ = draw(_side(state, change, vocabulary, depth + 1))
    layer = {"layer": "Residual", "branch": branch, "shortcut": shortcut}
    return [layer], State(after.shape, True, True)


@st.composite
def _fan_in(draw: st.DrawFn, state: State, vocabulary: Vocabulary, keep: bool, depth: int) -> Any:
    """Branches that meet; several may be the identity."""
    name = draw(st.sampled_from(vocabulary.joins))
    change = None
    if state.shape and not keep and draw(st.booleans()):
        change = draw(_geometry(state.shape, vocabulary, False))
    branches: list[list[Spec]] = []
    affine = state.affine
    for _ in range(draw(st.integers(1, 3))):
        after = state
        branches.append([])
        if change is not None or not state.gaussian or draw(st.booleans()):
            branches[-1], after = draw(_side(state, change, vocabulary, depth + 1))
            affine |= after.affine
        if name == "FanInProd" and after.gaussian and draw(st.booleans()):
            branches[-1].append(draw(_activation(vocabulary)))
            after = after._replace(gaussian=branches[-1][-1]["layer"] == "Identity")
    layer: Spec = {"layer": name, "branches": branches}
    gaussian = name == "FanInSum" or (len(branches) == 1 and after.gaussian)
    if name == "FanInConcat":
        # Along channels or, as a map between pixels, an axis of images.
        free = vocabulary.maps and not keep
        along = draw(st.integers(0, len(after.shape))) if free else len(after.shape)
        gaussian, layer["axis"] = along < len(after.shape), 1 + along
        if gaussian:
            longer = [len(branches) * n if i == along else n for i, n in enumerate(after.shape)]
            after = after._replace(shape=tuple(longer))
    return [layer], State(after.shape, gaussian, affine)


@st.composite
def _repeat(draw: st.DrawFn, state: State, vocabulary: Vocabulary, depth: int) -> Any:
    body, after = draw(_affine(state, vocabulary, True))
    if draw(st.integers(0, 2)) == 0:
        body, after = draw(_residual(after._replace(gaussian=False), vocabulary, True, depth))
    times = draw(st.integers(1, 3))
    return [{"layer": "Repeat", "times": times, "body": body}], after


@st.composite
def _block(draw: st.DrawFn, state: State, vocabulary: Vocabulary, keep: bool, depth: int) -> Any:
    """(layers, state) of one building block; ``keep``: it keeps the image's shape."""
    kinds = ["affine"] * 4 + ["repeat"]
    if state.shape:
        kinds += ["pool"] * 2
    if depth < 2:
        kinds += ["residual"] * 2 + ["fan in"] * (len(vocabulary.joins) > 0)
    if vocabulary.maps and state.shape and not keep:
        kinds += ["map"] * 6
    match draw(st.sampled_from(kinds)):
        case "affine":
            return draw(_affine(state, vocabulary, keep))
        case "pool":
            return draw(_pool(state, vocabulary, keep))
        case "repeat":
            return draw(_repeat(state, vocabulary, depth))
        case "fan in":
            return draw(_fan_in(state, vocabulary, keep, depth))
        case "map":
            return draw(_map(state, vocabulary))
        case _:
            return draw(_residual(state, vocabulary, keep, depth))


@st.composite
def _layers(draw: st.DrawFn, shape: tuple[int, ...], vocabulary: Vocabulary, blocks: int) -> Any:
    layers: list[Spec] = []
    state = State(shape, False, False)
    for _ in range(draw(st.integers(1, blocks))):
        more, state = draw(_block(state, vocabulary, False, 0))
        layers += more
    if state.shape:
        kind = draw(st.sampled_from(["Flatten", "GlobalAvgPool", "GlobalSumPool"]))
        layers.append({"layer": kind})
        state = State((), state.gaussian and kind != "Flatten", state.affine)
        for _ in range(draw(st.integers(0, 2))):
            more, state = draw(_affine(state, vocabulary, True))
            layers += more
    if draw(st.booleans()):
        layers.append({"layer": "Dense", **draw(_weights(vocabulary))})
    return layers


@st.composite
def shapes(draw: st.DrawFn, vector: bool | None = None, largest: int = 7) -> tuple[int, ...]:
    """An input shape: (D,), (L, C) or (H, W, C)."""
    if vector is None:
        vector = draw(st.integers(0, 3)) == 0
    if vector:
        return (draw(st.integers(1, 12)),)
    side, channels = st.integers(1, largest), draw(st.integers(1, 3))
    if draw(st.integers(0, 3)) == 0:
        return draw(st.integers(1, 2 * largest)), channels
    return draw(side), draw(side), channels


@st.composite
def networks(
    draw: st.DrawFn,
    vocabulary: Vocabulary = EVERYTHING,
    vector: bool | None = None,
    blocks: int = 4,
    largest: int = 7,
    pooled: bool = False,
) -> Network:
    """A valid network; ``pooled``: it sees images, pooled, then added to what is pooled of them."""
    shape = draw(shapes(vector if not pooled else False, largest))
    layers = draw(_layers(shape[:-1], vocabulary, blocks))
    if pooled:
        window = [2, 1][: len(shape) - 1]
        pool = {"layer": "AvgPool", "window_shape": window, "padding": "SAME"}
        dense = {"layer": "Dense", "width": WIDTH}
        branch = [pool] * draw(st.integers(1, 2)) + [dense]
        residual = {"layer": "Residual", "branch": branch, "shortcut": []}
        layers = [dense, pool, residual, *layers]
    return load_network({"input_shape": list(shape), "layers": layers})


@st.composite
def sweeps(draw: st.DrawFn, vocabulary: Vocabulary = EVERYTHING) -> Network:
    """A network with exactly one Repeat at its top level."""
    shape = draw(shapes(None, 5))
    first, state = draw(_affine(State(shape[:-1], False, False), vocabulary, True))
    body, state = draw(_affine(state, vocabulary, True))
    if draw(st.booleans()):
        body, state = draw(_residual(state._replace(gaussian=False), vocabulary, True, 1))
    repeat = {"layer": "Repeat", "times": draw(st.integers(2, 4)), "body": body}
    end = [{"layer": draw(st.sampled_from(["Flatten", "GlobalAvgPool"]))}] if shape[:-1] else []
    layers = [*first, repeat, *end, {"layer": "Dense", **draw(_weights(vocabulary))}]
    return load_network({"input_shape": list(shape), "layers": layers})


@st.composite
def inputs(draw: st.DrawFn, network: Network, most: int = 20, special: bool = True) -> np.ndarray:
    """(n, \\*input_shape): normal entries; ``special``: perhaps a zero row, a repeated, a negated
    and a scaled one, or a patch of zeros."""
    n = draw(st.integers(1, most))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    x = rng.standard_normal((n, *network.input_shape)) * draw(st.sampled_from([1.0, 1.0, 0.1, 3.0]))
    if special and n > 1 and draw(st.booleans()):
        kind = draw(st.sampled_from(["zero", "same", "opposite", "scaled", "patch"]))
        if kind == "patch":
            x[-1, : (x.shape[1] + 1) // 2] = 0
        else:
            x[-1] = {"zero": 0.0, "same": 1.0, "opposite": -1.0, "scaled": 2.0}[kind] * x[0]
    return x


@st.composite
def masked(draw: st.DrawFn, networks: st.SearchStrategy[Network]) -> Network:
    """A network of those with a mask, which comes behind a Dense where it pools its inputs first.
    """
    spec = draw(networks).canonical()
    mask = draw(st.sampled_from(["nan", "inf", -3.0]))
    try:
        return load_network({**spec, "mask": mask})
    except WidegramError:  # of which single channels may be masked
        dense = {"layer": "Dense", "width": WIDTH}
        return load_network({**spec, "layers": [dense, *spec["layers"]], "mask": mask})


@st.composite
def masked_inputs(draw: st.DrawFn, network: Network, most: int = 6) -> np.ndarray:
    """Inputs of a network with a mask: some pixels masked, or all behind a length, or all; single
    numbers, or none."""
    x = draw(inputs(network, most, special=False))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    pixels = network.input_shape[:-1]
    for row in x:
        match draw(st.sampled_from(["pixels", "length", "all", "numbers", "none"])):
            case "pixels":
                row[rng.random(pixels) < 0.4] = constant(network.mask)
            case "length":
                row[rng.integers(row.shape[0] + 1) :] = constant(network.mask)
            case "all":
                row[...] = constant(network.mask)
            case "numbers":
                row[rng.random(row.shape) < 0.3] = constant(network.mask)
    return x
