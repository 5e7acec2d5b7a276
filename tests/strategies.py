"""Hypothesis strategies: valid random networks over the whole vocabulary, and inputs for them."""

from __future__ import annotations

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from drawn_blocks import residuals, stacks
from drawn_layers import WIDTH, State, affine_layers, affine_parameters
from vocabulary import EVERYTHING, Vocabulary
from widegram.errors import WidegramError
from widegram.network import Network, load_network
from widegram.network.masking import constant


def settings_of(examples: int) -> settings:
    """So many examples, however slow: large networks take their time. No database of failures: a
    test run leaves nothing behind and depends on nothing."""
    slow = [HealthCheck.too_slow, HealthCheck.data_too_large]
    return settings(max_examples=examples, database=None, suppress_health_check=slow)


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
    layers = draw(stacks(shape[:-1], vocabulary, blocks))
    if pooled:
        window = [2, 1][: len(shape) - 1]
        pool = {"layer": "AvgPool", "window_shape": window, "padding": "SAME"}
        dense = {"layer": "Dense", "width": WIDTH}
        branch = [pool] * draw(st.integers(1, 2)) + [dense]
        residual = {"layer": "Residual", "branch": branch, "shortcut": []}
        layers = [dense, pool, residual, *layers]
    return load_network({"input_shape": list(shape), "layers": layers})


@st.composite
def sweeps(draw: st.DrawFn, vocabulary: Vocabulary) -> Network:
    """A network with exactly one Repeat at its top level."""
    shape = draw(shapes(None, 5))
    first, state = draw(affine_layers(State(shape[:-1], False, False), vocabulary, True))
    body, state = draw(affine_layers(state, vocabulary, True))
    if draw(st.booleans()):
        body, state = draw(residuals(state._replace(gaussian=False), vocabulary, True, 1))
    repeat = {"layer": "Repeat", "times": draw(st.integers(2, 4)), "body": body}
    end = [{"layer": draw(st.sampled_from(["Flatten", "GlobalAvgPool"]))}] if shape[:-1] else []
    layers = [*first, repeat, *end, {"layer": "Dense", **draw(affine_parameters(vocabulary))}]
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
def masked_inputs(draw: st.DrawFn, network: Network, most: int) -> np.ndarray:
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
