"""Networks of vectors on the CPU: more inputs and features than one region and chunk hold."""

from __future__ import annotations

import itertools
from contextlib import nullcontext
from unittest import mock

import numpy as np
import pytest

from jobs import job
from widegram import reference
from widegram.backends import readout
from widegram.cpu import CpuEvaluator, vector_tiles
from widegram.cpu.driver.fields import REGION
from widegram.cpu.kernels.inner_ir import CHUNK
from widegram.data import open_source
from widegram.network import load_network

BOTH = ("nngp", "ntk")
FEATURES = 2 * CHUNK + 37
INPUTS = 2 * REGION[0] + 32  # whole blocks of lanes in both precisions
NETWORK = load_network(
    {
        "input_shape": [FEATURES],
        "layers": [
            {"layer": "Dense", "W_std": 1.5, "b_std": 0.1},
            {
                "layer": "Residual",
                "branch": [{"layer": "Relu"}, {"layer": "Dense"}],
                "shortcut": [],
            },
            {"layer": "Erf"},
            {"layer": "Dense"},
        ],
    }
)


def inputs(n: int, seed: int = 3) -> np.ndarray:
    """Random vectors; some zero, some equal, some nearly parallel, far from each other in order."""
    x = np.random.default_rng(seed).standard_normal((n, FEATURES))
    x[n // 2] = 0
    x[-1], x[-2] = x[0], (1 + 1e-6) * x[1]
    return x


def evaluator(
    x: np.ndarray,
    y: np.ndarray | None = None,
    dtype: str = "float64",
    threads: int = 2,
    memory: int = 2**30,
) -> CpuEvaluator:
    second = None if y is None else open_source(y)
    return CpuEvaluator(job(NETWORK, x, second, dtype=dtype, threads=threads, memory=memory))


def whole(x: np.ndarray, y: np.ndarray | None = None, **options: object) -> dict[str, np.ndarray]:
    columns = range(len(x if y is None else y))
    return evaluator(x, y, **options).tile(range(len(x)), columns, y is None)


# float32: the contract's 1e-5, near c = 1 1e-4; float64: rounding 2e-16 of c between nearly
# parallel inputs is 1e-8 in the angle.
TOLERANCE = {"float32": (1e-5, 1e-4), "float64": (1e-12, 1e-7)}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n", [5, INPUTS, INPUTS - 3])
def test_values_are_the_references(n: int, dtype: str) -> None:
    x, y = inputs(n), inputs(n - 2, 4)
    y[1] = x[2] * (1 + 1e-9)
    for second in (None, y):
        wanted, found = reference.kernel(NETWORK, x, second), whole(x, second, dtype=dtype)
        for key in BOTH:
            value = getattr(wanted, key)
            error = np.abs(found[key] - value) / np.abs(value).max()
            far, near = TOLERANCE[dtype]
            assert np.median(error) <= far / 10
            assert (error > far).sum() <= 8  # the few nearly parallel pairs
            assert error.max() <= near


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n", [INPUTS, INPUTS - 3])
def test_every_way_gives_the_same_bits(n: int, dtype: str) -> None:
    x = inputs(n)
    own = whole(x, dtype=dtype)
    other = ~np.eye(n, dtype=bool)
    for key in BOTH:
        np.testing.assert_array_equal(own[key], own[key].T)
    # the diagonal of the symmetric matrix comes from elsewhere
    for options in ({"threads": 1}, {"threads": 3}):
        again = whole(x, x.copy(), dtype=dtype, **options)
        for key in BOTH:
            np.testing.assert_array_equal(own[key][other], again[key][other])
    parts = evaluator(x, dtype=dtype)
    cuts = [range(17), range(17, 160), range(160, n)]
    for rows, cols in itertools.combinations_with_replacement(cuts, 2):
        part = parts.tile(rows, cols, True)
        for key in BOTH:
            np.testing.assert_array_equal(own[key][np.ix_(rows, cols)], part[key])


def test_inputs_that_do_not_fit_into_memory() -> None:
    x = inputs(INPUTS)
    memory = 4 * 2**20  # a quarter of it is for inputs, half of that for all of them packed
    assert x.nbytes > memory // 8
    few, much = whole(x, memory=memory), whole(x)
    for key in BOTH:
        np.testing.assert_array_equal(few[key], much[key])


def test_equal_inputs_in_double_precision() -> None:
    """Inner products and mean squares are the same sums, so that c = 1 exactly."""
    x = inputs(40)
    own, cross = whole(x), whole(x, x.copy())
    for key in BOTH:
        # a few roundings of numbers of order one
        error = np.abs(np.diag(own[key]) - np.diag(cross[key])) / np.abs(own[key]).max()
        assert error.max() <= 1e-14


def test_one_kernel_and_progress() -> None:
    x, y = inputs(40), inputs(24, 5)
    done: list[int] = []
    alone = CpuEvaluator(job(NETWORK, x, y, kernels=("nngp",), threads=2))
    found = alone.tile(range(3, 40), range(24), False, done.append)
    assert list(found) == ["nngp"]
    assert sum(done) == 37 * 24
    # products may be contracted differently where T is not carried
    both = whole(x, y)["nngp"][3:]
    np.testing.assert_allclose(found["nngp"], both, rtol=0, atol=1e-13 * np.abs(both).max())


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("n", [INPUTS, INPUTS - 3, 1])
def test_bounds_hold_all_values(n: int, symmetric: bool) -> None:
    rng = np.random.default_rng(6)
    x, y = rng.standard_normal((2, n, FEATURES))
    made = evaluator(x, None if symmetric else y)
    *values, _, bounds = made._tiles.tile(range(n), range(n), symmetric, None)
    wanted = ~np.eye(n, dtype=bool) if symmetric else np.ones((n, n), dtype=bool)
    for number, value in enumerate(values):
        some = value[0, :, :n][wanted]
        low, high = bounds[:, number, 0]
        if not symmetric:
            assert (low, high) == (some.min(), some.max())
        assert (some >= low).all()
        assert (some <= high).all()


@pytest.mark.parametrize("known", [True, False])
def test_values_within_bounds_are_not_looked_at_again(known: bool) -> None:
    x = np.random.default_rng(7).standard_normal((40, 9))
    network = load_network("fcn:depth=2", (9,))  # all kernels of ReLU are positive
    unknown = mock.patch.object(vector_tiles, "_bounds", return_value=np.full((2, 2, 1), np.nan))
    look = mock.patch.object(readout, "check_finite")
    with nullcontext() if known else unknown, look as looked, CpuEvaluator(job(network, x)) as made:
        made.tile(range(40), range(40), True)
    assert looked.called is not known
