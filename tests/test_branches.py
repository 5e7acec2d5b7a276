"""Branches that meet, against neural-tangents, the dense reference, and on every backend.

``golden_branches/values.npz`` was written by neural-tangents 0.6.5 (its README.md).
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import branch_examples
from agreement import PROMISED, cpu_agrees, generated_agrees
from cuda_support import both
from network_specs import CONV, DENSE, DROPOUT, FLATTEN, GAP, NORM, POOL, RELU, load, residual
from widegram import WidegramError, kernel, load_network, stax
from widegram.network import Residual, weights
from widegram.network.layers import FanInSum
from widegram.stax.branches import close

GOLDEN = Path(__file__).parent / "golden_branches" / "values.npz"
ERF = {"layer": "Erf"}

Case = tuple[tuple[int, ...], list[dict[str, Any]]]


def conv(rows: int, cols: int, padding: str = "SAME", strides: Any = (1, 1)) -> dict[str, Any]:
    return {
        "layer": "Conv", "filter_shape": [rows, cols], "padding": padding,
        "strides": list(strides), "W_std": 1.3, "b_std": 0.2,
    }  # fmt: skip


def fan_in(name: str, *branches: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    return {"layer": name, "branches": list(branches), **more}


def sum_of(*branches: list[dict[str, Any]]) -> dict[str, Any]:
    return fan_in("FanInSum", *branches)


def product_of(*branches: list[dict[str, Any]]) -> dict[str, Any]:
    return fan_in("FanInProd", *branches)


def concat(*branches: list[dict[str, Any]], axis: int = -1) -> dict[str, Any]:
    return fan_in("FanInConcat", *branches, axis=axis)


FIRST = conv(1, 1)
CASES: dict[str, Case] = {
    "other strides": ((3, 3, 2), [FIRST, residual(conv(2, 2, strides=(2, 2)),
                      shortcut=[conv(2, 2, "VALID")]), RELU, GAP]),
    "other strides, windows behind": ((7, 5, 1), [FIRST, residual(
        conv(3, 3, strides=(2, 2)), shortcut=[conv(3, 3, "VALID"), RELU, conv(2, 1, "VALID")]),
        RELU, conv(2, 2), RELU, GAP, DENSE]),
    "other strides, on a torus": ((5, 5, 1), [FIRST, residual(conv(3, 3, "CIRCULAR"), RELU,
        conv(3, 3, strides=(2, 2)), shortcut=[conv(3, 3, "VALID")]), RELU,
        conv(2, 2, "CIRCULAR"), RELU, GAP]),
    "other strides along one axis": ((5, 6, 1), [FIRST, residual(conv(1, 3, strides=(1, 2)),
        shortcut=[conv(1, 4, "VALID")]), RELU, FLATTEN]),
    "sum": ((4, 5, 2), [CONV, sum_of([], [RELU, CONV], [], [ERF, CONV]), RELU, GAP, DENSE]),
    "sum of three identities": ((4, 3, 1), [CONV, sum_of([], [], []), RELU, FLATTEN]),
    "sum of a sum": ((5, 4, 1), [CONV, sum_of([sum_of([], [])], [], [RELU, DENSE]), RELU, CONV,
                     RELU, GAP]),
    "sum of vectors": ((7,), [DENSE, sum_of([RELU, DENSE], [], []), RELU, DENSE]),
    "product": ((4, 5, 2), [CONV, product_of([RELU, CONV], [ERF], []), CONV, RELU, GAP, DENSE]),
    "product, strips": ((16, 8, 1), [CONV, product_of([RELU, CONV], []), CONV, RELU, GAP]),
    "product, torus": ((4, 3, 1), [conv(3, 3, "CIRCULAR"), product_of([conv(2, 3, "CIRCULAR"),
                       RELU], [conv(3, 3, "CIRCULAR")]), GAP, DENSE, RELU]),
    "product of pools": ((6, 5, 1), [CONV, product_of([POOL, RELU, CONV], [POOL], [conv(2, 2,
                         "VALID")]), CONV, RELU, POOL, FLATTEN, DENSE]),
    "product at the end": ((5, 4, 2), [CONV, GAP, product_of([DENSE, RELU], [], [DENSE, ERF])]),
    "product of sums": ((5, 4, 1), [product_of([CONV, sum_of([RELU, CONV], [])], [CONV, RELU,
                        DROPOUT]), CONV, RELU, CONV, NORM, RELU, FLATTEN]),
    "product of vectors": ((7,), [product_of([DENSE, RELU], [DENSE], []), DENSE, RELU, DENSE]),
    "powers": ((5,), [DENSE, product_of([], [], []), DENSE, RELU, product_of([DENSE], [DENSE])]),
    "product, no readout": ((6, 2), [product_of([{**conv(1, 1), "filter_shape": [3],
                            "strides": [1]}], [DENSE, ERF]), FLATTEN]),
    "channels": ((4, 5, 2), [CONV, concat([{**CONV, "width": 3}, RELU], [{**CONV, "width": 5}]),
                 CONV, RELU, GAP, DENSE]),
    "channels, strips": ((16, 8, 1), [{**CONV, "width": 2}, concat([], [RELU], [RELU, {**CONV,
                         "width": 7}]), CONV, RELU, GAP]),
    "channels of vectors": ((7,), [concat([], [{**DENSE, "width": 4}, RELU]), DENSE, RELU, DENSE]),
    "channels of pools": ((5, 4, 3), [concat([POOL], [{**conv(2, 2, "VALID"), "width": 4}],
                          axis=3), FLATTEN, DENSE, RELU]),
    # A vector, whose axis 1 is that of the channels, though its image had one pixel before.
    "channels of one pixel": ((3, 2, 2), [conv(3, 2, "VALID"), RELU, FLATTEN, concat(
        [{**DENSE, "width": 3}], [{**DENSE, "width": 4}, RELU], axis=1), DENSE, RELU, DENSE]),
    "sums one after the other": ((6,), [DENSE, {"layer": "Repeat", "times": 3, "body": [
                                 sum_of([], [], [RELU, DENSE]), RELU, DENSE]}]),
}  # fmt: skip


# Side by side along an axis of images: a map of all planes, of which CUDA has none.
SPACES: dict[str, Case] = {
    "rows": ((4, 5, 2), [CONV, concat([], [RELU, conv(2, 2)], [conv(3, 1, "VALID")], axis=1), RELU,
             CONV, RELU, GAP, DENSE]),
    "columns": ((3, 4, 1), [conv(3, 3, "CIRCULAR"), concat([conv(3, 3, "CIRCULAR")], [], axis=-2),
                ERF, conv(3, 3, "CIRCULAR"), RELU, GAP]),
    "behind pools and strides": ((6, 5, 1), [CONV, concat([conv(2, 2, strides=(2, 1))], [RELU,
        CONV, {**POOL, "window_shape": [3, 1], "strides": [2, 1]}], axis=1), NORM, RELU, POOL,
        FLATTEN, DENSE]),
    "twice": ((2, 3, 1), [CONV, *[concat([], [RELU, CONV], axis=1), RELU, CONV] * 2, RELU,
              FLATTEN]),
    "of the planes of equal pixels": ((3, 3, 2), [CONV, concat([], [conv(1, 1)], axis=2), FLATTEN]),
    "sequences": ((6, 2), [{**conv(1, 1), "filter_shape": [3], "strides": [1]}, concat([],
                  [DENSE], axis=1), RELU, GAP]),
}  # fmt: skip


@pytest.mark.parametrize("name", SPACES)
def test_cuda_refuses_images_side_by_side(name: str) -> None:
    shape, layers = SPACES[name]
    with pytest.raises(WidegramError, match=r"layers\[\d\] FanInConcat: .*--device cpu") as error:
        both({"input_shape": list(shape), "layers": layers})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", [*CASES, *SPACES])
@pytest.mark.parametrize("dtype", PROMISED)
def test_cpu_and_reference_agree(name: str, dtype: str) -> None:
    cpu_agrees(*(CASES | SPACES)[name], dtype)


@pytest.mark.parametrize("name", CASES)
def test_generated_kernels_and_reference_agree(name: str) -> None:
    generated_agrees(*CASES[name])


@pytest.mark.parametrize("family", branch_examples.FAMILIES)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_values_of_neural_tangents(family: str, dtype: str) -> None:
    # of the largest entry: what is promised
    tolerance = {"float64": 1e-10, "float32": 1e-5}[dtype]
    wrong, found = {}, branch_examples.run(stax, [family], dtype)
    with np.load(GOLDEN) as file:
        wanted = {name: file[name] for name in file if name.startswith(f"{family}/")}
    assert sorted(found) == sorted(wanted)
    for name, value in wanted.items():
        assert (found[name].shape, found[name].dtype) == (value.shape, np.dtype(dtype)), name
        error = np.max(np.abs(found[name] - value)) / np.max(np.abs(value))
        if not error <= tolerance:
            wrong[name] = float(error)
    assert not wrong


def test_a_specification_is_read_back() -> None:
    network = load((4, 5, 2), CONV, sum_of([], [RELU, CONV], []), GAP)
    assert network.layers[1] == FanInSum(((), network.layers[1].branches[1], ()))
    assert load_network(network.canonical()) == network
    assert [path for path, _, _ in network.shapes()] == [
        "layers[0] Conv", "layers[1] FanInSum", "layers[1] FanInSum.branches[1][0] Relu",
        "layers[1] FanInSum.branches[1][1] Conv", "layers[2] GlobalAvgPool",
    ]  # fmt: skip


def test_stax_keeps_residuals_where_they_do() -> None:
    dense, same, pool = stax.Dense(4), stax.Identity(), stax.AvgPool((1,))
    for branches, made in (
        ([dense, same], Residual), ([pool, dense, same], Residual),
        ([dense, same, same], FanInSum), ([dense, pool, same], FanInSum),
    ):  # fmt: skip
        network = branch_examples.fan(stax, stax.FanInSum(), *branches)
        (layer,) = close(network[2].items)
        assert type(layer) is made


def test_branches_that_are_not_independent_are_said(caplog: pytest.LogCaptureFixture) -> None:
    """Their values are neural-tangents', which are not those of a finite network."""
    weights._say.cache_clear()
    network = load((4,), DENSE, sum_of([], [RELU, DENSE], []), sum_of([], [RELU, DENSE]))
    with caplog.at_level(logging.WARNING, "widegram"):
        for _ in range(2):
            kernel(network, np.eye(4))
    (record,) = caplog.records
    assert record.getMessage().startswith("layers[1] FanInSum: 2 of its branches have no weights")


