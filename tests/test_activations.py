"""Dual activations against quadrature, sampling and each other; the compiled formulas too."""

from __future__ import annotations

import itertools
from functools import cache

import mpmath
import numpy as np
import pytest
from mpmath.calculus.quadrature import GaussLegendre

import widegram
from activation_oracles import (
    CLOSED,
    NO_FUNCTION,
    ORACLES,
    OWN,
    SERIES,
    Oracle,
    mean_product,
    mean_square,
)
from jobs import job
from widegram import activations
from widegram.activations.hermite import MAX_DEGREE, Series
from widegram.activations.mixture import Mixture
from widegram.computing.choosing import make_evaluator
from widegram.errors import WidegramError

VARIANCES = [(1.0, 1.0), (0.3, 2.5), (4.0, 0.02)]
CORRELATIONS = [-1.0, -0.9, -0.3, 0.0, 0.5, 0.95, 0.9999, 1.0]
SAMPLES = 400_000
by_name = pytest.mark.parametrize("oracle", ORACLES, ids=str)


def dual(oracle: Oracle) -> activations.Formula:
    return activations.get(oracle.name, oracle.params)


def bounds(oracle: Oracle, q: float, q2: float) -> tuple[float, float]:
    """What a series of MAX_DEGREE terms may leave out of K and Kdot: by Cauchy-Schwarz, the root
    of the product of both tails; a mixture says it itself. 0 for closed forms."""
    formula = dual(oracle)
    if not isinstance(formula, Series):
        return 0.0, 0.0
    chosen = formula.for_range(max(q, q2), 1e-14)
    if isinstance(chosen, Mixture):
        squares = [mean_square(f, v) for f in (oracle.phi, oracle.slope) for v in (q, q2)]
        sizes = np.sqrt(squares[0] * squares[1]), np.sqrt(squares[2] * squares[3])
        return float(chosen.tail * sizes[0]), float(chosen.tail * sizes[1])
    longest = Series(formula.function, formula.derivative, degree=MAX_DEGREE)
    (k1, t1), (k2, t2) = longest.truncation(q), longest.truncation(q2)
    value = np.sqrt(k1 * k2 * mean_square(oracle.phi, q) * mean_square(oracle.phi, q2))
    slope = np.sqrt(t1 * t2 * mean_square(oracle.slope, q) * mean_square(oracle.slope, q2))
    return float(value), float(slope)


def test_every_activation_has_an_oracle() -> None:
    tested = {oracle.name for oracle in ORACLES} | {*NO_FUNCTION, *OWN}
    assert tested == set(activations.TABLE)


@by_name
@pytest.mark.parametrize(("q", "q2"), VARIANCES)
def test_moments_against_quadrature(oracle: Oracle, q: float, q2: float) -> None:
    value_bound, slope_bound = bounds(oracle, q, q2)
    moments = dual(oracle).moments(q, np.array(CORRELATIONS) * np.sqrt(q * q2), q2)
    values, slopes = (np.broadcast_to(m, len(CORRELATIONS)) for m in moments)
    sizes = [np.sqrt(mean_square(f, q) * mean_square(f, q2)) for f in (oracle.phi, oracle.slope)]
    for c, value, slope in zip(CORRELATIONS, values, slopes, strict=True):
        wanted = mean_product(oracle.phi, q, c, q2), mean_product(oracle.slope, q, c, q2)
        # 1e-12: rounding of 1e5 quadrature terms, and of c near 1 (2e-16 over an angle of 0.014).
        # 1e-7 of the slopes at |c| = 1, where rounding of c enters the angle as its root.
        allowed = value_bound + 1e-12 * max(sizes[0] + 1e-3, 1)
        assert value == pytest.approx(wanted[0], rel=0, abs=allowed)
        near = 1e-7 if abs(c) == 1 else 1e-12
        assert slope == pytest.approx(wanted[1], rel=0, abs=slope_bound + near * max(sizes[1], 1))


@by_name
def test_variance_against_quadrature(oracle: Oracle) -> None:
    q = np.array([0.0, 0.01, 0.4, 1.0, 3.0, 9.0])
    value, slope = dual(oracle).variance(q)
    for n, variance in enumerate(q):
        if oracle.name == "Sign" and variance == 0:
            assert value[n] == 0
            continue
        # 1e-12: rounding of a thousand terms
        assert value[n] == pytest.approx(mean_square(oracle.phi, variance), rel=1e-12, abs=1e-14)
        if variance > 0:
            assert slope[n] == pytest.approx(mean_square(oracle.slope, variance), rel=1e-12)
    assert np.isfinite(slope).all()


