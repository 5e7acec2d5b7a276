"""Inputs that are equal, nearly parallel or nearly opposite: in float32 deep networks, and in both
dtypes where they are equal."""

from __future__ import annotations

import math

import numpy as np
import pytest

from jobs import job
from network_specs import DENSE, DROPOUT, FLATTEN, GAP, RELU, load, residual
from virtual_card.devices import Emulated
from widegram import kernel, reference
from widegram.backends.equal import digests, equal_pairs
from widegram.backends.rounded import Rounded
from widegram.computing.choosing import make_evaluator
from widegram.cpu import CpuEvaluator
from widegram.cuda.evaluator import CudaEvaluator
from widegram.data import open_source
from widegram.network import Network, load_network
from widegram.plan import build
from widegram.plan.angles import FARTHEST, NEAREST
from widegram.plan.closeness import nearest_held
from widegram.plan.formulas import choose_formulas
from widegram.plan.precision import DoubleNeeded

BOTH = ("nngp", "ntk")
LARGE = {"layer": "Conv", "filter_shape": [9, 8], "padding": "SAME", "b_std": 0.3}
POOL = {"layer": "AvgPool", "window_shape": [3, 2], "padding": "CIRCULAR"}
# What is promised between nearly equal inputs in float32, relative to the largest entry.
PROMISE = 1e-4

NETWORKS = {
    "large windows": load((7, 8, 2), LARGE, RELU, LARGE, RELU, LARGE, RELU, GAP, DENSE),
    "flattened": load((7, 8, 2), LARGE, RELU, LARGE, {"layer": "Abs"}, FLATTEN, DENSE),
    "pools": load((7, 8, 2), LARGE, POOL, residual(POOL, LARGE), RELU, GAP, DENSE, RELU),
    "vectors": load((150,), DENSE, RELU, DENSE, {"layer": "LayerNorm"}, RELU, DENSE),
}


def inputs(network: Network, n: int = 4) -> np.ndarray:
    return np.random.default_rng(3).standard_normal((n, *network.input_shape))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", NETWORKS)
def test_equal_inputs_have_the_kernel_of_one_with_itself(name: str, dtype: str) -> None:
    network = NETWORKS[name]
    x = inputs(network)
    own = kernel(network, x, dtype=dtype, device="cpu")
    cross = kernel(network, x, x[::-1].copy(), dtype=dtype, device="cpu")
    twice = kernel(network, np.concatenate([x, x]), dtype=dtype, device="cpu")
    for key in BOTH:
        diagonal = np.diag(getattr(own, key))
        np.testing.assert_array_equal(np.diag(getattr(cross, key)[:, ::-1]), diagonal)
        np.testing.assert_array_equal(np.diag(getattr(twice, key)[:4, 4:]), diagonal)
        np.testing.assert_array_equal(getattr(twice, key), getattr(twice, key).T)


def test_equal_inputs_in_different_tiles() -> None:
    network = NETWORKS["pools"]
    x = inputs(network)
    x = x[[0, 1, 0, 2, 3, 0, 1]]
    evaluator = CpuEvaluator(job(network, x, threads=1))
    whole = evaluator.tile(range(7), range(7), True)
    part = evaluator.tile(range(3), range(3, 7), True)
    for key in BOTH:
        np.testing.assert_array_equal(whole[key][:3, 3:], part[key])
        assert len({whole[key][i, j] for i in (0, 2, 5) for j in (0, 2, 5)}) == 1


def test_dropout_treats_equal_inputs_apart() -> None:
    network = load((5,), DENSE, RELU, DROPOUT, DENSE)
    x = inputs(network)
    own, cross = kernel(network, x, device="cpu"), kernel(network, x, x.copy(), device="cpu")
    wanted = reference.kernel(network, x, x.copy())
    for key in BOTH:
        # Kept at a rate of one half: the diagonal is larger.
        assert (np.diag(getattr(own, key)) > 1.1 * np.diag(getattr(cross, key))).all()
        # a rounding of c = 1, as an angle
        np.testing.assert_allclose(getattr(cross, key), getattr(wanted, key), rtol=1e-6)


def test_digests_tell_inputs_apart_by_their_numbers() -> None:
    x = np.array([[0.0, 1.0], [-0.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
    y = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1 + 2**-52]])
    found = equal_pairs(digests(x), digests(y))
    assert found.tolist() == [[0, 1], [1, 1], [2, 0], [3, 1]]
    assert equal_pairs(digests(x[:2]), digests(y[2:])).shape == (0, 2)


