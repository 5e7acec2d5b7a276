"""Budgets of the CUDA backend: bytes of a device, and of what the host pins for it."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from jobs import job
from virtual_card.devices import Emulated
from widegram.backends.equal import digests
from widegram.computing.order import in_order
from widegram.computing.tile_queue import TileQueue
from widegram.cuda.evaluator import CudaEvaluator
from widegram.cuda.images import Block, DeviceImages, HostImages
from widegram.cuda.stream import pair_bytes
from widegram.data import open_source
from widegram.tiling import TileGrid

VECTORS = {"input_shape": [200], "layers": [{"layer": "Dense"}, {"layer": "Relu"}]}
IMAGES = {
    "input_shape": [8, 8, 2],
    "layers": [
        {"layer": "Conv", "filter_shape": [3, 3], "padding": "SAME"},
        {"layer": "Relu"},
        {"layer": "GlobalAvgPool"},
    ],
}


class Counting(Emulated):
    """Computes nothing, and counts bytes as a card does that frees memory with a delay: once ten
    blocks are dropped, or when it is asked how much is free."""

    def __init__(self, free: int = 2**30) -> None:
        super().__init__(free)
        self.allocated = self.peak = self.pinned_bytes = self.copies = 0
        self._dropped: list[int] = []

    def _counted(self, array: np.ndarray) -> np.ndarray:
        self.allocated += array.nbytes
        self.peak = max(self.peak, self.allocated)
        weakref.finalize(array, self._dropped.append, array.nbytes)
        return array

    @contextmanager
    def entered(self) -> Iterator[None]:
        yield
        if len(self._dropped) > 10:
            self.free_memory()

    def free_memory(self) -> int:
        self.allocated -= sum(self._dropped)
        self._dropped.clear()
        return super().free_memory()

    def empty(self, size: int, dtype: Any, stream: Any) -> np.ndarray:
        return self._counted(super().empty(size, dtype, stream))

    def put(self, array: np.ndarray, stream: Any) -> np.ndarray:
        self.copies += 1
        # A copy that owns its memory, and lives as long as the last view of it.
        return self._counted(np.array(array).reshape(-1).copy())

    def launch(self, *arguments: Any) -> None:
        pass

    def pinned(self, size: int, dtype: Any) -> np.ndarray:
        found = super().pinned(size, dtype)
        self.pinned_bytes += found.nbytes
        return found


def _block(number: int, count: int = 4) -> Block:
    """100 numbers an image, and as many factors, in float64."""
    x = np.full((count, 100), float(number))
    return Block((0, number, number + count), x, x + 1, x + 2, x, digests(x))


def test_a_block_of_rows_and_columns_is_on_the_card_once() -> None:
    card = Counting()
    images = DeviceImages(card, None, 10**6)
    scaled, factors, x, again = images.pair(_block(1), _block(1))
    assert factors is again
    assert [a[0] for a in (scaled, x, factors)] == [1, 2, 3]
    images.pair(_block(2), _block(1))
    assert images.pair(_block(1), _block(2))[0] is scaled
    assert card.copies == 6


@pytest.mark.parametrize("memory", [30_000, 60_000, 200_000])
def test_dropped_blocks_are_freed_by_bytes(memory: int) -> None:
    card = Counting()
    images = DeviceImages(card, None, memory)
    rng = np.random.default_rng(0)
    for _ in range(60):
        first, second = (_block(int(n)) for n in rng.integers(0, 12, 2))
        found = images.pair(first, second, reserved=6000)
        numbers = (first, 0), (first, 2), (second, 1), (second, 2)
        assert [a[0] for a in found] == [block.key[1] + add for block, add in numbers]
        del found
    # Four arrays of 3200 bytes, and those 6000, fit each of these budgets.
    assert memory / 3 < card.peak + 6000 <= memory


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("spec", [VECTORS, IMAGES], ids=["vectors", "images"])
def test_a_card_keeps_to_its_budget(spec: dict, symmetric: bool) -> None:
    memory, card = 2**18 if spec is VECTORS else 2**19, Counting()
    x = np.random.default_rng(0).standard_normal((160, *spec["input_shape"]))
    source = open_source(x)
    evaluator = CudaEvaluator(
        job(spec, source, None if symmetric else source, memory=memory),
        [card],
        block_threads=4,
    )
    assert card.free_memory() > memory
    tables = card.allocated
    for lo in range(0, 160, 16):
        for start in range(lo if symmetric else 0, 160, 16):
            evaluator.tile(range(lo, lo + 16), range(start, start + 16), symmetric)
    # Half is for images; two streams have batches of 16 x 16 pairs, which leave room in the rest.
    batches = 2 * 16 * 16 * pair_bytes(evaluator.source, "float64")
    assert batches < memory / 2
    assert memory / 4 < card.peak <= tables + batches + memory / 2


def test_inner_products_make_room_among_images() -> None:
    card = Counting()
    x = open_source(np.random.default_rng(0).standard_normal((80, 200)))
    evaluator = CudaEvaluator(
        job(VECTORS, x, kernels=("ntk",), memory=2**20),
        [card],
        block_threads=4,
    )
    stream = evaluator._streams.get()
    evaluator._streams = SimpleNamespace(get=lambda: stream, put=lambda stream: None)
    told: list[int] = []
    stream._images.pair = lambda a, b, reserved: (
        told.append(reserved), DeviceImages.pair(stream._images, a, b, reserved),
    )[1]  # fmt: skip
    for n in (4, 80, 8):
        evaluator.tile(range(n), range(n), True)
    assert told == [4 * 4 * 8, 80 * 80 * 8, 80 * 80 * 8]


@pytest.mark.parametrize("cards", [1, 3])
def test_results_that_are_pinned_keep_to_a_sixteenth_of_the_hosts_budget(cards: int) -> None:
    memory, devices = 2**17, [Counting() for _ in range(cards)]
    x = open_source(np.random.default_rng(0).standard_normal((40, 200)))
    evaluator = CudaEvaluator(
        job(VECTORS, x, memory=memory),
        devices,
        block_threads=4,
    )
    for _ in range(evaluator.workers):
        evaluator.tile(range(40), range(40), False)
    assert memory / 64 < sum(card.pinned_bytes for card in devices) <= memory / 16


@pytest.mark.parametrize("spec", [VECTORS, IMAGES], ids=["vectors", "images"])
def test_an_image_takes_what_its_block_takes(spec: dict) -> None:
    x = open_source(np.random.default_rng(0).standard_normal((5, *spec["input_shape"])))
    evaluator = CudaEvaluator(
        job(spec, x, kernels=("ntk",), dtype="float32"),
        [Emulated()],
        block_threads=4,
    )
    images: HostImages = evaluator.images1
    assert images.block(0, 5).nbytes == 5 * evaluator.cost.image_bytes


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("free", [2**30, 2**20], ids=["like the host", "much less"])
def test_blocks_are_made_for_a_panel_of_columns(
    symmetric: bool, free: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[int, int]] = []

    def make(images: HostImages, lo: int, hi: int) -> Block:
        made.append((lo, hi))
        return make_block(images, lo, hi)

    make_block = HostImages._make
    monkeypatch.setattr(HostImages, "_make", make)
    x = open_source(np.random.default_rng(0).standard_normal((656, *IMAGES["input_shape"])))
    grid, found, memory = TileGrid(656, 656, 16, symmetric), [], 5 * 10**6
    for panels in (False, True):
        card = Counting(free)
        evaluator = CudaEvaluator(
            job(IMAGES, x, None if symmetric else x, kernels=("ntk",), memory=memory),
            [card],
            block_threads=4,
        )
        made.clear()
        tables, card.copies = card.allocated, 0
        for i, j in in_order(grid, evaluator) if panels else grid.tiles():
            evaluator.tile(grid.rows(i), grid.cols(j), symmetric)
            for images in (evaluator.images1, evaluator.images2):
                assert images.nbytes <= images.memory
        batches = 2 * 16 * 16 * pair_bytes(evaluator.source, "float64")
        assert card.peak <= tables + batches + min(memory, free // 2) / 2
        found.append((len(made), card.copies - len(grid.tiles())))  # a tile's pairs are copied, too
    (by_row, copied_by_row), (by_panel, copied_by_panel) = found
    assert by_panel < by_row / 8
    # Panels suit the host where a device keeps next to nothing: it copies about as much as before.
    assert copied_by_panel < copied_by_row * (0.6 if free == 2**30 else 1.1)


@pytest.mark.parametrize("symmetric", [True, False])
def test_cards_that_share_the_tiles_share_the_blocks(
    symmetric: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, made = HostImages._make, []
    monkeypatch.setattr(HostImages, "_make", lambda *a: (made.append(a[1:]), make(*a))[1])
    x = open_source(np.random.default_rng(0).standard_normal((656, *IMAGES["input_shape"])))
    evaluator = CudaEvaluator(
        job(IMAGES, x, None if symmetric else x, kernels=("ntk",), memory=5 * 10**6),
        [Counting() for _ in range(3)],
        block_threads=4,
    )
    grid = TileGrid(656, 656, 16, symmetric)
    wanted = [(grid.rows(i), grid.cols(j)) for i, j in in_order(grid, evaluator)]
    with TileQueue(evaluator, wanted, symmetric) as queue:
        for _ in wanted:
            queue.next(lambda pairs: None)
    # One after another: 80 and 148 in place of 740 and 1722.
    assert len(made) < (120 if symmetric else 200)


def test_a_block_that_is_kept_waits_for_none_that_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    x = open_source(np.random.default_rng(0).standard_normal((8, 200)))
    evaluator = CudaEvaluator(
        job(VECTORS, x, kernels=("ntk",)),
        [Counting()],
        block_threads=4,
    )
    images, begun, had = evaluator.images1, Event(), Event()
    kept, make, made = images.block(0, 4), images._make, []

    def slow(lo: int, hi: int) -> Block:
        begun.set()
        assert had.wait(60)
        made.append((lo, hi))
        return make(lo, hi)

    monkeypatch.setattr(images, "_make", slow)
    with ThreadPoolExecutor(2) as others:
        waiting = [others.submit(images.block, 4, 8) for _ in range(2)]
        assert begun.wait(60)
        assert images.block(0, 4) is kept
        had.set()
        assert waiting[0].result() is waiting[1].result()
    assert made == [(4, 8)]