@pytest.mark.parametrize(("scale", "dtype"), [
    (1e-8, "float32"), (1e8, "float32"), (1e-60, "float64"), (1e60, "float64"),
])  # fmt: skip
def test_products_stay_in_range(scale: float, dtype: str) -> None:
    """Each factor alone is far from 1, and powers of two bring both back."""
    x = np.random.default_rng(0).standard_normal((3, 4, 4, 2))
    network = load((4, 4, 2), CONV, product_of([RELU, CONV], []), CONV, RELU, GAP)
    wanted = kernel(network, x, dtype="float64")
    found = kernel(network, scale * x, dtype=dtype)
    for key in ("nngp", "ntk"):
        value, one = getattr(wanted, key), scale**4
        # the promise of each dtype, relative to the largest entry
        tolerance = {"float64": 1e-10, "float32": 1e-5}[dtype] * abs(value).max()
        np.testing.assert_allclose(getattr(found, key) / one, value, rtol=0, atol=tolerance)


def test_powers_beyond_any_range_are_refused() -> None:
    square = {"layer": "Repeat", "times": 60, "body": [product_of([], [])]}
    network, x = load((4,), DENSE, square), np.ones((1, 4))
    with pytest.raises(WidegramError, match=r"(under|over)flows at row 0"):
        kernel(network, x, dtype="float64")


