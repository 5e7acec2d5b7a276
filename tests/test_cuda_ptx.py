"""Kernels compiled to PTX and assembled, without a GPU: no local memory, no spills, in budget."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from widegram.cuda.compiling import ptx
from widegram.cuda.generated import MULTIPROCESSOR
from widegram.cuda.source import source_of
from widegram.network import load_network
from widegram_bench.gpu.assembled import inspect, shortest_loop, tool

_MISSING = [name for name in ("numba_cuda", "cuda") if importlib.util.find_spec(name) is None]
pytestmark = pytest.mark.skipif(
    bool(_MISSING), reason=f"not installed: {', '.join(_MISSING)} (pip install 'widegram[cuda]')"
)
assembled = pytest.mark.skipif(
    tool("ptxas") is None or tool("nvdisasm") is None,
    reason="no ptxas or nvdisasm (pip install nvidia-cuda-nvcc nvidia-cuda-nvdisasm)",
)

# "<network> <dtype> sm_<capability>" -> [registers, instructions of the layer loop]: the most that
# is allowed. Measured with numba-cuda 0.30 and CUDA 13.5, plus 5 % for other versions.
_TABLE = Path(__file__).with_name("cuda_budgets.json")
BUDGETS: dict[str, list[Any]] = json.loads(_TABLE.read_text())


def _cnn(
    size: int, act: str = "Relu", padding: str = "SAME", times: int = 21, window: int = 3
) -> dict[str, Any]:
    conv = {"layer": "Conv", "filter_shape": [window] * 2, "padding": padding}
    return {
        "input_shape": [size, size, 3],
        "layers": [
            {"layer": "Repeat", "times": times, "body": [conv, {"layer": act}]},
            {"layer": "GlobalAvgPool"},
        ],
    }


def _rated(size: int) -> dict[str, Any]:
    """T with parts of weights and biases of its own in every layer."""
    network = _cnn(size)
    network["layers"][0]["body"][0] |= {"W_rate": 0.5, "b_grad": 0.5}
    return network


def _grown(size: int) -> dict[str, Any]:
    """Exponentials that stay in float32's range through all layers."""
    network = _cnn(size)
    network["layers"][0]["body"][1] = {"layer": "Exp", "b": 0.1}
    return network


def _residual(size: int) -> dict[str, Any]:
    conv = {"layer": "Conv", "filter_shape": [3, 3], "padding": "SAME"}
    branch = [{"layer": "Relu"}, conv, {"layer": "Relu"}, conv]
    residual = {"layer": "Residual", "branch": branch, "shortcut": []}
    layers = [conv, {"layer": "Repeat", "times": 8, "body": [residual]}, {"layer": "Relu"}]
    return {"input_shape": [size, size, 3], "layers": [*layers, {"layer": "GlobalAvgPool"}]}


def _masked(size: int) -> dict[str, Any]:
    """K and T are multiplied by masks in every layer."""
    return {**_cnn(size), "input_shape": [size, size, 1], "mask": "nan"}


# name -> (network, dtype)
NETWORKS: dict[str, tuple[dict[str, Any] | str, str]] = {
    "relu 32x32 float32": (_cnn(32), "float32"),
    "relu 32x32 float64": (_cnn(32), "float64"),
    "erf 32x32 float32": (_cnn(32, "Erf"), "float32"),
    "exp 32x32 float32": (_grown(32), "float32"),
    "rates 32x32 float32": (_rated(32), "float32"),
    "masked 32x32 float32": (_masked(32), "float32"),
    "masked 32x32 float64": (_masked(32), "float64"),
    "relu 28x28 float32": (_cnn(28), "float32"),
    "relu 16x16 circular float32": (_cnn(16, padding="CIRCULAR"), "float32"),
    "relu 8x8 float32": (_cnn(8), "float32"),
    "relu 64x64 float32": (_cnn(64), "float32"),
    "relu 64x64 float64": (_cnn(64), "float64"),
    "relu 96x96 float32": (_cnn(96, times=3), "float32"),
    "tanh 6x6 float32": (_cnn(6, "Tanh", times=2), "float32"),
    "relu 31x31 float32": (_cnn(31), "float32"),
    "relu 31x31 float64": (_cnn(31), "float64"),
    "5x5 windows 32x32 float32": (_cnn(32, window=5), "float32"),
    "9x9 windows 32x32 float32": (_cnn(32, window=9), "float32"),
    "9x9 windows 16x16 float64": (_cnn(16, window=9), "float64"),
    "5x5 windows 64x64 float32": (_cnn(64, window=5), "float32"),
    "valid 32x32 float32": (_cnn(32, padding="VALID", times=4), "float32"),
    "wide residual float32": ("wide-resnet:input=32x32x3", "float32"),
    "wide residual float64": ("wide-resnet:input=32x32x3", "float64"),
    "myrtle10 float32": ("myrtle10:input=32x32x3", "float32"),
    "local pooling 32x32 float32": ("cnn-lap:depth=21,c=4,input=32x32x3", "float32"),
    "residual 32x32 float32": (_residual(32), "float32"),
    "residual 32x32 float64": (_residual(32), "float64"),
    "eight depths 32x32 float32": (_cnn(32, times=8), "float32"),
    "hundred depths 32x32 float32": (_cnn(32, times=100), "float32"),
    "hundred depths 32x32 float64": (_cnn(32, times=100), "float64"),
    "each tenth depth 32x32 float32": (_cnn(32, times=100), "float32"),
    "irregular depths 32x32 float32": (_cnn(32, times=50), "float32"),
    "eight depths residual 32x32 float32": (_residual(32), "float32"),
    "patch relu 32x32 float32": (_cnn(32), "float32"),
    "patch erf 32x32 float32": (_cnn(32, "Erf"), "float32"),
    "patch relu 32x32 circular float32": (_cnn(32, padding="CIRCULAR"), "float32"),
    "patch relu 28x28 float32": (_cnn(28), "float32"),
    "patch relu 16x16 float32": (_cnn(16), "float32"),
    "patch masked 16x16 float32": (_masked(16), "float32"),
    "patch relu 8x8 float32": (_cnn(8), "float32"),
    "patch myrtle10 float32": ("myrtle10:input=32x32x3", "float32"),
    "product float32": ({"input_shape": [64], "layers": [{"layer": "Dense"}]}, "float32"),
    "product float64": ({"input_shape": [64], "layers": [{"layer": "Dense"}]}, "float64"),
}
DEPTHS: dict[str, Sequence[int]] = {
    "eight depths": range(1, 9), "hundred depths": range(1, 101),
    "each tenth depth": range(10, 101, 10), "irregular depths": (1, 2, 5, 10, 50),
}  # fmt: skip
# Bytes that a block may use. Source: NVIDIA, CUDA C++ Programming Guide, technical specifications.
SHARED = {(8, 0): 163 * 1024, (9, 0): 227 * 1024}

