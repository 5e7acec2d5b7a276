"""Activations whose Hermite series would be too long: mixtures of error functions, or a refusal."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mpmath
import numpy as np
import pytest

import widegram
from activation_oracles import SERIES, Oracle
from cli_support import run
from jobs import job
from widegram import activations
from widegram.activations.hermite import Series
from widegram.activations.mixture import Mixture
from widegram.computing.choosing import make_evaluator
from widegram.errors import WidegramError
from widegram.network import load_network

MIXED = [oracle for oracle in SERIES if oracle.name not in ("Mish", "Silu")]
TOLERANCES = {"float32": 1e-8, "float64": 1e-13}
Function = Callable[[np.ndarray], np.ndarray]


def graded(a: float, b: float, finest: float, order: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Gauss-Legendre on panels that halve towards both ends, down to ``finest``."""
    half = (b - a) / 2
    sizes = half * 2.0 ** -np.arange(0, max(1, np.ceil(np.log2(half / finest))))
    edges = np.concatenate([[a], a + sizes[::-1], b - sizes[1:], [b]])
    x, w = np.polynomial.legendre.leggauss(order)
    lo, hi = edges[:-1, None], edges[1:, None]
    return ((hi + lo + (hi - lo) * x) / 2).ravel(), ((hi - lo) * w / 2).ravel()


def mean_product(f: Function, q: float, c: float, q2: float) -> float:
    """E[f(u) f(v)] for f that changes on a scale of 1 near 0, at variances up to 1e6.

    In polar coordinates u vanishes at two angles and v at two more; what happens near 0 lies
    within 1 / (s r) of them, so that panels grow from there.
    """
    lean, turn = np.arccos(c), 2 * np.pi
    ends = np.sort(np.mod([turn / 4, 3 * turn / 4, lean + turn / 4, lean - turn / 4], turn))
    spans = [(a, b) for a, b in itertools.pairwise([*ends, ends[0] + turn]) if b - a > 1e-14]
    angles, weights = zip(*(graded(a, b, 1e-6) for a, b in spans), strict=True)
    t, t_weight = np.concatenate(angles), np.concatenate(weights) / turn
    small, large = graded(0.0, 0.5, 1e-5), graded(0.5, 13.0, 0.5, 24)
    r = np.concatenate([small[0], large[0]])
    r_weight = np.concatenate([small[1], large[1]]) * r * np.exp(-r * r / 2)
    u = np.sqrt(q) * np.outer(np.cos(t), r)
    v = np.sqrt(q2) * np.outer(np.cos(t - lean), r)
    return float(t_weight @ (f(u) * f(v)) @ r_weight)


def mean_square(f: Function, q: float) -> float:
    """E[f(u)^2] of the same f."""
    z, w = (np.concatenate(part) for part in zip(graded(0, 1, 1e-8), graded(1, 13, 1), strict=True))
    density = w * np.exp(-z * z / 2) / np.sqrt(2 * np.pi)
    s = np.sqrt(q)
    return float(density @ (f(s * z) ** 2 + f(-s * z) ** 2))


@pytest.mark.parametrize(("oracle", "dtype"), [
    # float32 asks for fewer terms of the same sums: with two of the activations.
    pytest.param(oracle, dtype, id=f"{dtype}-{oracle}",
                 marks=pytest.mark.slow if dtype == "float32" and n > 1 else ())
    for dtype in ("float32", "float64") for n, oracle in enumerate(MIXED)
])  # fmt: skip
def test_error_is_below_the_one_announced(oracle: Oracle, dtype: str) -> None:
    series = activations.get(oracle.name, oracle.params)
    assert isinstance(series, Series)
    rng = np.random.default_rng(5)
    largest = {"float32": 400.0, "float64": 3e5}[dtype]
    chosen = series.for_range(largest, TOLERANCES[dtype])
    assert isinstance(chosen, Mixture)
    assert chosen.tail < 1e-3
    for c in (-1.0, 0.3, 1 - 1e-6, 1.0):
        q, q2 = largest * 10.0 ** -rng.uniform(0, 4, 2)
        k = c * np.sqrt(q * q2)
        found = activations.Formula.moments(chosen, q, k, q2)
        for value, function in zip(found, (oracle.phi, oracle.slope), strict=True):
            size = np.sqrt(mean_square(function, q) * mean_square(function, q2))
            wanted = mean_product(function, q, c, q2)
            # 1e-9: the quadrature, and rounding of k: 2^-53 of 3e5, b = 1
            assert abs(float(value) - wanted) <= (chosen.tail + 1e-9) * size


@pytest.mark.parametrize("oracle", MIXED, ids=str)
def test_variances_at_any_size(oracle: Oracle) -> None:
    formula = activations.get(oracle.name, oracle.params)
    q = 10.0 ** np.arange(-10, 10, 3.0)
    for found, function in zip(formula.variance(q), (oracle.phi, oracle.slope), strict=True):
        # 1e-9: this quadrature, whose finest panel is 1e-8
        np.testing.assert_allclose(found, [mean_square(function, v) for v in q], rtol=1e-9)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("oracle", MIXED, ids=str)
