"""Closed forms at variances from 1e-12 to 1e12 and c from -1 to 1, against 60 digits."""

from __future__ import annotations

from collections.abc import Callable

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs import job
from widegram import activations
from widegram.computing.choosing import make_evaluator
from widegram.network import load_network

Number = mpmath.mpf
Pair = tuple[Number, Number]
Exact = Callable[[Number, Number, Number], Pair]
DIGITS = 60
EPS = {"float64": 2.0**-53, "float32": 2.0**-24}


def _wave(a: float, b: float, c: float) -> Callable[[Number, Number, Number], Pair]:
    def found(q: Number, k: Number, q2: Number) -> Pair:
        square, half = Number(b) ** 2, Number(a) ** 2 / 2
        near, far = (mpmath.exp(-square * (q + q2 - 2 * s * k) / 2) for s in (1, -1))
        turn = mpmath.cos(2 * Number(c))
        return half * (near - turn * far), half * square * (near + turn * far)

    return found


def _cosine(a: float, b: float, c: float) -> Callable[[Number, Number, Number], Pair]:
    def found(q: Number, k: Number, q2: Number) -> Pair:
        square, half = Number(b) ** 2, Number(a) ** 2 / 2
        near, far = (mpmath.exp(-square * (q + q2 - 2 * s * k) / 2) for s in (1, -1))
        turn = mpmath.cos(2 * Number(c))
        return half * (near + turn * far), half * square * (near - turn * far)

    return found


def _rbf(gamma: float) -> Callable[[Number, Number, Number], Pair]:
    def found(q: Number, k: Number, q2: Number) -> Pair:
        value = mpmath.exp(-Number(gamma) * (q + q2 - 2 * k))
        return value, 2 * Number(gamma) * value

    return found


def _erf(a: float, b: float, c: float) -> Callable[[Number, Number, Number], Pair]:
    def found(q: Number, k: Number, q2: Number) -> Pair:
        square = 2 * Number(b) ** 2
        product = (1 + square * q) * (1 + square * q2)
        value = 2 / mpmath.pi * mpmath.asin(square * k / mpmath.sqrt(product))
        slope = 2 / mpmath.pi * square / mpmath.sqrt(product - (square * k) ** 2)
        return Number(a) ** 2 * value + Number(c) ** 2, Number(a) ** 2 * slope

    return found


def _gelu(q: Number, k: Number, q2: Number) -> Pair:
    product = (1 + q) * (1 + q2)
    rest = mpmath.sqrt(product - k * k)
    angle = mpmath.asin(k / mpmath.sqrt(product))
    shared = q * q2 * (product - k * k) + k * k
    value = k / 4 + (k * angle + shared / (product * rest)) / (2 * mpmath.pi)
    # dK/dk of the above, by hand
    lean = k / rest * (1 + 1 / rest**2 + (1 - q * q2) / product)
    return value, mpmath.mpf(1) / 4 + (angle + lean) / (2 * mpmath.pi)


def _gaussian(a: float = 1, b: float = -1) -> Exact:
    def found(q: Number, k: Number, q2: Number) -> Pair:
        double, square = 2 * Number(b), Number(a) ** 2
        rest = (1 - double * q) * (1 - double * q2) - (double * k) ** 2
        return square / mpmath.sqrt(rest), square * double**2 * k / rest**1.5

    return found


def _gabor(q: Number, k: Number, q2: Number) -> Pair:
    """(E[exp(-u^2 - v^2) cos(u - v)] - E[exp(-u^2 - v^2) cos(u + v)]) / 2 and dK/dk, by hand."""
    rest, value, slope = (1 + 2 * q) * (1 + 2 * q2) - 4 * k * k, Number(0), Number(0)
    for s in (1, -1):
        part = (1 + q + q2 + 2 * s * k) / rest
        lean = (2 * s + 8 * k * part) / rest
        wave = s * mpmath.exp((part - 1) / 2) / (2 * mpmath.sqrt(rest))
        value, slope = value + wave, slope + wave * (lean / 2 + 4 * k / rest)
    return value, slope


def _exp_normalized(gamma: float = 1, shift: float = -1) -> Exact:
    def found(q: Number, k: Number, q2: Number) -> Pair:
        size = mpmath.sqrt(q * q2)
        part = mpmath.exp(Number(gamma) * (k / size + Number(shift)))
        return size * part, Number(gamma) * part

    return found


