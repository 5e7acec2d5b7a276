"""The order of tiles: each once, few images made again, chunks completed, any order resumed."""

from __future__ import annotations

import filecmp
from collections import OrderedDict
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fake_evaluator as fake
import widegram
from jobs import job
from widegram.computing.order import in_order
from widegram.cpu import CpuEvaluator
from widegram.cpu.vectors import VectorInputs
from widegram.data import open_source
from widegram.errors import WidegramError
from widegram.gramfile.opening import create
from widegram.gramfile.writing import open_for_resume
from widegram.machine.byte_cache import ByteCache
from widegram.tiling import TileGrid

IMAGES = {
    "input_shape": [4, 4, 1],
    "layers": [
        {"layer": "Conv", "filter_shape": [3, 3], "padding": "SAME"},
        {"layer": "Relu"},
        {"layer": "Flatten"},
    ],
}
VECTORS = {"input_shape": [200], "layers": [{"layer": "Dense"}, {"layer": "Relu"}]}


class Keeping(fake.FakeEvaluator):
    """Keeps ``blocks`` of images, of rows and columns together where ``shared``."""

    def __init__(self, blocks: int, shared: bool) -> None:
        super().__init__(("nngp", "ntk"), "float32")
        self.blocks, self.shared = blocks, shared

    def columns_kept(self, tile: int, rows: int) -> int:
        return self.blocks - (2 * rows + 1 if self.shared else 0)