def pairs_at(angle: float, features: int = 40, n: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Inputs of mean square 1, and others ``angle`` away from them."""
    rng = np.random.default_rng(5)
    x, z = np.linalg.qr(rng.standard_normal((features, 2 * n)))[0].T.reshape(2, n, features)
    y = np.cos(angle) * x + np.sin(angle) * z
    return x * features**0.5, y * features**0.5


def deep(act: str, depth: int, w_var: float, b_var: float = 0.0) -> Network:
    return load_network(f"fcn:depth={depth},act={act},w_var={w_var},b_var={b_var}", (40,))


DEEP = {
    "relu": deep("relu", 30, 2.0),
    "relu, 100 layers": deep("relu", 100, 2.0),
    "abs": deep("abs", 30, 1.0),
    "erf, chaotic": deep("erf", 30, 3.0, 0.05),
    "rbf": deep("rbf", 10, 1.0, 0.1),
}


@pytest.mark.parametrize("name", DEEP)
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_float32_keeps_its_promise_between_close_inputs(name: str, sign: float) -> None:
    network = DEEP[name]
    for angle in (0.0, 1e-5, 5e-4, 2e-3, 1e-2, 5e-2, 0.2):
        x, y = pairs_at(angle)
        x, y = x.astype(np.float32), (sign * y).astype(np.float32)
        wanted = kernel(network, x.astype(float), y.astype(float), device="cpu")
        own = kernel(network, x.astype(float), device="cpu")
        found = kernel(network, x, y, dtype="float32", device="cpu")
        for key in BOTH:
            error = np.abs(getattr(found, key) - getattr(wanted, key)).max()
            assert error <= PROMISE * np.abs(getattr(own, key)).max(), (angle, key)


def held(network: Network) -> float:
    plan = build(network, BOTH, None, "float32")
    return nearest_held(plan, choose_formulas(plan, 1.0, "float32", math.inf), 1.0)


def test_deep_kinked_and_chaotic_networks_need_inputs_farther_apart() -> None:
    relu = [held(deep("relu", depth, 2.0)) for depth in (1, 10, 30, 100)]
    assert relu[0] == NEAREST
    assert relu == sorted(relu)
    assert 0.1 < relu[-1] < FARTHEST
    assert held(deep("erf", 30, 1.25, 0.05)) == NEAREST  # ordered: differences shrink
    assert held(deep("erf", 30, 3.0, 0.05)) > 10 * NEAREST  # chaotic: they grow
    # what is left of an angle by LayerNorm and Dropout
    assert held(load((4,), DENSE, {"layer": "LayerNorm"}, RELU, DROPOUT, DENSE)) == NEAREST
    # pixels of images go through the same operations
    layers = [{"layer": "Conv", "filter_shape": [3, 3], "W_std": 2**0.5, "padding": "SAME"}, RELU]
    image = load((4, 4, 1), *layers * 30, GAP, {"layer": "Dense", "W_std": 2**0.5})
    assert held(image) == held(deep("relu", 30, 2.0))


def arc(n: int, length: float) -> np.ndarray:
    """Inputs on an arc of a circle."""
    angle = np.linspace(0, length, n)
    return np.sqrt(2) * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def test_data_of_many_close_pairs_is_computed_in_float64_and_rounded() -> None:
    spec = {**deep("relu", 30, 2.0).canonical(), "input_shape": [2]}
    network, x = load_network(spec), arc(300, 0.5).astype(np.float32)

    def made(x: np.ndarray, dtype: str = "float32"):
        request = job(network, x, dtype=dtype, threads=1)
        return make_evaluator("cpu", request)

    close, few = made(x), made(arc(20, 0.5).astype(np.float32))
    assert isinstance(close, Rounded)
    assert isinstance(few, CpuEvaluator)
    wide = made(x, "float64").tile(range(8), range(8, 16), True)
    for key, value in close.tile(range(8), range(8, 16), True).items():
        np.testing.assert_array_equal(value, wide[key].astype(np.float32))
    with pytest.raises(DoubleNeeded, match=r"of inputs less than 0\.04 apart .*% of the pairs are"):
        CpuEvaluator(job(network, x, dtype="float32", threads=1))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("own", [True, False], ids=["own", "cross"])
def test_a_card_takes_equal_and_close_inputs_from_the_cpu(dtype: str, own: bool) -> None:
    image = {"layer": "Conv", "filter_shape": [3, 3], "padding": "SAME", "W_std": 1.4}
    network = load((4, 3, 1), image, POOL, residual(POOL, image), RELU, GAP, DENSE)
    x = inputs(network)[[0, 1, 0, 2]]
    x[3] = x[1] * (1 + 1e-4 * x[2])
    second = None if own else open_source(x)
    made = CudaEvaluator(job(network, x, second, dtype=dtype), [Emulated()])
    found = made.tile(range(4), range(4), own)
    wanted = kernel(network, x, None if own else x, dtype=dtype, device="cpu")
    # rounding of the general pairs in another order
    rtol = {"float64": 1e-12, "float32": 1e-5}[dtype]
    for key, value in found.items():
        np.testing.assert_allclose(value, getattr(wanted, key), rtol=rtol)
        assert value[0, 0] == value[0, 2] == value[2, 0] == getattr(wanted, key)[0, 2]