@by_name
def test_moments_at_full_correlation_are_the_variance(oracle: Oracle) -> None:
    q = np.array([0.05, 1.0, 4.0])
    formula = dual(oracle)
    moments = np.array([formula.moments(v, v, v) for v in q]).T
    variance = formula.variance(q)
    tails = np.array([bounds(oracle, v, v) for v in q]).T
    # rounding, and the tails of series
    for found, wanted, tail in zip(moments, variance, tails, strict=True):
        rounding = 1e-12 * np.maximum(1 + q, wanted)
        np.testing.assert_array_less(np.abs(found - wanted), tail + rounding)


@by_name
def test_moments_are_symmetric(oracle: Oracle) -> None:
    formula = dual(oracle)
    q, q2, c = 0.3, 2.5, np.array([-0.9, 0.0, 0.4, 0.99])
    k = c * np.sqrt(q * q2)
    first, second = formula.moments(q, k, q2), formula.moments(q2, k, q)
    # the same operations on exchanged operands: sums of two factors may round differently
    np.testing.assert_allclose(first, second, rtol=1e-14, atol=1e-15)


@by_name
def test_zero_variance_gives_limits(oracle: Oracle) -> None:
    formula = dual(oracle)
    q2 = np.array([0.0, 1e-300, 0.7, 5.0])
    value, slope = formula.moments(0.0, np.zeros(4), q2)
    assert np.isfinite(value).all()
    assert np.isfinite(slope).all()
    at_zero = float(oracle.phi(np.zeros(1))[0])
    for n, v in enumerate(q2):
        mean = mean_of(oracle, float(v))
        # K = phi(0) E[phi(v)]
        assert value[n] == pytest.approx(at_zero * mean, rel=1e-12, abs=1e-13)


def mean_of(oracle: Oracle, q: float) -> float:
    """E[phi(u)], from E[(phi + 1)^2] = E[phi^2] + 2 E[phi] + 1."""
    return (mean_square(lambda x: oracle.phi(x) + 1, q) - mean_square(oracle.phi, q) - 1) / 2


@cache
def sampled(q: float, c: float, q2: float, count: int) -> tuple[np.ndarray, np.ndarray]:
    z = np.random.default_rng(3).standard_normal((2, count))
    return np.sqrt(q) * z[0], np.sqrt(q2) * (c * z[0] + np.sqrt(1 - c * c) * z[1])


@by_name
def test_moments_against_sampling(oracle: Oracle) -> None:
    q, c, q2 = 0.8, 0.6, 1.7
    u, v = sampled(q, c, q2, SAMPLES)
    wanted = dual(oracle).moments(q, c * np.sqrt(q * q2), q2)
    for function, value in zip((oracle.phi, oracle.slope), wanted, strict=True):
        products = function(u) * function(v)
        # five standard errors: one in a million for each of the 58 comparisons
        error = 5 * products.std() / np.sqrt(SAMPLES)
        assert float(value) == pytest.approx(products.mean(), rel=0, abs=error + 1e-15)


def assert_same(first: tuple, second: tuple, factor: float = 1.0) -> None:
    q, q2 = np.meshgrid([0.0, 0.2, 1.0, 6.0], [0.1, 2.0])
    for c in (-1.0, -0.4, 0.0, 0.7, 1.0):
        k = c * np.sqrt(q * q2)
        left = activations.get(*first).moments(q, k, q2)
        right = activations.get(*second).moments(q, k, q2)
        # other constants, the same formula: a few roundings
        np.testing.assert_allclose(left[0], factor * right[0], rtol=1e-13, atol=1e-14)
        np.testing.assert_allclose(left[1], factor * right[1], rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (("ABRelu", {"a": 0.0, "b": 1.0}), ("Relu", {})),
        (("ABRelu", {"a": -1.0, "b": 1.0}), ("Abs", {})),
        (("ABRelu", {"a": 0.3, "b": 1.0}), ("LeakyRelu", {"alpha": 0.3})),
        (("LeakyRelu", {"alpha": 0.0}), ("Relu", {})),
        (("ABRelu", {"a": 1.0, "b": 1.0}), ("Identity", {})),
        (
            ("Cos", {"a": 0.7, "b": 1.2, "c": 0.3}),
            ("Sin", {"a": 0.7, "b": 1.2, "c": 0.3 + np.pi / 2}),
        ),
        (("Rbf", {"gamma": 0.8}), ("Sin", {"a": np.sqrt(2), "b": np.sqrt(1.6), "c": np.pi / 4})),
        (("Silu", {}), ("Swish", {})),
        (("Sigmoid_like", {}), ("Erf", {"a": 0.5, "b": 1 / 2.4020563531719796, "c": 0.5})),
    ],
    ids=lambda pair: pair[0],
)
def test_identities(first: tuple, second: tuple) -> None:
    assert_same(first, second)


