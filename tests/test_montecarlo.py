"""Kernels as what they are: statistics of random networks of finite width.

The NNGP is the covariance of the outputs over random parameters, the NTK the mean of the products
of parameter gradients; both are exact in the limit of infinite width.
"""

from __future__ import annotations

import numpy as np
import pytest

from finite_networks import Sample
from jobs import job
from network_specs import FLATTEN, GAP, RELU, load, residual
from widegram.cpu import CpuEvaluator

CONV = {"layer": "Conv", "filter_shape": [3, 3], "padding": "SAME", "W_std": 1.4, "b_std": 0.3}
READOUT = {"layer": "Dense", "W_std": 1.2, "b_std": 0.1}
POOL = {"layer": "AvgPool", "window_shape": [2, 2], "strides": [2, 2]}
ERF = {"layer": "Erf"}
FROZEN = {"W_rate": 0, "b_rate": 0}
DRAWS, WIDTH, OUTPUTS = 40, 256, 400
STANDARD = {"parameterization": "standard", "width": WIDTH // 2}

NETWORKS = {
    "convolution": [
        CONV, RELU, {**CONV, "padding": "CIRCULAR", "strides": [2, 1]}, ERF, FLATTEN, READOUT,
    ],
    "even filter": [{**CONV, "filter_shape": [2, 4]}, ERF, CONV, RELU, GAP, READOUT],
    "pooling": [CONV, RELU, POOL, CONV, RELU, GAP, READOUT],
    "overlapping pool": [
        CONV, RELU, {**POOL, "window_shape": [3, 3], "padding": "SAME"}, CONV, RELU, FLATTEN,
        READOUT,
    ],
    "circular pool": [
        CONV, RELU, {**POOL, "window_shape": [3, 3], "strides": [1, 1], "padding": "CIRCULAR"},
        CONV, RELU, GAP, READOUT,
    ],
    "residual": [
        CONV,
        residual(
            RELU, {**CONV, "strides": [2, 2]},
            shortcut=[{**CONV, "filter_shape": [1, 1], "strides": [2, 2]}],
        ),
        RELU, GAP, READOUT,
    ],
    "frozen ends, rates, a bias of no variance": [
        {**CONV, **FROZEN}, RELU, {**CONV, "strides": [2, 2], "W_rate": 0.4, "b_rate": 3.0}, ERF,
        {**CONV, "b_std": None, "b_grad": 1.5}, RELU, GAP, {**READOUT, **FROZEN},
    ],
    "standard": [
        {**CONV, **STANDARD, "s": [1, 2], "W_rate": 0.5}, RELU,
        {**CONV, **STANDARD, "s": [2, 1], "b_std": None, "strides": [2, 2]}, ERF, FLATTEN,
        {**READOUT, **STANDARD},
    ],
    "residual with a pool": [
        CONV, residual(RELU, CONV, POOL, shortcut=[POOL]), RELU, GAP, READOUT,
    ],
}  # fmt: skip


# What is also in one of the others: an even window, a pool of stride 1, a sum of pools.
REPEATED = ("even filter", "circular pool", "residual with a pool")


@pytest.mark.parametrize("name", [
    pytest.param(name, marks=pytest.mark.slow if name in REPEATED else ()) for name in NETWORKS
])  # fmt: skip
def test_kernels_are_statistics_of_wide_networks(name: str) -> None:
    x = np.random.default_rng(7).standard_normal((3, 4, 4, 2))
    x[2] = 0.8 * x[0] + 0.6 * x[2]
    network = load((4, 4, 2), *NETWORKS[name])
    rows = range(len(x))
    exact = CpuEvaluator(job(network, x, threads=1)).tile(rows, rows, True)
    samples = [Sample(network.layers, x, WIDTH, OUTPUTS, seed) for seed in range(DRAWS)]
    found = {
        "nngp": np.array([s.value @ s.value.T / OUTPUTS for s in samples]),
        "ntk": np.array([s.tangent() for s in samples]),
    }
    for key, draws in found.items():
        error = draws.std(axis=0, ddof=1) / np.sqrt(DRAWS)
        # The statistics must be sharp enough to mean something: 3 % of the largest entry.
        assert error.max() < 0.03 * exact[key].max()
        # Four standard errors (40 draws: one in 4000 for an entry), and the bias of a
        # finite width, of order layers / width.
        allowed = 4 * error + 2 / WIDTH * exact[key].max()
        np.testing.assert_array_less(np.abs(draws.mean(axis=0) - exact[key]), allowed)
