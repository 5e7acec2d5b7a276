"""Random networks of every layer: as :mod:`campaigns.drawing` draws them, and what came later.

That module's lists are frozen, because a number is to draw the same network for good; here are
sequences, convolutions of unshared weights, the standard parameterization and learning rates, edges
of pools that are not counted, parts of images, the later activations, functions of the user's, maps
between pixels, branches, masked and augmented inputs, lists of inputs, and networks with several
heads.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from campaigns.drawing import ACTIVATIONS, SIZES, Case, Shape, Spec, State
from campaigns.drawing_joins import Joins
from campaigns.drawing_maps import Maps
from campaigns.drawing_masks import masked
from widegram.errors import WidegramError
from widegram.network import load_network
from widegram.validation.choices import FLIPS

# Their values grow with a power of their inputs', or faster: at moderate sizes alone.
GROWING = ("Exp", "Monomial", "RectifiedMonomial", "Hermite", "Polynomial")
LATER = ("Gabor", "ExpNormalized", "Gaussian", "Custom", *GROWING)
EXPRESSIONS = (
    "tanh(x)", "x / (1 + exp(-x))", "exp(-x**2 / 2)", "0.5 * x + sin(x)", "log(1 + exp(x))",
    "x * tanh(x)",
)  # fmt: skip
TABLE = [[-3.0, -1.0], [-1.0, -0.7], [0.0, 0.1], [1.0, 0.8], [3.0, 1.1]]
EPSILONS = (1e-12, 1e-12, 1e-3, 0.5)
# Of all layers, so that sides of a residual agree.
WIDTH = 3


def draw(seed: int, number: int) -> Case:
    """Case ``number`` of the campaign ``seed``, of every layer."""
    return _Everything(np.random.default_rng([seed, number, 1])).case(seed, number)


class _Everything(Maps, Joins):
    def __init__(self, rng: np.random.Generator) -> None:
        super().__init__(rng)
        self.standard = self.chance(0.2)
        self.maps, self.joins = self.chance(0.4), self.chance(0.4)
        self.heads = 0.12

    def case(self, seed: int, number: int) -> Case:
        if self.chance(0.1):
            case = self.several(seed, number)
        else:
            case = super().case(seed, number)
            if self.graph is None and self.chance(0.15):
                case = self.augmented(case)
        if self.graph is not None:
            second = None if case.x2 is None else self.patterns(len(case.x2))
            case = case._replace(patterns=(self.patterns(len(case.x1)), second))
        rare = self.attends or self.graph is not None
        return self.masked(case) if self.chance(0.4 if rare else 0.15) else case

    def several(self, seed: int, number: int) -> Case:
        """A network whose input is a list; a row of its inputs is all their numbers."""
        self.maps, heads, self.heads = False, self.heads, 0.0
        shapes = [self.input_shape() for _ in range(self.whole(2, 3))]
        if self.chance(0.5):
            shapes = [(*shapes[0][:-1], self.whole(1, 3)) for _ in shapes]
        layers, state = self.of_several(shapes)
        self.heads = heads
        for _ in range(self.whole(0, 2)):
            more, state = self.block(state, False, 0)
            layers += more
        layers += self.end(state)
        spec = {"input_shape": [list(shape) for shape in shapes], "layers": layers}
        row = (sum(math.prod(shape) for shape in shapes),)
        x1 = self.inputs(row)
        return Case(seed, number, spec, x1, None if self.chance(0.5) else self.inputs(row, x1), ())

    def augmented(self, case: Case) -> Case:
        """With flips, where the network may have some."""
        flips = sorted(self.one_of((*((name,) for name in FLIPS), tuple(FLIPS))))
        spec = {**case.spec, "augment": flips}
        try:
            load_network(spec)
        except WidegramError:
            return case
        return case._replace(spec=spec)

    def masked(self, case: Case) -> Case:
        """With a mask, behind layers that take any where they are needed; as it is where single
        channels are masked in its middle."""
        spec = {**case.spec, "mask": self.one_of(("nan", "inf", -3.0))}
        first, *rest = spec["layers"]
        if first.get("parallel"):
            branches = [[self.dense(), *branch] for branch in first["branches"]]
            behind = [{**first, "branches": branches}, *rest]
        else:
            behind = [self.dense(), first, *rest]
        for layers in (spec["layers"], behind):
            try:
                load_network({**spec, "layers": layers})
            except WidegramError:  # of which single channels may be masked
                continue
            return masked(case._replace(spec={**spec, "layers": layers}), self.rng)
        return case

    def block(self, state: State, keep: bool, depth: int) -> tuple[list[Spec], State]:
        if self.maps and state.shape and self.chance(0.35):
            return self.map(state, keep)
        if self.joins and depth < 3 and self.chance(0.3):
            return self.join(state, keep, depth)
        return super().block(state, keep, depth)

    def body(self, state: State, depth: int) -> tuple[list[Spec], State]:
        if self.joins and depth < 3 and self.chance(0.4):
            return self.join(state._replace(gaussian=False), True, depth)
        if self.maps and state.shape and self.chance(0.3):
            layers, state = self.map(state, True)
            more, state = super().body(state._replace(gaussian=False), depth)
            return layers + more, state
        return super().body(state, depth)

    def some_activations(self) -> tuple[str, ...]:
        later = self.chance(0.5)
        kinds = (1, 1, 2, 4)
        return tuple(
            self.one_of(LATER if later and self.chance(0.7) else ACTIVATIONS)
            for _ in range(self.one_of(kinds))
        )

    def input_shape(self) -> Shape:
        if self.chance(0.25):
            return self.whole(1, 12), self.whole(1, 3)
        return super().input_shape()

    def end(self, state: State) -> list[Spec]:
        if not self.chance(self.heads):
            return super().end(state)
        names = ("first", "gap=2", "c0")[: self.whole(2, 3)]
        heads = {name: super(_Everything, self).end(state) for name in names}
        return [{"layer": "Readouts", "heads": heads}]

    def sweep(self, state: State) -> tuple[list[Spec], tuple[int, ...]]:
        self.heads = 0.4
        layers, depths = super().sweep(state)
        times = next(layer["times"] for layer in layers if layer["layer"] == "Repeat")
        return layers, tuple(depth for depth in depths if depth <= times) or (times,)

    def conv(self, state: State, keep: bool) -> tuple[list[Spec], State]:
        (layer,), state = super().conv(state, keep)
        return [{**layer, "layer": "ConvLocal"} if self.chance(0.2) else layer], state

    def weights(self) -> Spec:
        found = {**super().weights(), "width": WIDTH}
        if self.standard and self.chance(0.6):
            found |= {"parameterization": "standard", "s": [self.whole(1, 3), 1]}
        if self.chance(0.75):
            return found
        match self.one_of(("frozen", "rates", "b_grad")):
            case "frozen":
                return {**found, "W_rate": 0, "b_rate": 0}
            case "rates":
                return {**found, "W_rate": self.number(0, 3), "b_rate": self.number(0, 3)}
        return {**found, "b_grad": self.number(0, 2)}

    def pool(self, state: State, keep: bool) -> tuple[list[Spec], State]:
        if not keep and self.chance(0.25):
            return self.part(state)
        (layer,), state = super().pool(state, keep)
        if layer["layer"] == "AvgPool" and self.chance(0.4):
            layer["normalize_edges"] = True
        return [layer], state

    def part(self, state: State) -> tuple[list[Spec], State]:
        """An Index that takes slices."""
        taken = []
        for size in state.shape:
            start = self.whole(0, size - 1)
            taken.append((start, self.whole(start + 1, size), self.whole(1, 3)))
        idx = [":", *(f"{start}:{stop}:{step}" for start, stop, step in taken)]
        shape = tuple(len(range(*each)) for each in taken)
        return [{"layer": "Index", "idx": idx}], state._replace(shape=shape)

    def layer_norm(self, state: State) -> Spec:
        axes = {0: ([-1], [1]), 1: ([-1], [2], [1, 2])}.get(len(state.shape))
        layer = {"layer": "LayerNorm", "axis": self.one_of(axes or ([-1], [3], [1, 3], [1, 2, 3]))}
        return {**layer, "eps": self.one_of(EPSILONS)}

    def activation(self, state: State) -> tuple[list[Spec], State]:
        name = self.one_of(self.activations)
        params = self.parameters(name)
        if params is None:
            held, self.activations = self.activations, (name,)
            found = super().activation(state)
            self.activations = held
            return found
        return [{"layer": name, **params}], state._replace(gaussian=False)

    def parameters(self, name: str) -> dict[str, Any] | None:
        """Those of a later activation; None of an earlier one."""
        match name:
            case "Gabor":
                return {}
            case "Gaussian":
                return {"a": self.number(-1.5, 1.5), "b": self.number(-1.5, 0)}
            case "ExpNormalized":
                return {"gamma": self.number(0, 2), "shift": self.number(-1.5, 0)}
            case "Exp":
                return {"a": self.number(-1, 1), "b": self.number(-0.5, 0.5)}
            case "Polynomial":
                return {"coef": [self.number(-1, 1) for _ in range(self.whole(1, 4))]}
            case "Monomial" | "RectifiedMonomial" | "Hermite":
                return {"degree": self.whole(0, 3)}
            case "Custom":
                if self.chance(0.2):
                    return {"table": TABLE}
                return {"expression": self.one_of(EXPRESSIONS)}
        return None

    def size(self) -> float:
        if set(self.activations) & set(GROWING):
            return float(self.one_of((0.1, 0.5, 1.0)))
        if set(self.activations) & {"Custom"}:
            return float(self.one_of(SIZES[:4]))
        return super().size()