def test_leaky_relus_scale() -> None:
    assert_same(("ABRelu", {"a": -0.6, "b": 2.0}), ("ABRelu", {"a": -0.3, "b": 1.0}), 4.0)


@pytest.mark.parametrize("name", ["Relu", "Abs"])
def test_homogeneity(name: str) -> None:
    q, q2, c = 0.7, 2.0, np.linspace(-1, 1, 9)
    k = c * np.sqrt(q * q2)
    formula = activations.get(name)
    one, other = formula.moments(q, k, q2), formula.moments(9 * q, 3 * 5 * k, 25 * q2)
    # 3 and 5 are not powers of two: c rounds differently, 1e-8 at |c| = 1 (its root, in the slope)
    np.testing.assert_allclose(other[0], 15 * one[0], rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(other[1], one[1], rtol=0, atol=1e-7)


def test_tanh_coefficients_against_mpmath() -> None:
    """a_n = E[tanh(sqrt(q) z) h_n(z)] with 30 digits; even ones vanish."""
    variances = [0.05, 1.0, 6.0]
    found = activations.get("Tanh").factors(np.array(variances))[1:]
    with mpmath.workdps(30):
        wanted = [[mpmath.mpf(0)] * 26 for _ in variances]
        roots, rule = [mpmath.sqrt(m) for m in range(27)], GaussLegendre(mpmath.mp)
        deviations = [mpmath.sqrt(q) for q in variances]
        for n in range(26):
            # 24 nodes on a panel of 1/2: tanh's poles are 0.64 away from it, 1e-30 is left
            for z, weight in rule.get_nodes(mpmath.mpf(n) / 2, mpmath.mpf(n + 1) / 2, 4, 110):
                density = 2 * weight * mpmath.npdf(z)
                values = [density * mpmath.tanh(s * z) for s in deviations]
                before, basis = mpmath.mpf(0), mpmath.mpf(1)
                for m in range(26):
                    if m % 2:
                        for sums, value in zip(wanted, values, strict=True):
                            sums[m] += value * basis
                    after = (z * basis - roots[m] * before) / roots[m + 1]
                    before, basis = basis, after
    # rounding of 1500 terms of order one
    exact = np.array(wanted, dtype=float).T
    np.testing.assert_allclose(found[1:26:2], exact[1::2], rtol=0, atol=1e-14)
    np.testing.assert_allclose(found[0::2], 0.0, rtol=0, atol=1e-14)


@pytest.mark.parametrize("oracle", SERIES, ids=str)
@pytest.mark.parametrize("degree", [4, 20, 90])
def test_truncation_bounds_the_error(oracle: Oracle, degree: int) -> None:
    whole = dual(oracle)
    assert isinstance(whole, Series)
    series = Series(whole.function, whole.derivative, degree=degree)
    correlations = np.array([-1.0, -0.5, 0.8, 1.0])
    for q, q2 in ((1.0, 1.0), (9.0, 2.0)):
        found = activations.Formula.moments(series, q, correlations * np.sqrt(q * q2), q2)
        tails = np.sqrt(np.multiply(series.truncation(q), series.truncation(q2)))
        for n, function in enumerate((oracle.phi, oracle.slope)):
            norm = np.sqrt(mean_square(function, q) * mean_square(function, q2))
            exact = [mean_product(function, q, c, q2) for c in correlations.tolist()]
            error = np.abs(found[n] - exact).max()
            # rounding of the quadrature
            assert error <= (tails[n] + 1e-12) * max(norm, 1.0)


@pytest.mark.parametrize("oracle", SERIES, ids=str)
def test_for_range_takes_as_many_terms_as_needed(oracle: Oracle) -> None:
    series = dual(oracle)
    assert isinstance(series, Series)
    made = [series.for_range(q, 1e-8) for q in (0.01, 0.3, 2.0, 10.0, 100.0)]
    degrees = [chosen.degree for chosen in made if isinstance(chosen, Series)]
    assert degrees == sorted(degrees)
    # Where a mixture takes over it stays.
    assert [isinstance(chosen, Series) for chosen in made] == sorted(
        (isinstance(chosen, Series) for chosen in made), reverse=True
    )
    largest = [0.01, 0.3, 2.0, 10.0, 100.0][: len(degrees)]
    made = [series.for_range(1.0, tolerance) for tolerance in (1e-2, 1e-5, 1e-8, 1e-13)]
    finer = [chosen.degree for chosen in made if isinstance(chosen, Series)]
    assert finer == sorted(finer)
    for q in largest:
        chosen = series.for_range(q, 1e-8)
        assert isinstance(chosen, Series)
        assert max(chosen.truncation(q)) == pytest.approx(chosen.tail, rel=1e-6, abs=1e-14)
        if chosen.degree < MAX_DEGREE:
            for smaller in (q, q / 3, q / 30):
                # 2e-15: rounding of the tails
                assert max(chosen.truncation(smaller)) <= 1e-8 + 2e-15


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@by_name
def test_compiled_formulas(oracle: Oracle, dtype: str) -> None:
    """Dense(1), phi, Dense(1): nngp = K, ntk = K + k Kdot, with the CPU's own arithmetic."""
    q = 0.75
    points = list(itertools.product((0.02, q, 3.0), (-0.99, -0.5, 0.0, 0.3, 0.9, 0.999)))
    x = np.array([[np.sqrt(2 * q), 0.0]])
    y = np.array([np.sqrt(2 * q2) * np.array([c, np.sqrt(1 - c * c)]) for q2, c in points])
    layer = {"layer": oracle.name, **oracle.params}
    spec = {"input_shape": [2], "layers": [{"layer": "Dense"}, layer, {"layer": "Dense"}]}
    request = job(spec, x, y, dtype=dtype, threads=1)
    with make_evaluator("cpu", request) as evaluator:
        found = evaluator.tile(range(1), range(len(y)), False)
    q2, k = (y**2).mean(axis=1), (x * y).mean(axis=1)
    value, slope = dual(oracle).moments(q, k, q2)
    size = np.sqrt(dual(oracle).variance(np.array([q]))[0] * dual(oracle).variance(q2)[0]) + 1
    # float64: rounding, and tails of 1e-13 that the two series leave out differently. float32: a
    # few roundings of 6e-8, 22 times that in the angle where c is 0.999.
    tolerance = {"float64": 3e-13, "float32": 3e-6}[dtype]
    np.testing.assert_array_less(np.abs(found["nngp"][0] - value), tolerance * size)
    np.testing.assert_array_less(np.abs(found["ntk"][0] - value - k * slope), tolerance * size)


def test_closed_forms_are_not_series() -> None:
    assert not any(isinstance(dual(oracle), Series) for oracle in CLOSED)


def test_unknown_and_missing_parameters_are_refused() -> None:
    with pytest.raises(WidegramError, match=r"unknown activation 'Rleu'; known: .*Relu"):
        activations.get("Rleu")
    with pytest.raises(WidegramError, match="Erf: unknown parameter 'd'; it takes: a, b, c"):
        activations.get("Erf", {"d": 1.0})
    with pytest.raises(WidegramError, match="LeakyRelu: parameter 'alpha' is required"):
        activations.get("LeakyRelu")


def _gelu(q: mpmath.mpf, k: mpmath.mpf, q2: mpmath.mpf) -> mpmath.mpf:
    """K of Gelu, from its definition x Phi(x) by differentiation of an arcsine."""
    root = mpmath.sqrt((1 + q) * (1 + q2))
    z = k / root
    w = 1 - z * z
    inner = (q * q2 * w + z * z) / (2 * mpmath.pi * root * mpmath.sqrt(w))
    return k / 4 + k * mpmath.asin(z) / (2 * mpmath.pi) + inner


@pytest.mark.parametrize("size", [10.0, 1e3, 1e4])
def test_gelu_of_large_parallel_inputs(size: float) -> None:
    """Both terms of K change by 1e8 roundings where c = 1, and their sum by one."""
    layers = [{"layer": "Dense", "W_std": 1.0, "b_std": None}, {"layer": "Gelu"}]
    rng = np.random.default_rng(0)
    x = np.linspace(size, 2 * size, 60)[:, None] * (1 + 1e-3 * rng.standard_normal((60, 1)))
    y = np.array([[1.7 * size]])
    found = widegram.kernel({"input_shape": [1], "layers": layers}, x, y, get="nngp")
    with mpmath.workdps(50):
        b = mpmath.mpf(float(y[0, 0]))
        wanted = [float(_gelu(a * a, a * b, b * b)) for a in map(mpmath.mpf, x[:, 0].tolist())]
    # some roundings; 1e-13 at 1e4 where the terms' roundings do not go together
    np.testing.assert_allclose(found[:, 0], wanted, rtol=1e-15)
