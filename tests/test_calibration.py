"""Probabilities of classes from Gaussian outputs, their log loss and calibration error."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

import widegram
from cli_support import run, run_json
from widegram.predict.calibration import (
    class_probabilities,
    expected_calibration_error,
    log_loss,
)

RNG = np.random.default_rng(1)


def test_two_classes_are_a_probit() -> None:
    mean = RNG.standard_normal((50, 2))
    variance = 10.0 ** RNG.uniform(-3, 2, 50)
    wanted = norm.cdf((mean[:, 0] - mean[:, 1]) / np.sqrt(2 * variance))
    # Quadrature of a function that is smooth on the scale of its step.
    np.testing.assert_allclose(class_probabilities(mean, variance)[:, 0], wanted, atol=1e-12)


def test_small_probabilities_have_their_digits() -> None:
    """-log of them is what a confident mistake costs; the gap of 50 is 1e-274."""
    gaps = np.array([1.0, 10.0, 25.0, 30.0, 50.0])
    found = class_probabilities(np.stack([0 * gaps, gaps], axis=1), np.ones(gaps.size))
    # Sums of 161 terms, each a few roundings of its logarithm, 600 at most.
    np.testing.assert_allclose(found[:, 0], norm.cdf(-gaps / np.sqrt(2)), rtol=1e-12)


def test_small_probabilities_beside_many_rivals() -> None:
    """A class 20 behind 99 others: 1e-104, by a finer rule in logarithms."""
    mean = np.zeros((1, 100))
    mean[0, 0] = -20.0
    z = np.linspace(-10, 40, 50_001)
    logs = norm.logpdf(z) + 99 * norm.logcdf(z - 20.0)
    wanted = np.log(np.trapezoid(np.exp(logs - logs.max()), z)) + logs.max()
    found = class_probabilities(mean, np.ones(1))[0, 0]
    assert np.log(found) == pytest.approx(wanted, abs=1e-9)  # roundings of a logarithm of -239


def test_many_classes() -> None:
    """Of which one is ahead by 2: E Phi(z + 2)^399, by a finer rule in logarithms."""
    mean = np.zeros((1, 400))
    mean[0, 7] = 2.0
    z = np.linspace(-12, 12, 20_001)
    wanted = np.trapezoid(np.exp(norm.logpdf(z) + 399 * norm.logcdf(z + 2.0)), z)
    # The finer rule's own roundings; Gauss and Hermite's 64 nodes are off by more.
    assert class_probabilities(mean, np.ones(1))[0, 7] == pytest.approx(wanted, rel=1e-9)


def test_probabilities_are_frequencies() -> None:
    mean, draws = RNG.standard_normal((3, 5)), 400_000
    variance = np.array([0.1, 1.0, 9.0])
    noise = np.sqrt(variance)[:, None, None] * RNG.standard_normal((3, draws, 5))
    tops = (mean[:, None] + noise).argmax(axis=2)
    counted = np.array([np.bincount(row, minlength=5) for row in tops]) / draws
    # Five standard errors of a frequency near 1/2.
    np.testing.assert_allclose(
        class_probabilities(mean, variance), counted, atol=5 * 0.5 / np.sqrt(draws)
    )


@settings(max_examples=30)
@given(st.integers(2, 12), st.integers(0, 2**32 - 1), st.floats(-3, 3))
def test_rows_sum_to_one_and_follow_the_means(k: int, seed: int, exponent: float) -> None:
    mean = np.random.default_rng(seed).standard_normal((4, k))
    found = class_probabilities(mean, np.full(4, 10.0**exponent))
    # A sum of k roundings.
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-14)
    assert (found >= 0).all()
    order = np.argsort(mean, axis=1)
    sorted_ = np.take_along_axis(found, order, axis=1)
    assert (np.diff(sorted_, axis=1) >= -1e-12).all()  # of equal ones, by quadrature


def test_without_a_variance_the_largest_has_all() -> None:
    mean = np.array([[0.0, 1.0, 0.5], [1.0, 1.0, 0.0]])
    found = class_probabilities(mean, np.zeros(2))
    assert found.tolist() == [[0, 1, 0], [0.5, 0.5, 0]]


def test_calibration_errors_by_hand() -> None:
    probabilities = np.array([[0.9, 0.1], [0.95, 0.05], [0.4, 0.6], [1.0, 0.0]])
    labels = np.array([0, 1, 1, 0])
    # Bins of a tenth: two points in (0.9, 1] and one each in (0.8, 0.9] and (0.5, 0.6].
    gaps = abs((0 - 0.95) + (1 - 1.0)), abs(1 - 0.9), abs(1 - 0.6)
    assert expected_calibration_error(probabilities, labels, 10) == pytest.approx(sum(gaps) / 4)
    assert log_loss(probabilities, labels) == pytest.approx(-np.mean(np.log([0.9, 0.05, 0.6, 1])))
    assert log_loss(np.array([[1.0, 0.0]]), np.array([1])) == np.inf
    # A confidence of 1 belongs to the last bin, one of 0.9 to (0.8, 0.9].
    assert expected_calibration_error(np.array([[1.0, 0.0]]), np.array([0]), 10) == 0


def test_predict_tells_them(tmp_path: Path) -> None:
    x, test = RNG.standard_normal((30, 4)), RNG.standard_normal((9, 4))
    labels, wanted = np.arange(30) % 3 + 4, np.arange(9) % 3 + 4
    for name, values in (("x", x), ("t", test), ("y", labels), ("yt", wanted)):
        np.save(tmp_path / f"{name}.npy", values)
    widegram.gram("fcn:depth=1", x, tmp_path / "K.h5", dtype="float64")
    widegram.gram("fcn:depth=1", test, tmp_path / "C.h5", x, dtype="float64")
    run("solve", tmp_path / "K.h5", "--kernel", "nngp", "--y", tmp_path / "y.npy",
        "--diag-reg", "0.1", "--out", tmp_path / "A.h5")  # fmt: skip
    command = "predict", tmp_path / "A.h5", "--cross", tmp_path / "C.h5", "--y", tmp_path / "yt.npy"
    found = run_json(*command, "--variance", "--out", tmp_path / "P.h5")
    with h5py.File(tmp_path / "P.h5") as file:
        probability, mean = file["probability"][...], file["mean"][...]
        assert np.array_equal(probability, class_probabilities(mean, file["variance"][...]))
    assert found["log_loss"] == log_loss(probability, wanted - 4)
    assert found["ece"] == expected_calibration_error(probability, wanted - 4)
    plain = run_json(*command)
    assert (plain["log_loss"], plain["ece"]) == (None, None)
