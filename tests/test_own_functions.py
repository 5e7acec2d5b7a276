"""Functions of the user's: series with a known error, fingerprints of values, files."""

from __future__ import annotations

import copy
import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import widegram
from widegram import WidegramError, activations, stax
from widegram.activations.functions import function
from widegram.activations.hermite import Series
from widegram.network import load_network
from widegram.verifying.verify import verify

X = np.random.default_rng(0).standard_normal((5, 4))


def network(layer: Any, dense: Any = None) -> Any:
    dense = stax.Dense(1, 0.9, 0.3) if dense is None else dense
    return stax.serial(dense, layer, dense)[2]


def smooth(x: Any) -> Any:
    return np.tanh(x) + 0.1 * x * x


def slope(x: Any) -> Any:
    return 1 - np.tanh(x) ** 2 + 0.2 * x


@pytest.mark.parametrize(
    ("fn", "df"),
    [
        (np.tanh, lambda x: 1 - np.tanh(x) ** 2),
        (math.tanh, lambda x: 1 - np.tanh(x) ** 2),  # of numbers alone
        (lambda x: abs(x - 0.7), lambda x: np.sign(x - 0.7)),
        (lambda x: x**3 - x, lambda x: 3 * x * x - 1),
        (lambda x: 2.5, lambda x: 0 * x),
    ],
)
def test_a_function_on_panels(fn: Any, df: Any) -> None:
    x = np.concatenate([np.linspace(-40, 40, 997), 10.0 ** np.arange(-9, 3)])
    made = function(fn)
    wanted = np.array([fn(float(v)) for v in x])
    # relative to the largest value of a panel; 16 ** 2 roundings in a derivative
    np.testing.assert_allclose(made.phi(x), wanted, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(made.slope(x), df(x), rtol=1e-11, atol=1e-11)
    # nothing depends on what was asked for before
    again = function(fn)
    again.phi(np.array([1e3]))
    np.testing.assert_array_equal(again.phi(x), made.phi(x))


def test_values_make_the_fingerprint() -> None:
    def renamed(x: Any) -> Any:
        return (np.exp(x) - np.exp(-x)) / (np.exp(x) + np.exp(-x))

    assert function(renamed) == function(np.tanh) == function(math.tanh)
    assert function(lambda x: np.tanh(x) + 1e-8) != function(np.tanh)
    assert function(smooth) != function(smooth, slope)  # another way to the derivative
    assert copy.deepcopy(function(np.tanh)) == function(np.tanh)
    first, second = (network(stax.Elementwise(f)).network((4,)) for f in (np.tanh, renamed))
    assert first == second
    assert first.fingerprint() == second.fingerprint()


def test_errors_are_those_of_the_function() -> None:
    """A kink where quadrature expects none, a jump, and another function's derivative are seen."""
    def formula(fn: Any, df: Any = None) -> Any:
        return activations.get("Elementwise", {"fn": function(fn, df)}).for_range(1.0, 1e-8)

    assert formula(smooth).tail <= 1e-8
    assert formula(smooth, slope).degree == formula(smooth).degree
    kinked = formula(lambda x: np.abs(x - 0.3))
    assert 1e-3 < kinked.tail < 1e-1
    assert formula(np.sign).tail > 0.1
    assert formula(np.tanh, np.cos).tail > 0.01
    q, k = np.array(0.8), np.array(0.5)
    exact = activations.get("Tanh").moments(q, k, q)
    found = activations.get("Elementwise", {"fn": function(np.tanh)}).moments(q, k, q)
    # the same series, of another representation of the function
    np.testing.assert_allclose(found, exact, rtol=1e-12)
    assert isinstance(activations.get("Elementwise", {"fn": np.tanh}), Series)


def test_a_file_goes_on_with_the_same_function_alone(tmp_path: Path) -> None:
    out = tmp_path / "K.h5"
    made = network(stax.Elementwise(smooth)).network((4,))
    widegram.gram(made, X, out)
    assert widegram.gram(made, X, out).resumed_tiles == 1
    other = network(stax.Elementwise(lambda x: smooth(x) + 1e-6)).network((4,))
    with pytest.raises(WidegramError, match="it was made from another network"):
        widegram.gram(other, X, out)
    report = verify(out, X)
    assert not report.damaged_tiles
    assert "its network has a function of Python's" in str(report.note)
    text = made.to_json()
    with pytest.raises(WidegramError, match=r"layers\[1\] Elementwise: fn is a function of Py"):
        load_network(text)


def test_in_a_specification() -> None:
    layers = [{"layer": "Dense"}, {"layer": "Elementwise", "fn": np.tanh}, {"layer": "Dense"}]
    found = widegram.kernel({"input_shape": [4], "layers": layers}, X, get="ntk")
    layers[1] = {"layer": "Tanh"}
    wanted = widegram.kernel({"input_shape": [4], "layers": layers}, X, get="ntk")
    # two series of one function, float64 promises 1e-10
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-10 * np.abs(wanted).max())


def test_an_error_is_announced(caplog: pytest.LogCaptureFixture) -> None:
    fn = network(stax.Elementwise(lambda x: np.abs(x - 0.3) ** 3))
    with caplog.at_level(logging.WARNING, logger="widegram"):
        fn(X, None, "nngp")
    assert "relative error" in caplog.text


@pytest.mark.parametrize(
    ("message", "call"),
    [
        ("Elementwise: needs the function fn", lambda: stax.Elementwise()),
        ("Elementwise: fn must be a function, found 3", lambda: stax.Elementwise(3)),
        ("Elementwise: fn is no finite number at 0", lambda: stax.Elementwise(lambda x: 1 / x)),
        ("Elementwise: fn is no finite number at -4", lambda: stax.Elementwise(np.log)),
        ("Elementwise: fn fails: ZeroDivisionError", lambda: stax.Elementwise(lambda x: 1 // 0)),
        ("Elementwise: fn gives float32", lambda: stax.Elementwise(np.float32)),
        ("Elementwise: fn must give a number, fo", lambda: stax.Elementwise(lambda x: "a")),
        ("Elementwise: fn must give a number for", lambda: stax.Elementwise(lambda x: [x, x])),
        ("Elementwise: nngp_fn.0.3, .* is 0.3, but that of fn is 0.11",
         lambda: stax.Elementwise(np.tanh, lambda k, q, q2: k)),
        ("Elementwise: d_nngp_fn fails: TypeError",
         lambda: stax.Elementwise(np.tanh, None, lambda k: k)),
        ("ElementwiseNumerical: deg must be", lambda: stax.ElementwiseNumerical(np.tanh, 0)),
        ("ElementwiseNumerical: df must be", lambda: stax.ElementwiseNumerical(np.tanh, 9, 1)),
    ],
)  # fmt: skip
def test_bad_functions(message: str, call: Any) -> None:
    with pytest.raises(WidegramError, match=rf"^stax\.{message}") as error:
        call()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("fn", "message"),
    [
        (np.sign, "checked against phi and phi' .* leaves out"),
        (lambda x: np.sin(1e5 * x), "changes too often between"),
        (lambda x: np.where(np.abs(x) < 5, x, np.inf), "is no finite number at .*; use smaller"),
    ],
)
def test_what_cannot_be_computed_is_refused(fn: Any, message: str) -> None:
    with pytest.raises(WidegramError, match=message):
        network(stax.Elementwise(fn))(X, None, "nngp")
