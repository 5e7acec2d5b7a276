"""Hypothesis strategies for blocks of layers: branches that meet, repeats, whole stacks."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from drawn_layers import (
    CONVOLUTIONS,
    Spec,
    State,
    activations,
    affine_layers,
    affine_parameters,
    geometries,
    pixel_maps,
    pools,
    shape_after,
    windowed,
)
from vocabulary import Vocabulary


@st.composite
def _side(
    draw: st.DrawFn, state: State, change: Spec | None, vocabulary: Vocabulary, depth: int
) -> Any:
    """One side of a Residual: layers that keep the shape around one that makes ``change``."""
    layers: list[Spec] = []
    if state.gaussian and draw(st.booleans()):
        layers.append(draw(activations(vocabulary)))
        state = state._replace(gaussian=layers[-1]["layer"] == "Identity")
    for _ in range(draw(st.integers(0, 1))):
        more, state = draw(_block(state, vocabulary, True, depth))
        layers += more
    if change is not None:
        if draw(st.integers(0, 2)):
            layers.append(windowed("Conv", change, **draw(affine_parameters(vocabulary))))
            state = state._replace(gaussian=True, affine=True)
        else:
            layers.append(windowed("AvgPool", change))
        state = state._replace(shape=shape_after(state.shape, change))
    if not state.gaussian:
        layers.append({"layer": "Dense", **draw(affine_parameters(vocabulary))})
        state = state._replace(gaussian=True, affine=True)
    return layers, state


@st.composite
def residuals(draw: st.DrawFn, state: State, vocabulary: Vocabulary, keep: bool, depth: int) -> Any:
    change = None
    if state.shape and not keep and draw(st.booleans()):
        change = draw(geometries(state.shape, vocabulary, False))
    branch, after = draw(_side(state, change, vocabulary, depth + 1))
    if not any(layer["layer"] in (*CONVOLUTIONS, "Dense") for layer in branch):
        branch.append({"layer": "Dense", **draw(affine_parameters(vocabulary))})
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
        change = draw(geometries(state.shape, vocabulary, False))
    branches: list[list[Spec]] = []
    affine = state.affine
    for _ in range(draw(st.integers(1, 3))):
        after = state
        branches.append([])
        if change is not None or not state.gaussian or draw(st.booleans()):
            branches[-1], after = draw(_side(state, change, vocabulary, depth + 1))
            affine |= after.affine
        if name == "FanInProd" and after.gaussian and draw(st.booleans()):
            branches[-1].append(draw(activations(vocabulary)))
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
    body, after = draw(affine_layers(state, vocabulary, True))
    if draw(st.integers(0, 2)) == 0:
        body, after = draw(residuals(after._replace(gaussian=False), vocabulary, True, depth))
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
            return draw(affine_layers(state, vocabulary, keep))
        case "pool":
            return draw(pools(state, vocabulary, keep))
        case "repeat":
            return draw(_repeat(state, vocabulary, depth))
        case "fan in":
            return draw(_fan_in(state, vocabulary, keep, depth))
        case "map":
            return draw(pixel_maps(state, vocabulary))
        case _:
            return draw(residuals(state, vocabulary, keep, depth))


@st.composite
def stacks(draw: st.DrawFn, shape: tuple[int, ...], vocabulary: Vocabulary, blocks: int) -> Any:
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
            more, state = draw(affine_layers(state, vocabulary, True))
            layers += more
    if draw(st.booleans()):
        layers.append({"layer": "Dense", **draw(affine_parameters(vocabulary))})
    return layers
