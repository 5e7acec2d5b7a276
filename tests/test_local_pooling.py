"""Local average pooling: a pool of stride 1 in front of Flatten, one step of a plan."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from agreement import generated_agrees
from cuda_support import assert_equal
from network_specs import DENSE, FLATTEN, GAP, RELU, load
from widegram import reference
from widegram.backends.job import Job
from widegram.cpu import CpuEvaluator
from widegram.data import open_source
from widegram.errors import WidegramError
from widegram.network import Activation, Conv, Dense, Flatten, Pool, Repeat, load_network
from widegram.plan import build
from widegram.plan.counted import Counted
from widegram.plan.masks import displacements

GOLDEN = Path(__file__).parent / "golden_lap" / "values.npz"
REACHES = ((0, 0), (2, 2), (2, 3), (7, 7))


def conv(padding: str = "SAME", strides: tuple[int, int] = (1, 1), bias: float = 0.1) -> dict:
    return {
        "layer": "Conv", "filter_shape": [3, 3], "padding": padding, "strides": list(strides),
        "W_std": 1.4, "b_std": bias,
    }  # fmt: skip


def pool(rows: int, cols: int, kind: str = "AvgPool") -> dict:
    return {"layer": kind, "window_shape": [rows, cols], "padding": "SAME"}


CASES: dict[str, tuple[tuple[int, int, int], list[dict]]] = {
    "odd": ((6, 7, 2), [conv(), RELU, conv(), RELU, pool(5, 7), FLATTEN, DENSE]),
    "even windows": ((6, 6, 1), [conv(), RELU, pool(6, 8), FLATTEN]),
    "beyond the image": ((3, 4, 1), [conv(), RELU, conv(), RELU, pool(17, 9), FLATTEN, DENSE]),
    "on a torus": ((6, 5, 1), [conv("CIRCULAR"), RELU, pool(5, 5, "SumPool"), FLATTEN, DENSE]),
    "behind strides": ((9, 12, 1), [conv(), RELU, conv("SAME", (1, 2)), RELU, pool(5, 5), FLATTEN]),
    "no activation behind": ((5, 5, 3), [conv(), pool(5, 5), FLATTEN, DENSE, RELU, DENSE]),
    "inputs alone": ((5, 6, 2), [pool(5, 5), FLATTEN, DENSE, {"layer": "Erf"}, DENSE]),
    "one pixel": ((1, 1, 3), [conv(), RELU, pool(5, 5), FLATTEN, DENSE]),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_cpu_and_reference_agree(name: str, dtype: str) -> None:
    shape, layers = CASES[name]
    rng = np.random.default_rng(3)
    x1, x2 = (open_source(rng.standard_normal((n, *shape))) for n in (3, 2))
    # relative to the largest entry: the promise of each dtype (docs/accuracy.md)
    tolerance = {"float64": 1e-10, "float32": 1e-5}[dtype]
    for second, cols in ((x2, range(2)), (None, range(3))):
        job = Job(network=load(shape, *layers), x1=x1, x2=second, kernels=("nngp", "ntk"))
        dense = reference.ReferenceEvaluator(job)
        with CpuEvaluator(replace(job, dtype=dtype)) as evaluator:
            found = evaluator.tile(range(3), cols, second is None)
            own = evaluator.diagonal(range(3))
        assert_equal(found, dense.tile(range(3), cols, second is None), tolerance)
        assert_equal(own, dense.diagonal(range(3)), 1e-10)  # from float64 in either dtype


@pytest.mark.parametrize("name", CASES)
def test_generated_kernels_and_reference_agree(name: str) -> None:
    generated_agrees(*CASES[name])


@pytest.mark.parametrize("reach", REACHES)
def test_neural_tangents_is_met(reach: tuple[int, int]) -> None:
    """Values of neural-tangents 0.6.5 (golden_lap/README.md)."""
    golden = np.load(GOLDEN)
    window = [] if reach == (0, 0) else [pool(*(2 * c + 1 for c in reach))]
    end = {"layer": "Dense", "W_std": 1.2, "b_std": 0.3}
    x1, x2 = golden["x1"], golden["x2"]
    job = Job(
        network=load(x1.shape[1:], conv(), RELU, conv(), RELU, *window, FLATTEN, end),
        x1=open_source(x1), x2=open_source(x2), kernels=("nngp", "ntk"),
    )  # fmt: skip
    with CpuEvaluator(job) as evaluator:
        found = evaluator.tile(range(len(x1)), range(len(x2)), False)
    dense = reference.ReferenceEvaluator(job).tile(range(len(x1)), range(len(x2)), False)
    for kernel in ("nngp", "ntk"):
        wanted = golden[f"{reach[0]},{reach[1]}/{kernel}"]
        # all in float64, five layers
        np.testing.assert_allclose(dense[kernel], wanted, rtol=1e-11)
        np.testing.assert_allclose(found[kernel], wanted, rtol=1e-11)


@pytest.mark.parametrize("c", [2, 3])
def test_no_displacement_is_computed_beyond_those_of_one_window(c: int) -> None:
    plan = build(load_network(f"cnn-lap:depth=2,c={c}", (9, 11, 1)))
    computed = {tuple(d) for mask in plan.cross.masks[:5] for d in displacements(mask)}
    reach = range(-2 * c, 2 * c + 1)
    assert computed == {(y, x) for y in reach for x in reach}
    assert plan.bytes_per_pair(8) < build(load_network("cnn-p", (9, 11, 1))).bytes_per_pair(8)


def test_counts_are_those_of_windows() -> None:
    counted = Counted(True, 1.0, (5, 8), (2, 3), (6, 9))
    for axis, size in enumerate((6, 9)):
        windows = np.arange(size)[:, None] - counted.lo[axis] + np.arange(counted.window[axis])
        holds = np.array([[p in window for p in range(size)] for window in windows.tolist()])
        np.testing.assert_array_equal(counted.counts(size, axis), holds.T.astype(float) @ holds)


def test_small_and_strided_pools_stay_as_they_were() -> None:
    kept = [
        pool(4, 9), pool(5, 5) | {"strides": [2, 1]}, pool(5, 5) | {"padding": "VALID"},
        pool(5, 5) | {"padding": "CIRCULAR"}, pool(5, 5) | {"normalize_edges": True},
    ]  # fmt: skip
    for layer in kept:
        plan = build(load((9, 9, 1), conv(), RELU, layer, FLATTEN))
        assert not any(isinstance(node.operation, Counted) for node in plan.nodes)
    plan = build(load((9, 9, 1), conv(), RELU, pool(5, 5), conv(), RELU, GAP))
    assert not any(isinstance(node.operation, Counted) for node in plan.nodes)


def test_preset() -> None:
    he = math.sqrt(2.0)
    block = (Conv((3, 3), padding="SAME", W_std=he), Activation("Relu"))
    for c, pools in ((0, ()), (4, (Pool("avg", (9, 9), padding="SAME"),))):
        network = load_network(f"cnn-lap:depth=5,c={c}", (8, 8, 3))
        assert network.layers == (Repeat(5, block), *pools, Flatten(), Dense(he))


@pytest.mark.parametrize(
    ("options", "message"),
    [("c=-1", "c must be >= 0"), ("c=x", "c must be an integer"), ("c=1e9", "c must be an integer"),
     ("c=1000000", "c must be at most 10,000")],
)  # fmt: skip
def test_bad_reach(options: str, message: str) -> None:
    with pytest.raises(WidegramError, match=message):
        load_network(f"cnn-lap:{options}", (8, 8, 3))