def test_compiled(oracle: Oracle, dtype: str) -> None:
    """Images and vectors through the CPU backend, where a mixture is chosen."""
    layer = {"layer": oracle.name, **oracle.params}
    spec = {"input_shape": [2], "layers": [{"layer": "Dense"}, layer, {"layer": "Dense"}]}
    formula = activations.get(oracle.name, oracle.params)
    top = 80.0 if oracle.name in ("Tanh", "Arctan", "Softsign") else 900.0
    angles = np.array([0.0, 0.1, 1.0, 2.0, 3.14])
    y = np.sqrt(2 * top) * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    x = np.array([[np.sqrt(2 * top), 0.0]])
    x, y = (v.astype(dtype).astype(np.float64) for v in (x, y))
    evaluator = make_evaluator(
        "cpu",
        job(spec, x, y, dtype=dtype, threads=1, memory=2**30),
    )
    found = evaluator.tile(range(1), range(len(y)), False)
    q, k, q2 = (x**2).mean(), (x * y).mean(axis=1), (y**2).mean(axis=1)
    value, slope = formula.moments(q, k, q2)
    error = formula.for_range(top, TOLERANCES[dtype]).tail
    largest = [float(v[0]) for v in formula.variance(np.array([q]))]
    # rounding: eps times the variance, see LIMITS, and what a mixture misses
    error += 2e-5 if dtype == "float32" else 1e-11
    np.testing.assert_allclose(found["nngp"][0], value, rtol=0, atol=error * largest[0])
    size = largest[0] + q * largest[1]
    np.testing.assert_allclose(found["ntk"][0], value + k * slope, rtol=0, atol=error * size)


@pytest.mark.parametrize("act", ["tanh", "softsign", "arctan", "sigmoid", "gaussian", "elu"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_same_inputs_as_test_inputs(act: str, dtype: str) -> None:
    """The diagonal, which is exact, and the same pair computed as any other."""
    x = np.linspace(-31.4, 31.4, 12)[:, None]
    for net in (f"fcn:depth=1,act={act},w_var=2.25,b_var=0.01", f"fcn:depth=3,act={act}"):
        square = widegram.kernel(net, x, dtype=dtype)
        cross = widegram.kernel(net, x, x.copy(), dtype=dtype)
        for one, other in zip(square, cross, strict=True):
            # What is announced for kinks: 3e-4 a layer. Without: rounding of float32.
            error = 3e-4 if act in ("softsign", "elu") else 1e-5
            assert np.abs(one - other).max() <= error * np.abs(one).max()


@pytest.mark.parametrize("oracle", MIXED, ids=str)
@pytest.mark.parametrize("q", [1e-12, 1e-8, 1e-4])
def test_small_variances_keep_their_digits(oracle: Oracle, q: float) -> None:
    """Where a mixture serves large variances too: the noises are much wider than such inputs."""
    mixed = activations.get(oracle.name, oracle.params)
    assert isinstance(mixed, Series)
    mixed = mixed.for_range(1000.0, 1e-13)
    assert isinstance(mixed, Mixture)
    terms = mixed.terms
    c = np.array([0.1, 0.9, -0.1, -0.9])
    found, _ = activations.Formula.moments(mixed, q, c * q, q)
    wanted, other = [], []
    with mpmath.workdps(50):
        t = [mpmath.mpf(float(v)) for v in terms.t]
        odd, even = ([mpmath.mpf(float(v)) for v in part] for part in (terms.odd, terms.even))
        a = [mpmath.mpf(1) / (2 * v) for v in t]
        r = [mpmath.sqrt(q + v) for v in a]
        root = mpmath.sqrt(2 / mpmath.pi)
        line = mpmath.mpf(float(terms.linear))
        mean = mpmath.mpf(float(oracle.phi(np.zeros(1))[0]))
        mean += sum(root * v * (s - mpmath.sqrt(w)) for v, s, w in zip(even, r, a, strict=True))
        slope = sum(root * w / s for w, s in zip(odd, r, strict=True))
        for k in c[:2] * q:
            odd_part = k * (2 * line * (slope + line / 2))
            even_part = mean * mean
            # Of both orders of a pair; those of -k are what follows.
            for i, j in itertools.combinations_with_replacement(range(len(t)), 2):
                z, twice = k / (r[i] * r[j]), (1 + (i != j)) * 2 / mpmath.pi
                angle = mpmath.asin(z)
                odd_part += twice * odd[i] * odd[j] * angle
                arch = z * angle + mpmath.sqrt(1 - z * z) - 1
                even_part += twice * even[i] * even[j] * r[i] * r[j] * arch
            wanted.append(float(even_part + odd_part))
            other.append(float(even_part - odd_part))
    wanted += other
    # rounding of some hundred terms of both signs
    np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-13 * max(np.abs(wanted)))


@pytest.mark.parametrize("oracle", MIXED, ids=str)
def test_zero_variance(oracle: Oracle) -> None:
    """K = phi(0) E[phi(v)], exactly 0 where phi(0) is."""
    series = activations.get(oracle.name, oracle.params)
    chosen = series.for_range(1000.0, 1e-13)
    assert isinstance(chosen, Mixture)
    value, slope = activations.Formula.moments(chosen, 0.0, np.zeros(3), np.array([0.0, 1.0, 900]))
    at_zero = float(oracle.phi(np.zeros(1))[0])
    if at_zero == 0:
        np.testing.assert_array_equal(value, 0.0)
    else:
        assert value[0] == pytest.approx(at_zero**2, rel=1e-14)
    assert np.isfinite(slope).all()


def test_images(tmp_path: Path) -> None:
    """Pooled and flat convolutional networks beside the dense reference."""
    x = 60 * np.random.default_rng(0).standard_normal((3, 4, 4, 2))
    for net in ("cnn-f:depth=2,act=tanh", "cnn-p:depth=1,act=arctan"):
        found = widegram.kernel(net, x, x + 1e-3)
        wanted = widegram.kernel(net, x, x + 1e-3, device="reference")
        for one, other in zip(found, wanted, strict=True):
            # two mixtures, announced 1e-8, of the same variances up to a factor of 2
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-7 * np.abs(other).max())


