"""Random networks as calls of functions of ``stax``, neural-tangents' or this program's.

A network is data, ``[name, arguments, keywords]`` for each layer, so that one drawing is built with
either ``stax`` (``tests/random_examples.py``). Imports NumPy alone: neural-tangents' Python runs it
too. Every layer and parameter of its analytic part is drawn, axes in any order, masks and patterns.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

Call = list[Any]
PADDINGS = ("SAME", "VALID", "CIRCULAR")
ACTIVATIONS = (
    "Relu", "Relu", "ABRelu", "LeakyRelu", "Abs", "Sign", "Erf", "Gelu", "Sin", "Cos", "Rbf", "Exp",
    "Gabor", "Gaussian", "ExpNormalized", "Hermite", "Monomial", "RectifiedMonomial", "Polynomial",
    "Sigmoid_like", "Identity", "ElementwiseNumerical",
)  # fmt: skip


class StaxCase(NamedTuple):
    """``calls``: the layers; ``mask``: the mask constant, or None; ``pattern``: of ``Aggregate``;
    ``get``: what kernel_fn is asked for."""

    number: int
    calls: list[Call]
    x1: np.ndarray
    x2: np.ndarray | None
    mask: float | None
    pattern: tuple[np.ndarray, np.ndarray | None] | None
    get: Any


class Shaped(NamedTuple):
    """What is known behind the layers drawn so far.

    * ``layout``: a letter for each axis, N, C and spatial ones; ``shape``: its length, by letter
    * ``gaussian``: whether an activation may follow
    * ``turned``: whether neural-tangents' covariances have their spatial axes exchanged, which not
      all of its layers know
    * ``first``: whether there have been no weights so far
    """

    layout: str
    shape: dict[str, int]
    gaussian: bool = False
    turned: bool = False
    first: bool = True

    @property
    def spatial(self) -> str:
        return "".join(a for a in self.layout if a not in "NC")

    @property
    def axes(self) -> dict[str, int]:
        """How a layer is told which axes are which."""
        return {"batch_axis": self.layout.index("N"), "channel_axis": self.layout.index("C")}

    def sized(self, **sizes: int) -> Shaped:
        return self._replace(shape={**self.shape, **sizes})

    @property
    def even(self) -> bool:
        """Whether a map of all axes does not mind that they are exchanged."""
        return not self.turned or len({self.shape[a] for a in self.spatial}) == 1


class _Calls:
    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.masked = self.chance(0.15)
        self.graph: dict[str, int] | None = None
        self.standard = self.chance(0.25)

    # numbers ----------------------------------------------------------------------------------

    def chance(self, p: float) -> bool:
        return bool(self.rng.random() < p)

    def one_of(self, choices: Any) -> Any:
        return choices[int(self.rng.integers(len(choices)))]

    def whole(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high + 1))

    def number(self, low: float, high: float) -> float:
        return round(float(self.rng.uniform(low, high)), 3)

    # layers -----------------------------------------------------------------------------------

    def weights(self) -> dict[str, Any]:
        found: dict[str, Any] = {
            "W_std": self.number(0.5, 1.8), "b_std": self.one_of((None, 0.0, self.number(0.05, 1)))
        }  # fmt: skip
        if self.standard and self.chance(0.7):
            found |= {"parameterization": "standard", "s": [self.whole(1, 4), self.whole(1, 4)]}
        return found

    def dense(self, state: Shaped) -> tuple[list[Call], Shaped]:
        width = self.whole(1, 5)
        call = ["Dense", [width], {**self.weights(), **state.axes}]
        return [call], state.sized(C=width)._replace(gaussian=True, first=False)

    def conv(self, state: Shaped, keep: bool = False) -> tuple[list[Call], Shaped]:
        name = self.one_of(("Conv", "Conv", "Conv", "ConvLocal", "ConvTranspose"))
        padding = "SAME" if keep else self.one_of(PADDINGS)
        if name == "ConvTranspose" and (keep or max(state.shape[a] for a in state.spatial) > 4):
            name = "Conv"
        width, shape = self.whole(1, 4), dict(state.shape)
        window, strides = [], []
        for a in state.spatial:
            size = state.shape[a]
            w, s = self.whole(1, min(3, size)), 1 if keep else self.one_of((1, 1, 1, 2))
            window.append(w)
            strides.append(s)
            shape[a] = {
                "SAME": -(-size // s), "CIRCULAR": -(-size // s), "VALID": (size - w) // s + 1
            }[padding]  # fmt: skip
            if name == "ConvTranspose":
                shape[a] = size * s if padding != "VALID" else size * s + max(w - s, 0)
        shape["C"] = width
        kernel = "".join(self.rng.permutation(list(state.spatial + "IO")))
        # The window's axes are in the order of the kernel's.
        by_axis = dict(zip(state.spatial, zip(window, strides, strict=True), strict=True))
        order = [a for a in kernel if a in by_axis]
        if order != list(state.spatial):
            kernel = "".join(state.spatial) + "IO"
        out = state.layout if keep or self.chance(0.8) else self.layout(state.spatial)
        keywords = {**self.weights(), "dimension_numbers": [state.layout, kernel, out]}
        call = [name, [width, window, self.one_of((strides, strides)), padding], keywords]
        turned = state.turned != (name != "ConvTranspose" and len(window) > 1)
        return [call], Shaped(out, shape, True, turned, False)

    def layout(self, spatial: str) -> str:
        """Spatial axes stay in their order."""
        found = list(spatial)
        for letter in "NC":
            found.insert(self.whole(0, len(found)), letter)
        return "".join(found)

    def activation(self, state: Shaped) -> tuple[list[Call], Shaped]:
        name = self.one_of(ACTIVATIONS)
        n = self.number
        arguments: dict[str, Any] = {
            "ABRelu": [n(-1.5, 1.5), n(-1.5, 1.5)], "LeakyRelu": [n(-1, 1)],
            "Erf": [n(0.3, 1.5), n(0.3, 1.5), n(-1, 1)],
            "Sin": [n(0.3, 1.5), n(0.3, 1.5), n(-2, 2)],
            "Cos": [n(0.3, 1.5), n(0.3, 1.5), n(-2, 2)], "Rbf": [n(0.1, 2)],
            "Exp": [n(-1, 1), n(-0.6, 0.6)], "Gaussian": [n(-1.5, 1.5), n(-1.5, 0)],
            "ExpNormalized": [n(0.1, 2), n(-1.5, 0.5), self.chance(0.5)],
            "Hermite": [self.whole(1, 4)], "Monomial": [self.whole(0, 4)],
            "RectifiedMonomial": [self.whole(0, 1)],
            "Polynomial": [[n(-1, 1) for _ in range(self.whole(1, 5))]],
            "ElementwiseNumerical": ["cubic", 20],
        }  # fmt: skip
        call = [name, arguments.get(name, []), {}]
        return [call], state._replace(gaussian=False)

    def pool(self, state: Shaped, keep: bool = False) -> tuple[list[Call], Shaped]:
        padding = "SAME" if keep else self.one_of(PADDINGS if not self.masked else PADDINGS[:2])
        window, strides, shape = [], [], dict(state.shape)
        for a in state.spatial:
            size = state.shape[a]
            w, s = self.whole(1, min(3, size)), 1 if keep else self.one_of((1, 1, 2))
            window.append(w)
            strides.append(s)
            shape[a] = (size - w) // s + 1 if padding == "VALID" else -(-size // s)
        name, keywords = self.one_of(("AvgPool", "SumPool")), dict(state.axes)
        if name == "AvgPool" and self.chance(0.5):
            keywords["normalize_edges"] = True
        given = None if set(strides) == {1} and self.chance(0.5) else strides
        return [[name, [window, given, padding], keywords]], state._replace(shape=shape)

    def norm(self, state: Shaped) -> tuple[list[Call], Shaped]:
        axes = [a for a in state.spatial if self.chance(0.4)]
        axis = [state.layout.index(a) for a in ["C", *axes]]
        axis = [a - len(state.layout) if self.chance(0.3) else a for a in axis]
        eps = self.one_of((1e-12, 1e-3, 0.3, 5.0))
        given = axis[0] if len(axis) == 1 else axis
        return [["LayerNorm", [given, eps], state.axes]], state

    def index(self, state: Shaped) -> tuple[list[Call], Shaped]:
        idx: list[Any] = []
        shape, layout = dict(state.shape), state.layout
        for a in state.layout:
            if a in "NC":
                idx.append(["slice", None, None, None])
                continue
            size = state.shape[a]
            if len(state.spatial) == 2 and layout == state.layout and self.chance(0.15):
                idx.append(self.whole(-size, size - 1))
                layout = layout.replace(a, "")
                continue
            start = self.whole(0, size - 1)
            stop = self.whole(start + 1, size)
            step = self.whole(1, 2)
            shape[a] = len(range(start, stop, step))
            idx.append(["slice", start - size if self.chance(0.3) else start, stop, step])
        found = state._replace(shape=shape, layout=layout)
        return [["Index", [idx], state.axes]], found._replace(
            turned=state.turned and len(found.spatial) > 1
        )

    def resize(self, state: Shaped) -> tuple[list[Call], Shaped]:
        sizes = {a: self.one_of((2, 3, 4)) for a in state.spatial}
        if state.turned:
            sizes = dict.fromkeys(sizes, self.one_of((2, 3, 4)))
        shape = [sizes.get(a, -1) for a in state.layout]
        method = self.one_of(("linear", "nearest", "bilinear"))
        call = ["ImageResize", [shape, method, self.chance(0.5)], state.axes]
        return [call], state.sized(**sizes)

    def dot(self, state: Shaped) -> tuple[list[Call], Shaped]:
        side = self.one_of(("lhs", "rhs"))
        if state.turned or self.chance(0.4):
            return [["DotGeneral", [], {side: self.number(-2, 2), **state.axes}]], state
        a = self.one_of(state.spatial)
        values = [self.number(-1, 1) for _ in range(state.shape[a])]
        here, there = [state.layout.index(a)], [0]
        numbers = [[there, here] if side == "lhs" else [here, there], [[], []]]
        call = ["DotGeneral", [], {side: values, "dimension_numbers": numbers, **state.axes}]
        return [call], state._replace(layout=state.layout.replace(a, ""))

    def aggregate(self, state: Shaped) -> tuple[list[Call], Shaped]:
        """Along all spatial axes, or those of the network's patterns."""
        axes = self.graph or {a: state.shape[a] for a in state.spatial
                              if len(state.spatial) == 1 or self.chance(0.6)}  # fmt: skip
        fits = axes and all(state.shape.get(a) == n for a, n in axes.items())
        if not fits or not set(axes) <= set(state.spatial) or state.turned:
            return self.dot(state)
        self.graph = axes
        axis: Any = [state.layout.index(a) for a in axes]
        if self.chance(0.3) and len(axes) == len(state.spatial):
            axis = None
        elif len(axis) == 1 and self.chance(0.5):
            axis = axis[0]
        return [["Aggregate", [axis], state.axes]], state

    def attention(self, state: Shaped) -> tuple[list[Call], Shaped]:
        width = self.whole(1, 4)
        keywords = {
            "W_key_std": self.number(0.5, 1.5), "W_value_std": self.number(0.5, 1.5),
            "W_query_std": self.number(0.5, 1.5), "W_out_std": self.number(0.5, 1.5),
            "b_std": self.one_of((None, self.number(0, 1))), **state.axes,
            "attention_mechanism": self.one_of(("SOFTMAX", "IDENTITY", "ABS", "RELU")),
            "linear_scaling": True, "pos_emb_p_norm": self.one_of((1, 2, 3)),
            "pos_emb_type": self.one_of(("NONE", "CONCAT", "SUM")),
            "pos_emb_decay_fn": self.one_of((None, "half", "power")),
            "n_chan_pos_emb": self.one_of((None, self.whole(1, 3))),
            "W_pos_emb_std": self.number(0.3, 1.5), "val_pos_emb": self.chance(0.4),
        }  # fmt: skip
        if keywords["attention_mechanism"] == "IDENTITY" and self.chance(0.5):
            keywords["linear_scaling"] = False
        if self.masked:
            keywords["attention_mechanism"] = self.one_of(("SOFTMAX", "ABS"))
            keywords["linear_scaling"] = True
        call = ["GlobalSelfAttention", [width, self.whole(1, 4), self.whole(1, 4), 2], keywords]
        return [call], state.sized(C=width)._replace(gaussian=True, first=False)

    # blocks -----------------------------------------------------------------------------------

    def affine(self, state: Shaped, keep: bool = False) -> tuple[list[Call], Shaped]:
        if not state.spatial or self.chance(0.25):
            return self.dense(state)
        return self.conv(state, keep)

    def block(self, state: Shaped, depth: int = 0) -> tuple[list[Call], Shaped]:
        """Some layers."""
        if state.spatial and not (self.masked and state.first):
            p = float(self.rng.random())
            if p < 0.12:
                return self.pool(state)
            if p < 0.18:
                return self.index(state)
            if p < 0.24 and state.even:
                return self.resize(state)
            if p < 0.29:
                return self.dot(state)
            if p < 0.36:
                return self.aggregate(state)
            if p < 0.44 and state.even and not state.first:
                return self.attention(state)
        if depth < 2 and not state.first and self.chance(0.25):
            return self.fan(state, depth)
        calls, state = self.affine(state)
        if self.chance(0.2):
            more, state = self.norm(state)
            calls += more
        if self.chance(0.8):
            more, state = self.activation(state)
            calls += more
        if self.chance(0.1):
            calls.append(["Dropout", [self.number(0.3, 1.0)], {}])
        return calls, state

    def fan(self, state: Shaped, depth: int) -> tuple[list[Call], Shaped]:
        """Branches that end with one shape."""
        kind = self.one_of(("FanInSum", "FanInSum", "FanInProd", "FanInConcat", "FanInConcat"))
        number = self.whole(2, 3)
        axis = state.layout.index(self.one_of("C" + state.spatial))
        channels = kind == "FanInConcat" and state.layout[axis] == "C"
        width = self.whole(1, 3)
        branches, turned = [], []
        for _ in range(number):
            calls, end = [], state
            if self.chance(0.5) and end.gaussian:
                more, end = self.activation(end)
                calls += more
            more, end = self.affine(end, keep=True)
            more[-1][1][0] = width
            calls += more
            if self.chance(0.3) and kind == "FanInProd":
                more, end = self.activation(end)
                calls += more
            branches.append(["serial", calls, {}])
            turned.append(end.turned)
        gaussian = kind == "FanInSum" or (kind == "FanInConcat" and not channels)
        shape = {**state.shape, "C": width}
        if kind == "FanInConcat":
            size = width if channels else state.shape[state.layout[axis]]
            shape[state.layout[axis]] = number * size
        calls = [
            ["FanOut", [number], {}], ["parallel", branches, {}],
            [kind, [axis] if kind == "FanInConcat" else [], {}],
        ]  # fmt: skip
        # neural-tangents turns the fewer branches.
        both = sum(turned) > len(turned) / 2
        return calls, Shaped(state.layout, shape, gaussian, both, False)

    def end(self, state: Shaped) -> list[Call]:
        calls: list[Call] = []
        if not state.spatial:
            pass
        elif self.chance(0.5):
            out = self.whole(0, 1)
            axes = {"batch_axis": state.axes["batch_axis"], "batch_axis_out": out}
            calls.append(["Flatten", [], axes])
            state = Shaped("NC" if out == 0 else "CN", state.shape, state.gaussian, False, False)
        else:
            calls.append([self.one_of(("GlobalAvgPool", "GlobalSumPool")), [], state.axes])
            layout = "".join(a for a in state.layout if a in "NC")
            state = Shaped(layout, state.shape, state.gaussian, False, False)
        for _ in range(self.whole(0, 2)):
            more, state = self.dense(state)
            calls += more
            if self.chance(0.6):
                more, state = self.activation(state)
                calls += more
        return calls


