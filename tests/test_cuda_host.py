"""Host code of the CUDA backend on stand-in devices: tiles, batches, files, errors, refusals."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event, Lock

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fake_evaluator as fake
import widegram
from jobs import job
from virtual_card.devices import Emulated
from widegram.computing import filling
from widegram.computing.choosing import make_evaluator
from widegram.computing.devices import (
    available,
    continues,
    cuda_numbers,
    joined,
    kind_of,
    resolve_device,
)
from widegram.computing.job import make_job
from widegram.computing.tile_queue import TileQueue
from widegram.cuda import compiling, device, trial
from widegram.cuda.evaluator import CudaEvaluator
from widegram.cuda.factors import gathered
from widegram.cuda.pairs import TilePairs
from widegram.cuda.source import source_of
from widegram.cuda.stream import LARGEST_BATCH, batch_size, pair_bytes
from widegram.data import open_source
from widegram.errors import WidegramError
from widegram.network import load_network
from widegram_bench.gpu.assembled import tool

VECTORS = {
    "input_shape": [6],
    "layers": [{"layer": "Dense", "b_std": 0.2}, {"layer": "Relu"}, {"layer": "Dense"}],
}
IMAGES = {
    "input_shape": [3, 4, 1],
    "layers": [
        {"layer": "Conv", "filter_shape": [3, 3], "padding": "SAME"},
        {"layer": "Relu"},
        {"layer": "GlobalAvgPool"},
    ],
}


def _data(n: int, shape: tuple[int, ...], seed: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, *shape)).astype(np.float32)


@pytest.fixture
def cards(monkeypatch: pytest.MonkeyPatch) -> list[Emulated]:
    """Two stand-ins in place of this machine's cards."""
    made = [Emulated(name="card A"), Emulated(name="card B")]
    monkeypatch.setattr(device, "gpus", lambda numbers: [made[n] for n in numbers or (0,)])
    return made


def _evaluator(spec: dict, x: np.ndarray, card: Emulated, dtype: str = "float64") -> CudaEvaluator:
    network, source = load_network(spec), open_source(x)
    return CudaEvaluator(
        job(network, source, dtype=dtype),
        [card],
        block_threads=8,
    )


def test_symmetric_tiles_compute_one_half_and_the_diagonal_in_double() -> None:
    card = Emulated()
    evaluator = _evaluator(IMAGES, _data(4, (3, 4, 1)), card, "float32")
    tile = evaluator.tile(range(4), range(4), True)
    assert [grid for _, grid in card.launches] == [(6, 1), (1, 1)]
    wanted = widegram.kernel(IMAGES, _data(4, (3, 4, 1)), dtype="float64")
    for key, exact in zip(("nngp", "ntk"), wanted, strict=True):
        np.testing.assert_array_equal(tile[key], tile[key].T)
        np.testing.assert_array_equal(np.diag(tile[key]), np.diag(exact).astype(np.float32))
        # The contract's tolerance for float32.
        np.testing.assert_allclose(tile[key], exact, rtol=0, atol=1e-5 * np.abs(exact).max())


def test_nearly_parallel_inputs_are_computed_in_double() -> None:
    x = _data(3, (6,)).astype(np.float64)
    x[1] = x[0] * (1 + 1e-7)
    found = _evaluator(VECTORS, x, Emulated(), "float32").tile(range(3), range(3), True)
    wanted = widegram.kernel(VECTORS, x, dtype="float64")
    # To the rounding of the float32 result.
    np.testing.assert_allclose(found["ntk"][0, 1], wanted.ntk[0, 1], rtol=1e-7)