IMAGE = (6, 5, 3)
REFUSED = [
    (IMAGE, [{"layer": "FanInSum"}], r"layers\[0\] FanInSum: branches must be a list of lists"),
    (IMAGE, [sum_of()], r"layers\[0\] FanInSum: branches must be .* at least one"),
    (IMAGE, [fan_in("FanInSum", [], axis=1)], r"FanInSum: unknown parameter 'axis'"),
    (IMAGE, [{**sum_of(), "branches": [RELU]}], r"branches\[0\]: must be a list of layers"),
    (IMAGE, [CONV, sum_of([], [RELU], [CONV])], r"FanInSum: the output of branches\[1\] must be "
     r"Gaussian, but comes from layers\[1\] FanInSum.branches\[1\]\[0\] Relu"),
    (IMAGE, [sum_of([], [CONV])], r"the output of branches\[0\] must be Gaussian.*raw input"),
    (IMAGE, [CONV, sum_of([], [conv(3, 3, "VALID")])],
     r"FanInSum: branches\[0\] ends with 6 x 5, branches\[1\] with 4 x 3; give all the same"),
    (IMAGE, [CONV, sum_of([GAP], [])], r"branches\[0\] ends with a vector, branches\[1\] with 6"),
    ((5, 5, 1), [CONV, sum_of([{"layer": "Index", "idx": [":", 1]}],
                              [{"layer": "Index", "idx": [":", ":", 1]}])],
     r"FanInSum: its branches keep different axes of the image"),
    ((4,), [sum_of([{**DENSE, "width": 3}], [{**DENSE, "width": 5}]),
            {**DENSE, "parameterization": "standard", "width": 2}],
     r"FanInSum: its branches end with 3 and with 5 channels; give all the same 'width'"),
    (IMAGE, [CONV, product_of([RELU], [CONV]), RELU],
     r"layers\[2\] Relu: its input must be Gaussian, but comes from layers\[1\] FanInProd"),
    (IMAGE, [CONV, product_of([], []), NORM], r"LayerNorm: its input must be Gaussian"),
    (IMAGE, [CONV, sum_of([product_of([RELU], [])], [])],
     r"FanInSum: the output of branches\[0\] must be Gaussian, but comes from .* FanInProd"),
    (IMAGE, [product_of([], [conv(3, 3, "VALID")])],
     r"FanInProd: branches\[0\] ends with 6 x 5, branches\[1\] with 4 x 3"),
    ((4,), [product_of([{**DENSE, "width": 3}], []),
            {**DENSE, "parameterization": "standard", "width": 2}],
     r"FanInProd: its branches end with 3 and with 4 channels"),
    (IMAGE, [CONV, concat([CONV], [])],
     r"FanInConcat: counts branches by their channels, .* of branches\[0\]; add 'width' to layers"),
    (IMAGE, [{**CONV, "width": 2}, concat([], [RELU]), RELU],
     r"comes from layers\[1\] FanInConcat"),
    (IMAGE, [{**CONV, "width": 2}, concat([], [POOL])],
     r"branches\[0\] ends with 6 x 5, branches\[1\] with 5 x 4; they may differ along axis -1 al"),
    (IMAGE, [CONV, concat([], [POOL], axis=1)], r"they may differ along axis 1 alone"),
    (IMAGE, [CONV, concat([], [RELU], axis=1)], r"branches\[1\] must be Gaussian, but comes from"),
    (IMAGE, [CONV, concat([], [], axis=0)], r"FanInConcat: axis 0 is the batch"),
    (IMAGE, [CONV, concat([], [], axis=-4)], r"FanInConcat: axis -4 is the batch"),
    (IMAGE, [CONV, concat([], [], axis=4)], r"FanInConcat: axis 4 does not exist in outputs of 4"),
    (IMAGE, [CONV, concat([], axis="1")], r"FanInConcat: axis must be an integer, found '1'"),
    (IMAGE, [CONV, concat([], axis=True)], r"FanInConcat: axis must be an integer, found True"),
    ((2, 2048, 1), [CONV, *[concat([], [], axis=1)] * 12], r"FanInConcat: makes an image of"),
    (IMAGE, [CONV, concat([GAP], [])], r"FanInConcat: its branches keep different axes"),
    ((4,), [sum_of(*[[]] * 10001)], r"layers\[0\] FanInSum: 10001 layers"),
]  # fmt: skip


