"""Spectra, predictors and gradient flow, against mpmath and dense float64."""

from __future__ import annotations

from dataclasses import replace

import h5py
import mpmath as mp
import numpy as np
import pytest
import scipy.linalg

from meanfield_support import unit_inputs
from widegram.errors import WidegramError
from widegram.meanfield.experiments.architectures import dropout_limits
from widegram.meanfield.experiments.gradient_flow import Flow, outputs
from widegram.meanfield.experiments.problem import Problem, unit_mean_square, unit_pixels
from widegram.meanfield.experiments.spectra import dense_spectrum, deviation_spectrum, predict
from widegram.meanfield.experiments.sweepfile import new_sweep_file
from widegram.meanfield.experiments.sweeps import describe, spectrum
from widegram.meanfield.recursion.scaled import LogScaled
from widegram.meanfield.theory.one_layer import LayerMaps
from widegram.meanfield.theory.predictions import fitted_exponent
from widegram.network import load_network
from widegram.reference.evaluator import kernel


def distances(seed, rows, cols):
    """Distances: like deviations, zero on the diagonal and negative definite off the ones."""
    rng = np.random.default_rng(seed)
    a = rng.normal(size=(rows, 3))
    b = a if rows == cols else rng.normal(size=(cols, 3))
    return np.sqrt(((a[:, None] - b[None]) ** 2).sum(-1))


def small_problem(shape=(4, 4, 1)):
    """Six training and five test inputs of three classes."""
    rng = np.random.default_rng(0)
    labels, labels_test = np.arange(6) % 3, np.arange(5) % 3
    x, x_test = (unit_mean_square(rng.normal(size=(k, *shape))) for k in (6, 5))
    return Problem(x, np.eye(3)[labels] - 1 / 3, labels, x_test, labels_test, "")


@pytest.mark.parametrize("scale", [0.0, -10.0, -40.0, -900.0])
def test_spectrum_of_a_level_minus_a_small_matrix(scale):
    matrix = distances(0, 5, 5)
    found = deviation_spectrum(2.5, LogScaled(matrix, scale))
    with mp.workdps(900):
        exact = mp.matrix(5, 5)
        for i in range(5):
            for j in range(5):
                exact[i, j] = mp.mpf(2.5) - mp.exp(scale) * mp.mpf(float(matrix[i, j]))
        values = sorted(mp.eigsy(exact, eigvals_only=True))
        # What is neglected beyond dense float64 is of second order in exp(scale).
        assert found.log10_min == pytest.approx(float(mp.log10(values[0])), abs=1e-9)
        assert found.log10_bulk == pytest.approx(float(mp.log10(sum(values[:-1]) / 4)), abs=1e-9)
        assert found.lambda_max == pytest.approx(float(values[-1]), rel=1e-9)


@pytest.mark.parametrize("scale", [-1.0, -14.5, -60.0, -900.0])
def test_mean_predictor_at_any_scale(scale):
    train, test = distances(1, 6, 6), distances(2, 4, 6)
    y = np.random.default_rng(3).normal(size=(6, 2))
    found = predict(3.0, LogScaled(train, scale), 2.9, LogScaled(test, scale), y)
    with mp.workdps(900):
        factor = mp.exp(scale)

        def matrix(a, level):
            return mp.matrix([[mp.mpf(level) - factor * mp.mpf(float(v)) for v in r] for r in a])

        exact = matrix(test, 2.9) * mp.lu_solve(matrix(train, 3.0), mp.matrix(y[:, :1].tolist()))
        exact2 = matrix(test, 2.9) * mp.lu_solve(matrix(train, 3.0), mp.matrix(y[:, 1:].tolist()))
    want = np.array([[float(exact[i]), float(exact2[i])] for i in range(4)])
    # The dense branch may lose six digits of 16, and the bulk's condition number near 100 two.
    np.testing.assert_allclose(found, want, rtol=1e-7)


def test_kappa_minus_one_keeps_its_digits():
    matrix = np.eye(4) * 1e20 + 1.0
    found = dense_spectrum(matrix)
    assert found.kappa_minus_1 == pytest.approx(4e-20, rel=1e-6)  # eigenvalues 1e20 + {0, 4}


