"""Networks for the tests of generated kernels, and their values by kernels and by the reference."""

from __future__ import annotations

from typing import Any

import numpy as np

from jobs import job
from virtual_card.devices import Emulated
from widegram.cuda.evaluator import CudaEvaluator
from widegram.data import open_source
from widegram.network import load_network
from widegram.reference import ReferenceEvaluator


def conv(rows: int = 3, cols: int = 3, **extra: Any) -> dict[str, Any]:
    return {
        "layer": "Conv", "filter_shape": [rows, cols], "padding": "SAME", "W_std": 1.3,
        "b_std": 0.2, **extra,
    }  # fmt: skip


def pool(kind: str = "AvgPool", window: int = 2, stride: int = 2, padding: str = "VALID") -> dict:
    return {
        "layer": kind, "window_shape": [window] * 2, "strides": [stride] * 2, "padding": padding,
    }  # fmt: skip


RELU, GAP, FLAT, DENSE = (
    {"layer": "Relu"},
    {"layer": "GlobalAvgPool"},
    {"layer": "Flatten"},
    {"layer": "Dense", "b_std": 0.1},
)
CHAIN = [conv(), RELU, conv(), RELU]
WRAP = conv(padding="CIRCULAR")


def both(
    spec: dict, dtype: str = "float64", counts: tuple[int, int] = (1, 2), **options: Any
) -> tuple[CudaEvaluator, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The evaluator on the stand-in, its tile, and the reference's."""
    network = load_network(spec)
    rng = np.random.default_rng(7)
    x1, x2 = (open_source(rng.standard_normal((n, *network.input_shape))) for n in counts)
    get, depths = options.pop("get", ("nngp", "ntk")), options.pop("depths", ())
    card = options.pop("card", None) or Emulated()
    options.setdefault("block_threads", 16)
    evaluator = CudaEvaluator(
        job(network, x1, x2, kernels=get, depths=depths, dtype=dtype), [card], **options
    )
    found = evaluator.tile(range(counts[0]), range(counts[1]), False)
    reference = ReferenceEvaluator(job(network, x1, x2, kernels=get, depths=depths))
    wanted = reference.tile(range(counts[0]), range(counts[1]), False)
    return evaluator, found, wanted


def assert_equal(
    found: dict[str, np.ndarray], wanted: dict[str, np.ndarray], tolerance: float
) -> None:
    assert list(found) == list(wanted)
    for key, value in wanted.items():
        assert found[key].shape == value.shape
        np.testing.assert_allclose(found[key], value, rtol=0, atol=tolerance * abs(value).max())