def _polynomial(*coef: float) -> Exact:
    """From E[x^n h_l(x / s)], l = n - 2 i."""

    def found(q: Number, k: Number, q2: Number) -> Pair:
        def term(l: int, q: Number) -> Number:
            total = Number(0)
            for i, n in enumerate(range(l, len(coef), 2)):
                size = mpmath.factorial(n) / (2**i * mpmath.factorial(i))
                total += Number(coef[n]) * size * q**i
            return total

        products = [term(l, q) * term(l, q2) / mpmath.factorial(l) for l in range(len(coef))]
        slopes = (l * p * k ** (l - 1) for l, p in enumerate(products) if l)
        return sum(p * k**l for l, p in enumerate(products)), sum(slopes, Number(0))

    return found


def _power(degree: int) -> Exact:
    return _polynomial(*[0.0] * degree, 1.0)


def _hermite(degree: int) -> Exact:
    return lambda q, k, q2: (k**degree, degree * k ** (degree - 1))


def _rectified(degree: int) -> Exact:
    """(q q')^(n/2) J_n / (2 pi), J_n' = n^2 J_(n-1) in c; J_0, J_1, J_2, J_3 of Cho and Saul."""

    def angular(n: int, c: Number) -> Number:
        t, s = mpmath.pi - mpmath.acos(c), mpmath.sqrt(1 - c * c)
        if n < 2:
            return s + t * c if n else t
        return 3 * s * c + t * (1 + 2 * c * c) if n == 2 else (
            4 * s**3 + 15 * s * c * c + t * (9 * s * s * c + 15 * c**3)
        )  # fmt: skip

    def found(q: Number, k: Number, q2: Number) -> Pair:
        size = mpmath.sqrt(q * q2)
        c = max(Number(-1), min(Number(1), k / size))
        parts = [
            m * size**n * angular(n, c) / (2 * mpmath.pi)
            for n, m in ((degree, 1), (degree - 1, degree**2))
        ]
        return parts[0], parts[1]

    return found


# name, parameters, (q, k, q') -> (K, Kdot), and b^2: the inverse of the variance on whose scale
# the slope of phi changes.
CASES = [
    ("Sin", {}, _wave(1, 1, 0), 1.0),
    ("Sin", {"a": 1.3, "b": 0.6, "c": -0.9}, _wave(1.3, 0.6, -0.9), 0.36),
    ("Cos", {}, _cosine(1, 1, 0), 1.0),
    ("Cos", {"a": -0.7, "b": 1.4, "c": 0.5}, _cosine(-0.7, 1.4, 0.5), 1.96),
    ("Rbf", {"gamma": 0.3}, _rbf(0.3), 0.6),
    ("Erf", {}, _erf(1, 1, 0), 1.0),
    ("Erf", {"a": -0.8, "b": 1.7, "c": 0.4}, _erf(-0.8, 1.7, 0.4), 2.89),
    ("Gelu", {}, _gelu, 0.5),
    ("Gaussian", {}, _gaussian(), 1.0),
    ("Gaussian", {"a": 1.3, "b": -0.4}, _gaussian(1.3, -0.4), 0.4),
    ("Gabor", {}, _gabor, 4.0),
    ("ExpNormalized", {}, _exp_normalized(), 0.0),
    ("ExpNormalized", {"gamma": 2.5, "shift": 0.2}, _exp_normalized(2.5, 0.2), 0.0),
    *[("Monomial", {"degree": n}, _power(n), 0.0) for n in (0, 2, 3)],
    *[("Hermite", {"degree": n}, _hermite(n), 0.0) for n in (2, 3)],
    *[("RectifiedMonomial", {"degree": n}, _rectified(n), 0.0) for n in (2, 3)],
    ("Polynomial", {"coef": (0.3, -1.0, 0.5, 0.25)}, _polynomial(0.3, -1.0, 0.5, 0.25), 0.0),
]
IDS = ["-".join([name, *map(str, params.values())]) for name, params, *_ in CASES]
by_case = pytest.mark.parametrize(("name", "params", "exact", "square"), CASES, ids=IDS)
CORRELATIONS = [-1.0, -1 + 1e-9, -0.5, 0.0, 0.3, 1 - 1e-3, 1 - 1e-6, 1 - 1e-9, 1.0]