@pytest.mark.parametrize("size", [1.0, 1e-4, 1e-9])
def test_gradient_flow_is_the_exponential_of_the_kernel(size):
    train, test = distances(4, 5, 5) * size, distances(5, 3, 5) * size
    level, y = 40.0, np.random.default_rng(6).normal(size=(5, 2))
    flow = Flow.of(level, train)
    times = (0.5, 3.0, 1e3)
    alpha, totals = flow.solve(y, times)
    f = outputs(level, test, alpha, totals)
    with mp.workdps(50):
        values, vectors = mp.eigsy(mp.matrix(
            [[mp.mpf(level) - mp.mpf(float(v)) for v in row] for row in train]))
        top = max(values)
        rows = mp.matrix([[mp.mpf(level) - mp.mpf(float(v)) for v in row] for row in test])
        for number, time in enumerate(times):
            gains = [-mp.expm1(-2 * v * time / top) / v for v in values]
            exact = rows * vectors * mp.diag(gains) * vectors.T * mp.matrix(y.tolist())
            want = np.array(exact.tolist(), dtype=float)
            # First order in drop / level below 1e-6, rounding of the dense kernel above.
            scale = np.abs(want).max()
            np.testing.assert_allclose(f[:, 2 * number : 2 * number + 2], want, atol=1e-8 * scale)
        assert flow.lambda_max == pytest.approx(float(top), rel=1e-9)


def test_gradient_flow_at_infinite_time_is_the_mean_predictor():
    train, test = distances(7, 6, 6), distances(8, 4, 6)
    train = -train  # positive definite with the level below
    level = 200.0
    y = np.random.default_rng(9).normal(size=(6, 1))
    theta = level + train + 50 * np.eye(6)
    alpha, totals = Flow.of(level, level - theta).solve(y, [np.inf])
    want = (level - test) @ scipy.linalg.solve(theta, y)
    np.testing.assert_allclose(outputs(level, test, alpha, totals), want, rtol=1e-9)


@pytest.mark.parametrize(("net", "method"), [
    ("fcn:act=erf,w_var=1.2,b_var=0.1", "deviations"),
    ("fcn:act=relu", "deviations"),
    ("cnn-p:act=erf,w_var=1.2,b_var=0.1", "linearized"),
    ("cnn-f:act=erf,w_var=2.5,b_var=0.1", "engine"),
    ("cnn-p:act=relu", "engine"),
])
def test_measures_agree_with_the_dense_reference(net, method):
    problem = small_problem()
    network = load_network(net, problem.input_shape)
    found = spectrum(network, problem, [1, 3])
    assert found.method == method
    for i, depth in enumerate((1, 3)):
        theta = kernel(network.at_depth(depth), problem.x).ntk
        values = np.linalg.eigvalsh(theta)
        assert found.values["lambda_max"][i] == pytest.approx(values[-1], rel=1e-10)
        assert found.values["lambda_min"][i] == pytest.approx(values[0], rel=1e-8)
        assert found.values["bulk"][i] == pytest.approx(values[:-1].mean(), rel=1e-9)
        assert found.values["diagonal"][i] == pytest.approx(np.diag(theta).mean(), rel=1e-12)
        cross = kernel(network.at_depth(depth), problem.x_test, problem.x).ntk
        centred = problem.y - problem.y.mean(axis=0)
        rms = np.sqrt(((cross @ np.linalg.solve(theta, centred)) ** 2).mean() / (centred**2).mean())
        assert found.values["predictor"][i] == pytest.approx(rms, rel=1e-7)
        hits = (cross @ np.linalg.solve(theta, problem.y)).argmax(1) == problem.labels_test
        assert found.values["accuracy"][i] == hits.mean()


def test_unequal_norms_take_the_linearized_recursion():
    problem = small_problem()
    scaled = replace(problem, x=problem.x * np.linspace(0.8, 1.2, 6)[:, None, None, None])
    network = load_network("fcn:act=erf,w_var=1.2,b_var=0.1", problem.input_shape)
    found = spectrum(network, scaled, [4])
    assert found.method == "linearized"
    exact = np.linalg.eigvalsh(kernel(network.at_depth(4), scaled.x).ntk)
    assert found.values["lambda_min"][0] == pytest.approx(exact[0], rel=1e-9)


