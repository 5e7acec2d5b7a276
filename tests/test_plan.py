"""Plans: which displacements are needed, how values are grouped, and what it all costs."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import golden_cases
import strategies
from network_specs import DENSE, FLATTEN, GAP, RELU, load, residual
from widegram.network import Network, load_network
from widegram.plan import Plan, build
from widegram.plan.masks import displacements
from widegram.plan.operations import Affine, Copy, Gather, Input
from widegram.plan.steps import Storing

CONV = {"layer": "Conv", "filter_shape": [3, 3], "padding": "SAME"}
POOL = {"layer": "AvgPool", "window_shape": [2, 2], "strides": [2, 2]}
SAME_POOL = {"layer": "AvgPool", "window_shape": [2, 2], "padding": "SAME"}
IMAGE = (8, 6, 3)


def plan(*layers: dict, shape: tuple[int, ...] = IMAGE, **options: object) -> Plan:
    return build(load(shape, *layers), **options)


def needs(p: Plan, kind: type) -> list[set[tuple[int, int]]]:
    """The displacements at which each operation of a kind is needed."""
    return [
        {(int(a), int(b)) for a, b in displacements(mask)}
        for node, mask in zip(p.nodes, p.cross.masks, strict=True)
        if isinstance(node.operation, kind)
    ]


def box(rows: int, cols: int) -> set[tuple[int, int]]:
    """All displacements with |d| <= (rows, cols)."""
    return {(a, b) for a in range(-rows, rows + 1) for b in range(-cols, cols + 1)}


def test_flatten_needs_one_displacement() -> None:
    assert needs(plan(CONV, RELU, CONV, FLATTEN), Affine) == [{(0, 0)}] * 2


def test_flatten_behind_a_pool_needs_nine() -> None:
    p = plan(CONV, RELU, POOL, CONV, FLATTEN)
    assert needs(p, Affine) == [box(1, 1), {(0, 0)}]
    assert needs(p, Gather) == [{(0, 0)}]


def test_flatten_behind_two_pools() -> None:
    p = plan(CONV, POOL, CONV, POOL, FLATTEN)
    # one pixel further for the outer window, doubled by the inner pool, and one more
    assert needs(p, Affine) == [box(3, 3), box(1, 1)]


def test_overlapping_pool() -> None:
    pool = {**POOL, "window_shape": [3, 2]}
    assert needs(plan(CONV, pool, FLATTEN), Affine) == [box(2, 1)]


def test_global_pool_needs_all() -> None:
    assert needs(plan(CONV, RELU, CONV, GAP), Affine) == [box(7, 5)] * 2


def test_strides_keep_multiples() -> None:
    p = plan(CONV, {**CONV, "strides": [2, 3]}, GAP)
    first, second = needs(p, Affine)
    assert second == box(3, 1)
    assert first == {(2 * a, 3 * b) for a, b in second}


def test_valid_shrinks_what_is_needed() -> None:
    valid = {**CONV, "padding": "VALID"}
    # 8 x 6 becomes 6 x 4 and 4 x 2: the first needs no more than the second can use
    assert needs(plan(valid, valid, GAP), Affine) == [box(3, 1), box(3, 1)]


def test_circular_convolution_needs_what_the_torus_identifies() -> None:
    circular = {**CONV, "padding": "CIRCULAR"}
    first, second = needs(plan(circular, circular, FLATTEN), Affine)
    assert second == {(0, 0)}
    assert first == {(0, 0)}
    pooled, _ = needs(plan(circular, circular, POOL, FLATTEN), Affine)
    # d in -1..1, and what wraps to it: d -+ (8, 6)
    rows, cols = {-7, -1, 0, 1, 7}, {-5, -1, 0, 1, 5}
    assert pooled == {(a, b) for a in rows for b in cols}


def test_circular_windows_reach_round_in_opposite_directions() -> None:
    pool = {"layer": "AvgPool", "window_shape": [1, 3], "padding": "CIRCULAR"}
    p = plan(CONV, pool, GAP, shape=(1, 4, 1))
    # the windows of the first and of the last pixel meet at d = 5 - 8
    assert needs(p, Affine) == [box(0, 3)]


def test_an_input_with_itself_needs_its_variances() -> None:
    p = plan(CONV, RELU, CONV, RELU, GAP, DENSE, RELU, DENSE)
    for schedule, wanted in ((p.itself(False), box(7, 5)), (p.cross, box(7, 5))):
        assert {(int(a), int(b)) for a, b in displacements(schedule.masks[1])} == wanted
    flat = plan(CONV, RELU, CONV, RELU, GAP)
    # without outputs: d = 0 for the two activations
    assert displacements(flat.itself(False).masks[1]).tolist() == [[0, 0]]


def torus(p: Plan) -> list[tuple[int, int]]:
    return [group.torus for group in p.groups]


def test_circular_groups_walk_a_torus() -> None:
    circular = {**CONV, "padding": "CIRCULAR"}
    p = plan(circular, RELU, circular, GAP)
    assert torus(p) == [(8, 6), (0, 0)]
    # as many planes as the torus has pixels
    assert len(p.cross.programs[0].displacements) == 8 * 6
    assert torus(plan(CONV, RELU, CONV, GAP)) == [(0, 0), (0, 0)]


def test_a_filter_of_one_row_wraps_along_columns_alone() -> None:
    row = {"layer": "Conv", "filter_shape": [1, 3], "padding": "CIRCULAR"}
    p = plan(row, RELU, row, GAP)
    assert torus(p)[0] == (0, 6)
    assert len(p.cross.programs[0].displacements) == (2 * 8 - 1) * 6


def test_strided_circular_convolutions_share_the_finest_torus() -> None:
    circular = {**CONV, "padding": "CIRCULAR"}
    p = plan({**circular, "strides": [2, 2]}, RELU, circular, GAP)
    assert torus(p)[0] == (8, 6)
    assert p.groups[0].sigma[2] == (2, 2)


def test_circular_behind_valid_is_cut_into_another_torus() -> None:
    circular, valid = {**CONV, "padding": "CIRCULAR"}, {**CONV, "padding": "VALID"}
    p = plan(circular, RELU, valid, RELU, circular, GAP)
    assert torus(p) == [(8, 6), (6, 4), (0, 0)]
    assert sum(isinstance(node.operation, Copy) for node in p.nodes) == 1
    # VALID alone needs no cut: 8 x 6 is the torus of the first layer, the second has none
    assert torus(plan(circular, RELU, valid, GAP)) == [(8, 6), (0, 0)]


def test_branches_with_and_without_a_pool_meet_in_one_group() -> None:
    pooled, strided = [RELU, CONV, POOL], [{**CONV, "strides": [2, 2]}]
    p = plan(CONV, residual(*pooled, CONV, shortcut=strided), RELU, GAP)
    for node, position in ((n, i) for i, n in enumerate(p.nodes)):
        for source in node.inputs:
            inside = [position in g.members and source in g.members for g in p.groups]
            stored = isinstance(node.operation, Gather | Copy) or node.shape == (1, 1)
            assert any(inside) or stored


def elements(shape: tuple[int, int], rows: int, cols: int) -> int:
    """Pixel pairs of an image at |d| <= (rows, cols)."""
    side = [
        sum(n - abs(d) for d in range(-m, m + 1)) for n, m in zip(shape, (rows, cols), strict=True)
    ]
    return side[0] * side[1]


def test_element_layers_by_hand() -> None:
    pixels = 8 * 6
    assert plan(CONV, RELU, CONV, RELU, FLATTEN, DENSE).element_layers == 2 * pixels + 1
    assert plan(CONV, RELU, CONV, RELU, GAP, DENSE).element_layers == 2 * pixels**2 + 1
    pooled = plan(CONV, RELU, POOL, CONV, RELU, FLATTEN)
    assert pooled.element_layers == elements((8, 6), 1, 1) + 4 * 3
    assert plan(CONV, RELU, POOL, CONV, RELU, GAP).element_layers == pixels**2 + 12**2
    wide = load_network("fcn:depth=5,act=erf", (10,))
    # five hidden layers and the readout
    assert build(wide).element_layers == 6


def test_repeats_and_sweeps_cost_what_they_run() -> None:
    repeat = {"layer": "Repeat", "times": 4, "body": [CONV, RELU]}
    pixels = (8 * 6) ** 2
    assert plan(repeat, GAP).element_layers == 4 * pixels
    swept = plan(repeat, GAP, DENSE, depths=(1, 3))
    # the deepest alone, and one readout each
    assert swept.element_layers == 3 * pixels + 2
    assert [key for key, _, _ in swept.keys] == [
        "depth/1/nngp", "depth/1/ntk", "depth/3/nngp", "depth/3/ntk",
    ]  # fmt: skip


def test_bytes_per_pair() -> None:
    p = plan(CONV, RELU, CONV, FLATTEN)
    # two buffers of 8 x 6 pixels with a rim of one, K and T
    assert p.bytes_per_pair(4) == 2 * 10 * 8 * 2 * 4
    assert build(p.network, ("nngp",)).bytes_per_pair(8) == p.bytes_per_pair(4)


def test_what_strided_convolutions_make_is_stored_where_they_shrink_an_image_exactly() -> None:
    strided = {**CONV, "strides": [2, 2]}
    layers = [CONV, RELU, strided, RELU, CONV, RELU, GAP]
    together, apart = plan(*layers), plan(*layers, one_shape=True)
    assert together.element_layers == apart.element_layers
    kinds = [[step.kind for step in program.steps] for program in apart.cross.programs]
    assert kinds[:2] == [
        ["input", "window", "window", "copy"], ["load", "point", "window", "reduce"],
    ]  # fmt: skip
    assert len(kinds) == len(together.cross.programs) + 1
    # 8 x 6 to 4 x 3, which 2 does not divide.
    again = plan(CONV, RELU, strided, RELU, strided, RELU, GAP, one_shape=True)
    assert len(again.cross.programs) == len(kinds)


def test_vectors_are_one_pixel() -> None:
    for shape, layers in (((5,), [DENSE, RELU]), (IMAGE, [FLATTEN, DENSE, RELU])):
        p = build(load(shape, *layers))
        assert p.vector
        assert {node.shape for node in p.nodes} == {(1, 1)}
    assert not plan({"layer": "Identity"}, CONV, FLATTEN).vector


def every_network() -> list:
    return [pytest.param(golden_cases.load(c.name).spec, id=c.name) for c in golden_cases.cases()]


@pytest.mark.parametrize("spec", every_network())
def test_every_golden_network_plans(spec: dict) -> None:
    network = load_network(spec)
    assert isinstance(network, Network)
    p = build(network)
    described = p.describe()
    assert json.loads(json.dumps(described)) == described
    assert described["element_layers"] == sum(s["element_layers"] for s in described["stages"])
    assert len(described["stages"]) == len(p.groups)
    assert described["bytes_per_pair"]["float64"] == 2 * described["bytes_per_pair"]["float32"]
    # every value that is needed belongs to a group, and every step runs somewhere
    members = [i for group in p.groups for i in group.members]
    assert sorted(members) == list(range(len(p.nodes)))
    for program in p.cross.programs:
        assert program.active.any(axis=0).all()
        assert np.array_equal(program.displacements[0], [0, 0])
    assert sum(isinstance(node.operation, Input) for node in p.nodes) >= 1
    check_order(p)


def check_order(p: Plan) -> None:
    """Every value is made before it is read, every store filled by one program, an earlier one."""
    for schedule in (p.cross, p.itself(outputs=False), p.itself(outputs=True)):
        filled: set[int] = set()
        for program in schedule.programs:
            made: set[int] = set()
            filling: set[int] = set()
            for step in program.steps:
                assert {value.node for value in step.inputs} <= made, step
                if isinstance(step, Storing):
                    assert step.node not in filled | filling, step
                    filling.add(step.node)
                else:
                    assert step.kind != "load" or step.node in filled, step
                    made.add(step.node)
            filled |= filling
        needed = {
            i for i, node in enumerate(p.nodes) if node.operation.stored and schedule.masks[i].any()
        }
        assert filled == needed
        seen: set[int] = set()
        for group in p.groups:
            # What an input needs of itself follows the members, whether or not planes are needed.
            for i in group.members:
                assert set(p.nodes[i].inputs) <= seen, (i, p.nodes[i])
                seen.add(i)


@given(st.data())
@settings(max_examples=60, database=None, suppress_health_check=list(HealthCheck))
def test_stores_are_filled_before_they_are_loaded(data: st.DataObject) -> None:
    network = data.draw(strategies.networks(pooled=True))
    check_order(build(network, one_shape=data.draw(st.booleans())))


@pytest.mark.parametrize("one_shape", [False, True])
def test_a_store_made_of_a_store_is_filled_before_it_is_loaded(one_shape: bool) -> None:
    """The first pool is read where the residual ends, behind the group that reads the second."""
    p = plan(CONV, POOL, residual(SAME_POOL, CONV), GAP, one_shape=one_shape)
    check_order(p)
    swept = plan(
        CONV, POOL, {"layer": "Repeat", "times": 3, "body": [residual(SAME_POOL, RELU, CONV)]},
        SAME_POOL, residual(SAME_POOL, CONV), GAP, depths=(1, 3), one_shape=one_shape,
    )  # fmt: skip
    check_order(swept)


def test_description_names_stages() -> None:
    described = plan(CONV, RELU, POOL, {**CONV, "padding": "CIRCULAR"}, {"layer": "LayerNorm"}, GAP)
    steps = [stage["steps"] for stage in described.describe()["stages"]]
    assert steps[0] == ["input", "window 3x3 relu", "pool"]
    assert steps[1] == ["load", "window 3x3 circular layernorm", "reduce all pixels"]
    assert steps[2] == ["load", "output"]


def test_variances_fill_no_store_that_nothing_reads() -> None:
    """A readout in the middle of a sweep is not needed for variances, the value it reads is."""
    network = load_network("cnn-p:depth=3", (6, 6, 1))
    plan = build(network, depths=(1, 2, 3))
    schedule = plan.itself(outputs=False)
    for program in schedule.programs:
        for step in program.steps:
            assert schedule.masks[step.node].any(), step.kind
