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
from widegram.activations.expressions import expression, parsed_function
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
def test_a_function_in_pieces(fn: Any, df: Any) -> None:
    x = np.concatenate([np.linspace(-40, 40, 997), 10.0 ** np.arange(-9, 3)])
    made = function(fn)
    wanted = np.array([fn(float(v)) for v in x])
    # relative to the largest value of a piece; 16 ** 2 roundings in a derivative
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


# expressions and tables -----------------------------------------------------------------------


def custom(**parameters: Any) -> Any:
    return {"input_shape": [4], "layers": [
        {"layer": "Dense", "b_std": 0.2}, {"layer": "Custom", **parameters}, {"layer": "Dense"},
    ]}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "phi", "slope"),
    [
        ("tanh(x)", np.tanh, lambda x: 1 - np.tanh(x) ** 2),
        ("-x**3 + 2*x/4 - 1e0", lambda x: -(x**3) + x / 2 - 1, lambda x: -3 * x * x + 0.5),
        ("exp(-x**2) * sin(pi*x)", lambda x: np.exp(-x * x) * np.sin(np.pi * x),
         lambda x: np.exp(-x * x) * (np.pi * np.cos(np.pi * x) - 2 * x * np.sin(np.pi * x))),
        ("1 / (1 + e**0 + x**2)", lambda x: 1 / (2 + x * x), lambda x: -2 * x / (2 + x * x) ** 2),
        ("maximum(x, 0.1*x) + minimum(1, abs(x))",
         lambda x: np.where(x > 0, x, 0.1 * x) + np.minimum(1, np.abs(x)),
         lambda x: np.where(x > 0, 1, 0.1) + np.sign(x) * (np.abs(x) < 1)),
        ("sqrt(1 + x**2) - log1p(x**2)", lambda x: np.sqrt(1 + x * x) - np.log1p(x * x),
         lambda x: x / np.sqrt(1 + x * x) - 2 * x / (1 + x * x)),
    ],
)  # fmt: skip
def test_values_and_derivatives_of_expressions(text: str, phi: Any, slope: Any) -> None:
    x = np.linspace(-3, 3, 100)
    found = parsed_function(expression(text))
    # a few roundings
    np.testing.assert_allclose(found[0](x), phi(x), rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose(found[1](x), slope(x), rtol=1e-13, atol=1e-14)


def test_kernels_of_expressions_and_tables(tmp_path: Path) -> None:
    exact = custom(expression="tanh(x)")
    exact["layers"][1] = {"layer": "Tanh"}
    wanted = widegram.kernel(exact, X, get="ntk")
    found = widegram.kernel(custom(expression=" tanh(x) "), X, get="ntk")
    # two series of one function
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-12)
    x = np.linspace(-6, 6, 241)
    rows = np.stack([x, np.tanh(x)], axis=1)
    np.save(tmp_path / "phi.npy", rows)
    spec = custom(table=str(tmp_path / "phi.npy"))
    # a spline of step h = 0.05 is off by h^4 / 80 of phi, h^3 / 24 of its slope
    np.testing.assert_allclose(widegram.kernel(spec, X, get="ntk"), wanted, rtol=0, atol=1e-5)
    made = load_network(spec)
    (tmp_path / "phi.npy").unlink()
    assert load_network(made.to_json()) == made
    assert made == load_network(custom(table=rows.tolist()))


def test_a_file_of_an_expression_is_computed_again(tmp_path: Path) -> None:
    out = tmp_path / "K.h5"
    x = X[:3]
    widegram.gram(custom(expression="x*tanh(x)"), x, out)
    with pytest.raises(WidegramError, match="it was made from another network"):
        widegram.gram(custom(expression="x*tanh(x)*1.001"), x, out)
    report = verify(out, x)
    assert not report.damaged_tiles
    assert not report.note


def test_expressions_in_presets_and_stax() -> None:
    network = load_network("fcn:depth=2,act=custom,expression=x*tanh(x)", input_shape=(4,))
    assert dict(network.layers[0].body[1].params)["expression"] == "x*tanh(x)"
    rows = np.array([[-1.0, 0.0], [0.0, 0.5], [1.0, 0.0]])
    for triple in (stax.Custom("x*tanh(x)"), stax.Custom(table=rows)):
        assert stax.serial(stax.Dense(1), triple)[2].network((4,)).layers[1].name == "Custom"


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({}, "takes either an expression or a table"),
        ({"expression": "x", "table": [[0, 0], [1, 1], [2, 2]]}, "takes either"),
        ({"expression": "foo(x)"}, r"expression has 'foo\(x\)', but may have x, pi, e, numbers"),
        ({"expression": "__import__('os')"}, "expression has .*, but may have"),
        ({"expression": "x.real"}, "expression has 'x.real', but may have"),
        ({"expression": "lambda: 1"}, "expression has 'lambda: 1'"),
        ({"expression": "exp(x, x)"}, "expression has"),
        ({"expression": "'x'"}, "expression has"),
        ({"expression": "True"}, "expression has 'True'"),
        ({"expression": "x @ x"}, "expression has another operation"),
        ({"expression": "x**x"}, "expression has an exponent with x"),
        ({"expression": "9**9**9**9"}, "expression has a number that is too large"),
        ({"expression": "1e999*x"}, "expression has a number that is too large"),
        ({"expression": "("}, "expression cannot be read: "),
        ({"expression": "x + 1\n+ 2"}, "expression cannot be read: "),
        ({"expression": "x+" * 300 + "x"}, "expression must be a text of at most 500"),
        ({"expression": 3}, "expression must be a text"),
        ({"expression": "log(x)"}, "expression is no finite number at -4"),
        ({"expression": "1/x"}, "expression is no finite number at 0"),
        ({"table": "nowhere.npy"}, "table 'nowhere.npy' cannot be read as a .npy file"),
        ({"table": __file__}, "table .* cannot be read as a .npy file"),
        ({"table": "/dev/zero"}, "table '/dev/zero' cannot be read"),
        ({"table": [[0, 1], [1, 2]]}, "table must have 3 to 512 rows"),
        ({"table": [[0, 1, 2]] * 4}, "table must have 3 to 512 rows"),
        ({"table": [[0, 1], [0, 2], [1, 3]]}, "table must have ascending x; row 1"),
        ({"table": [[0, 1], [1, float("nan")], [2, 3]]}, "table has a number that is not finite"),
        ({"table": 5}, "table must be a .npy file or rows"),
        ({"table": {"a": 1}}, "table must be a .npy file or rows"),
    ],
)
def test_bad_expressions_and_tables(parameters: dict, message: str) -> None:
    with pytest.raises(WidegramError, match=rf"^layers\[1\] Custom: {message}") as error:
        load_network(custom(**parameters))
    assert "\n" not in str(error.value)


def test_an_expression_out_of_range_is_refused() -> None:
    with pytest.raises(WidegramError, match="Custom: expression is no finite number at"):
        widegram.kernel(custom(expression="exp(exp(x))"), X, get="nngp")
