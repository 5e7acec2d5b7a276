"""Products of branches, attention and masks as statistics of random networks of finite width.

Nothing here knows a kernel: weights are drawn, and products of gradients are taken.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from finite_networks import HEADS, Sample
from network_specs import FLATTEN, GAP, RELU
from widegram import reference
from widegram.network import load_network

CONV = {"layer": "Conv", "filter_shape": [3, 3], "padding": "SAME", "W_std": 1.2, "b_std": 0.3}
DENSE = {"layer": "Dense", "W_std": 1.1, "b_std": 0.2}
ERF = {"layer": "Erf"}
PRODUCT = {"layer": "FanInProd", "branches": [[DENSE, ERF], [CONV]]}
ATTENTION = {"layer": "GlobalSelfAttention", "W_key_std": 1.2, "b_std": 0.2}
ROOT = {"linear_scaling": False, "attention_mechanism": "IDENTITY", "W_key_std": 0.6}
DRAWS, WIDTH, OUTPUTS = 60, 160, 300
NETWORKS: dict[str, list[dict[str, Any]]] = {
    "product": [CONV, RELU, PRODUCT, DENSE, RELU, GAP, DENSE],
    "product of three": [CONV, {**PRODUCT, "branches": [[DENSE, ERF], [CONV], [RELU, DENSE]]},
                         DENSE, ERF, FLATTEN, DENSE],
    "softmax": [CONV, RELU, ATTENTION, ERF, GAP, DENSE],
    "random weights": [CONV, RELU, {**ATTENTION, **ROOT}, GAP, DENSE],
    "random weights, flat": [{**ATTENTION, **ROOT}, FLATTEN, DENSE],
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("masked", [False, True], ids=["plain", "masked"])
@pytest.mark.parametrize("name", NETWORKS)
def test_kernels_are_statistics_of_wide_networks(name: str, masked: bool) -> None:
    rng = np.random.default_rng(7)
    x, visible = rng.standard_normal((3, 2, 3, 2)), np.ones((3, 2, 3, 1))
    x[2] = 0.8 * x[0] + 0.6 * x[2]
    spec: dict[str, Any] = {"input_shape": [2, 3, 2], "layers": NETWORKS[name]}
    marked = x.copy()
    if masked:
        visible[0, 1, 1:] = visible[1, :, 0] = 0
        marked[visible[..., 0] == 0] = np.nan
        spec["mask"] = "nan"
    network = load_network(spec)
    exact = reference.kernel(network, marked)
    seen = visible if masked else None
    samples = [
        Sample(network.layers, x * visible, WIDTH, OUTPUTS, seed, seen) for seed in range(DRAWS)
    ]
    found = {
        "nngp": np.array([s.value @ s.value.T / OUTPUTS for s in samples]),
        "ntk": np.array([s.tangent() for s in samples]),
    }
    for key, draws in found.items():
        wanted = getattr(exact, key)
        error = draws.std(axis=0, ddof=1) / np.sqrt(DRAWS)
        # The statistics must be sharp enough to mean something.
        assert error.max() < 0.07 * wanted.max()
        # Four standard errors, and the bias of a finite width, of order layers / width; of heads
        # with as many channels as there are.
        bias = 3 / WIDTH + ("attention" in str(network.layers).lower()) * 2 / HEADS
        allowed = 4 * error + bias * wanted.max()
        np.testing.assert_array_less(np.abs(draws.mean(axis=0) - wanted), allowed)
