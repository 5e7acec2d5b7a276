"""Inputs, layers, parameters and axes that are not those of channels-last images, against
neural-tangents, the reference, and on every backend."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import front_examples
from cuda_support import assert_equal, both
from network_specs import CONV, DENSE, FLATTEN, GAP, NORM, POOL, RELU, load, residual
from widegram import reference, stax
from widegram.backends.job import Job
from widegram.cpu import CpuEvaluator
from widegram.data import open_source
from widegram.network import Network

GOLDEN = Path(__file__).parent / "golden_front" / "values.npz"
ERF = {"layer": "Erf"}
Case = tuple[tuple[int, ...], list[dict[str, Any]]]


def normed(eps: float, axis: Any = -1) -> dict[str, Any]:
    return {**NORM, "eps": eps, "axis": axis}


SMALL = {**DENSE, "W_std": 1e-60}


def edges(rows: int, cols: int, strides: Any = (1, 1), padding: str = "SAME") -> dict[str, Any]:
    return {
        "layer": "AvgPool", "window_shape": [rows, cols], "strides": list(strides),
        "padding": padding, "normalize_edges": True,
    }  # fmt: skip


CASES: dict[str, Case] = {
    "edges": ((4, 5, 2), [CONV, RELU, edges(3, 2), CONV, ERF, edges(2, 3, (2, 2)), CONV, GAP]),
    "edges at the end": ((5, 4, 1), [CONV, RELU, edges(9, 3, (1, 2)), FLATTEN, DENSE]),
    "edges in a branch": ((4, 4, 1), [CONV, residual(RELU, edges(3, 3), CONV), RELU, GAP]),
    "edges that are norms' inputs": ((4, 5, 1), [CONV, edges(3, 3), normed(0.2, [1, 3]), RELU,
                                     CONV, RELU, GAP]),
    "eps": ((6,), [DENSE, normed(0.3), RELU, DENSE]),
    "eps of an image": ((4, 3, 2), [CONV, normed(0.1, [1, 2, 3]), ERF, CONV, RELU, GAP]),
    "eps behind a pool": ((4, 5, 1), [CONV, POOL, normed(2.0, [2, 3]), RELU, CONV, FLATTEN]),
    "eps of another order": ((4, 3, 2), [SMALL, CONV, RELU, CONV, normed(1e-121), RELU, CONV, GAP]),
}


def evaluated(case: Case, dtype: str, symmetric: bool) -> tuple[dict, dict]:
    """A tile by the CPU, and by the reference."""
    shape, layers = case
    rng = np.random.default_rng(3)
    x1, x2 = (open_source(rng.standard_normal((n, *shape))) for n in (3, 2))
    job = Job(
        network=load(shape, *layers), x1=x1, x2=None if symmetric else x2, kernels=("nngp", "ntk")
    )
    tile = range(3), range(3 if symmetric else 2), symmetric
    with CpuEvaluator(replace(job, dtype=dtype)) as evaluator:
        found = evaluator.tile(*tile)
    return found, reference.ReferenceEvaluator(job).tile(*tile)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_cpu_and_reference_agree(name: str, dtype: str) -> None:
    # relative to the largest entry: the promise of each dtype (docs/accuracy.md)
    tolerance = {"float64": 1e-10, "float32": 1e-5}[dtype]
    for symmetric in (False, True):
        assert_equal(*evaluated(CASES[name], dtype, symmetric), tolerance)


@pytest.mark.parametrize("name", CASES)
def test_generated_kernels_and_reference_agree(name: str) -> None:
    shape, layers = CASES[name]
    _, found, wanted = both({"input_shape": list(shape), "layers": layers})
    # some roundings of float64 per layer and pixel
    assert_equal(found, wanted, 1e-13)


@pytest.mark.parametrize("family", front_examples.FAMILIES)
def test_meets_neural_tangents(family: str) -> None:
    """Values of neural-tangents 0.6.5 (golden_front/README.md)."""
    golden = np.load(GOLDEN)
    found = front_examples.run(stax, [family])
    assert sorted(found) == [name for name in sorted(golden) if name.startswith(f"{family}/")]
    for name, value in found.items():
        wanted = golden[name]
        # Double precision on both sides; neural-tangents takes acos of covariances near their
        # variance, which turns 1e-16 of rounding into 1e-8 of an angle, times it in K.
        np.testing.assert_allclose(
            value, wanted, rtol=0, atol=1e-10 * abs(wanted).max(), err_msg=name
        )


@pytest.mark.parametrize("family", front_examples.FAMILIES)
def test_reference_meets_neural_tangents(family: str) -> None:
    golden = np.load(GOLDEN)
    for name, (_, _, kernel_fn), first, second in front_examples.FAMILIES[family](stax):
        x1, x2 = front_examples.inputs(name, 0, first), front_examples.inputs(name, 1, second)
        found = reference.kernel(kernel_fn.network(first[1:]), x1, x2)
        for kernel in ("nngp", "ntk"):
            # both in float64, up to eight layers
            np.testing.assert_allclose(
                getattr(found, kernel), golden[f"{family}/{name}/{kernel}"], rtol=1e-10
            )


class TestNetworksOfBefore:
    def test_a_default_is_not_written(self) -> None:
        plain = load((6,), DENSE, NORM)
        assert plain == load((6,), DENSE, normed(1e-12))
        assert plain.canonical()["layers"][1] == {"layer": "LayerNorm", "axis": [-1]}
        # of a network written before LayerNorm had an eps
        assert plain.fingerprint() == (
            "2e384f82b2698079ce2be4da0d65f304a2c0aa09308408e85b1311e478e399e0"
        )

    def test_another_value_is(self) -> None:
        network = load((6,), DENSE, normed(0.25))
        assert network.canonical()["layers"][1]["eps"] == 0.25
        assert Network(network.input_shape, network.layers) == network
        assert network.fingerprint() != load((6,), DENSE, NORM).fingerprint()
