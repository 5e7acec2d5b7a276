"""Properties of Readouts and augment on random networks: one pass against one run for each."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

import strategies
from strategies import settings_of
from test_cpu_properties import BOTH, kernels, names, scale
from vocabulary import CONTINUOUS, KINKED
from widegram.network import Network, load_network
from widegram.tiling import End

PLAIN = CONTINUOUS._replace(dropout=False)
WINDOWS = st.tuples(st.integers(1, 7), st.integers(1, 9))


def tolerance(network: Network) -> float:
    """Both sides are the engine's in float64: some hundred roundings, of sums in another order;
    behind a kink, where pixels or inputs coincide, their roots once per layer."""
    return 1e-6 if names(network.layers) & set(KINKED) else 1e-10


@given(st.data())
@settings_of(8)
def test_heads_are_what_their_networks_give(data: st.DataObject) -> None:
    network = data.draw(strategies.sweeps(PLAIN).filter(lambda n: len(n.input_shape) == 3))
    prefix, body, times, _ = network.sweep()
    heads = {"gap": [{"layer": "GlobalAvgPool"}, {"layer": "Dense"}], "c0": [{"layer": "Flatten"}]}
    for n in range(data.draw(st.integers(1, 3))):
        pool = {"layer": data.draw(st.sampled_from(["AvgPool", "SumPool"])), "padding": "SAME",
                "window_shape": list(data.draw(WINDOWS))}  # fmt: skip
        heads[f"local{n}"] = [pool, {"layer": "Flatten"}, {"layer": "Dense", "b_std": 0.3}]
    layers = network.canonical()["layers"][: len(prefix) + 1]
    readouts = {"layer": "Readouts", "heads": heads}
    spec = {**network.canonical(), "layers": [*layers, readouts]}
    depths = data.draw(st.sampled_from([(), (1, times)]))
    x = data.draw(strategies.inputs(network, 5))
    y = data.draw(st.none() | strategies.inputs(network, 3, special=False))
    found = kernels(load_network(spec), x, y, depths=depths)
    assert body
    for end, alone in load_network(spec).ending(depths).items():
        assert (end.depth is None) == (not depths)
        wanted = kernels(alone, x, y)
        for key in BOTH:
            value = wanted[key]
            error = abs(found[end.path(key)] - value).max() / scale(value)
            assert error <= tolerance(network), f"{end.path(key)}: {error:.1e}, {spec}"


@given(st.data())
@settings_of(8)
def test_augmented_kernels_are_means_of_plain_ones(data: st.DataObject) -> None:
    network = data.draw(strategies.networks(PLAIN, vector=False, blocks=3, largest=5))
    assume(len(network.input_shape) == 3)  # sequences have no flips
    augment = data.draw(st.sampled_from([["flip-lr"], ["flip-ud"], ["flip-lr", "flip-ud"]]))
    axes = [{"flip-lr": 2, "flip-ud": 1}[name] for name in augment]
    group = [c for n in range(len(axes) + 1) for c in itertools.combinations(axes, n)]
    x = data.draw(strategies.inputs(network, 4))
    y = data.draw(strategies.inputs(network, 3, special=False))
    found = kernels(load_network({**network.canonical(), "augment": augment}), x, y)
    every = [kernels(network, np.flip(x, g), np.flip(y, h)) for g in group for h in group]
    for key in BOTH:
        wanted = np.mean([one[End().path(key)] for one in every], axis=0)
        error = abs(found[key] - wanted).max() / scale(wanted)
        assert error <= tolerance(network), f"{key}: {error:.1e}, {augment}, {network.to_json()}"