def draw(seed: int, number: int) -> StaxCase:
    """Case ``number`` of the campaign ``seed``."""
    rng = np.random.default_rng([seed, number])
    d = _Calls(rng)
    spatial = d.one_of(("", "W", "HW", "HW"))
    layout = d.layout(spatial) if d.chance(0.3) else "N" + spatial + "C"
    # Few sizes: neural-tangents compiles every operation for every shape.
    sizes = d.one_of(((4, 4), (4, 4), (3, 4)))
    begin = dict(zip(spatial, sizes, strict=False)) | {"C": d.whole(1, 2)}
    state = Shaped(layout, begin)
    calls: list[Call] = []
    for _ in range(d.whole(1, 4)):
        more, state = d.block(state)
        calls += more
    if state.first:
        more, state = d.dense(state)
        calls += more
    calls += d.end(state)
    rows = 2, 3
    x1, x2 = (rng.standard_normal([{**begin, "N": n}[a] for a in layout]) for n in rows)
    mask = d.one_of((np.nan, np.inf, -100.0)) if d.masked else None
    for x in (x1, x2) if d.masked else ():
        pixels = np.moveaxis(x, layout.index("C"), -1)
        pixels[rng.random(pixels.shape[:-1]) < 0.3] = mask
    pattern = _patterns(rng, list(d.graph.values()), rows) if d.graph else None
    get = d.one_of((None, ("nngp", "ntk"), "ntk"))
    if d.chance(0.35):
        return StaxCase(number, calls, x1, None, mask, pattern and (pattern[0], pattern[0]), get)
    return StaxCase(number, calls, x1, x2, mask, pattern, get)


def _patterns(
    rng: np.random.Generator, sizes: list[int], rows: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Weights of edges, of which some are none."""
    shapes = [(n, *sizes, *sizes) for n in rows]
    one, two = (rng.standard_normal(s) * (rng.random(s) < 0.7) for s in shapes)
    return one.round(2), two.round(2)
