"""The patch form of generated kernels: on the emulator against the reference, and its plan."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cuda_support import CHAIN, DENSE, GAP, RELU, WRAP, assert_equal, both, conv, pool
from jobs import job
from test_cuda_depths import FORMS
from virtual_card.devices import Emulated
from widegram.cuda.context import Context
from widegram.cuda.evaluator import CudaEvaluator
from widegram.cuda.patch_fit import Patch, choose, grouped
from widegram.cuda.source import source_of
from widegram.data import open_source
from widegram.network import load_network
from widegram.reference import ReferenceEvaluator

ERF, GELU, TANH, SOFTPLUS = ({"layer": name} for name in ("Erf", "Gelu", "Tanh", "Softplus"))
BRANCH = {"layer": "Residual", "branch": [RELU, conv()], "shortcut": []}
POOLS = [conv(), RELU, pool(), conv(), GELU, conv(1, 1), pool("SumPool"), conv(), RELU, GAP]

# name -> (input shape, layers, patch in float32, forms of its kernels)
NETWORKS: dict[str, tuple[list[int], list[dict], Patch, list[str]]] = {
    "four planes a warp": ([8, 8, 2], [*CHAIN, *CHAIN[:2], GAP], Patch(2, 4, 4, 2, 4, 2),
                           ["patch", "point"]),
    "circular": ([8, 8, 1], [WRAP, RELU, WRAP, ERF, GAP], Patch(2, 4, 4, 2, 4, 2),
                 ["patch", "point"]),
    "odd rows": ([10, 8, 1], [*CHAIN, GAP], Patch(5, 2, 2, 4, 4, 2), ["patch", "point"]),
    "circular, odd rows": ([10, 8, 1], [WRAP, RELU, GAP], Patch(5, 2, 2, 4, 4, 2),
                           ["patch", "point"]),
    "odd columns": ([8, 10, 1], [conv(), ERF, conv(), ERF, GAP], Patch(2, 5, 4, 2, 4, 2),
                    ["patch", "point"]),
    "one lane down": ([4, 16, 1], [*CHAIN, GAP], Patch(4, 2, 1, 8, 4, 2), ["patch", "point"]),
    "one pixel taps": ([8, 8, 1], [conv(), RELU, conv(1, 1), RELU, conv(), GAP, DENSE],
                       Patch(2, 4, 4, 2, 4, 2), ["patch", "point"]),
    "series": ([6, 4, 1], [conv(), SOFTPLUS, conv(), RELU, GAP], Patch(1, 2, 6, 2, 2, 6),
               ["patch", "point"]),
    "residual": ([8, 8, 1], [conv(), BRANCH, RELU, conv(), RELU, GAP], Patch(2, 4, 4, 2, 4, 2),
                 ["patch", "point"]),
    "pools": ([16, 8, 1], POOLS, Patch(4, 4, 4, 2, 4, 2), ["patch", "strip", "strip", "point"]),
}  # fmt: skip
# Rounding through a few layers, and a series cut at a tail of 1e-13; the contract's for float32.
TOLERANCE = {"float64": 1e-11, "float32": 1e-5}


def _patch(context: Context) -> Patch | None:
    """The patch of the first program."""
    return choose(context, context.plan.cross.programs[0])


# Each takes a second or more on the emulator.
QUICK = {
    ("four planes a warp", "float32"), ("circular, odd rows", "float64"),
    ("odd columns", "float64"), ("one lane down", "float64"), ("series", "float64"),
    ("residual", "float64"), ("pools", "float64"), ("pools", "float32"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        pytest.param(*case, marks=() if case in QUICK else pytest.mark.slow)
        for case in itertools.product(NETWORKS, TOLERANCE)
    ],
)
def test_operations(name: str, dtype: str) -> None:
    shape, layers, patch, forms = NETWORKS[name]
    spec = {"input_shape": shape, "layers": layers}
    evaluator, found, wanted = both(spec, dtype, (1, 1), forms=FORMS)
    if dtype == "float32":
        assert _patch(evaluator.source.context) == patch
        assert [kernel.form for kernel in evaluator.source.kernels] == forms
    assert_equal(found, wanted, TOLERANCE[dtype])


@pytest.mark.parametrize("name", ["circular", "pools"])
def test_nngp_alone(name: str) -> None:
    shape, layers, _, _ = NETWORKS[name]
    spec = {"input_shape": shape, "layers": layers}
    evaluator, found, wanted = both(spec, counts=(2, 1), get=("nngp",), forms=FORMS)
    assert evaluator.source.kernels[0].form == "patch"
    assert_equal(found, wanted, TOLERANCE["float64"])


def test_idle_lanes() -> None:
    spec = {"input_shape": [10, 12, 1], "layers": [*CHAIN, GAP]}
    evaluator, found, wanted = both(spec, counts=(1, 1), forms=FORMS)
    patch = _patch(evaluator.source.context)
    assert patch is not None
    assert patch.lanes * patch.side_by_side == 30
    assert_equal(found, wanted, TOLERANCE["float64"])


@pytest.mark.parametrize(("padding", "times"), [("SAME", 3), ("CIRCULAR", 2)])
def test_patches_of_eight_by_four(padding: str, times: int) -> None:
    body = {"layer": "Repeat", "times": times, "body": [conv(padding=padding), RELU]}
    spec = {"input_shape": [16, 16, 1], "layers": [body, GAP]}
    evaluator, found, wanted = both(spec, "float32", (1, 1), forms=FORMS)
    assert evaluator.source.kernels[0].pixels == 32
    assert_equal(found, wanted, TOLERANCE["float32"])


@pytest.mark.slow
@pytest.mark.parametrize("size", [28, 32])
def test_one_plane_a_warp(size: int) -> None:
    layers = [conv(), RELU, conv(), ERF, GAP]
    spec = {"input_shape": [size, size, 2], "layers": layers}
    evaluator, found, wanted = both(spec, "float32", (1, 1), forms=FORMS)
    assert evaluator.source.kernels[0].pixels == (32 if size == 32 else 28)
    assert_equal(found, wanted, TOLERANCE["float32"])


ACTIVATIONS = [RELU, ERF, GELU, {"layer": "LeakyRelu", "alpha": 0.3}, {"layer": "Sin"}]


@st.composite
def _fitting(draw: st.DrawFn) -> dict[str, Any]:
    """A network whose planes stay alike: one padding, no strides."""
    sides = [(8, 4), (4, 8), (6, 8), (8, 6), (8, 5), (7, 8), (4, 12), (2, 12), (6, 6)]
    padding = draw(st.sampled_from(["SAME", "CIRCULAR"]))
    act = st.sampled_from(ACTIVATIONS)

    def convolution() -> dict[str, Any]:
        size = draw(st.sampled_from([3, 3, 1]))
        std = st.floats(0.5, 2.0)
        return conv(size, size, padding=padding, W_std=draw(std), b_std=draw(st.floats(0.0, 0.5)))

    layers = [convolution()]
    for _ in range(draw(st.integers(1, 3))):
        block = [draw(act), convolution()]
        if draw(st.booleans()):
            block = [{"layer": "Residual", "branch": block, "shortcut": []}]
        layers += block
    return {
        "input_shape": [*draw(st.sampled_from(sides)), draw(st.integers(1, 3))],
        "layers": [*layers, draw(act), GAP, DENSE],
    }


@given(spec=_fitting(), get=st.sampled_from([("nngp",), ("nngp", "ntk")]))
@settings(max_examples=8, database=None, suppress_health_check=list(HealthCheck))
def test_random_networks(spec: dict[str, Any], get: tuple[str, ...]) -> None:
    network = load_network(spec)
    source = open_source(np.random.default_rng(3).standard_normal((2, *network.input_shape)))
    of = job(network, source, kernels=get)
    with CudaEvaluator(of, [Emulated()], forms=FORMS) as evaluator:
        found = evaluator.tile(range(2), range(2), True)
    wanted = ReferenceEvaluator(of).tile(range(2), range(2), True)
    # Kinks turn 1e-16 into its square root.
    assert_equal(found, wanted, 1e-7)


UNFIT: dict[str, tuple[list[int], list[dict]]] = {
    "strides": ([8, 8, 1], [conv(strides=[2, 2]), RELU, GAP]),
    "five by five": ([8, 8, 1], [conv(5, 5), RELU, GAP]),
    "two paddings": ([8, 8, 1], [conv(), RELU, WRAP, RELU, GAP]),
    "more pixels than lanes hold": ([64, 64, 1], [*CHAIN, GAP]),
    "more planes than registers hold": ([32, 32, 1], [conv(), BRANCH, RELU, GAP]),
    "a side without divisors": ([17, 17, 1], [*CHAIN, GAP]),
    "more factors than shared memory holds": ([32, 32, 1], [conv(), TANH, GAP]),
    "overlapping windows": ([8, 8, 1], [conv(), pool("AvgPool", 3, 2), conv(), GAP]),
}


@pytest.mark.parametrize("name", UNFIT)
def test_other_forms_take_what_does_not_fit(name: str) -> None:
    shape, layers = UNFIT[name]
    network = load_network({"input_shape": shape, "layers": layers})
    source = source_of(network)
    assert _patch(source.context) is None
    assert source.kernels[0].form in ("strip", "block")
    with pytest.raises(ValueError, match="none of the forms patch holds"):
        source_of(network, forms=("patch",))


def test_unknown_forms_are_named() -> None:
    network = load_network({"input_shape": [4, 4, 1], "layers": [*CHAIN, GAP]})
    with pytest.raises(ValueError, match="form 'patches': expected 'patch', 'strip' or 'block'"):
        source_of(network, forms=("patches",))


def test_displacements_of_a_block_leave_equal_remainders() -> None:
    patch = Patch(3, 2, 4, 4, 2, 5)
    base = np.argwhere(np.ones((12, 8)))
    base = base[np.random.default_rng(5).random(len(base)) < 0.6]
    table = grouped(base, patch)
    living = table[table[:, 2] == 1, :2]
    np.testing.assert_array_equal(living[np.lexsort(living.T[::-1])], base)
    for block in table.reshape(-1, patch.planes, 3):
        assert len(np.unique(block[:, :2] % (patch.rows, patch.columns), axis=0)) == 1