@pytest.mark.parametrize("spec", [VECTORS, IMAGES], ids=["vectors", "images"])
def test_batches_do_not_change_the_bits(spec: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    x = _data(5, tuple(spec["input_shape"]))
    whole = _evaluator(spec, x, Emulated()).tile(range(5), range(5), False)
    monkeypatch.setattr("widegram.cuda.stream.LARGEST_BATCH", 4)
    told: list[int] = []
    parts = _evaluator(spec, x, Emulated()).tile(range(5), range(5), False, told.append)
    assert told == [4, 4, 4, 4, 4, 4, 1]
    for key, value in whole.items():
        np.testing.assert_array_equal(parts[key], value)


@given(st.integers(1, 7), st.integers(1, 7), st.booleans(), st.integers(1, 50))
def test_batches_list_every_pair_once(rows: int, columns: int, mirrored: bool, batch: int) -> None:
    columns = rows if mirrored else columns
    pairs, tile = TilePairs(rows, columns, mirrored), np.zeros(rows * columns, dtype=int)
    for lo in range(0, len(pairs), batch):
        hi = min(lo + batch, len(pairs))
        listed, place = pairs.listed(lo, hi), pairs.place(lo, hi)
        tile[place] += 1
        at = np.arange(rows * columns)[place]
        found = np.stack(np.divmod(at, columns), axis=1)
        np.testing.assert_array_equal(found if mirrored else found[:1], listed)
    wanted = np.triu(np.ones((rows, columns)), 1) if mirrored else np.ones((rows, columns))
    np.testing.assert_array_equal(tile.reshape(rows, columns), wanted)


@given(numbers=st.lists(st.integers(0, 9), max_size=20))
def test_factors_gathered_by_runs(numbers: list[int]) -> None:
    values, wanted = np.arange(30.0).reshape(3, 10), np.array(numbers, dtype=np.int64)
    np.testing.assert_array_equal(gathered(values, wanted), values[:, wanted])


def test_a_batch_fills_half_of_the_budget() -> None:
    source = source_of(load_network(IMAGES))
    one = pair_bytes(source, "float32")
    # Two sums in double, two results, twice as one batch is copied while another is computed, and a
    # pair of indices: this network keeps nothing else.
    assert one == 2 * 8 + 2 * 2 * 4 + 8
    assert batch_size(source, "float32", 20 * one, 2**40) == 10
    assert batch_size(source, "float32", 2**40, 7 * 2 * 2 * 4) == 7
    assert batch_size(source, "float32", 2**40, 2**40) == LARGEST_BATCH
    with pytest.raises(WidegramError, match=r"device memory: one pair .* more --memory"):
        batch_size(source, "float32", one, 2**40)


def test_kernels_are_found_again_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WIDEGRAM_CACHE_DIR", str(tmp_path))
    text = source_of(load_network(IMAGES)).kernels[0].text
    text = text.replace("from numba import cuda, types", "").replace("types.float32", "np.float32")
    first, second = compiling.module(text), compiling.module(text)
    assert first.__file__ == second.__file__
    assert [p.read_text() for p in tmp_path.rglob("*.py")] == [text]
    monkeypatch.setenv("WIDEGRAM_CACHE_DIR", "/proc/none")
    assert str(tmp_path) not in str(compiling.module(text).__file__)


def test_a_toolkit_on_the_path_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CUDA_HOME", "CUDA_PATH"):
        monkeypatch.setenv(name, "gone again at the end")
        monkeypatch.delenv(name)
    (tmp_path / "nvvm").mkdir()
    (tmp_path / "bin").mkdir()
    for name in ("nvcc", "ncu"):
        (tmp_path / "bin" / name).write_text("#!/bin/sh\n")
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    compiling.prepare_import()
    assert os.environ["CUDA_HOME"] == str(tmp_path)
    monkeypatch.setenv("PATH", "/nowhere")
    assert tool("ncu") == tmp_path / "bin" / "ncu"


def test_a_name_that_numpy_dropped_is_there_for_numba_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(np, "row_stack", None, raising=False)
    monkeypatch.delattr(np, "row_stack")
    compiling.prepare_import()
    assert vars(np)["row_stack"] is np.vstack


def test_two_cards_share_the_tiles(cards: list[Emulated], tmp_path: Path) -> None:
    x, out = _data(12, (6,)), tmp_path / "K.h5"
    result = widegram.gram(VECTORS, x, out, device="cuda:0,1", tile=3, dtype="float64")
    assert result.complete
    assert all(card.launches for card in cards)
    wanted = widegram.kernel(VECTORS, x, dtype="float64")
    with h5py.File(out) as file:
        # The sums of the products are taken in another order.
        np.testing.assert_allclose(file["ntk"][...], wanted.ntk, rtol=1e-13)
        assert (file.attrs["device"], file.attrs["device_name"]) == ("cuda", "card A, card B")


def test_a_failing_card_keeps_finished_tiles_and_the_cpu_goes_on(
    cards: list[Emulated], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, out = _data(12, (6,)), tmp_path / "K.h5"
    monkeypatch.setattr(filling, "BATCH_TILES", 1)
    tile, count = CudaEvaluator.tile, iter(range(100))

    def failing(self, *args):
        if next(count) >= 4:
            cards[0].error = WidegramError("device cuda:0 (card A): an illegal address")
        return tile(self, *args)

    monkeypatch.setattr(CudaEvaluator, "tile", failing)
    with pytest.raises(WidegramError, match="illegal address"):
        widegram.gram(VECTORS, x, out, device="cuda", tile=3)
    finished = widegram.verify(out, sample=0).tiles_checked
    assert finished > 0
    with pytest.raises(WidegramError, match="its device is cuda, not reference"):
        widegram.gram(VECTORS, x, out, device="reference", tile=3)
    result = widegram.gram(VECTORS, x, out, device="cpu", tile=3)
    assert result.complete
    assert result.resumed_tiles > 0
    with h5py.File(out) as file:
        assert file.attrs["device"] == "cuda,cpu"
        assert file.attrs["device_note"] == (
            "tiles come from cuda, then cpu: they differ by rounding, "
            "within 0.0001 of the largest entry"
        )
        wanted = widegram.kernel(VECTORS, x, dtype="float64").ntk
        # The contract's tolerance for float32.
        np.testing.assert_allclose(file["ntk"][...], wanted, rtol=0, atol=1e-5 * wanted.max())


def test_tiles_come_in_order_and_those_computed_ahead_at_the_end() -> None:
    class Slow(fake.FakeEvaluator):
        workers = 2

        def tile(self, rows, cols, symmetric, progress=None):
            return {"nngp": np.full((len(rows), len(cols)), rows.start)}

    wanted = [(range(n, n + 1), range(2)) for n in range(9)]
    told: list[int] = []
    with TileQueue(Slow(("nngp",), "float64"), wanted, False) as queue:
        found = [queue.next(told.append)["nngp"][0, 0] for _ in range(3)]
    assert found == [0, 1, 2]
    assert told == [2, 2, 2]
    rest = [(n, arrays["nngp"][0, 0]) for n, arrays in queue.unasked()]
    assert rest in ([], [(3, 3)], [(4, 4)], [(3, 3), (4, 4)])
    assert list(queue.unasked()) == []


def test_the_next_rows_are_prepared_beside_those_in_work() -> None:
    # By rows: what comes next is prepared. Nothing comes after the last ones.
    begun, told = {range(1, 2): Event(), range(2, 3): Event()}, []

    class Slow(fake.FakeEvaluator):
        workers = 1

        def prepare(self, rows, cols):
            told.append((rows, cols))
            begun[rows].set()
            raise RuntimeError("the tile says so, too")

        def tile(self, rows, cols, symmetric, progress=None):
            # Work that has not begun is cancelled at the end: each tile waits for its successors'.
            coming = begun.get(range(rows.stop, rows.stop + 1))
            assert coming is None or coming.wait(60)
            return {"nngp": np.zeros((1, 1))}

    tiles = [(range(i, i + 1), range(j, j + 1)) for i in range(3) for j in range(i, 4)]
    with TileQueue(Slow(("nngp",), "float64"), tiles, False) as queue:
        for _ in tiles:
            queue.next(lambda pairs: None)
    assert told == [tiles[4], tiles[7]]


def test_a_card_that_computes_nothing_is_not_named(cards: list[Emulated], tmp_path: Path) -> None:
    x, out = _data(6, (6,)), tmp_path / "K.h5"
    cards[0].error = WidegramError("device cuda:0 (card A): an illegal address")
    with pytest.raises(WidegramError, match="illegal address"):
        widegram.gram(VECTORS, x, out, device="cuda", tile=3)
    assert widegram.gram(VECTORS, x, out, device="cpu").resumed_tiles == 0
    with h5py.File(out) as file:
        assert file.attrs["device"] == "cpu"
        assert file.attrs["device_note"] == file.attrs["device_name"] == ""


def test_threads_are_the_hosts(cards: list[Emulated], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("widegram.cuda.evaluator.usable_cores", lambda: 5)
    x = _data(2, (6,))
    for threads, used in ((3, 3), (None, 5)):
        job = make_job(VECTORS, x, None, "ntk", "float64", None, threads, "1GB")
        found = make_evaluator("cuda", job)
        assert isinstance(found, CudaEvaluator)
        assert found.images1.runners.count == used


def test_pairs_in_double_take_turns_and_hold_up_nobody_who_reads_images(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    running, found = Lock(), []

    class Runner:
        def __init__(self, *arguments: object) -> None:
            pass

        def run(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
            alone = running.acquire(blocking=False)
            with ThreadPoolExecutor(1) as other:
                readable = other.submit(read).result()
            time.sleep(0.05)
            found.append((alone, readable))
            if alone:
                running.release()
            return np.zeros((2, 1, len(x)))

    def read() -> bool:
        if not evaluator.images1.lock.acquire(timeout=2):
            return False
        evaluator.images1.lock.release()
        return True

    monkeypatch.setattr("widegram.cpu.pairs._Runner", Runner)
    nearly_parallel = np.ones((4, 6)) + 1e-5 * np.eye(4, 6)
    evaluator = _evaluator(VECTORS, nearly_parallel, Emulated(), "float32")
    with ThreadPoolExecutor(2) as lanes:
        tiles = [lanes.submit(evaluator.tile, range(n, n + 2), range(4), True) for n in (0, 2)]
    assert [bool(tile.result()) for tile in tiles] == [True, True]
    assert found == [(True, True)] * 2


def test_names_of_devices() -> None:
    assert [cuda_numbers(d) for d in ("cuda", "cuda:1", "cuda:0,2", "cpu", "cuda:")] == [
        (), (1,), (0, 2), None, None,
    ]  # fmt: skip
    assert kind_of("cuda:0,1") == "cuda"
    assert continues("cuda", "cpu")
    assert continues("cuda,cpu", "cuda:1")
    assert not continues("cpu", "cuda")
    assert joined("cuda", "cpu") == "cuda,cpu"
    assert joined("cuda,cpu", "cuda:0") == "cuda,cpu"
    assert available("cpu") == "cpu"
    with pytest.raises(WidegramError, match="names a card twice"):
        cuda_numbers("cuda:1,1")


def test_no_card_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "has_numba_cuda", lambda: False)
    with pytest.raises(WidegramError, match=r"not available here \(numba-cuda is not installed\)"):
        device.gpus(())


@pytest.fixture
def drivers(cards: list[Emulated], monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Emulated]]:
    """The stand-ins with a driver, and no memory of an earlier trial."""
    monkeypatch.setattr(trial, "has_driver", lambda: True)
    monkeypatch.setattr(device, "has_numba_cuda", lambda: True)
    trial.first_card_works.cache_clear()
    yield cards
    trial.first_card_works.cache_clear()


def test_auto_takes_a_card_that_computes(drivers: list[Emulated], tmp_path: Path) -> None:
    assert resolve_device("auto") == "cuda"
    assert [form for form, _ in drivers[0].launches] == ["product"]
    out = tmp_path / "K.h5"
    widegram.gram(VECTORS, _data(4, (6,)), out)
    with h5py.File(out) as file:
        assert (file.attrs["device"], file.attrs["device_name"]) == ("cuda", "card A")


def test_auto_says_why_it_leaves_a_card_alone(
    drivers: list[Emulated], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "widegram")
    drivers[0].error = WidegramError("device cuda:0 (card A): the driver is too old")
    assert resolve_device("auto") == "cpu"
    assert caplog.messages == ["device auto means the CPU: " + str(drivers[0].error)]
    trial.first_card_works.cache_clear()
    monkeypatch.setattr(trial, "multiply", lambda card: 0.0)
    assert resolve_device("auto") == "cpu"
    assert caplog.messages[1:] == ["device auto means the CPU: card A computes 2 x 3 = 0"]


@pytest.mark.parametrize("lacking", ["driver", "numba-cuda", "card"])
def test_auto_is_silent_where_there_is_nothing(
    lacking: str, drivers: list[Emulated], monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    def none(numbers: tuple[int, ...]) -> list[Emulated]:
        raise WidegramError("device cuda: CUDA is not available here")

    caplog.set_level("INFO", "widegram")
    target, name = {
        "driver": (trial, "has_driver"),
        "numba-cuda": (device, "has_numba_cuda"),
        "card": (device, "gpus"),
    }[lacking]
    monkeypatch.setattr(target, name, none if lacking == "card" else lambda: False)
    assert resolve_device("auto") == "cpu"
    assert not caplog.messages
