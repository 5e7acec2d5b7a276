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
from cuda_support import (
    CHAIN,
    DENSE,
    FLAT,
    GAP,
    RELU,
    WRAP,
    assert_equal,
    both,
    conv,
    pool,
)
from golden_cases import assert_matches, cases, load
from jobs import job
from virtual_card.devices import Emulated
from vocabulary import CONTINUOUS
from widegram.cuda.evaluator import CudaEvaluator
from widegram.cuda.generated import KernelText
from widegram.cuda.side_by_side import most_at_once, pooled
from widegram.cuda.source import source_of
from widegram.data import open_source
from widegram.network import Network, load_network
from widegram.plan.steps import Pooling
from widegram.reference import ReferenceEvaluator

# What the emulator runs in a second or so; larger images are for a GPU.
_MOST_PIXELS = 64
SAME_POOL = pool(stride=1, padding="SAME")


# name -> (input shape, layers, forms of its kernels)
NETWORKS: dict[str, tuple[list[int], list[dict], list[str]]] = {
    "one pixel": ([1, 1, 2], [*CHAIN, GAP], ["block", "point"]),
    "one row": ([1, 5, 1], [conv(1, 3), RELU, conv(1, 3), RELU, GAP], ["block", "point"]),
    "rows behind the last": ([11, 3, 2], [*CHAIN, GAP, DENSE], ["strip", "point"]),
    "wide windows": ([16, 4, 1], [conv(5, 5), RELU, conv(3, 3), RELU, conv(7, 5), RELU, GAP],
                     ["strip", "point"]),
    "wide circular windows": ([16, 4, 1], [conv(5, 4, padding="CIRCULAR"), RELU,
                              conv(2, 7, padding="CIRCULAR"), RELU, GAP], ["strip", "point"]),
    "windows of rows or columns": ([16, 8, 1], [conv(1, 3), RELU, conv(4, 1), RELU, conv(1, 2),
                                   RELU, GAP], ["strip", "point"]),
    "wide windows and rows behind the last": ([9, 4, 1], [conv(5, 3), RELU, conv(4, 5), RELU, GAP],
                                              ["strip", "point"]),
    "pool to rows behind the last": ([22, 4, 1], [
        conv(), RELU, pool(), conv(), {"layer": "Residual", "branch": [RELU, conv(5, 5)],
        "shortcut": []}, conv(), {"layer": "Rbf"}, conv(), RELU, GAP],
        ["strip", "strip", "point"]),
    "contributions": ([8, 4, 1], [
        conv(W_rate=0, b_rate=0), RELU, conv(W_rate=0.5, b_grad=0.3), RELU, conv(), RELU, GAP,
        {**DENSE, "W_rate": 0, "b_rate": 2.0}], ["strip", "point"]),
    "valid": ([6, 5, 1], [conv(padding="VALID"), RELU, conv(2, 2, padding="VALID"), RELU, GAP],
              ["block", "point"]),
    "even filters": ([4, 5, 1], [conv(2, 4), RELU, GAP], ["strip", "point"]),
    "strided": ([6, 5, 1], [conv(strides=[2, 1]), RELU, conv(strides=[2, 2]), RELU, GAP],
                ["block", "point"]),
    "strided strips": ([16, 16, 1], [conv(), RELU, conv(strides=[2, 2]), RELU, conv(), RELU,
                       conv(1, 1, strides=[2, 2]), {"layer": "Erf"}, conv(5, 5), RELU, GAP],
                       ["strip", "strip", "strip", "point"]),
    "strided circular strips": ([16, 8, 1], [WRAP, RELU, conv(5, 4, padding="CIRCULAR",
                                strides=[4, 2]), RELU, WRAP, RELU, GAP],
                                ["strip", "strip", "point"]),
    "strided residual": ([4, 8, 1], [conv(), {"layer": "Residual",
                         "branch": [RELU, conv(strides=[2, 2]), RELU, conv()],
                         "shortcut": [RELU, conv(1, 1, strides=[2, 2])]}, RELU, GAP],
                         ["strip", "strip", "point"]),
    "strided before a readout and rows behind the last": ([22, 6, 1], [*CHAIN,
        conv(strides=[2, 2]), GAP], ["strip", "strip", "point"]),
    "strided where the image does not divide": ([9, 8, 1], [conv(), RELU, conv(strides=[2, 2]),
                                                RELU, conv(), GAP], ["block", "point"]),
    "strided with an activation, then stored": ([12, 8, 1], [
        conv(4, 2, padding="CIRCULAR", strides=[1, 3]), RELU,
        conv(padding="CIRCULAR", strides=[1, 3]), RELU, conv(1, 3, padding="CIRCULAR"), GAP],
        ["block", "block", "block", "point"]),
    "flatten": ([4, 4, 2], [*CHAIN, FLAT, DENSE, {"layer": "Erf"}, DENSE], ["block", "point"]),
    "circular on a smaller image": ([6, 6, 1], [conv(padding="VALID"), RELU, WRAP, RELU, GAP],
                                    ["block", "point"]),
    "circular and strided": ([5, 4, 1], [WRAP, RELU, conv(padding="CIRCULAR", strides=[2, 2]),
                                         RELU, GAP], ["block", "point"]),
    "circular next to zeros": ([4, 5, 1], [WRAP, RELU, conv(), RELU, GAP], ["block", "point"]),
    "pool": ([5, 4, 1], [conv(), RELU, pool(), conv(), RELU, GAP], ["block", "block", "point"]),
    "overlapping pool": ([5, 5, 1], [conv(), RELU, pool("SumPool", 3, 2), conv(), RELU, FLAT],
                         ["block", "block", "point"]),
    "padded pool": ([4, 5, 1], [conv(), RELU, pool(window=3, padding="SAME"), conv(), GAP],
                    ["block", "strip", "point"]),
    "circular pool": ([4, 3, 1], [conv(), RELU, pool(window=3, padding="CIRCULAR"), conv(),
                                  RELU, GAP], ["block", "block", "point"]),
    "residual": ([11, 3, 1], [conv(), {"layer": "Residual", "branch": [RELU, conv()],
                                       "shortcut": []}, RELU, GAP], ["strip", "point"]),
    "residual over a pool": ([4, 4, 1], [conv(), {"layer": "Residual",
                             "branch": [RELU, conv(), pool(), conv(1, 1)],
                             "shortcut": [pool(), conv(1, 1)]}, RELU, GAP],
                             ["strip", "block", "point"]),
    "pool, then residuals that pool": ([4, 4, 1], [conv(), SAME_POOL, {"layer": "Residual",
                                       "branch": [SAME_POOL, conv(), RELU, conv()],
                                       "shortcut": []}, SAME_POOL, {"layer": "Residual",
                                       "branch": [SAME_POOL, DENSE], "shortcut": []}, GAP],
                                       ["block"] * 4 + ["strip", "point"]),
    "norm and dropout": ([11, 2, 2], [conv(), {"layer": "LayerNorm", "axis": [1, 2, 3]}, RELU,
                                     {"layer": "Dropout", "rate": 0.7}, conv(), RELU, GAP],
                         ["strip", "point"]),
    "sum pooling": ([3, 4, 1], [conv(), RELU, {"layer": "GlobalSumPool"}], ["strip", "point"]),
    "strip": ([8, 8, 2], [*CHAIN, *CHAIN[:2], GAP], ["strip", "point"]),
    "strip of two warps": ([16, 8, 1], [conv(), {"layer": "Erf"}, conv(), {"layer": "Erf"}, GAP],
                           ["strip", "point"]),
    "circular strip": ([8, 4, 1], [WRAP, RELU, WRAP, RELU, GAP], ["strip", "point"]),
    "strip with idle lanes": ([2, 20, 1], [*CHAIN, GAP], ["strip", "point"]),
    "strips around pools": ([8, 8, 1], [conv(), RELU, pool(), conv(), {"layer": "Gelu"},
                                        conv(1, 1), pool("SumPool"), conv(), RELU, GAP],
                            ["strip", "strip", "block", "point"]),
    "strips side by side": ([5, 3, 1], [*CHAIN, GAP], ["strip", "point"]),
    "strips side by side around a pool": ([6, 6, 1], [conv(), RELU, pool(), conv(), RELU, GAP],
                                          ["strip", "strip", "point"]),
    "two strips around a pool": ([16, 4, 2], [conv(), RELU, pool(), conv(), RELU, GAP],
                                 ["strip", "strip", "point"]),
    "pool of images wider than a warp": ([2, 64, 1], [conv(), RELU, pool(), GAP],
                                         ["strip", "block", "point"]),
    "strip of a pool by three": ([6, 9, 1], [conv(), RELU, pool(window=3, stride=3), GAP],
                                 ["strip", "strip", "point"]),
    "strip of a residual": ([4, 8, 1], [conv(), {"layer": "Residual", "branch": [RELU, conv()],
                                        "shortcut": []}, RELU, conv(), RELU, GAP],
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


@pytest.mark.parametrize("name", NETWORKS)
def test_operations(name: str) -> None:
    shape, layers, forms = NETWORKS[name]
    evaluator, found, wanted = both({"input_shape": shape, "layers": layers})
    assert [kernel.form for kernel in evaluator.source.kernels] == forms
    # Rounding of float64 through a few layers, in another order of summation.
    assert_equal(found, wanted, 1e-13)


@pytest.mark.parametrize("name", [name for name in NETWORKS if "strip" in NETWORKS[name][2]])
def test_operations_in_blocks(name: str) -> None:
    shape, layers, _ = NETWORKS[name]
    _, found, wanted = both({"input_shape": shape, "layers": layers}, forms=("block",))
    assert_equal(found, wanted, 1e-13)


# A kink, a closed form, a series; the text of the others is the same in every form.
IN_EVERY_FORM = ("LeakyRelu", "Erf", "Tanh")


@pytest.mark.parametrize(("form", "layer"), [
    pytest.param(
        form, layer, id=f"{form}-{layer['layer']}",
        marks=() if form == "strip" or layer["layer"] in IN_EVERY_FORM else pytest.mark.slow,
    )
    for form in ("patch", "strip", "block") for layer in ACTIVATIONS
])  # fmt: skip
def test_activations(layer: dict[str, Any], form: str) -> None:
    spec = {"input_shape": [4, 4, 1], "layers": [conv(), layer, conv(), layer, GAP]}
    evaluator, found, wanted = both(spec, counts=(1, 1), forms=(form, "block"))
    # The factors of a long series are more than shared memory holds.
    held = form != "patch" or layer["layer"] != "Tanh"
    assert evaluator.source.kernels[0].form == (form if held else "block")
    # A series is cut where its relative tail is 1e-13 of the variance; the tail adds up.
    assert_equal(found, wanted, 1e-11 if layer["layer"] == "Tanh" else 1e-13)


@pytest.mark.parametrize("name", ["Sigmoid", "Swish"])
@pytest.mark.parametrize("form", ["strip", "block"])
def test_mixtures(name: str, form: str) -> None:
    """At variances where a Hermite series would be too long."""
    wide = {**conv(), "W_std": 40.0}
    spec = {"input_shape": [4, 4, 1], "layers": [wide, {"layer": name}, conv(), RELU, GAP]}
    evaluator, found, wanted = both(spec, counts=(1, 1), forms=(form, "block"))
    formulas = evaluator.source.layout.formulas.values()
    assert "mixture" in [formula.code for formula in formulas]
    # Rounding: eps b^2 of a variance of a few thousand.
    assert_equal(found, wanted, 1e-12)


@pytest.mark.parametrize(
    "name", ["valid", "pool", "rows behind the last", "strips around pools", "vector"]
)
def test_float32(name: str) -> None:
    shape, layers, _ = NETWORKS[name]
    _, found, wanted = both({"input_shape": shape, "layers": layers}, "float32", (1, 1))
    assert found["ntk"].dtype == np.float32
    # The contract's tolerance for float32.
    assert_equal(found, wanted, 1e-5)


@pytest.mark.parametrize("name", ["pool", "strips around pools", "vector"])
def test_nngp_alone(name: str) -> None:
    shape, layers, _ = NETWORKS[name]
    _, found, wanted = both({"input_shape": shape, "layers": layers}, get=("nngp",))
    assert_equal(found, wanted, 1e-13)


def test_planes_larger_than_shared_memory() -> None:
    shape, layers, _ = NETWORKS["pool"]
    spec = {"input_shape": shape, "layers": layers}
    evaluator, found, wanted = both(spec, card=Emulated(shared=64))
    assert evaluator.source.scratch > 0
    assert_equal(found, wanted, 1e-13)


def test_planes_in_shared_memory_asked_for_at_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("widegram.cuda.block.SHARED_BYTES", 64)
    shape, layers, _ = NETWORKS["pool"]
    evaluator, found, wanted = both({"input_shape": shape, "layers": layers})
    assert any(kernel.dynamic for kernel in evaluator.source.kernels)
    assert evaluator.source.scratch == 0
    assert_equal(found, wanted, 1e-13)


def test_rows_in_shared_memory_asked_for_at_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    layers = [conv(), RELU, conv(), RELU, GAP]
    for module in ("strip_elements", "strip_windows", "strip_fit"):
        # Room for the halos of 33 threads and their sums, but not for the rows.
        monkeypatch.setattr(f"widegram.cuda.{module}.SHARED_BYTES", 3000)
    evaluator, found, wanted = both({"input_shape": [4, 33, 1], "layers": layers}, counts=(1, 1))
    kernel = evaluator.source.kernels[0]
    assert (kernel.form, kernel.dynamic) == ("strip", 4 * 33 * 2 * 8)
    assert_equal(found, wanted, 1e-13)


@pytest.mark.parametrize("rows", [2, 8], ids=["two strips", "one strip"])
@pytest.mark.parametrize("padding", ["SAME", "CIRCULAR"])
def test_images_wider_than_a_warp(rows: int, padding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("widegram.cuda.strip_fit.MOST_ROWS", rows)
    layers = [conv(padding=padding), RELU, conv(padding=padding), RELU, GAP]
    evaluator, found, wanted = both({"input_shape": [4, 33, 1], "layers": layers}, counts=(1, 1))
    kernel = evaluator.source.kernels[0]
    assert (kernel.form, kernel.threads) == ("strip", (33, 4 // min(rows, 4)))
    assert_equal(found, wanted, 1e-13)


@pytest.mark.parametrize(
    ("form", "shape"),
    [("patch", (16, 8)), ("patch", (16, 16)), ("strip", (8, 8)), ("strip", (6, 6)),
     ("strip", (16, 16)), ("strip", (8, 16))],
)  # fmt: skip
def test_planes_at_once_add_to_different_pooled_planes(form: str, shape: tuple[int, int]) -> None:
    """On a card their threads do so without order."""
    layers = [conv(), RELU, pool(), conv(), RELU, GAP]
    network = load_network({"input_shape": [*shape, 1], "layers": layers})
    source = source_of(network, forms=(form, "block"))
    kernel, (program, *_) = source.kernels[0], source.context.plan.cross.programs
    assert kernel.form == form
    (step,) = (step for step in source.context.steps(program) if isinstance(step, Pooling))
    # A patch's lanes hold a plane; a strip's lanes a row, and several warps its rows.
    lanes = shape[0] * shape[1] // kernel.pixels if form == "patch" else shape[1]
    warps = 1 if form == "patch" else shape[0] // kernel.pixels
    at_once = kernel.threads[0] // lanes * (kernel.threads[1] // warps)
    assert at_once > 1
    living = kernel.table[kernel.table[:, 2] == 1, :2]
    assert len(np.unique(living, axis=0)) == len(living) == shape[0] * shape[1]
    for block in kernel.table.reshape(-1, at_once, 3):
        targets = [to for dy, dx, alive in block if alive for to in pooled(step, dy, dx)]
        assert len(targets) == len(set(targets))


@pytest.mark.parametrize(
    ("size", "planes", "limit", "wanted"),
    [(32, 1, 4, 4), (31, 1, 4, 4), (16, 2, 7, 4), (8, 4, 14, 8), (5, 6, 8, 5), (1, 1, 8, 1)],
)
def test_hardly_a_plane_is_idle(size: int, planes: int, limit: int, wanted: int) -> None:
    base = np.stack(np.indices((size, size)), axis=-1).reshape(-1, 2)
    assert most_at_once(base, [], planes, limit) == wanted


def _shared_bytes(kernel: KernelText, dtype: str) -> int:
    sizes = {"scalar": np.dtype(dtype).itemsize, "types.float64": 8, "types.int32": 4}
    arrays = re.findall(r"cuda\.shared\.array\((\d+), ([\w.]+)(?:, \d+)?\)", kernel.text)
    return sum(int(count) * sizes[kind] for count, kind in arrays)


# Large images, whose texts take seconds, in one dtype each.
@pytest.mark.parametrize(
    ("size", "dtype"),
    [*itertools.product((8, 17, 30, 32), ("float32", "float64")), (48, "float32"), (66, "float64")],
)
def test_no_block_needs_more_than_every_card_has(size: int, dtype: str) -> None:
    once = {"input_shape": [size, size, 3], "layers": [*CHAIN, pool(), *CHAIN, GAP]}
    body = {"layer": "Repeat", "times": 20, "body": [conv(), RELU]}
    often = {"input_shape": [size, size, 3], "layers": [body, GAP]}
    wanted = ((once, None), (often, (1, 3)), (often, range(1, 21)))
    for (spec, depths), most in itertools.product(wanted, (48 * 1024, 227 * 1024)):
        network = load_network(spec)
        for kernel in source_of(network, depths=depths, dtype=dtype, shared=most).kernels:
            assert _shared_bytes(kernel, dtype) <= 48 * 1024
            assert _shared_bytes(kernel, dtype) + kernel.dynamic <= most
            assert kernel.threads[0] * kernel.threads[1] <= 1024


@given(network=strategies.networks(CONTINUOUS), data=st.data())
@settings(max_examples=25, database=None, suppress_health_check=list(HealthCheck))
def test_random_networks(network: Network, data: st.DataObject) -> None:
    x = data.draw(strategies.inputs(network, most=3, special=False))
    source, n = open_source(x[:2]), len(x[:2])
    evaluator = CudaEvaluator(
        job(network, source),
        [Emulated()],
        block_threads=16,
    )
    found = evaluator.tile(range(n), range(n), True)
    wanted = ReferenceEvaluator(job(network, source)).tile(range(n), range(n), True)
    for key, value in wanted.items():
        # As on the CPU: a thousandth where pixels cancel; kinks turn 1e-16 into its square root.
        scale = max(float(np.abs(value).max()), 1e-3)
        np.testing.assert_allclose(found[key], value, rtol=0, atol=1e-6 * scale)


def test_forms_that_hold_nothing_or_do_not_exist_are_named() -> None:
    network = load_network({"input_shape": [4, 4, 1], "layers": [conv(padding="VALID"), GAP]})
    with pytest.raises(ValueError, match=r"none of the forms strip holds a program of .*window"):
        source_of(network, forms=("strip",))
    with pytest.raises(ValueError, match="form 'strips': expected 'patch', 'strip' or 'block'"):
        source_of(network, forms=("strips",))


def test_zero_images_give_limits() -> None:
    network = load_network({"input_shape": [4, 4, 1], "layers": [*CHAIN, GAP]})
    x = np.zeros((2, 4, 4, 1))
    x[1, 0, 0, 0] = 1.0
    source = open_source(x)
    evaluator = CudaEvaluator(job(network, source), [Emulated()])
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
        job(network, x1, x2),
        [Emulated()],
        block_threads=32,
    )
    tile = evaluator.tile(range(n), range(n), False)
    for key in ("nngp", "ntk"):
        # Entries that were not computed stand in with their golden values.
        value = golden.values[key].copy()
        value[:n, :n] = tile[key]
        assert_matches(golden, key, value, "float64")
