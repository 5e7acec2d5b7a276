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


def test_factors_that_need_no_planes_come_with_kernels_too() -> None:
    layers = [CONV, {"layer": "Relu"}, CONV, {"layer": "Erf"}, {"layer": "GlobalAvgPool"}]
    network = load_network({"input_shape": [8, 6, 2], "layers": layers})
    plan = build(network, ("nngp", "ntk"), None, "float64")
    layout = factor_layout(plan, choose_formulas(plan, 1.0, "float64"))
    alone, whole = (SelfKernelRunner(plan, layout, outputs, "float32") for outputs in (False, True))
    assert alone.pointwise
    assert not whole.pointwise
    x = np.random.default_rng(1).standard_normal((13, 8, 6, 2))
    np.testing.assert_array_equal(alone.run(x).factors, whole.run(x).factors)
    blocks = [whole.run(x[n : n + 1]) for n in range(13)]
    for field in ("factors", "nngp", "ntk"):
        single = np.concatenate([getattr(one, field).reshape(-1, 1) for one in blocks], axis=1)
        together = getattr(whole.run(x), field)
        together = together.T if field == "factors" else together
        np.testing.assert_array_equal(single, together)