@pytest.mark.parametrize(("shape", "layers", "message"), REFUSED)
def test_refused_in_one_line(shape: tuple[int, ...], layers: Any, message: str) -> None:
    with pytest.raises(WidegramError, match=message) as error:
        load(shape, *layers)
    assert "\n" not in str(error.value)


X = np.random.default_rng(5).standard_normal((3, 4))
D, TWO = stax.Dense(4), stax.parallel(stax.Dense(4), stax.serial(stax.Dense(4), stax.Relu()))


def test_two_inputs_joined_are_those_of_their_branches() -> None:
    (_, _, one), (_, _, two) = D, stax.serial(D, stax.Relu(), D)
    network = stax.serial(stax.parallel(D, stax.serial(D, stax.Relu(), D)), stax.FanInSum())
    found = network[2]([X, X[:, :3]], None)
    assert found.x1_is_x2
    assert found.cov2 is None
    for key in ("nngp", "ntk", "cov1"):
        parts = [getattr(fn(x, None), key) for fn, x in ((one, X), (two, X[:, :3]))]
        # some roundings
        np.testing.assert_allclose(getattr(found, key), sum(parts), rtol=1e-13)
    kernels = [one(X, None), two(X[:, :3], None)]
    join = stax.serial(stax.parallel(stax.Identity(), stax.Identity()), stax.FanInSum())
    np.testing.assert_allclose(join[2](kernels).ntk, found.ntk, rtol=1e-13)