def test_unit_pixels_are_exact_on_images():
    problem = small_problem()
    patches = replace(problem, x=unit_pixels(problem.x), x_test=unit_pixels(problem.x_test))
    network = load_network("cnn-p:act=erf,w_var=1.2,b_var=0.1", patches.input_shape)
    found = spectrum(network, patches, [2])
    assert found.method == "deviations"
    assert found.setting.pixels == 16


def test_predictions_belong_to_the_phase():
    problem = small_problem()
    for w, phase, name, value in ((0.9, "ordered", "lambda_max", None),
                                  (2.5, "chaotic", "kappa", 1.0)):
        network = load_network(f"fcn:act=erf,w_var={w},b_var=0.1", problem.input_shape)
        found = spectrum(network, problem, [200])
        assert found.setting.point["phase"] == phase
        law = found.predicted[name]
        assert law.constant
        # At depth 200 the constants are met to far better than 1e-6.
        assert found.values[name][0] == pytest.approx(law.values(found.layers)[0], rel=1e-6)
        assert value is None or law.values([1.0])[0] == value


def test_a_kink_halves_the_rate_of_the_ordered_bulk():
    problem = small_problem()
    network = load_network("fcn:act=relu,w_var=1.5,b_var=0.1", problem.input_shape)
    found = spectrum(network, problem, [60, 80, 100])
    law = found.predicted["bulk"]
    assert law.exponent == pytest.approx(np.log(0.75) / 2)
    measured = found.values["log10_bulk"] * np.log(10)
    # The next order is smaller by chi_1^(l/2), 2e-4 at depth 60.
    assert fitted_exponent(law, found.layers, measured) == pytest.approx(law.exponent, rel=1e-4)


def test_fitted_exponents_divide_the_powers_out():
    problem = small_problem()
    network = load_network("fcn:act=erf,w_var=0.9,b_var=0.1", problem.input_shape)
    law = spectrum(network, problem, [2]).predicted["bulk"]
    depths = np.array([10.0, 20.0, 40.0])
    assert fitted_exponent(law, depths, law.law(depths) + 3) == pytest.approx(law.exponent)


def test_general_networks_have_no_overlay():
    spec = {"input_shape": [4, 4, 1], "layers": [
        {"layer": "Repeat", "times": 1, "body": [
            {"layer": "Conv", "filter_shape": [3, 3], "padding": "SAME"}, {"layer": "LayerNorm"},
            {"layer": "Relu"}]},
        {"layer": "Flatten"}, {"layer": "Dense"}]}
    network = load_network(spec)
    assert describe(network) is None
    found = spectrum(network, small_problem(), [1, 2])
    assert found.method == "engine"
    assert found.predicted == {}


def test_the_file_holds_kernels_as_level_minus_deviation(tmp_path):
    problem = small_problem()
    network = load_network("fcn:act=erf,w_var=1.2,b_var=0.1", problem.input_shape)
    with new_sweep_file(tmp_path / "s.h5", False, [2, 5]) as file:
        file.finish(spectrum(network, problem, [2, 5], keep=file.keep))
    with h5py.File(tmp_path / "s.h5") as file:
        assert file["depths"][()].tolist() == [2, 5]
        exact = kernel(network.at_depth(5), problem.x)
        for name, want in (("ntk", exact.ntk), ("nngp", exact.nngp)):
            part = file[f"depth/5/{name}_deviation"]
            found = part.attrs["level"] - np.exp(part.attrs["log_scale"]) * part[()]
            np.testing.assert_allclose(found, want, rtol=1e-12)
        assert file["predicted/lambda_max"].attrs["kind"] == "constant"