# Each takes seconds to compile: one of each form and dtype; the others run with -m slow.
QUICK = {("relu 8x8 float32", (9, 0)), ("relu 32x32 float64", (9, 0)),
         ("patch relu 8x8 float32", (9, 0)), ("product float64", (8, 0))}  # fmt: skip


def _depths(name: str) -> Sequence[int] | None:
    """The readouts of a network whose name begins with them."""
    return next((depths for start, depths in DEPTHS.items() if name.startswith(start)), None)


@assembled
@pytest.mark.parametrize(
    ("name", "capability"),
    [
        pytest.param(name, cc, marks=() if (name, cc) in QUICK else pytest.mark.slow)
        for name in NETWORKS
        for cc in ((8, 0), (9, 0))
    ],
)
def test_first_kernel_is_within_its_budget(name: str, capability: tuple[int, int]) -> None:
    network, dtype = NETWORKS[name]
    forms = ("patch", "block") if name.startswith("patch") else ("strip", "block")
    source = source_of(
        load_network(network), dtype=dtype, depths=_depths(name), shared=SHARED[capability],
        forms=forms,
    )  # fmt: skip
    kernel = source.product or source.kernels[0]
    assert (kernel.form == "patch") == name.startswith("patch")
    report = inspect(kernel, dtype, capability)
    assert not report.local
    assert report.spills == 0
    registers, loop = BUDGETS[f"{name} sm_{capability[0]}{capability[1]}"]
    assert report.registers <= registers
    assert report.registers * kernel.threads[0] * kernel.threads[1] <= MULTIPROCESSOR
    # A series has no root in its loop: there only registers are bounded.
    assert (report.loop is None) == (loop is None)
    assert loop is None or report.loop <= loop


@assembled
@pytest.mark.slow
@pytest.mark.parametrize(
    ("form", "dtype"), [("strip", "float32"), ("strip", "float64"), ("patch", "float32")]
)
def test_no_stage_of_a_pooled_network_spills(form: str, dtype: str) -> None:
    network = load_network("myrtle10:input=32x32x3")
    forms = tuple(dict.fromkeys((form, "strip", "block")))
    for kernel in source_of(network, dtype=dtype, shared=SHARED[9, 0], forms=forms).kernels:
        report = inspect(kernel, dtype, (9, 0))
        assert not report.local
        assert report.spills == 0
        assert report.registers * kernel.threads[0] * kernel.threads[1] <= MULTIPROCESSOR


def test_vectors_compile_without_local_memory() -> None:
    layers = [{"layer": "Dense"}, {"layer": "Gelu"}, {"layer": "Dense"}, {"layer": "Tanh"}]
    source = source_of(load_network({"input_shape": [64], "layers": layers}), dtype="float64")
    assert source.product is not None
    for kernel in source.kernels:  # that of inner products has budgets above
        text = ptx(kernel, "float64", (9, 0))
        assert ".visible .entry" in text
        assert ".local" not in text


def test_float32_uses_no_double_arithmetic_between_planes() -> None:
    """A double constant in the text would turn float32 arithmetic into double."""
    source = source_of(load_network(_cnn(4)), dtype="float32", forms=("strip", "block"))
    text = ptx(source.kernels[0], "float32", (9, 0))
    products = [line for line in text.splitlines() if "fma.rn.f64" in line]
    assert products == []


def test_a_loop_with_two_ways_counts_their_mean() -> None:
    way = ["@P0 BRA `(.L_x_2)", *["FADD R1, R1, R2"] * 4, "BRA `(.L_x_3)", ".L_x_2:",
           *["FFMA R1, R1, R2, R3"] * 2, ".L_x_3:"]  # fmt: skip
    body = [".L_x_1:", *way, "MUFU.RCP R1, R1", "@P1 BRA `(.L_x_1)", "EXIT", "BRA `(.L_x_1)"]
    listing = [line if line.endswith(":") else f"  /*0000*/  {line} ;" for line in body]
    # A branch, then four and a branch or two, then the root and the branch back.
    assert shortest_loop(listing, "MUFU") == ((1 + 5 + 2) + (1 + 2 + 2)) // 2
    assert shortest_loop(listing, "DFMA") is None
