"""Rows that go from a window or an activation to a pool and are never a plane: where, and bits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fresh_tables import fresh_tables
from jobs import job
from widegram import reference
from widegram.cpu import CpuEvaluator, charts, handing, in_cache, tables
from widegram.cpu.driver.packed_fields import PackedField
from widegram.data import open_source
from widegram.network import load_network
from widegram.plan.formulas import choose_formulas, factor_layout
from widegram.plan.plan import build

RELU, GAP = {"layer": "Relu"}, {"layer": "GlobalAvgPool"}


def conv(window: int = 3, padding: str = "SAME", stride: int = 1) -> dict[str, Any]:
    return {
        "layer": "Conv", "filter_shape": [window, window], "padding": padding, "b_std": 0.1,
        "W_std": 1.2, "strides": [stride, stride],
    }  # fmt: skip


def pool(
    window: tuple[int, int] = (2, 2), strides: tuple[int, int] = (2, 2), padding: str = "VALID"
) -> dict[str, Any]:
    return {
        "layer": "AvgPool", "window_shape": list(window), "strides": list(strides),
        "padding": padding,
    }  # fmt: skip


def residual(*branch: dict[str, Any]) -> dict[str, Any]:
    return {"layer": "Residual", "branch": list(branch), "shortcut": []}


C = conv()
HANDED = {
    "window": [C, RELU, pool(), C, RELU, GAP],
    "window without activation": [C, pool(), GAP],
    "activation": [C, residual(RELU, C), RELU, pool(), GAP],
    "5 x 5": [C, RELU, conv(5), RELU, pool(), GAP],
    "row buffer": [C, RELU, {**C, "filter_shape": [3, 2]}, RELU, pool(), GAP],
    "torus": [conv(padding="CIRCULAR"), RELU, pool(), GAP],
    "three columns": [C, RELU, pool((2, 3), (2, 3)), GAP],
    "pixels between windows": [C, RELU, pool((3, 1), (4, 2)), C, RELU, GAP],
    "stride": [C, RELU, conv(stride=2), RELU, pool(), GAP],
}
APART = {
    "border": [C, RELU, pool((3, 3), (3, 3), "SAME"), GAP],
    "a row is left": [C, RELU, pool((3, 2), (3, 2)), GAP],
    "windows overlap": [C, RELU, pool((3, 3), (2, 2)), GAP],
    "columns of windows overlap": [C, RELU, pool((2, 2), (2, 1)), GAP],
    "windows wrap": [C, RELU, pool(padding="CIRCULAR"), GAP],
    "another reader": [C, residual(pool((1, 1), (1, 1)), RELU, C), GAP],
    "a plane is added": [C, residual(RELU, C), pool(), GAP],
    "sums of blocks": [C, RELU, conv(9), RELU, pool(), GAP],
    "input": [pool(), C, RELU, GAP],
}


@pytest.fixture(autouse=True, scope="module")
def without_charts() -> Iterator[None]:
    """Planes of tests are small."""
    with mock.patch.object(charts, "_MOST", 0):
        yield


def _tables(layers: list[dict[str, Any]], shape: tuple[int, ...] = (8, 12, 2)) -> tables.Tables:
    plan = build(load_network({"input_shape": list(shape), "layers": layers}))
    layout = factor_layout(plan, choose_formulas(plan, 1.0, "float32"))
    return tables.encode(plan, plan.cross, layout, "float32", False)


def _handed(found: tables.Tables) -> int:
    return int((found.packed[:, -len(PackedField) :][:, _HANDED] > 0).sum())


_HANDED = list(PackedField).index(PackedField.HANDED)


@pytest.mark.parametrize("name", HANDED)
def test_rows_are_handed_on(name: str) -> None:
    assert _handed(_tables(HANDED[name])) > 0


@pytest.mark.parametrize("name", APART)
def test_other_pools_read_planes(name: str) -> None:
    assert _handed(_tables(APART[name])) == 0


def test_only_packed_planes_hand_rows_on() -> None:
    with mock.patch.object(in_cache, "PLANES_BYTES", 0):
        assert _handed(_tables(HANDED["window"])) == 0


def test_planes_with_charts_are_made_whole() -> None:
    with mock.patch.object(charts, "_MOST", 96):
        assert _handed(_tables(HANDED["window"])) == 0


def _tile(
    layers: list[dict[str, Any]], shape: tuple[int, ...], dtype: str, other: bool
) -> dict[str, np.ndarray]:
    network = load_network({"input_shape": list(shape), "layers": layers})
    x = np.random.default_rng(5).standard_normal((3, *shape))
    second = open_source(x[:2] + 0.5) if other else None
    of = job(network, open_source(x), second, kernels=("nngp", "ntk"), dtype=dtype, threads=1)
    with CpuEvaluator(of) as evaluator:
        return evaluator.tile(range(3), range(2 if other else 3), not other)


def _check(
    layers: list[dict[str, Any]], shape: tuple[int, ...], dtype: str, other: bool, size: int
) -> None:
    """The same bits as by planes, with rows in ``size`` bytes."""
    with fresh_tables(), mock.patch.object(handing, "ROWS_BYTES", size):
        found = _tile(layers, shape, dtype, other)
    with fresh_tables(), mock.patch.object(handing, "_hands_on", return_value=False):
        planes = _tile(layers, shape, dtype, other)
    for key, value in planes.items():
        np.testing.assert_array_equal(found[key], value)


@pytest.mark.parametrize("size", [0, 8192, 1 << 20], ids=["a window", "some", "all"])
@pytest.mark.parametrize("name", HANDED)
def test_bits_are_those_of_planes(name: str, size: int) -> None:
    for dtype, other in (("float32", True), ("float64", False)):
        _check(HANDED[name], (8, 12, 2), dtype, other, size)


_SIZES = st.integers(1, 3)


@given(
    windows=st.tuples(_SIZES, _SIZES), window=st.tuples(_SIZES, _SIZES),
    more=st.tuples(st.integers(0, 1), st.integers(0, 1)),
    above=st.sampled_from(["SAME", "CIRCULAR"]), size=st.sampled_from([0, 4096, 1 << 20]),
    act=st.sampled_from(["Relu", "Erf", "Sin"]), other=st.booleans(),
)  # fmt: skip
@settings(max_examples=40, deadline=None, database=None)
def test_bits_at_every_displacement(
    windows: tuple[int, int], window: tuple[int, int], more: tuple[int, int], above: str, size: int,
    act: str, other: bool,
) -> None:  # fmt: skip
    """Every parity of d occurs, and windows that stand in two or four rectangles."""
    strides = (window[0] + more[0], window[1] + more[1])
    layers = [conv(padding=above), {"layer": act}, pool(window, strides), C, RELU, GAP]
    shape = (windows[0] * strides[0], windows[1] * strides[1], 1)
    _check(layers, shape, "float32", other, size)


def test_planes_in_place_hand_rows_on() -> None:
    layers = [C, residual(RELU, C), RELU, C, RELU, pool(), C, RELU, GAP]
    shape = (4, 4, 1)
    with mock.patch.object(in_cache, "PLANES_BYTES", 17920):
        found = _tables(layers, shape)
        assert _handed(found) > 0
        _check(layers, shape, "float64", False, 0)


def test_handed_rows_agree_with_the_reference() -> None:
    shape = (8, 6, 2)
    layers = HANDED["pixels between windows"]
    network = load_network({"input_shape": list(shape), "layers": layers})
    x = np.random.default_rng(5).standard_normal((3, *shape))
    found = _tile(layers, shape, "float64", False)
    expected = reference.kernel(network, x)
    for key, value in found.items():
        # Rounding of a few layers.
        np.testing.assert_allclose(value, getattr(expected, key), rtol=1e-12)
