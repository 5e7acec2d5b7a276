"""Generated kernels on the emulator of threads, against the dense reference."""

from __future__ import annotations

import itertools
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import strategies
from cuda_standin import StandIn
from golden_cases import assert_matches, cases, load
from strategies import KINKED, SMOOTH, Vocabulary
from widegram.cuda.evaluator import CudaEvaluator, source_of
from widegram.cuda.kernel import Kernel
from widegram.data import open_source
from widegram.network import Network, load_network
from widegram.reference import ReferenceEvaluator

# What the emulator runs in a second or so; larger images are for a GPU.
_MOST_PIXELS = 64


def _conv(rows: int = 3, cols: int = 3, **extra: Any) -> dict[str, Any]:
    return {
        "layer": "Conv", "filter_shape": [rows, cols], "padding": "SAME", "W_std": 1.3,
        "b_std": 0.2, **extra,
    }  # fmt: skip


def _pool(kind: str = "AvgPool", window: int = 2, stride: int = 2, padding: str = "VALID") -> dict:
    return {
        "layer": kind, "window_shape": [window] * 2, "strides": [stride] * 2, "padding": padding,
    }  # fmt: skip


RELU, GAP, FLAT, DENSE = (
    {"layer": "Relu"},
    {"layer": "GlobalAvgPool"},
    {"layer": "Flatten"},
    {"layer": "Dense", "b_std": 0.1},
)
CHAIN = [_conv(), RELU, _conv(), RELU]
# Without a sign: its jump turns rounding at c = 0 or 1 into numbers of order one.
CONTINUOUS = Vocabulary(activations=tuple(a for a in (*KINKED, *SMOOTH) if a != "Sign"))
WRAP = _conv(padding="CIRCULAR")