SUM, PROD = stax.FanInSum(), stax.FanInProd()
IN_LIST = stax.parallel(stax.serial(TWO, stax.FanInConcat()), D)


def test_a_list_with_a_pattern_and_graphs_without() -> None:
    graph = stax.serial(stax.Aggregate(), D, stax.GlobalAvgPool())
    kernel_fn, x = stax.serial(stax.parallel(graph, D), SUM)[2], [X[:, :, None], X]
    without = stax.serial(stax.parallel(stax.serial(D, stax.GlobalAvgPool()), D), SUM)[2]
    # some roundings, here and below
    np.testing.assert_allclose(kernel_fn(x, None, "ntk"), without(x, None, "ntk"), rtol=1e-13)
    one, two = np.random.default_rng(3).standard_normal((2, 3, 4, 4))
    both = kernel_fn(x, x, pattern=(one, two))
    # a pattern that differs makes x2 another input
    np.testing.assert_allclose(kernel_fn(x, None, pattern=(one, two)).ntk, both.ntk, rtol=1e-13)
    with pytest.raises(WidegramError, match="pattern2 is not an array of numbers") as error:
        kernel_fn(x, None, pattern=[(one, two), (one, two[0])])
    assert "\n" not in str(error.value)
    with pytest.raises(WidegramError, match=r"pattern1 has shape \(2, 4, 4\); it needs a row for"):
        kernel_fn(x, None, pattern=(one[:2], one[:2]))
    # a mask that hides nothing, beside a pattern
    masked = kernel_fn(x, None, "ntk", pattern=(one, one), mask_constant=np.inf)
    unmasked = kernel_fn(x, None, "ntk", pattern=(one, one))
    np.testing.assert_allclose(masked, unmasked, rtol=1e-13)


@pytest.mark.parametrize(("layers", "arguments", "message"), [
    ((TWO, PROD), (X,), "acts on 2 inputs, so x1 must be a list of 2 arrays"),
    ((TWO, PROD), ([X],), "acts on 2 inputs, so x1 must be a list of 2 arrays"),
    ((TWO, PROD), ([X, X], X), "acts on 2 inputs, so x2 must be a list of 2 arrays"),
    ((TWO, PROD), ([X, X[:2]],), "inputs of one list must have as many rows, found"),
    ((TWO,), ([X, X],), "several inputs have to be joined by FanInSum"),
    ((TWO, D), ([X, X],), "several inputs have to be joined by FanInSum"),
    ((TWO, stax.FanOut(2)), ([X, X],), "several inputs have to be joined by FanInSum"),
    ((TWO, stax.parallel(D), SUM), ([X, X],), "parallel: has 1 branches for 2 inputs"),
    ((TWO, SUM), ([X, X],), r"FanInSum: the output of branches\[1\] must be Gaussian"),
    ((TWO, PROD, stax.Relu()), ([X, X],), "Relu: its input must be Gaussian"),
    ((stax.parallel(D, stax.Dense(5)), SUM), ([X, X],), "end with 4 and with 5 channels"),
    ((TWO, stax.FanInConcat(0)), ([X, X],), "FanInConcat: axis 0 is the batch"),
    ((TWO, PROD), ([X, X.tolist()],), "kernel_fn: x1 is a list; it must be an array"),
    ((IN_LIST, PROD), ([[X, X], X],), "FanInProd: its branches end with 4 and with 8 channels"),
    ((IN_LIST, SUM), ([X, X],), "acts on 2 inputs, so x1 must be a list of 2 arrays"),
    ((IN_LIST, SUM), ([[X, X[:2]], X],), "inputs of one list must have as many rows, found"),
    ((IN_LIST, SUM), ([[X, X], [X, X]],), "kernel_fn: x1 is a list; it must be an array"),
])  # fmt: skip
def test_several_inputs_that_do_not_fit(layers: Any, arguments: Any, message: str) -> None:
    with pytest.raises(WidegramError, match=message) as error:
        stax.serial(*layers)[2](*arguments)
    assert "\n" not in str(error.value)
