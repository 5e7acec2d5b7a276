"""Results that are kept while they hold few bytes."""

from __future__ import annotations

import numpy as np

from network_specs import CONV, FLATTEN, RELU, load
from widegram.machine.remembering import held_bytes, remembered
from widegram.plan import plan
from widegram.plan.graph import build_graph


def test_results_are_kept_by_bytes() -> None:
    made = []

    @remembered(11_000)
    def zeros(n: int, *, times: int = 1) -> np.ndarray:
        made.append(n)
        return np.zeros((times, n), dtype=np.uint8)

    assert zeros(4000) is zeros(4000)
    assert zeros(2000, times=2) is not zeros(2000)
    assert zeros(20_000) is not zeros(20_000)  # more than all may hold: made again
    assert made == [4000, 2000, 2000, 20_000, 20_000]
    zeros(4000)
    zeros(5000)  # both of 2000 go, which were used longest ago
    zeros(4000)
    assert made[5:] == [5000]
    assert zeros.kept.nbytes <= 11_000
    zeros(2000, times=2)
    assert made[6:] == [2000]


def test_everything_that_is_held_counts_once() -> None:
    numbers = np.zeros(1000)
    network = load((8, 8, 3), CONV, RELU, FLATTEN)
    one = held_bytes([numbers])
    assert 8000 < one < 8500  # and the list, and the array's own header
    assert held_bytes([numbers, numbers]) < one + 100
    assert held_bytes({"view": numbers[:500]}) > 4000
    assert held_bytes([network, numbers]) > one
    assert held_bytes((dict, len)) < 500  # neither classes nor functions are looked into


def test_small_plans_are_kept_and_large_ones_are_not() -> None:
    """Planes at all displacements of 128 x 128 pixels: 65,025 bytes of mask a node alone."""
    pool = {"layer": "GlobalAvgPool"}
    small = load((8, 8, 3), CONV, RELU, pool)
    large = load((128, 128, 3), *[CONV, RELU] * 60, pool)
    assert plan.build(small) is plan.build(small)
    assert build_graph(small) is build_graph(small)
    plans = plan._ordinary.kept
    before = plans.nbytes
    plan.build(large)
    assert plans.nbytes == before > 0
    assert build_graph(large) is build_graph(large)