def made(tiles: list[tuple[int, int]], blocks: int, shared: bool) -> int:
    """Blocks made for ``tiles`` where so many of columns, and half as many of rows unless both are
    ``shared``, are kept, the least recently used dropped."""
    columns: OrderedDict[int, None] = OrderedDict()
    rows = columns if shared else OrderedDict()
    count = 0
    for i, j in tiles:
        for kept, block, most in (rows, i, blocks if shared else blocks // 2), (columns, j, blocks):
            count += block not in kept
            kept[block] = None
            kept.move_to_end(block)
            if len(kept) > most:
                kept.popitem(last=False)
    return count


@given(
    st.integers(1, 900), st.integers(1, 900), st.integers(16, 600), st.booleans(),
    st.integers(-2, 40),
)  # fmt: skip
def test_every_tile_comes_once(n1: int, n2: int, tile: int, symmetric: bool, blocks: int) -> None:
    grid = TileGrid(n1, n1 if symmetric else n2, tile, symmetric)
    assert sorted(in_order(grid, Keeping(blocks, symmetric))) == grid.tiles()


@pytest.mark.parametrize(
    ("symmetric", "blocks", "row_by_row", "panels"),
    # Budgets of 4, 8 and 16 GB for 100,000 images of 135 KB.
    [(True, 14, 19214, 1810), (True, 28, 18927, 853), (True, 57, 17709, 453),
     (False, 14, 38612, 2849), (False, 28, 38612, 1484), (False, 57, 38612, 896)],
)  # fmt: skip
def test_images_are_made_for_a_panel_and_not_for_a_row(
    symmetric: bool, blocks: int, row_by_row: int, panels: int
) -> None:
    grid = TileGrid(100_000, 100_000, 512, symmetric)
    assert made(grid.tiles(), blocks, symmetric) == row_by_row
    assert made(in_order(grid, Keeping(blocks, symmetric)), blocks, symmetric) == panels


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("blocks", [1, 200])
def test_row_by_row_where_all_or_nothing_is_kept(symmetric: bool, blocks: int) -> None:
    grid = TileGrid(9000, 9000, 512, symmetric)
    assert in_order(grid, Keeping(blocks, symmetric)) == grid.tiles()
    assert in_order(grid, fake.FakeEvaluator((), "float32")) == grid.tiles()


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("blocks", [30, 1000])
def test_chunks_are_completed_where_their_images_are_kept(symmetric: bool, blocks: int) -> None:
    grid = TileGrid(5000, 5000, 64, symmetric)
    side = grid.chunk()[0] // 64
    assert side == 8
    tiles = in_order(grid, Keeping(blocks, symmetric))
    chunks = [(i // side, j // side) for i, j in tiles]
    changes = sum(a != b for a, b in pairwise(chunks))
    assert changes == len(set(chunks)) - 1
    # 15 blocks hold no chunk's rows and columns beside those that pass.
    narrow = Keeping(15, symmetric)
    if symmetric:
        assert made(in_order(grid, narrow), 15, True) < made(grid.tiles(), 15, True) / 8


def _cut(out: Path, evaluator: Any, count: int) -> None:
    """Finish the next ``count`` tiles that ``evaluator`` is asked for."""
    header = fake.header(300, 16)
    with open_for_resume(out, header) as writer:
        pending = set(writer.pending())
        tiles = [tile for tile in in_order(writer.grid, evaluator) if tile in pending][:count]
        grid = writer.grid
        writer.write((i, j, evaluator.tile(grid.rows(i), grid.cols(j), True)) for i, j in tiles)


@pytest.mark.parametrize("cuts", [(1, 1, 1), (40, 3, 90), (150, 20, 10)])
def test_a_file_is_filled_by_evaluators_that_keep_more_or_less(
    tmp_path: Path, cuts: tuple[int, ...]
) -> None:
    out, whole = tmp_path / "K.h5", tmp_path / "whole.h5"
    plain = fake.FakeEvaluator(("nngp", "ntk"), "float32")
    for path, parts in ((out, cuts), (whole, ())):
        create(path, fake.header(300, 16))
        for evaluator, count in zip(
            (Keeping(9, True), plain, Keeping(40, True)), parts, strict=False
        ):
            _cut(path, evaluator, count)
        with open_for_resume(path, fake.header(300, 16)) as writer:
            assert len(writer.pending()) == 190 - sum(parts)
        last = Keeping(12, True) if parts else plain
        _cut(path, last, 190)
    assert filecmp.cmp(out, whole, shallow=False)


@pytest.mark.parametrize("x2", [None, 90])
def test_a_run_stops_and_goes_on_in_another_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, x2: int | None
) -> None:
    fake.install(monkeypatch)
    x, other = fake.inputs(130), None if x2 is None else fake.inputs(x2, 1)
    out, calls = tmp_path / "K.h5", []

    def kept(self: Any, tile: int, rows: int) -> int:
        return 3

    def failing(self: Any, *arguments: Any) -> Any:
        calls.append(arguments[:2])
        if len(calls) == 20:
            raise WidegramError("gone")
        return tile(self, *arguments)

    tile: Callable[..., Any] = fake.FakeEvaluator.tile
    with monkeypatch.context() as patch:
        patch.setattr(fake.FakeEvaluator, "columns_kept", kept, raising=False)
        patch.setattr(fake.FakeEvaluator, "tile", failing)
        patch.setattr("widegram.computing.filling.BATCH_TILES", 3)
        patch.setattr("widegram.tiling._LARGEST_CHUNK", 16)
        with pytest.raises(WidegramError, match="gone"):
            widegram.gram(fake.NETWORK, x, out, other, tile=16)
    assert len({rows.start for rows, _ in calls[:9]}) >= 3
    result = widegram.gram(fake.NETWORK, x, out, other, tile=16)
    assert (result.resumed_tiles, result.complete) == (19, True)
    with h5py.File(out) as file:
        wanted = fake.expected(130, x2 or 130, other is None)
        np.testing.assert_array_equal(file["nngp"], wanted)


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("spec", [VECTORS, IMAGES], ids=["vectors", "images"])
def test_the_cpu_makes_fewer_blocks(
    spec: dict, symmetric: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[int] = []

    def count(kind: type, name: str) -> None:
        method = getattr(kind, name)
        monkeypatch.setattr(kind, name, lambda self, *a: (counted.append(1), method(self, *a))[1])

    n, memory = 320, 2**21 if spec is VECTORS else 2**17
    data = np.random.default_rng(0).standard_normal((n, *spec["input_shape"]))
    x1, x2 = open_source(data), None if symmetric else open_source(data)
    evaluator = CpuEvaluator(job(spec, x1, x2, kernels=("ntk",), threads=1, memory=memory))
    count(*(VectorInputs, "_packed") if spec is VECTORS else (ByteCache, "keep"))
    grid = TileGrid(n, n, 16, symmetric)
    assert 2 < evaluator.columns_kept(16, 1) < 20
    found = []
    for tiles in (grid.tiles(), in_order(grid, evaluator)):
        counted.clear()
        for i, j in tiles:
            evaluator.tile(grid.rows(i), grid.cols(j), symmetric)
        found.append(len(counted))
    assert found[1] < found[0] / 2
