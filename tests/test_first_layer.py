"""Layers that read inputs, of which T is 0: the same bits without reading it."""

from __future__ import annotations

from typing import Any
from unittest import mock

import numpy as np
import pytest

from fresh_tables import fresh_tables
from jobs import job
from network_specs import FLATTEN, GAP, RELU, load, residual
from widegram.cpu import CpuEvaluator
from widegram.cpu.kernels import compiled
from widegram.cpu.kernels.variants import Variant
from widegram.cpu.step_rows import StepRows


def conv(window: int, padding: str = "SAME", stride: int = 1) -> dict[str, Any]:
    return {
        "layer": "Conv", "filter_shape": [window, window], "padding": padding,
        "strides": [stride, stride], "W_std": 1.2, "b_std": 0.1,
    }  # fmt: skip


# One of each kind of window, packed, on a torus and alone, and behind a sum.
CASES = {
    "tap": [conv(1), RELU, conv(3), RELU, GAP],
    "box3": [conv(3), RELU, conv(3), RELU, GAP],
    "strides": [conv(3, stride=2), RELU, GAP],
    "large": [conv(9), RELU, FLATTEN],
    "torus": [conv(3, "CIRCULAR"), RELU, GAP],
    "sum": [residual(conv(3), shortcut=[conv(1)]), RELU, GAP],
}


def kernels(layers: list[dict[str, Any]]) -> tuple[dict[str, np.ndarray], list[Variant]]:
    """A cross matrix in float64, and the plane kernels of its network."""
    rng = np.random.default_rng(5)
    x, y = (rng.standard_normal((n, 6, 6, 2)) for n in (2, 9))
    of = job(load((6, 6, 2), *layers), x, y)
    spy = mock.patch.object(compiled, "address", wraps=compiled.address)
    with fresh_tables(), spy as address, CpuEvaluator(of) as evaluator:
        found = evaluator.tile(range(2), range(9), False)
    return found, [call.args[0] for call in address.call_args_list]


@pytest.mark.parametrize("name", CASES)
def test_what_reads_inputs_reads_no_t(name: str) -> None:
    found, variants = kernels(CASES[name])
    with mock.patch.object(StepRows, "_is_input", return_value=False):
        wanted, others = kernels(CASES[name])
    assert any(variant.fresh for variant in variants)
    assert not any(variant.fresh for variant in others)
    for key, value in wanted.items():
        np.testing.assert_array_equal(found[key].view("u1"), value.view("u1"))


def test_later_layers_read_t() -> None:
    _, variants = kernels(CASES["box3"])
    assert {variant.fresh for variant in variants if variant.kind == "box3"} == {True, False}


def test_without_t_nothing_differs() -> None:
    network = load((6, 6, 2), *CASES["box3"])
    x = np.random.default_rng(5).standard_normal((2, 6, 6, 2))
    spy = mock.patch.object(compiled, "address", wraps=compiled.address)
    of = job(network, x, kernels=("nngp",))
    with fresh_tables(), spy as address, CpuEvaluator(of) as evaluator:
        evaluator.tile(range(2), range(2), False)
    assert address.call_args_list
    assert not any(call.args[0].fresh for call in address.call_args_list)
