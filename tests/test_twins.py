"""Images with themselves: half of the planes, the same bits as all of them."""

from __future__ import annotations

from contextlib import nullcontext, suppress
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import strategies
from fresh_tables import fresh_tables
from jobs import job
from network_specs import CONV, DENSE, DROPOUT, GAP, RELU, load, residual
from strategies import settings_of
from vocabulary import EVERYTHING, GROWING
from widegram.activations import FORMULAS
from widegram.cpu import CpuEvaluator, in_cache
from widegram.cpu.driver.packed_fields import CellField
from widegram.cpu.self_kernels import SelfKernelPool
from widegram.errors import WidegramError
from widegram.network import Network

CIRCULAR = {**CONV, "padding": "CIRCULAR"}
STRIDED = {**CONV, "strides": [2, 2]}
WIDE = {**CONV, "filter_shape": [5, 5]}
POOL = {"layer": "AvgPool", "window_shape": [2, 2], "strides": [2, 2]}


def own(network: Network, x: np.ndarray, twins: bool, depths: tuple[int, ...] = ()) -> dict:
    """K(x, x) of every input, with planes made by twins or without."""
    off = mock.patch.object(in_cache, "with_twins", lambda program, packing, most: packing)
    of, made = job(network, x, depths=depths), nullcontext() if twins else off
    with fresh_tables(), made, CpuEvaluator(of) as found:
        return found.diagonal(range(len(x)))


def check(network: Network, x: np.ndarray, depths: tuple[int, ...] = ()) -> None:
    wanted, found = (own(network, x, twins, depths) for twins in (False, True))
    for key, value in wanted.items():
        np.testing.assert_array_equal(found[key].view("u1"), value.view("u1"))


def cells(*layers: dict, side: int = 8) -> np.ndarray:
    """The tables of cells of images with themselves."""
    x = np.random.default_rng(0).standard_normal((2, side, side, 2))
    with CpuEvaluator(job(load((side, side, 2), *layers), x)) as evaluator:
        pool = evaluator._tiles._runners(True)
        assert isinstance(pool, SelfKernelPool)
        return pool.first.tables.cells[:-1]


@pytest.mark.parametrize(
    ("layers", "made"),
    [
        # 64 cells, of which d = -d modulo 8 in four.
        ((CONV, RELU, CONV, RELU, GAP), 30),
        ((CIRCULAR, RELU, CIRCULAR, RELU, GAP), 30),
        ((CONV, residual(RELU, CONV, RELU, CONV), GAP), 30),
        # Nothing but sums of planes may be kept of them.
        ((CONV, RELU, POOL, GAP), 0),
        ((CONV, RELU, WIDE, RELU, GAP), 0),
        # It rounds differently with both images exchanged.
        ((CONV, {"layer": "Gabor"}, CONV, GAP), 0),
    ],
)
def test_cells_that_twins_make(layers: tuple[dict, ...], made: int) -> None:
    table = cells(*layers)
    numbers = [np.flatnonzero(table[:, n]) for n in (CellField.MAKES, CellField.MADE)]
    assert [len(found) for found in numbers] == [made, made]
    for first in numbers[0]:
        d = table[first, [CellField.DY, CellField.DX]]
        twin = np.flatnonzero(table[:, CellField.MADE] == table[first, CellField.MAKES])
        assert len(twin) == 1
        assert twin[0] > first
        assert ((d + table[twin[0], [CellField.DY, CellField.DX]]) % 8 == 0).all()


def test_planes_of_too_many_bytes_have_no_twins() -> None:
    with fresh_tables(), mock.patch.object(in_cache, "KEPT_BYTES", 1000):
        assert not cells(CONV, RELU, GAP)[:, CellField.MAKES].any()


@pytest.mark.parametrize("side", [1, 2, 5, 8])
@pytest.mark.parametrize("conv", [CONV, CIRCULAR, STRIDED])
def test_same_bits_at_every_size(side: int, conv: dict) -> None:
    x = np.random.default_rng(side).standard_normal((11, side, side + 1, 2))
    middle = [DROPOUT, conv, residual(RELU, CONV), RELU]
    with suppress(WidegramError):  # images that strides leave nothing of
        check(load((side, side + 1, 2), CONV, RELU, *middle, GAP, DENSE, RELU, DENSE), x)


def test_same_bits_of_a_sweep() -> None:
    x = np.random.default_rng(2).standard_normal((9, 6, 7, 2))
    body = {"layer": "Repeat", "times": 3, "body": [CONV, RELU]}
    check(load((6, 7, 2), body, GAP, DENSE), x, (1, 3))


PARAMETERS = {
    "LeakyRelu": {"alpha": 0.1}, "ABRelu": {"a": 0.2, "b": 1.1}, "Monomial": {"degree": 2},
    "RectifiedMonomial": {"degree": 2}, "Hermite": {"degree": 3},
    "Polynomial": {"coef": [0.1, 0.5, 0.2]},
}  # fmt: skip


@pytest.mark.parametrize("act", [*EVERYTHING.activations, *GROWING])
def test_same_bits_with_every_activation(act: str) -> None:
    x = np.random.default_rng(1).standard_normal((9, 4, 5, 3))
    phi = {"layer": act, **PARAMETERS.get(act, {})}
    check(load((4, 5, 3), CONV, phi, CIRCULAR, GAP), x)
    check(load((4, 5, 3), CONV, phi, CONV, RELU, GAP), x)


def test_most_formulas_treat_both_images_alike() -> None:
    others = {code for code, formula in FORMULAS.items() if not formula.commutes}
    assert others == {"gabor", "mixture"}


def random_networks(data: st.DataObject) -> None:
    network = data.draw(strategies.networks(EVERYTHING, vector=False, blocks=3, largest=5))
    x = data.draw(strategies.inputs(network, 10))
    with suppress(WidegramError):  # refused by name either way
        check(network, x)




@given(st.data())
@settings_of(6)
def test_bits_of_random_networks(data: st.DataObject) -> None:
    random_networks(data)


@pytest.mark.slow
@given(st.data())
@settings_of(300)
def test_bits_of_many_random_networks(data: st.DataObject) -> None:
    random_networks(data)