# name -> (input shape, layers, forms of its kernels)
NETWORKS: dict[str, tuple[list[int], list[dict], list[str]]] = {
    "one pixel": ([1, 1, 2], [*CHAIN, GAP], ["block", "point"]),
    "one row": ([1, 5, 1], [_conv(1, 3), RELU, _conv(1, 3), RELU, GAP], ["block", "point"]),
    "same": ([11, 3, 2], [*CHAIN, GAP, DENSE], ["block", "point"]),
    "valid": ([6, 5, 1], [_conv(padding="VALID"), RELU, _conv(2, 2, padding="VALID"), RELU, GAP],
              ["block", "point"]),
    "even filters": ([4, 5, 1], [_conv(2, 4), RELU, GAP], ["block", "point"]),
    "strided": ([6, 5, 1], [_conv(strides=[2, 1]), RELU, _conv(strides=[2, 2]), RELU, GAP],
                ["block", "point"]),
    "flatten": ([4, 4, 2], [*CHAIN, FLAT, DENSE, {"layer": "Erf"}, DENSE], ["block", "point"]),
    "circular on a smaller image": ([6, 6, 1], [_conv(padding="VALID"), RELU, WRAP, RELU, GAP],
                                    ["block", "point"]),
    "circular and strided": ([5, 4, 1], [WRAP, RELU, _conv(padding="CIRCULAR", strides=[2, 2]),
                                         RELU, GAP], ["block", "point"]),
    "circular next to zeros": ([4, 5, 1], [WRAP, RELU, _conv(), RELU, GAP], ["block", "point"]),
    "pool": ([5, 4, 1], [_conv(), RELU, _pool(), _conv(), RELU, GAP], ["block", "block", "point"]),
    "overlapping pool": ([5, 5, 1], [_conv(), RELU, _pool("SumPool", 3, 2), _conv(), RELU, FLAT],
                         ["block", "block", "point"]),
    "padded pool": ([4, 5, 1], [_conv(), RELU, _pool(window=3, padding="SAME"), _conv(), GAP],
                    ["block", "block", "point"]),
    "circular pool": ([4, 3, 1], [_conv(), RELU, _pool(window=3, padding="CIRCULAR"), _conv(),
                                  RELU, GAP], ["block", "block", "point"]),
    "residual": ([11, 3, 1], [_conv(), {"layer": "Residual", "branch": [RELU, _conv()],
                                       "shortcut": []}, RELU, GAP], ["block", "point"]),
    "residual over a pool": ([4, 4, 1], [_conv(), {"layer": "Residual",
                             "branch": [RELU, _conv(), _pool(), _conv(1, 1)],
                             "shortcut": [_pool(), _conv(1, 1)]}, RELU, GAP],
                             ["strip", "block", "point"]),
    "norm and dropout": ([11, 2, 2], [_conv(), {"layer": "LayerNorm", "axis": [1, 2, 3]}, RELU,
                                     {"layer": "Dropout", "rate": 0.7}, _conv(), RELU, GAP],
                         ["block", "point"]),
    "sum pooling": ([3, 4, 1], [_conv(), RELU, {"layer": "GlobalSumPool"}], ["strip", "point"]),
    "strip": ([8, 8, 2], [*CHAIN, *CHAIN[:2], GAP], ["strip", "point"]),
    "strip of two warps": ([16, 8, 1], [_conv(), {"layer": "Erf"}, _conv(), {"layer": "Erf"}, GAP],
                           ["strip", "point"]),
    "circular strip": ([8, 4, 1], [WRAP, RELU, WRAP, RELU, GAP], ["strip", "point"]),
    "strip with idle lanes": ([2, 20, 1], [*CHAIN, GAP], ["strip", "point"]),
    "strips around pools": ([8, 8, 1], [_conv(), RELU, _pool(), _conv(), {"layer": "Gelu"},
                                        _conv(1, 1), _pool("SumPool"), _conv(), RELU, GAP],
                            ["strip", "strip", "block", "point"]),
    "strips side by side": ([5, 3, 1], [*CHAIN, GAP], ["strip", "point"]),
    "strips side by side around a pool": ([6, 6, 1], [_conv(), RELU, _pool(), _conv(), RELU, GAP],
                                          ["strip", "block", "point"]),
    "two strips around a pool": ([16, 4, 2], [_conv(), RELU, _pool(), _conv(), RELU, GAP],
                                 ["strip", "strip", "point"]),
    "pool of images wider than a warp": ([2, 64, 1], [_conv(), RELU, _pool(), GAP],
                                         ["strip", "block", "point"]),
    "strip of a pool by three": ([6, 9, 1], [_conv(), RELU, _pool(window=3, stride=3), GAP],
                                 ["strip", "block", "point"]),
    "strip of a residual": ([4, 8, 1], [_conv(), {"layer": "Residual", "branch": [RELU, _conv()],
                                        "shortcut": []}, RELU, _conv(), RELU, GAP],
                            ["strip", "point"]),
    "vector": ([7], [DENSE, RELU, {"layer": "Residual", "branch": [DENSE, {"layer": "Erf"}, DENSE],
                                   "shortcut": [DENSE]}, {"layer": "LayerNorm", "axis": [1]}, RELU,
                     DENSE], ["point"]),
    "image as vector": ([3, 2, 2], [FLAT, DENSE, RELU, DENSE], ["point"]),
}  # fmt: skip
ACTIVATIONS: list[dict[str, Any]] = [
    {"layer": "LeakyRelu", "alpha": 0.3}, {"layer": "ABRelu", "a": -0.5, "b": 1.2},
    {"layer": "Abs"}, {"layer": "Sign"}, {"layer": "Erf", "a": 1.1, "b": 0.7, "c": 0.2},
    {"layer": "Gelu"}, {"layer": "Sin"}, {"layer": "Cos"}, {"layer": "Rbf"}, {"layer": "Tanh"},
]  # fmt: skip


