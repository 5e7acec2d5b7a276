"""Random networks and inputs, each a function of a seed and a number alone.

A network is drawn layer by layer with what keeps it valid: the image's shape, whether the values
are Gaussian (an activation, LayerNorm or sum of branches needs that) and whether a Dense or Conv
lies behind. Pools before and inside residuals, nested residuals and repeats are frequent; so are
inputs that coincide, nearly coincide, vanish or are of extreme size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from widegram.network.geometry import padding

Spec = dict[str, Any]
Shape = tuple[int, ...]

CLOSED = (
    "Relu", "LeakyRelu", "ABRelu", "Abs", "Sign", "Erf", "Gelu", "Gaussian", "Sin", "Cos", "Rbf",
    "Sigmoid_like",
)  # fmt: skip
SERIES = (
    "Tanh", "Sigmoid", "Softplus", "Swish", "Silu", "Mish", "Softsign", "Arctan", "Elu",
)  # fmt: skip
# Series take a hundred times as long as closed forms: fewer of them. What a number draws depends on
# this list: activations that came later stand in none of these networks.
ACTIVATIONS = (*CLOSED, *SERIES, "Identity", *4 * CLOSED, "Identity")
PADDINGS = ("SAME", "VALID", "CIRCULAR")
STRIDES = ((1, 1), (1, 1), (1, 1), (2, 2), (2, 1), (1, 2), (3, 2), (1, 3))
# Ordinary sizes of inputs, and what lies at the ends of the range: exponents of ten.
SIZES = (1.0, 1.0, 0.1, 3.0, 100.0)
EXTREMES = (-20.0, 4.0)
RATIOS = (0.3, 3.0)


class Case(NamedTuple):
    """One network with its inputs; ``x2`` None: x1 with itself. ``depths`` () without a sweep;
    ``patterns``: of x1 and of x2, where the inputs are graphs. Of a list of inputs a row of x1 and
    x2 is the numbers of one after the other."""

    seed: int
    number: int
    spec: Spec
    x1: np.ndarray
    x2: np.ndarray | None
    depths: tuple[int, ...]
    patterns: tuple[np.ndarray, np.ndarray | None] | None = None


class State(NamedTuple):
    """``shape``: (H, W) of an image, () of a vector; the rest as in the module."""

    shape: Shape
    gaussian: bool
    affine: bool


def draw(seed: int, number: int) -> Case:
    """Case ``number`` of the campaign ``seed``."""
    return Drawing(np.random.default_rng([seed, number])).case(seed, number)


class Drawing:
    """Draws from one generator. Methods that draw layers return them with the state after them."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.wild = self.chance(0.2)
        self.activations = self.some_activations()

    def chance(self, p: float) -> bool:
        return bool(self.rng.random() < p)

    def one_of(self, options: Sequence[Any]) -> Any:
        return options[int(self.rng.integers(len(options)))]

    def number(self, low: float, high: float) -> float:
        return round(float(self.rng.uniform(low, high)), 2)

    def whole(self, low: int, high: int) -> int:
        """An integer from low to high, both included."""
        return int(self.rng.integers(low, high + 1))

    def some_activations(self) -> tuple[str, ...]:
        """Those of one network: often one kind throughout."""
        return tuple(self.one_of(ACTIVATIONS) for _ in range(self.one_of((1, 1, 2, 4))))

    def case(self, seed: int, number: int) -> Case:
        shape = self.input_shape()
        depths: tuple[int, ...] = ()
        if self.chance(0.15):
            layers, depths = self.sweep(State(shape[:-1], False, False))
        else:
            layers = self.network(State(shape[:-1], False, False))
        x1 = self.inputs(shape)
        x2 = None if self.chance(0.5) else self.inputs(shape, x1)
        return Case(seed, number, {"input_shape": list(shape), "layers": layers}, x1, x2, depths)

    def input_shape(self) -> Shape:
        vector = self.chance(0.2)
        shape: Shape = (self.whole(1, 12),)
        if not vector:
            shape = (self.whole(1, 7), self.whole(1, 7), self.whole(1, 3))
        return shape

    # Networks

    def network(self, state: State) -> list[Spec]:
        layers: list[Spec] = []
        for _ in range(self.whole(1, 4)):
            more, state = self.block(state, False, 0)
            layers += more
        return layers + self.end(state)

    def sweep(self, state: State) -> tuple[list[Spec], tuple[int, ...]]:
        """A network with one Repeat at its top, and depths of it."""
        layers, state = self.affine(state, False)
        body, state = self.body(state, 0)
        layers.append({"layer": "Repeat", "times": self.whole(1, 4), "body": body})
        depths = sorted({self.whole(1, 4) for _ in range(self.whole(1, 3))})
        end = [layer for layer in self.end(state) if layer["layer"] != "Repeat"]
        return layers + end, tuple(depths)

    def end(self, state: State) -> list[Spec]:
        layers: list[Spec] = []
        if state.shape:
            layers.append({"layer": self.one_of(("Flatten", "GlobalAvgPool", "GlobalSumPool"))})
            gaussian = state.gaussian and layers[-1]["layer"] != "Flatten"
            state = State((), gaussian, state.affine)
            for _ in range(self.whole(0, 2)):
                more, state = self.affine(state, True)
                layers += more
        if self.chance(0.5):
            layers.append(self.dense())
        return layers

    def block(self, state: State, keep: bool, depth: int) -> tuple[list[Spec], State]:
        """``keep``: the image's shape stays."""
        kinds = ["affine"] * 3 + ["repeat"]
        kinds += ["pool"] * 3 if state.shape else []
        kinds += ["residual"] * 4 if depth < 3 else []
        match self.one_of(kinds):
            case "affine":
                return self.affine(state, keep)
            case "pool":
                return self.pool(state, keep)
            case "repeat":
                body, state = self.body(state, depth)
                return [{"layer": "Repeat", "times": self.whole(1, 3), "body": body}], state
            case _:
                return self.residual(state, keep, depth)

    def body(self, state: State, depth: int) -> tuple[list[Spec], State]:
        """What can follow itself: it begins with what takes any values, or keeps them Gaussian."""
        layers: list[Spec] = []
        if state.shape and self.chance(0.4):
            layers, state = self.pool(state, True)
        if depth < 3 and self.chance(0.5):
            more, state = self.residual(state._replace(gaussian=False), True, depth)
        else:
            more, state = self.affine(state, True)
        return layers + more, state

    def affine(self, state: State, keep: bool) -> tuple[list[Spec], State]:
        """A Conv or Dense, then perhaps LayerNorm, an activation, Dropout."""
        if state.shape and self.chance(0.75):
            layers, state = self.conv(state, keep)
        else:
            layers, state = [self.dense()], state._replace(gaussian=True, affine=True)
        if self.chance(0.15):
            layers.append(self.layer_norm(state))
        if self.chance(0.8):
            more, state = self.activation(state)
            layers += more
        if self.chance(0.12):
            layers.append({"layer": "Dropout", "rate": self.number(0.4, 1)})
            state = state._replace(gaussian=False)
        return layers, state

    def conv(self, state: State, keep: bool) -> tuple[list[Spec], State]:
        layer, shape = self.windowed("Conv", state.shape, keep)
        return [{**layer, **self.weights()}], State(shape, True, True)

    def dense(self) -> Spec:
        return {"layer": "Dense", **self.weights()}

    def pool(self, state: State, keep: bool) -> tuple[list[Spec], State]:
        name = self.one_of(("AvgPool", "AvgPool", "SumPool"))
        layer, shape = self.windowed(name, state.shape, keep)
        return [layer], state._replace(shape=shape)

    def windowed(self, name: str, shape: Shape, keep: bool) -> tuple[Spec, Shape]:
        mode = self.one_of(("SAME", "CIRCULAR") if keep else PADDINGS)
        strides = ((1, 1) if keep else self.one_of(STRIDES))[: len(shape)]
        largest = self.one_of((3, 3, 3, 4, 9)) if name == "Conv" else self.one_of((2, 3, 3, 5))
        window = tuple(
            self.whole(1, min(n, largest) if mode == "VALID" else largest) for n in shape
        )
        after = tuple(
            padding(n, w, s, mode)[0] for n, w, s in zip(shape, window, strides, strict=True)
        )
        key = "filter_shape" if name == "Conv" else "window_shape"
        layer = {"layer": name, key: list(window), "strides": list(strides), "padding": mode}
        return layer, after

    def weights(self) -> Spec:
        if self.wild:
            low, high = np.log(RATIOS)
            return {"W_std": round(float(np.exp(self.rng.uniform(low, high))), 3),
                    "b_std": self.one_of((None, 0.0, 1e-3, 0.4, 2.0))}  # fmt: skip
        return {"W_std": self.number(0.6, 1.6), "b_std": self.one_of((None, 0.0, 0.1, 0.4))}

    def layer_norm(self, state: State) -> Spec:
        axes = ([-1], [3], [1, 3], [2, 3], [1, 2, 3]) if state.shape else ([-1], [1])
        return {"layer": "LayerNorm", "axis": self.one_of(axes)}

    def activation(self, state: State) -> tuple[list[Spec], State]:
        name = self.one_of(self.activations)
        params: Spec = {}
        if name == "LeakyRelu":
            params = {"alpha": self.number(-0.5, 0.9)}
        elif name == "ABRelu":
            params = {"a": self.number(-1, 1), "b": self.number(0.1, 1.5)}
        elif name in ("Erf", "Sin", "Cos"):
            params = {"a": self.number(-1.5, 1.5), "b": self.number(0.2, 1.5),
                      "c": self.number(-1, 1)}  # fmt: skip
        elif name == "Rbf":
            params = {"gamma": self.number(0.1, 1.5)}
        elif name == "Elu":
            params = {"alpha": self.number(0.2, 1)}
        return [{"layer": name, **params}], state._replace(gaussian=name == "Identity")

    def residual(self, state: State, keep: bool, depth: int) -> tuple[list[Spec], State]:
        change = None
        if state.shape and not keep and self.chance(0.4):
            change, _ = self.windowed("Conv", state.shape, False)
        branch, after = self.side(state, change, depth + 1)
        if not any(layer["layer"] in ("Conv", "Dense") for layer in branch):
            branch.append(self.dense())  # weights that the shortcut does not share
            after = after._replace(gaussian=True, affine=True)
        shortcut: list[Spec] = []
        if change is not None or not state.gaussian or self.chance(0.3):
            shortcut, _ = self.side(state, change, depth + 1)
        layer = {"layer": "Residual", "branch": branch, "shortcut": shortcut}
        return [layer], State(after.shape, True, True)

    def side(self, state: State, change: Spec | None, depth: int) -> tuple[list[Spec], State]:
        """One side of a residual: Gaussian at its end, the shape kept but for ``change``."""
        layers: list[Spec] = []
        for _ in range(self.one_of((0, 1, 1, 2)) if state.shape else 0):
            more, state = self.pool(state, True)
            layers += more
        if state.gaussian and self.chance(0.5):
            more, state = self.activation(state)
            layers += more
        if self.chance(0.5):
            more, state = self.block(state, True, depth)
            layers += more
        if change is not None:
            shape = _after(state.shape, change)
            if self.chance(0.6):
                layers.append({**change, **self.weights()})
                state = State(shape, True, True)
            else:
                pool = {key: change[key] for key in ("strides", "padding")}
                window = change["filter_shape"]
                layers.append({"layer": "AvgPool", "window_shape": window, **pool})
                state = state._replace(shape=shape)
        if not state.gaussian or not layers:
            layers.append(self.dense())
            state = state._replace(gaussian=True, affine=True)
        return layers, state

    # Inputs

    def inputs(self, shape: Shape, beside: np.ndarray | None = None) -> np.ndarray:
        """Two to five rows; some made of earlier ones or of ``beside``."""
        size = self.size()
        rows: list[np.ndarray] = []
        earlier = [] if beside is None else list(beside)
        for _ in range(self.whole(2, 5)):
            rows.append(self.row(shape, size, earlier))
            earlier.append(rows[-1])
        return np.stack(rows)

    def size(self) -> float:
        size = float(self.one_of(SIZES))
        if self.chance(0.25):
            size = 10 ** float(self.rng.uniform(*EXTREMES))
        return size

    def row(self, shape: Shape, size: float, earlier: list[np.ndarray]) -> np.ndarray:
        new = self.rng.standard_normal(shape) * size
        kinds = ("new", "new", "new", "nonnegative", "constant", "zero", "patch",
                 "same", "near", "near", "opposite", "scaled")  # fmt: skip
        kind = self.one_of(kinds)
        if kind in ("same", "near", "opposite", "scaled") and earlier:
            other = self.one_of(earlier)
            if kind == "near":
                return other + new * 10 ** float(self.rng.uniform(-8, -1))
            return other * {"same": 1.0, "opposite": -1.0, "scaled": 2.5}[kind]
        if kind == "nonnegative":
            return np.abs(new)
        if kind == "constant":
            return np.broadcast_to(new[(0,) * (new.ndim - 1)], shape).copy()
        if kind == "zero":
            return np.zeros(shape)
        if kind == "patch":
            new[: (len(new) + 1) // 2] = 0
        return new


def _after(shape: Shape, layer: Spec) -> Shape:
    windows = zip(shape, layer["filter_shape"], layer["strides"], strict=True)
    return tuple(padding(n, w, s, layer["padding"])[0] for n, w, s in windows)
