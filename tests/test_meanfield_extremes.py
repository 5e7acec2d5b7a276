"""Variances, inputs and depths at the ends of the floating point range."""

from __future__ import annotations

import warnings

import mpmath as mp
import numpy as np
import pytest

from cli_support import refused, run_json
from meanfield_support import erf_moments, unit_inputs
from widegram.errors import WidegramError
from widegram.meanfield.experiments.problem import Problem, unit_mean_square, unit_pixels
from widegram.meanfield.experiments.spectra import deviation_spectrum
from widegram.meanfield.experiments.sweeps import spectrum
from widegram.meanfield.experiments.training import Grid, trainability
from widegram.meanfield.recursion.scaled import LogScaled
from widegram.meanfield.recursion.slope_series import Slopes
from widegram.meanfield.theory.one_layer import LayerMaps
from widegram.meanfield.theory.points import point
from widegram.network import build

EPS = np.finfo(float).eps


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def problem(x, classes=2):
    labels = np.arange(len(x)) % classes
    y = np.eye(classes)[labels] - 1 / classes
    return Problem(x, y, labels, x[:2], labels[:2], "")


@pytest.mark.parametrize(("w", "b"), [(1e20, 0.1), (1.0, 1e20), (1e149, 1e140), (0.0, 1e149)])
def test_fixed_points_of_a_bounded_activation_at_any_variance(w, b):
    found = point("erf", w, b)
    with mp.workdps(200):
        q = mp.mpf(found["q_star"])
        value, slope = erf_moments(q, q, q)
        # Roundings of q* and of chi_1 to float64.
        assert abs((w * value + b) / q - 1) < 4 * EPS
        assert found["chi_1"] == pytest.approx(float(w * slope), rel=1e-14)
    assert found["phase"] == ("chaotic" if w > 1 else "ordered")


@pytest.mark.parametrize("b", [1e-20, 1e-300])
def test_a_small_bias_leaves_a_small_correlation(b):
    found = point("erf", 1.0, b)
    # k = chi_c k + b where k is small: c* = b / (q* (1 - chi_c)), to first order in b.
    assert found["c_star"] == pytest.approx(b / found["q_star"] / (1 - found["chi_c"]), rel=1e-13)
    assert found["p_star_ab"] > 0


def test_series_say_that_a_small_correlation_has_lost_digits():
    lines = point("tanh", 3.0, 1e-9)["statements"]
    assert any("digits of it and of p*_ab" in line for line in lines)


def test_variances_beyond_those_of_networks_are_refused():
    with pytest.raises(WidegramError, match=r"b_var = 1e\+300: a variance is at most 1e\+150"):
        point("erf", 1.0, 1e300)


@pytest.mark.parametrize("q", [50.0, 1e3, 1e4, 1e6])
def test_mean_slopes_at_large_variances(q):
    maps = LayerMaps.of("erf")
    for share in (1e-8, 1e-4, 1e-2, 0.1, 0.24, 0.6):
        with mp.workdps(50):
            k = mp.mpf(q) - mp.mpf(q * share)
            fall = erf_moments(mp.mpf(q), mp.mpf(q), mp.mpf(q))[0] - erf_moments(q, k, q)[0]
            exact = float(fall / mp.mpf(q * share))
        # q - delta is rounded to q eps, and Kdot changes over deltas of 1/2.
        assert maps.mean_slope(q, q * share) == pytest.approx(exact, rel=4 * EPS * max(q, 4))


def test_slopes_beyond_float64_are_refused():
    slopes = Slopes(LayerMaps.of("erf"))
    assert slopes.at(1e5).slope > 0
    with pytest.raises(WidegramError, match="faster than float64 can follow"):
        slopes.at(1e20)


def test_an_odd_activation_without_bias_has_no_law_off_the_diagonal():
    network = build("fcn", (6,), "erf", depth=1, w_var=1.5, b_var=0.0)
    found = spectrum(network, problem(unit_inputs(0, 6, 6)), [3])
    assert found.setting.point["p_star_ab"] == 0
    assert "off_diagonal" not in found.predicted
    assert "lambda_max" in found.predicted