def _both(
    spec: dict, dtype: str = "float64", counts: tuple[int, int] = (1, 2), **options: Any
) -> tuple[CudaEvaluator, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The evaluator on the stand-in, its tile, and the reference's."""
    network = load_network(spec)
    rng = np.random.default_rng(7)
    x1, x2 = (open_source(rng.standard_normal((n, *network.input_shape))) for n in counts)
    get, depths = options.pop("get", ("nngp", "ntk")), options.pop("depths", ())
    card = options.pop("card", None) or StandIn()
    options.setdefault("threads", 16)
    evaluator = CudaEvaluator(network, x1, x2, get, depths, dtype, 2**28, [card], **options)
    found = evaluator.tile(range(counts[0]), range(counts[1]), False)
    reference = ReferenceEvaluator(network, x1, x2, get, depths or None)
    wanted = reference.tile(range(counts[0]), range(counts[1]), False)
    return evaluator, found, wanted


def _assert_equal(
    found: dict[str, np.ndarray], wanted: dict[str, np.ndarray], tolerance: float
) -> None:
    assert list(found) == list(wanted)
    for key, value in wanted.items():
        assert found[key].shape == value.shape
        np.testing.assert_allclose(found[key], value, rtol=0, atol=tolerance * abs(value).max())


@pytest.mark.parametrize("name", NETWORKS)
def test_operations(name: str) -> None:
    shape, layers, forms = NETWORKS[name]
    evaluator, found, wanted = _both({"input_shape": shape, "layers": layers})
    assert [kernel.form for kernel in evaluator.source.kernels] == forms
    # Rounding of float64 through a few layers, in another order of summation.
    _assert_equal(found, wanted, 1e-13)


@pytest.mark.parametrize("layer", ACTIVATIONS, ids=lambda layer: layer["layer"])
@pytest.mark.parametrize("strips", [True, False], ids=["strip", "block"])
def test_activations(layer: dict[str, Any], strips: bool) -> None:
    spec = {"input_shape": [4, 4, 1], "layers": [_conv(), layer, _conv(), layer, GAP]}
    evaluator, found, wanted = _both(spec, counts=(1, 1), strips=strips)
    assert evaluator.source.kernels[0].form == ("strip" if strips else "block")
    # A series is cut where its relative tail is 1e-13 of the variance; the tail adds up.
    _assert_equal(found, wanted, 1e-11 if layer["layer"] == "Tanh" else 1e-13)


@pytest.mark.parametrize("name", ["same", "pool", "strip", "strips around pools", "vector"])
def test_float32(name: str) -> None:
    shape, layers, _ = NETWORKS[name]
    _, found, wanted = _both({"input_shape": shape, "layers": layers}, "float32", (1, 1))
    assert found["ntk"].dtype == np.float32
    # The contract's tolerance for float32.
    _assert_equal(found, wanted, 1e-5)


@pytest.mark.parametrize("name", ["pool", "strips around pools", "vector"])
def test_nngp_alone(name: str) -> None:
    shape, layers, _ = NETWORKS[name]
    _, found, wanted = _both({"input_shape": shape, "layers": layers}, get=("nngp",))
    _assert_equal(found, wanted, 1e-13)


@pytest.mark.parametrize("shape", [[11, 3, 1], [8, 8, 1]], ids=["block", "strip"])
def test_depth_sweep(shape: list[int]) -> None:
    body = {"layer": "Repeat", "times": 5, "body": [_conv(), RELU]}
    spec = {"input_shape": shape, "layers": [body, GAP, DENSE]}
    _, found, wanted = _both(spec, counts=(1, 1), depths=(1, 2, 5))
    assert len(found) == 6
    _assert_equal(found, wanted, 1e-13)


def test_planes_larger_than_shared_memory() -> None:
    shape, layers, _ = NETWORKS["pool"]
    spec = {"input_shape": shape, "layers": layers}
    evaluator, found, wanted = _both(spec, card=StandIn(shared=64))
    assert evaluator.source.scratch > 0
    _assert_equal(found, wanted, 1e-13)


def test_planes_in_shared_memory_asked_for_at_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("widegram.cuda.block.SHARED_BYTES", 64)
    shape, layers, _ = NETWORKS["pool"]
    evaluator, found, wanted = _both({"input_shape": shape, "layers": layers})
    assert any(kernel.dynamic for kernel in evaluator.source.kernels)
    assert evaluator.source.scratch == 0
    _assert_equal(found, wanted, 1e-13)


def test_rows_in_shared_memory_asked_for_at_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    layers = [_conv(), RELU, _conv(), RELU, GAP]
    for module in ("strip", "strip_fit"):
        # Room for the halos of 33 threads and their sums, but not for the rows.
        monkeypatch.setattr(f"widegram.cuda.{module}.SHARED_BYTES", 3000)
    evaluator, found, wanted = _both({"input_shape": [4, 33, 1], "layers": layers}, counts=(1, 1))
    kernel = evaluator.source.kernels[0]
    assert (kernel.form, kernel.dynamic) == ("strip", 4 * 33 * 2 * 8)
    _assert_equal(found, wanted, 1e-13)


@pytest.mark.parametrize("rows", [2, 8], ids=["two strips", "one strip"])
@pytest.mark.parametrize("padding", ["SAME", "CIRCULAR"])
def test_images_wider_than_a_warp(rows: int, padding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("widegram.cuda.strip_fit.MOST_ROWS", rows)
    layers = [_conv(padding=padding), RELU, _conv(padding=padding), RELU, GAP]
    evaluator, found, wanted = _both({"input_shape": [4, 33, 1], "layers": layers}, counts=(1, 1))
    kernel = evaluator.source.kernels[0]
    assert (kernel.form, kernel.threads) == ("strip", (33, 4 // min(rows, 4)))
    _assert_equal(found, wanted, 1e-13)


def _shared_bytes(kernel: Kernel, dtype: str) -> int:
    sizes = {"scalar": np.dtype(dtype).itemsize, "types.float64": 8}
    arrays = re.findall(r"cuda\.shared\.array\((\d+), ([\w.]+)\)", kernel.text)
    return sum(int(count) * sizes[kind] for count, kind in arrays)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", [8, 17, 30, 32, 48, 66])
def test_no_block_needs_more_than_every_card_has(size: int, dtype: str) -> None:
    once = {"input_shape": [size, size, 3], "layers": [*CHAIN, _pool(), *CHAIN, GAP]}
    body = {"layer": "Repeat", "times": 20, "body": [_conv(), RELU]}
    often = {"input_shape": [size, size, 3], "layers": [body, GAP]}
    wanted = ((once, None), (often, (1, 3)), (often, range(1, 21)))
    for (spec, depths), most in itertools.product(wanted, (48 * 1024, 227 * 1024)):
        network = load_network(spec)
        for kernel in source_of(network, depths=depths, dtype=dtype, shared=most).kernels:
            assert _shared_bytes(kernel, dtype) <= 48 * 1024
            assert _shared_bytes(kernel, dtype) + kernel.dynamic <= most
            assert kernel.threads[0] * kernel.threads[1] <= 1024


@pytest.mark.parametrize("height", [11, 8, 16], ids=["block", "strip", "two strips"])
def test_sums_that_share_accumulators(height: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("widegram.cuda.sums._MOST_BYTES", 100)
    body = {"layer": "Repeat", "times": 3, "body": [_conv(), RELU]}
    spec = {"input_shape": [height, 3 if height == 11 else 8, 1], "layers": [body, GAP, DENSE]}
    evaluator, found, wanted = _both(spec, counts=(1, 1), depths=(1, 3))
    assert "part = cuda.shared" in evaluator.source.kernels[0].text
    _assert_equal(found, wanted, 1e-13)


@given(network=strategies.networks(CONTINUOUS), data=st.data())
@settings(max_examples=25, database=None, suppress_health_check=list(HealthCheck))
def test_random_networks(network: Network, data: st.DataObject) -> None:
    x = data.draw(strategies.inputs(network, most=3, special=False))
    source, n = open_source(x[:2]), len(x[:2])
    evaluator = CudaEvaluator(
        network, source, None, ("nngp", "ntk"), (), "float64", 2**28, [StandIn()], threads=16
    )
    found = evaluator.tile(range(n), range(n), True)
    wanted = ReferenceEvaluator(network, source).tile(range(n), range(n), True)
    for key, value in wanted.items():
        # As on the CPU: a thousandth where pixels cancel; kinks turn 1e-16 into its square root.
        scale = max(float(np.abs(value).max()), 1e-3)
        np.testing.assert_allclose(found[key], value, rtol=0, atol=1e-6 * scale)


def test_zero_images_give_limits() -> None:
    network = load_network({"input_shape": [4, 4, 1], "layers": [*CHAIN, GAP]})
    x = np.zeros((2, 4, 4, 1))
    x[1, 0, 0, 0] = 1.0
    source = open_source(x)
    evaluator = CudaEvaluator(
        network, source, None, ("nngp", "ntk"), (), "float64", 2**28, [StandIn()]
    )
    tile = evaluator.tile(range(2), range(2), True)
    assert np.isfinite(tile["ntk"]).all()
    np.testing.assert_array_equal(tile["ntk"], tile["ntk"].T)


def _small(name: str) -> bool:
    shape = load(name).x1.shape[1:]
    return len(shape) == 1 or shape[0] * shape[1] <= _MOST_PIXELS


@pytest.mark.parametrize("name", [case.name for case in cases() if _small(case.name)])
def test_golden(name: str) -> None:
    golden = load(name)
    network = load_network(golden.spec)
    n = min(2, len(golden.x1), len(golden.x2)) if golden.x1.ndim == 2 else 1
    x1, x2 = open_source(golden.x1[:n]), open_source(golden.x2[:n])
    evaluator = CudaEvaluator(
        network, x1, x2, ("nngp", "ntk"), (), "float64", 2**28, [StandIn()], threads=32
    )
    tile = evaluator.tile(range(n), range(n), False)
    for key in ("nngp", "ntk"):
        # Entries that were not computed stand in with their golden values.
        value = golden.values[key].copy()
        value[:n, :n] = tile[key]
        assert_matches(golden, key, value, "float64")
