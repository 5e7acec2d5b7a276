"""Pairs side by side: every entry once, and the same bits as one x beside a block of x'."""

from __future__ import annotations

from contextlib import suppress
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import strategies
from jobs import job
from network_specs import CONV, GAP, RELU, load
from strategies import settings_of
from vocabulary import EVERYTHING
from widegram.cpu import CpuEvaluator, image_tiles
from widegram.cpu.side_by_side import Division, whole_blocks, with_pairs
from widegram.data import open_source
from widegram.errors import WidegramError
from widegram.network import Network

LANES = st.sampled_from([8, 16])
NETWORKS = EVERYTHING._replace(maps=True)


def computed(rows: int, cols: int, lanes: int, division: Division) -> np.ndarray:
    """How often each entry is computed, by shares."""
    found = np.zeros((rows, -(-cols // lanes) * lanes), dtype=int)
    for share in division.shares(lanes, 12):
        if share.block is None:
            assert share.bundles == -(-len(share.which) // lanes)
            np.add.at(found, tuple(share.which.T), 1)
        else:
            assert share.bundles == len(share.which)
            found[share.which, share.block * lanes : (share.block + 1) * lanes] += 1
    return found[:, :cols]


@given(st.integers(1, 70), st.integers(1, 70), LANES)
@settings(max_examples=200, database=None)
def test_every_wanted_entry_is_computed_once(rows: int, cols: int, lanes: int) -> None:
    for make in (whole_blocks, with_pairs):
        assert (computed(rows, cols, lanes, make(rows, cols, lanes, False)) == 1).all()
        own = computed(rows, rows, lanes, make(rows, rows, lanes, True))
        assert (own[np.triu_indices(rows, 1)] == 1).all()
        assert own.max(initial=0) <= 1


@pytest.mark.parametrize(
    ("n", "bundles"),
    # Above the diagonal there are 120, 136, 496 and 2016 entries, 16 to a bundle.
    [(16, 8), (17, 9), (32, 31), (64, 126), (1, 0)],
)
def test_small_symmetric_matrices_fill_their_lanes(n: int, bundles: int) -> None:
    assert with_pairs(n, n, 16, True).bundles(16) == bundles


def matrices(network: Network, x: np.ndarray, y: np.ndarray | None, dtype: str, room: bool) -> dict:
    """K and T, with pairs side by side or, without ``room``, in blocks alone."""
    second = None if y is None else open_source(y)
    worth = mock.patch.object(image_tiles, "_WORTH", 0)
    with worth, CpuEvaluator(job(network, x, second, dtype=dtype, threads=2)) as evaluator:
        tiles = evaluator._tiles
        if isinstance(tiles, image_tiles.ImageTiles):
            tiles._room = room
        cols = range(len(x if y is None else y))
        return evaluator.tile(range(len(x)), cols, y is None)


def check(network: Network, x: np.ndarray, y: np.ndarray | None, dtype: str) -> None:
    for other in (None, y):
        wanted, found = (matrices(network, x, other, dtype, room) for room in (False, True))
        for key, value in wanted.items():
            np.testing.assert_array_equal(found[key].view("u1"), value.view("u1"))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n", [2, 19])
def test_pairs_have_the_bits_of_blocks(n: int, dtype: str) -> None:
    pool = {"layer": "AvgPool", "window_shape": [2, 2], "padding": "SAME"}
    network = load((4, 5, 2), CONV, RELU, pool, CONV, RELU, GAP)
    x = np.random.default_rng(n).standard_normal((2 * n + 1, 4, 5, 2))
    check(network, x[:n], x[n:], dtype)


def random_networks(data: st.DataObject) -> None:
    network = data.draw(strategies.networks(NETWORKS, vector=False, blocks=3, largest=5))
    x = data.draw(strategies.inputs(network, 20))
    y = data.draw(strategies.inputs(network, 20, special=False))
    with suppress(WidegramError):  # refused by name either way
        check(network, x, y, data.draw(st.sampled_from(["float32", "float64"])))




@given(st.data())
@settings_of(6)
def test_bits_of_random_networks(data: st.DataObject) -> None:
    random_networks(data)


@pytest.mark.slow
@given(st.data())
@settings_of(300)
def test_bits_of_many_random_networks(data: st.DataObject) -> None:
    random_networks(data)