MISH = {"input_shape": [3], "layers": [{"layer": "Dense"}, {"layer": "Mish"}, {"layer": "Dense"}]}


def test_refused_unless_accepted(tmp_path: Path) -> None:
    x = 40 * np.random.default_rng(0).standard_normal((4, 3))
    message = (
        r"^layers\[1\] Mish: its Hermite series of 512 terms leaves out 0\.00\d+ of the values at "
        r"variances up to \S+; use smaller inputs or W_std, or accept that: "
        r"--accept-series-error 0\.00\d \(accept_series_error=\)$"
    )
    calls: list[Callable[..., Any]] = [
        lambda **more: widegram.kernel(MISH, x, **more),
        lambda **more: widegram.kernel(MISH, x, dtype="float32", **more),
        lambda **more: widegram.gram(MISH, x, tmp_path / "K.h5", overwrite=True, **more),
        lambda **more: widegram.stax.serial(
            widegram.stax.Dense(1), widegram.stax.Mish(), widegram.stax.Dense(1)
        )[2](x, **more),
    ]
    for call in calls:
        with pytest.raises(WidegramError, match=message):
            call()
        with pytest.raises(WidegramError, match=message):
            call(accept_series_error=2e-3)
        call(accept_series_error=0.1)
    with pytest.raises(WidegramError, match="accept_series_error -1: give a relative error"):
        widegram.kernel(MISH, x, accept_series_error=-1)


def test_refused_by_the_program(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", 25 * np.random.default_rng(0).standard_normal((4, 3)))
    out = tmp_path / "K.h5"
    command = ["gram", "--net", "fcn:depth=1,act=mish", "--x", tmp_path / "x.npy", "--out", out]
    refused = run(*command)
    assert refused.exit_code == 2
    assert "--accept-series-error 0.00" in refused.stderr
    assert not out.exists()
    accepted = run(*command, "--accept-series-error", "0.01")
    assert accepted.exit_code == 0
    assert run("verify", out).exit_code == 0


@pytest.mark.parametrize("largest", [1.0, 100.0])
@pytest.mark.parametrize("oracle", SERIES, ids=lambda oracle: oracle.name)
def test_a_covariance_that_rounding_put_beyond_the_variance(oracle: Oracle, largest: float) -> None:
    formula = activations.get(oracle.name, dict(oracle.params))
    assert isinstance(formula, Series)
    formula = formula.for_range(largest, 1e-8)
    q = np.array([largest])
    inside = formula.moments(q, q * (1 - 1e-9), q)
    # roundings of c in float64, in float32, and of sums in which much cancels
    for beyond in (1e-15, 1e-10, 1e-7, 1e-6):
        value, slope = formula.moments(q, q * (1 + beyond), q)
        # K moves by Kdot q d; Kdot of narrow steps by the root of it
        np.testing.assert_allclose(value, inside[0], rtol=1e-4)
        assert np.isfinite(slope).all()


def test_nearly_equal_inputs_behind_layer_norm() -> None:
    """Their variances are 1, their covariance may round to more than 1."""
    layers = [{"layer": "Dense"}, {"layer": "LayerNorm"}, {"layer": "Elu", "alpha": 0.38}]
    network = load_network({"input_shape": [3], "layers": layers})
    rng = np.random.default_rng(0)
    x = rng.standard_normal((16, 3))
    y = x * (1 + 3e-8 * rng.standard_normal(x.shape))
    for dtype in ("float64", "float32"):
        own = widegram.kernel(network, x, get="nngp", dtype=dtype, device="cpu")
        cross = widegram.kernel(network, x, y, get="nngp", dtype=dtype, device="cpu")
        np.testing.assert_allclose(np.diag(cross), np.diag(own), rtol=1e-4)
