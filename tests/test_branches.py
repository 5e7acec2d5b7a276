"""Branches that meet: on every backend, against the dense reference."""

from __future__ import annotations

from typing import Any

import pytest

from cuda_support import assert_equal, both
from jobs import cpu_and_reference
from network_specs import DENSE, FLATTEN, GAP, RELU, load, residual

Case = tuple[tuple[int, ...], list[dict[str, Any]]]


def conv(rows: int, cols: int, padding: str = "SAME", strides: Any = (1, 1)) -> dict[str, Any]:
    return {
        "layer": "Conv", "filter_shape": [rows, cols], "padding": padding,
        "strides": list(strides), "W_std": 1.3, "b_std": 0.2,
    }  # fmt: skip


FIRST = conv(1, 1)
CASES: dict[str, Case] = {
    "other strides": ((3, 3, 2), [FIRST, residual(conv(2, 2, strides=(2, 2)),
                      shortcut=[conv(2, 2, "VALID")]), RELU, GAP]),
    "other strides, windows behind": ((7, 5, 1), [FIRST, residual(
        conv(3, 3, strides=(2, 2)), shortcut=[conv(3, 3, "VALID"), RELU, conv(2, 1, "VALID")]),
        RELU, conv(2, 2), RELU, GAP, DENSE]),
    "other strides, on a torus": ((5, 5, 1), [FIRST, residual(conv(3, 3, "CIRCULAR"), RELU,
        conv(3, 3, strides=(2, 2)), shortcut=[conv(3, 3, "VALID")]), RELU,
        conv(2, 2, "CIRCULAR"), RELU, GAP]),
    "other strides along one axis": ((5, 6, 1), [FIRST, residual(conv(1, 3, strides=(1, 2)),
        shortcut=[conv(1, 4, "VALID")]), RELU, FLATTEN]),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_cpu_and_reference_agree(name: str, dtype: str) -> None:
    shape, layers = CASES[name]
    for found, wanted in cpu_and_reference(load(shape, *layers), dtype):
        # relative to the largest entry: the promise of each dtype (docs/accuracy.md)
        assert_equal(found, wanted, {"float64": 1e-10, "float32": 1e-5}[dtype])


@pytest.mark.parametrize("name", CASES)
def test_generated_kernels_and_reference_agree(name: str) -> None:
    shape, layers = CASES[name]
    _, found, wanted = both({"input_shape": list(shape), "layers": layers})
    # some roundings of float64 per layer and pixel
    assert_equal(found, wanted, 1e-13)
