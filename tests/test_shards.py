"""Shares of a matrix in files of their own, and joining them to what one run would have given."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fake_evaluator as fake
import widegram
from cli_support import refused, run, run_json
from fault_support import count_calls, failing, hook_calls, in_a_child, killing
from shard_support import SWEEP, datasets, one_run, quicken, shares
from widegram.errors import WidegramError
from widegram.gramfile import GramFile, TileGrid
from widegram.sharding import Shard, cuts, parse_shard, tile_rows


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    quicken(monkeypatch)


@given(
    n1=st.integers(1, 90), n2=st.integers(1, 90), tile=st.integers(1, 20), symmetric=st.booleans(),
    data=st.data(),
)  # fmt: skip
@settings(max_examples=60, deadline=None, derandomize=True)
def test_every_tile_is_in_one_shard_and_costs_are_even(n1, n2, tile, symmetric, data) -> None:
    grid = TileGrid(n1, n1 if symmetric else n2, tile, symmetric)
    tiles = grid.tiles()
    total = data.draw(st.integers(1, min(len(tiles), 12)))
    found = [
        [(s.row, j) for s in tile_rows(grid, Shard(k, total)) for j in range(s.first, s.stop)]
        for k in range(1, total + 1)
    ]
    assert list(chain(*found)) == tiles
    assert all(found)
    cost = [sum(grid.entries(*one) for one in mine) for mine in found]
    largest = max(grid.entries(*one) for one in tiles)
    # Each cut is at the tile nearest to its due, so at most half a tile off, on both sides; where
    # shards have but a tile or two, none may be empty and the cuts move on.
    if len(tiles) >= 4 * total:
        assert max(cost) - n1 * grid.n2 / total <= largest


def test_more_shards_than_tiles_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WidegramError, match=r"16 shards: the matrix has 15 tiles of side 16;.*15"):
        shares(tmp_path / "K.h5", 16)
    assert os.listdir(tmp_path) == []
    assert cuts(TileGrid(70, 70, 16, True), 15).tolist() == list(range(16))


@pytest.mark.parametrize(
    "wrong",
    ["0/3", "4/3", "1/0", "-1/3", "1", "1/2/3", "a/b", "", (1.0, 2), (1, 2, 3), 3, "1/9999999"],
)
def test_what_is_no_shard_is_refused(wrong: Any) -> None:
    with pytest.raises(WidegramError, match=r"shard.*give"):
        parse_shard(wrong)


# --- bits


@pytest.mark.parametrize("total", [1, 3])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"x2": fake.inputs(50, 1), "tile": 12, "dtype": "float64"},
        {"network": SWEEP, "depths": [1, 3], "get": "ntk", "tile": 24},
        {"x1": fake.inputs(5), "tile": 2},
    ],
    ids=["symmetric", "cross", "sweep", "small"],
)
def test_joined_shards_are_what_one_run_writes(tmp_path: Path, options: Any, total: int) -> None:
    wanted = one_run(tmp_path / "W.h5", **options)
    out = tmp_path / "K.h5"
    files = shares(out, total, **options)
    result = widegram.join(out)
    assert result.complete
    assert (result.shards, result.resumed_tiles) == (total, 0)
    assert datasets(out) == wanted
    with GramFile(out) as joined, GramFile(tmp_path / "W.h5") as whole:
        assert joined.attributes == whole.attributes
        matrices = sum(len(wanted[key]) for key in tuple(whole.keys()))
    # Tiles at the edges, and those on the diagonal, leave room: much of matrices as small as these.
    stored = sum(
        h5py.File(path)[name].size * joined.dtype.itemsize
        for path in files
        for name in datasets(path)
        if name.startswith(("tiles/", "mirrors/"))
    )
    assert stored <= 2 * matrices
    assert widegram.join(out).resumed_tiles == result.tiles
    assert widegram.verify(out, sample=0).ok


POINTS = [3, pytest.param(60, marks=pytest.mark.slow)]


@pytest.mark.parametrize("points", POINTS)
def test_a_shard_resumes_by_itself(tmp_path: Path, points: int) -> None:
    out = tmp_path / "K.h5"
    wanted = datasets(shares(tmp_path / "W.h5", 3)[1])
    path = Shard(2, 3).file(out)

    def act() -> widegram.GramResult:
        return widegram.gram(fake.NETWORK, fake.inputs(70), out, tile=16, shard="2/3")

    number = count_calls(act)
    for at in np.linspace(2, number - 1, points).astype(int).tolist():
        path.unlink(missing_ok=True)
        assert in_a_child(act, killing(at, half=at % 2 == 1)) < 0
        act()
        assert datasets(path) == wanted
    again = act()
    assert (again.entries, again.complete) == (0, True)


@pytest.mark.parametrize("points", POINTS)
def test_joining_goes_on_after_a_kill(tmp_path: Path, points: int) -> None:
    wanted = one_run(tmp_path / "W.h5")
    out = tmp_path / "K.h5"
    shares(out, 3)
    number = count_calls(lambda: widegram.join(out))
    for at in np.linspace(2, number - 1, points).astype(int).tolist():
        out.unlink(missing_ok=True)
        assert in_a_child(lambda: widegram.join(out), killing(at, half=at % 2 == 0)) < 0
        assert widegram.join(out).complete
        assert datasets(out) == wanted


def test_joining_into_a_full_disk_says_so(tmp_path: Path) -> None:
    out = tmp_path / "K.h5"
    shares(out, 2)
    for virtual in (False, True):
        with pytest.MonkeyPatch.context() as patch:
            hook_calls(patch, failing(4, errno.ENOSPC, sticky=True))
            with pytest.raises(WidegramError, match="the disk is full"):
                widegram.join(out, virtual=virtual)
        assert not out.exists()
    assert widegram.join(out).complete


def test_info_and_verify_know_shards(tmp_path: Path) -> None:
    out = tmp_path / "K.h5"
    files = shares(out, 2)
    facts = run_json("info", files[1])
    assert (facts["shard"], facts["complete"]) == ("2/2", True)
    assert sum(run_json("info", path)["tiles"]["done"] for path in files) == 15
    assert sum(run_json("verify", path)["tiles_checked"] for path in files) == 15
    assert "shard" in run("info", files[0]).stdout


@pytest.mark.parametrize("tile", [32, 512])
@pytest.mark.parametrize("symmetric", [True, False])
def test_shards_take_their_share_of_the_disk(tile: int, symmetric: bool) -> None:
    header = fake.header(20_000, tile=tile, symmetric=symmetric, diagonals=True)
    sizes = [replace(header, shard=Shard(k, 20)).file_bytes() for k in range(1, 21)]
    # All tiles have places of one size, the thin ones of the last row too, which are most of the
    # last shard's where 512 rows are 32.
    assert sum(sizes) < 1.1 * header.file_bytes()
    assert max(sizes) < 1.5 * header.file_bytes() / 20


def test_the_command_writes_a_shard(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", fake.inputs(70))
    words = ["gram", "--net", fake.NETWORK, "--x", "x.npy", "--tile", 16, "--out", "K.h5"]
    words.append("--shard")
    found = run_json(*words, "1/2")
    assert found["file"] == "K.h5.shard-1-of-2"
    assert run_json(*words, "2/2")["entries"] + found["entries"] == 4900
    refused("shard 3/2: shards are numbered from 1 to 2", *words, "3/2")
    assert run_json("join", "K.h5")["tiles"] == 15
    assert "was complete already" in run("join", "K.h5").stdout


def test_the_tile_of_a_shard_does_not_follow_from_this_machine(tmp_path: Path, monkeypatch) -> None:
    from widegram.machine import budgets

    sides = set()
    for free in (200 * 10**6, 400 * 10**9):
        monkeypatch.setattr(budgets, "free_memory", lambda free=free: free)
        options = {"shard": "1/2", "x1": fake.inputs(700), "network": fake.NETWORK}
        sides.add(widegram.gram(out=tmp_path / f"{free}.h5", **options).tile)
    assert len(sides) == 1
