"""Runners that share images give the bits of one runner."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from widegram.cpu.self_kernels import SelfKernelPool, SelfKernelRunner
from widegram.network import load_network
from widegram.plan.formulas import choose_formulas, factor_layout
from widegram.plan.plan import build

CONV = {"layer": "Conv", "filter_shape": [3, 3], "padding": "SAME"}
NETWORKS = {
    "flat": [CONV, {"layer": "Relu"}, {"layer": "Flatten"}, {"layer": "Dense"}],
    "pooled": [
        CONV, {"layer": "Relu"},
        {"layer": "AvgPool", "window_shape": [2, 2], "strides": [2, 2]},
        CONV, {"layer": "Erf"}, {"layer": "GlobalAvgPool"},
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("memory", [1, 1 << 30])
def test_as_one_runner(name: str, memory: int) -> None:
    network = load_network({"input_shape": [8, 6, 2], "layers": NETWORKS[name]})
    plan = build(network, ("nngp", "ntk"), None, "float64")
    layout = factor_layout(plan, choose_formulas(plan, 1.0, "float64"))
    one = SelfKernelRunner(plan, layout, True, "float64")
    assert (one.nbytes == 0) == (name == "flat")
    x = np.random.default_rng(0).standard_normal((2 * one.step + 3, 8, 6, 2))
    wanted = one.run(x)
    with ThreadPoolExecutor(3) as threads:
        pool = SelfKernelPool(plan, layout, True, "float64", threads, 3, memory)
        assert pool.count == (1 if one.nbytes > memory else 3)
        for _ in range(3):
            found = pool.run(x)
            for field in ("factors", "nngp", "ntk"):
                np.testing.assert_array_equal(getattr(found, field), getattr(wanted, field))