def test_what_rounding_of_the_level_hides_is_undefined():
    # Off the diagonal 1e-3 beside a level of 1e20: the level's rounding is 1e4.
    drop = 1e20 * (1 - np.eye(3))
    found = deviation_spectrum(1e20, LogScaled(drop))
    assert np.isnan(found.off_diagonal)
    assert found.diagonal == 1e20


@pytest.mark.parametrize("exponent", [-1000, -560, 560, 1000])
def test_inputs_of_any_size_are_scaled_to_the_same_bits(exponent):
    x = np.random.default_rng(0).normal(size=(3, 4, 4, 2))
    moved = np.ldexp(x, exponent)
    np.testing.assert_array_equal(unit_mean_square(moved), unit_mean_square(x))
    np.testing.assert_array_equal(unit_pixels(moved), unit_pixels(x))


@pytest.mark.parametrize("scale", [1e-160, 1e160])
@pytest.mark.parametrize("method", ["auto", "deviations", "engine"])
def test_inputs_whose_squares_leave_the_range_are_refused(scale, method):
    network = build("fcn", (6,), "relu", depth=1, w_var=2.0)
    with pytest.raises(WidegramError, match="squares leave the range of float64"):
        spectrum(network, problem(unit_inputs(0, 4, 6) * scale), [1], method=method)


@pytest.mark.parametrize("scale", [1e-20, 1.0, 1e20])
def test_relu_is_scale_free_over_forty_decades(scale):
    x = unit_inputs(1, 5, 6)
    network = build("fcn", (6,), "relu", depth=1, w_var=2.0)
    for method in ("deviations", "engine"):
        found = spectrum(network, problem(x * scale), [2, 5], method=method).values
        plain = spectrum(network, problem(x), [2, 5], method=method).values
        for name in ("diagonal", "off_diagonal", "lambda_min", "lambda_max"):
            # Roundings of the scaled inputs, times the conditioning of lambda_min.
            np.testing.assert_allclose(found[name], plain[name] * scale**2, rtol=1e-9)
        np.testing.assert_allclose(found["kappa"], plain["kappa"], rtol=1e-9)


@pytest.mark.parametrize("net", ["fcn", "cnn-f"])
@pytest.mark.parametrize("w", [1e-20, 1e20])
def test_maps_beyond_the_range_are_refused_in_one_line(tmp_path, net, w):
    x = unit_mean_square(np.random.default_rng(2).normal(size=(5, 2, 2, 1)))
    grid = Grid(net, "relu", np.array([w]), 0.0, (1, 12), (1.0,))
    with pytest.raises(WidegramError, match="leaves the range of float64"):
        trainability(problem(x), grid, tmp_path / "t.h5")


@pytest.mark.parametrize("depth", [1800, pytest.param(4999, marks=pytest.mark.slow)])
def test_as_deep_as_a_network_may_be(tmp_path, depth):
    x = unit_inputs(3, 4, 6)
    np.save(tmp_path / "x.npy", x)
    deep = ("--depths", depth, "--raw", "--out", tmp_path / "s.h5", "--overwrite")
    arguments = ("meanfield", "spectrum", "--net", "fcn", "--x", tmp_path / "x.npy", *deep)
    ordered = run_json(*arguments, "--act", "erf", "--w-var", 1.25, "--b-var", 0.18)
    law = ordered["predicted"]["lambda_max"]["values"][0]
    assert ordered["lambda_max"][0] == pytest.approx(law, rel=1e-12)
    # chi_1^4999 is 1e-450: only the logarithm holds that bulk, near l chi_1^l.
    rate = np.log10(point("erf", 1.25, 0.18)["chi_1"])
    bulk = (depth + 1) * rate + np.log10(depth + 1)
    assert ordered["log10_bulk"][0] == pytest.approx(bulk, abs=2)
    critical = run_json(*arguments, "--act", "relu", "--w-var", 2, "--b-var", 0)
    # Corrections of log(l)/l, 4e-3 at the smaller depth, times numbers near 1.
    assert critical["kappa"][0] == pytest.approx((4 + 3) / 3, rel=1e-2)
    refused("leaves the range of float64", *arguments, "--act", "relu", "--w-var", 3,
            "--b-var", 0, "--method", "deviations")