def wanted(exact: Callable, q: float, k: float, q2: float) -> tuple[float, float]:
    """The exact pair of these very numbers; k is held where a covariance can be."""
    with mpmath.workdps(DIGITS):
        q, k, q2 = (Number(float(v)) for v in (q, k, q2))
        most = mpmath.sqrt(q * q2)
        value, slope = exact(q, max(-most, min(most, k)), q2)
        return float(value), float(slope)


@by_case
@settings(max_examples=40)
@given(
    logs=st.tuples(st.floats(-12, 12), st.floats(-3, 3)),
    c=st.sampled_from(CORRELATIONS),
)
def test_moments(
    name: str, params: dict, exact: Callable, square: float, logs: tuple, c: float
) -> None:
    q = 10.0 ** logs[0]
    q2 = q * 10.0 ** logs[1]
    k = c * np.sqrt(q * q2)
    formula = activations.get(name, params)
    found = [float(v) for v in formula.moments(q, k, q2)]
    value, slope = wanted(exact, q, k, q2)
    both = wanted(exact, q, q, q), wanted(exact, q2, q2, q2)
    sizes = [np.sqrt(a * b) for a, b in zip(*both, strict=True)]
    # A rounding of k is 2^-53 sqrt(q q'), b^2 of that in an exponent or a squared distance. 40:
    # operations of a formula.
    error = 40 * EPS["float64"] * (1 + square * np.sqrt(q * q2))
    if error > 1e-6:
        return  # networks are refused there
    assert abs(found[0] - value) <= error * sizes[0]
    assert abs(found[1] - slope) <= error * sizes[1]
    # |K| <= sqrt(K(q, q) K(q', q'))
    assert abs(found[0]) <= sizes[0] * (1 + error)
    if c >= 0 and name not in ("Cos", "Polynomial"):
        # nothing cancels: right to its own size
        assert found[0] == pytest.approx(value, rel=error, abs=1e-300)


@by_case
def test_variances(name: str, params: dict, exact: Callable, square: float) -> None:
    """The diagonal is right to rounding at any variance: it is a function of q alone."""
    q = 10.0 ** np.arange(-14, 15)
    value, slope = activations.get(name, params).variance(q)
    for n, variance in enumerate(q):
        first, second = wanted(exact, variance, variance, variance)
        # 1e-14: a few roundings
        assert value[n] == pytest.approx(first, rel=1e-14)
        assert slope[n] == pytest.approx(second, rel=1e-14)


@by_case
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_compiled(name: str, params: dict, exact: Callable, square: float, dtype: str) -> None:
    """The CPU's own arithmetic, inputs of size 1e-6 to 10, each pair's entry to its own size."""
    scales = 10.0 ** np.array([-6.0, -3.0, 0.0, 1.0])
    angles = np.array([0.0, 0.02, 1.5])
    x = np.sqrt(2) * scales[:, None] * [1.0, 0.0]
    y = np.sqrt(2) * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    y = (scales[:, None, None] * y).reshape(-1, 2)
    x, y = (v.astype(dtype).astype(np.float64) for v in (x, y))
    layer = {"layer": name, **params}
    network = load_network({"input_shape": [2], "layers": [{"layer": "Dense"}, layer]})
    evaluator = make_evaluator("cpu", job(network, x, y, dtype=dtype, threads=1, memory=2**30))
    found = evaluator.tile(range(len(x)), range(len(y)), False)
    for i, a in enumerate(x):
        for j, b in enumerate(y):
            q, k, q2 = ((u * v).mean() for u, v in ((a, a), (a, b), (b, b)))
            value, slope = wanted(exact, q, k, q2)
            both = wanted(exact, q, q, q)[0] * wanted(exact, q2, q2, q2)[0]
            # as above; |c| may be tiny, then the rounding of an inner product counts
            error = 60 * EPS[dtype] * (1 + square * np.sqrt(q * q2))
            size = max(abs(value), 0.02 * np.sqrt(both))
            assert abs(found["nngp"][i, j] - value) <= error * size, (q, k, q2)
            both = wanted(exact, q, q, q)[1] * wanted(exact, q2, q2, q2)[1]
            slack = error * np.sqrt(q * q2) * max(abs(slope), 0.02 * np.sqrt(both))
            assert abs(found["ntk"][i, j] - k * slope) <= slack, (q, k, q2)
