"""Tables are made once for a plan, compile nothing until they run, and are never taken for another
plan's."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest

import widegram
from fresh_tables import fresh_tables
from jobs import job
from network_specs import CONV, GAP, RELU, load
from widegram.cpu import CpuEvaluator, kept_tables
from widegram.cpu.charts import chart
from widegram.cpu.kept_tables import tables_of
from widegram.cpu.kernels import compiled
from widegram.cpu.kernels.fields import PackedGeometry
from widegram.machine import budgets
from widegram.machine.remembering import held_bytes
from widegram.plan import plan as plans
from widegram.plan.formulas import FactorLayout, choose_formulas, factor_layout


@pytest.fixture(autouse=True)
def _fresh():
    with fresh_tables():
        yield


def planned(side: int, zeros: bool = False) -> tuple[plans.Plan, FactorLayout]:
    plan = plans.build(load((side, side, 2), CONV, RELU, CONV, RELU, GAP))
    return plan, factor_layout(plan, choose_formulas(plan, 1.0, "float64", zeros=zeros))


def test_one_for_each_use() -> None:
    plan, layout = planned(5)
    found = [
        tables_of(plan, schedule, layout, dtype, paired)
        for schedule in (plan.cross, plan.itself(False), plan.itself(True))
        for dtype in ("float32", "float64")
        for paired in (False, True)
    ]
    assert len({id(tables) for tables in found}) == len(found)
    assert tables_of(plan, plan.cross, planned(5)[1], "float32", False) is found[0]
    # Where a variance may be 0 activations have another formula.
    other = tables_of(plan, plan.cross, planned(5, zeros=True)[1], "float32", False)
    assert other is not found[0]
    assert (other.linked.steps != found[0].linked.steps).any()


def test_a_plan_in_the_place_of_another_has_its_own() -> None:
    plan, layout = planned(5)
    with mock.patch.object(kept_tables, "id", return_value=1, create=True):
        first = tables_of(plan, plan.cross, layout, "float64", False)
        own = tables_of(plan, plan.itself(True), layout, "float64", False)
        assert own is not first
        other, layout = planned(4)
        found = tables_of(other, other.cross, layout, "float64", False)
        assert len(found.cells) != len(first.cells)


def test_they_keep_no_plan_alive_and_few_bytes() -> None:
    network = load((6, 6, 2), CONV, RELU, GAP)
    plan = plans._planned(network, plans.build_graph(network), ("nngp",), False)
    layout = factor_layout(plan, choose_formulas(plan, 1.0, "float64"))
    tables_of(plan, plan.cross, layout, "float64", False)
    ((_, known),) = kept_tables._kept._kept.items()
    assert known.plan() is plan
    del plan
    assert known.plan() is None
    size = held_bytes(known.tables)
    with mock.patch.object(kept_tables._kept, "most", 3 * size):
        for side in range(2, 7):
            plan, layout = planned(side)
            tables_of(plan, plan.cross, layout, "float64", True)
        assert 0 < kept_tables._kept.nbytes <= 3 * size
    with mock.patch.object(kept_tables, "KEPT_TABLES", size // 100):
        plan, layout = planned(6)
        made = [tables_of(plan, plan.cross, layout, "float32", True) for _ in range(2)]
    assert made[0] is not made[1]


def test_charts_are_few_bytes_and_stay_where_their_addresses_are() -> None:
    plan, layout = planned(5)
    tables = tables_of(plan, plan.cross, layout, "float32", False)
    column = [field.name for field in PackedGeometry].index("CHART")
    addresses = {int(address) for address in tables.packed[:, column]} - {0}
    assert addresses
    for pitch in range(15, 25):
        for side in range(9, 13):
            chart((side, side), (1, 1), pitch)
            assert 0 < chart.kept.nbytes <= budgets.KEPT_CHARTS
    assert addresses == {found.ctypes.data for found in tables.charts}
    newest = chart((12, 12), (1, 1), 24)
    assert chart((12, 12), (1, 1), 24) is newest
    assert budgets.kernel_budget(10**9) == 10**9 - budgets.PROGRAM
    assert budgets.PROGRAM > 10**8 + budgets.KEPT_TABLES + budgets.KEPT_CHARTS


def test_a_second_matrix_makes_none() -> None:
    network = load((6, 6, 2), CONV, RELU, CONV, RELU, GAP)
    x = np.random.default_rng(0).standard_normal((3, 6, 6, 2))
    first = widegram.kernel(network, x)
    with mock.patch.object(kept_tables, "encode") as encode:
        second = widegram.kernel(network, x)
    encode.assert_not_called()
    for found, wanted in zip(second, first, strict=True):
        np.testing.assert_array_equal(found.view("u1"), wanted.view("u1"))


def test_a_diagonal_compiles_no_planes_of_pairs() -> None:
    x = np.random.default_rng(0).standard_normal((3, 6, 6, 2))
    of = job(load((6, 6, 2), CONV, RELU, CONV, RELU, GAP), x, dtype="float32")
    spy = mock.patch.object(compiled, "address", wraps=compiled.address)
    with spy as address, CpuEvaluator(of) as evaluator:
        evaluator.diagonal(range(3))
        assert {call.args[0].dtype for call in address.call_args_list} == {"float64"}
        evaluator.tile(range(3), range(3), True)
    assert {call.args[0].dtype for call in address.call_args_list} == {"float32", "float64"}
