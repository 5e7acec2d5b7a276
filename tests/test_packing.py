"""Packed planes: every displacement in one cell, and the same kernels as without packing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fresh_tables import fresh_tables
from jobs import job
from widegram import reference
from widegram.cpu import CpuEvaluator, in_cache, tables
from widegram.cpu.driver.fields import ProgramField, SlotField
from widegram.cpu.driver.packed_fields import CellField
from widegram.cpu.packing import BATCH, batch_inputs, pack
from widegram.data import open_source
from widegram.network import load_network
from widegram.plan.formulas import choose_formulas, factor_layout
from widegram.plan.plan import build

_CONV = {"layer": "Conv", "filter_shape": [3, 3], "padding": "SAME", "W_std": 1.3, "b_std": 0.1}


def _network(shape, stride, filter_size, padding="SAME"):
    window = {**_CONV, "filter_shape": [filter_size, filter_size], "padding": padding}
    branch = [{"layer": "Relu"}, window]
    layers = [
        {**_CONV, "padding": padding},
        {"layer": "Residual", "branch": branch, "shortcut": []},
        {"layer": "Erf"},
        {**window, "strides": [stride, stride]},
        {"layer": "Relu"},
        {"layer": "GlobalAvgPool"},
    ]
    return load_network({"input_shape": shape, "layers": layers})


@pytest.mark.parametrize("shape", [(8, 8), (5, 7)])
def test_cells_hold_each_displacement_once(shape: tuple[int, int]) -> None:
    plan = build(_network([*shape, 3], 1, 3))
    program = plan.cross.programs[0]
    packing = pack(program)
    assert packing is not None
    found = []
    for row in packing.cells[:, 0]:
        for bit in range(4):
            if row[CellField.SEGMENTS] >> bit & 1:
                y, x = row[CellField.DY] - (bit >> 1) * shape[0], row[CellField.DX]
                found.append((int(y), int(x - (bit & 1) * shape[1])))
    assert sorted(found) == sorted(map(tuple, program.displacements.tolist()))
    assert tuple(packing.cells[0, 0, [CellField.DY, CellField.DX]]) == (0, 0)


def test_inputs_are_made_for_neighbours_only() -> None:
    layers = [_CONV, {"layer": "Relu"}, {"layer": "GlobalAvgPool"}]
    network = load_network({"input_shape": [6, 6, 1], "layers": layers})
    program = build(network).cross.programs[0]
    packing = pack(program)
    assert packing is not None
    assert batch_inputs(program, packing) == BATCH
    cells = packing.cells[:, 0]
    firsts = np.flatnonzero(cells[:, CellField.COUNT] == BATCH)
    assert len(firsts) == 6
    for n in firsts:
        assert np.ptp(cells[n : n + BATCH, CellField.DY]) == 0
        assert cells[n : n + BATCH, CellField.BATCH].tolist() == list(range(BATCH))


@pytest.mark.parametrize(
    "layers",
    [
        [{**_CONV, "padding": "VALID"}, {"layer": "GlobalAvgPool"}],
        [{**_CONV, "padding": "CIRCULAR"}, {"layer": "Relu"}, _CONV, {"layer": "GlobalAvgPool"}],
        [_CONV, {"layer": "Relu"}, {"layer": "Flatten"}],
    ],
    ids=["shapes differ", "some windows wrap", "one displacement"],
)
def test_what_cannot_be_packed_is_left_alone(layers: list[dict[str, object]]) -> None:
    network = load_network({"input_shape": [6, 6, 1], "layers": layers})
    assert pack(build(network).cross.programs[0]) is None


@settings(max_examples=16, deadline=None)
@given(
    st.integers(1, 4), st.integers(1, 4), st.sampled_from([1, 2]), st.sampled_from([1, 2, 3, 5, 9]),
    st.integers(1, 6), st.sampled_from(["SAME", "CIRCULAR"]),
    st.sampled_from(["float32", "float64"]),
)  # fmt: skip
def test_packing_changes_only_the_order_of_sums(
    rows: int, cols: int, stride: int, filter_size: int, channels: int, padding: str, dtype: str
) -> None:
    network = _network([2 * rows, 2 * cols, channels], stride, filter_size, padding)
    x = np.random.default_rng(0).standard_normal((5, *network.input_shape)).astype(dtype)

    def kernels() -> dict[str, np.ndarray]:
        source = open_source(x)
        evaluator = CpuEvaluator(job(network, source, dtype=dtype, threads=1))
        return evaluator.tile(range(5), range(5), True)

    packed = kernels()
    with fresh_tables(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(in_cache, "pack", lambda program: None)
        plain = kernels()
    # The global pool sums whole packed planes: rounding of sums of at most 64 rows of a plane.
    tolerance = {"float32": 2e-6, "float64": 1e-14}[dtype]
    for key, value in packed.items():
        assert np.max(np.abs(value - plain[key])) <= tolerance * np.max(np.abs(plain[key]))


@pytest.mark.parametrize("padding", ["SAME", "CIRCULAR"])
@pytest.mark.parametrize("shape", [(2, 2), (1, 4)])
def test_networks_that_shrink_to_one_pixel(shape: tuple[int, int], padding: str) -> None:
    """Their output belongs to the program of their last convolution."""
    conv = {**_CONV, "padding": padding, "strides": [shape[0], shape[1]]}
    layers = [_CONV | {"padding": padding}, {"layer": "Erf"}, conv, {"layer": "Flatten"}]
    network = load_network({"input_shape": [*shape, 2], "layers": layers})
    packed = any(pack(program) for program in build(network).cross.programs)
    assert packed == (padding == "CIRCULAR")
    x = np.random.default_rng(0).standard_normal((4, *network.input_shape))
    evaluator = CpuEvaluator(job(network, x, threads=1))
    found, wanted = evaluator.tile(range(4), range(4), True), reference.kernel(network, x)
    # rounding of a few layers
    np.testing.assert_allclose(found["nngp"], wanted.nngp, rtol=1e-12)
    np.testing.assert_allclose(found["ntk"], wanted.ntk, rtol=1e-12)


@pytest.mark.parametrize("filter_size", [1, 3, 5])
@pytest.mark.parametrize("residual", [False, True])
def test_values_written_in_place_are_the_same_bits(filter_size: int, residual: bool) -> None:
    """Planes too large for two buffers have one, in which each window climbs a few rows."""
    window = {**_CONV, "filter_shape": [filter_size, filter_size]}
    step = [{"layer": "Relu"}, window]
    layers = [_CONV, *step, *step, {"layer": "Erf"}, {"layer": "GlobalAvgPool"}]
    if residual:
        layers[1:1] = [{"layer": "Residual", "branch": step, "shortcut": []}]
    network = load_network({"input_shape": [7, 6, 2], "layers": layers})
    x = np.random.default_rng(0).standard_normal((9, *network.input_shape))

    def made() -> tuple[int, CpuEvaluator]:
        evaluator = CpuEvaluator(job(network, x, threads=1))
        return int(evaluator.tables.programs[0][ProgramField.CLIMB]), evaluator

    climb, plain = made()
    assert climb == 0
    for budget in range(2**17, 0, -2048):
        with fresh_tables(), pytest.MonkeyPatch.context() as patch:
            patch.setattr(in_cache, "PLANES_BYTES", budget)
            climb, climbing = made()
            if climb:
                found = climbing.tile(range(9), range(9), True)
                break
    assert climb > 0
    for key, value in plain.tile(range(9), range(9), True).items():
        np.testing.assert_array_equal(found[key], value)


@pytest.mark.parametrize("get", [("nngp",), ("nngp", "ntk")])
def test_what_is_cleared_is_what_pools_add_to(get: tuple[str, ...]) -> None:
    conv = {"layer": "Conv", "filter_shape": [3, 3], "padding": "SAME"}
    pool = {"layer": "SumPool", "window_shape": [2, 3], "padding": "SAME"}
    layers = [conv, {"layer": "Relu"}, pool, conv, {"layer": "Relu"}, {"layer": "GlobalAvgPool"}]
    plan = build(load_network({"input_shape": [6, 5, 2], "layers": layers}), get)
    layout = factor_layout(plan, choose_formulas(plan, 1.0, "float64"))
    for schedule in (plan.cross, plan.itself(False), plan.itself(True)):
        found = tables.encode(plan, schedule, layout, "float64", paired=True)
        # Planes stand behind the stores, of which the only one that is not reduced is the pool's.
        assert found.clear == (0, found.slots[:, SlotField.OFFSET].min())
        assert 0 < found.clear[1] < found.scratch