@pytest.mark.parametrize(("net", "options", "match"), [
    ("myrtle5", {}, "Repeat"),
    ("fcn", {"depths": []}, "depths"),
    ("fcn", {"method": "magic"}, "unknown"),
    ("cnn-p:padding=SAME", {"method": "deviations"}, "CIRCULAR"),
])
def test_bad_requests_are_refused(net, options, match):
    problem = small_problem()
    network = load_network(net, problem.input_shape)
    depths = options.pop("depths", [1])
    with pytest.raises(WidegramError, match=match):
        spectrum(network, problem, depths, **options)


def test_dropout_separates_the_two_limits():
    problem = small_problem(shape=(9,))
    keep, w, b = 0.8, 1.1, 0.2
    spec = {"input_shape": [9], "layers": [
        {"layer": "Repeat", "times": 80, "body": [
            {"layer": "Dense", "W_std": w**0.5, "b_std": b**0.5}, {"layer": "Erf"},
            {"layer": "Dropout", "rate": keep}]},
        {"layer": "Dense", "W_std": w**0.5, "b_std": b**0.5}]}
    theta = kernel(load_network(spec), problem.x).ntk
    on, off = dropout_limits(LayerMaps.of("erf"), w, b, keep)
    np.testing.assert_allclose(np.diag(theta), on, rtol=1e-4)  # chi_1^80, here 0.88^80
    np.testing.assert_allclose(theta[~np.eye(6, dtype=bool)], off, rtol=1e-6)
    assert np.linalg.cond(theta) == pytest.approx((on + 5 * off) / (on - off), rel=1e-3)


def test_inputs_of_the_two_commands_have_the_norms_they_promise():
    x = np.random.default_rng(1).normal(size=(3, 5, 5, 2))
    np.testing.assert_allclose((unit_mean_square(x) ** 2).mean(axis=(1, 2, 3)), 1)
    patches = unit_pixels(x)
    assert patches.shape == (3, 5, 5, 18)
    np.testing.assert_allclose((patches**2).mean(axis=-1), 1)
    with pytest.raises(WidegramError, match="zero everywhere"):
        unit_mean_square(np.zeros((2, 4)))


def test_inputs_of_one_norm_for_the_fully_connected_case():
    assert np.ptp((unit_inputs(0, 4, 6) ** 2).mean(axis=1)) < 1e-15


@pytest.mark.parametrize(("net", "method", "depth"), [
    # (w_var / 2)^depth is beyond 1e308, or below 1e-308.
    ("fcn:act=relu,w_var=200", "deviations", 180), ("fcn:act=relu,w_var=200", "engine", 180),
    ("fcn:act=relu,w_var=0.02", "engine", 180), ("cnn-p:act=erf,w_var=0.02", "auto", 180),
])
def test_signals_beyond_float64_are_refused_in_one_line(net, method, depth):
    problem = small_problem()
    network = load_network(net, problem.input_shape)
    with pytest.raises(WidegramError, match=r"range of float64.*read out fewer layers"):
        spectrum(network, problem, [2, depth], method=method)


def test_the_chaotic_off_diagonal_survives_beside_a_huge_diagonal():
    problem = small_problem()
    network = load_network("fcn:act=erf,w_var=2.5,b_var=0.18", problem.input_shape)
    found = spectrum(network, problem, [250], method="engine")  # the diagonal is near 6e19
    limit = found.setting.point["p_star_ab"]
    # l chi_c^l is 4e-12 at 250 layers; float64's rounding of the diagonal would be 1e4.
    assert found.values["off_diagonal"][0] == pytest.approx(limit, rel=1e-9)


def test_filters_that_are_not_shared_have_no_deviations_and_no_predictions():
    local = {"layer": "ConvLocal", "filter_shape": [3, 3], "padding": "CIRCULAR", "W_std": 1.4}
    body = {"layer": "Repeat", "times": 3, "body": [local, {"layer": "Erf"}]}
    spec = {"input_shape": [4, 4, 1], "layers": [body, {"layer": "GlobalAvgPool"}]}
    problem = small_problem()
    with pytest.raises(WidegramError, match="ConvLocal has no recursion in deviations"):
        spectrum(load_network(spec), problem, [2], method="deviations")
    assert spectrum(load_network(spec), problem, [2]).predicted == {}
