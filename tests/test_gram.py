"""Orchestration: schedules, resumption, refusals, signals, memory."""

from __future__ import annotations

import filecmp
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import h5py
import numpy as np
import pytest

import fake_evaluator as fake
import widegram
from widegram.computing import filling
from widegram.errors import Interrupted, WidegramError
from widegram.gramfile import GramFile
from widegram.tiling import choose_tile


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[fake.FakeEvaluator]:
    return fake.install(monkeypatch)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("n1", "n2", "tile"), [(70, None, 16), (33, 50, 16), (5, None, None)])
def test_file_holds_every_entry(made, tmp_path: Path, n1, n2, tile, dtype) -> None:
    x2 = None if n2 is None else fake.inputs(n2, 1)
    out = tmp_path / "K.h5"
    result = widegram.gram(fake.NETWORK, fake.inputs(n1), out, x2, tile=tile, dtype=dtype)
    wanted = fake.expected(n1, n2 or n1, n2 is None, dtype)
    assert result.complete
    assert result.entries == wanted.size
    with h5py.File(out) as file:  # as any HDF5 reader sees it
        np.testing.assert_array_equal(file["nngp"], wanted)
        np.testing.assert_array_equal(file["ntk"], 2 * wanted)
        assert file["nngp"].dtype == dtype


def test_symmetric_run_computes_upper_tiles_only(made, tmp_path: Path) -> None:
    widegram.gram(fake.NETWORK, fake.inputs(70), tmp_path / "K.h5", tile=16)
    assert len(made[0].calls) == 15
    assert all(rows.start <= cols.start for rows, cols in made[0].calls)


def test_depth_sweep_and_single_kernel(made, tmp_path: Path) -> None:
    net = {
        "input_shape": [6],
        "layers": [{"layer": "Repeat", "times": 4, "body": [{"layer": "Dense"}]}],
    }
    widegram.gram(net, fake.inputs(9), tmp_path / "K.h5", get="ntk", depths=[3, 1])
    with GramFile(tmp_path / "K.h5") as file:
        assert (file.kernels, file.depths) == (("ntk",), (1, 3))
        np.testing.assert_array_equal(file.dataset("ntk", 3), 2 * fake.expected(9, 9, True))
        with pytest.raises(WidegramError, match=r"no depth 2; its depths: 1, 3"):
            file.dataset("ntk", 2)
        with pytest.raises(WidegramError, match=r"no kernel 'nngp'; it holds: ntk"):
            file.dataset("nngp", 1)
    with pytest.raises(WidegramError, match=r"depths '5'.*from 1 to 4"):
        widegram.gram(net, fake.inputs(9), tmp_path / "L.h5", depths=[1, 5])


def test_depths_without_repeat_are_refused(made, tmp_path: Path) -> None:
    net = {"input_shape": [6], "layers": [{"layer": "Dense"}]}
    with pytest.raises(WidegramError, match="Repeat"):
        widegram.gram(net, fake.inputs(9), tmp_path / "K.h5", depths=[1])
    assert os.listdir(tmp_path) == []


def test_complete_file_is_left_alone(made, tmp_path: Path) -> None:
    out = tmp_path / "K.h5"
    widegram.gram(fake.NETWORK, fake.inputs(40), out, tile=16)
    before = out.stat()
    result = widegram.gram(fake.NETWORK, fake.inputs(40), out)
    assert (result.entries, result.resumed_tiles, result.complete) == (0, 6, True)
    assert len(made) == 1
    assert out.stat().st_mtime_ns == before.st_mtime_ns


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"network": "fcn:depth=2"}, "another network"),
        ({"x1": fake.inputs(40, 5)}, r"other data as x1 \(40 rows then, 40 now\)"),
        ({"x1": fake.inputs(30)}, r"other data as x1 \(40 rows then, 30 now\)"),
        ({"x2": fake.inputs(40)}, "symmetric matrix of x with itself, not a matrix of x with x2"),
        ({"dtype": "float64"}, "dtype is float32, not float64"),
        ({"tile": 32}, "tile is 16, not 32"),
        ({"get": "ntk"}, "kernels is nngp,ntk, not ntk"),
        ({"device": "reference"}, "device is cpu, not reference"),
    ],
)
def test_output_of_another_run_is_refused(made, tmp_path: Path, change, message) -> None:
    out = tmp_path / "K.h5"
    request = {"network": fake.NETWORK, "x1": fake.inputs(40), "tile": 16}
    widegram.gram(out=out, **request)
    before = out.read_bytes()
    with pytest.raises(WidegramError, match=message):
        widegram.gram(out=out, **{**request, **change})
    assert out.read_bytes() == before
    assert widegram.gram(out=out, **{**request, **change}, overwrite=True).complete


def test_failed_overwrite_keeps_the_old_file(made, tmp_path: Path) -> None:
    out = tmp_path / "K.h5"
    widegram.gram(fake.NETWORK, fake.inputs(40), out)
    before = out.read_bytes()
    bad = fake.inputs(40)
    bad[17, 2] = np.nan
    with pytest.raises(WidegramError, match="row 17 holds NaN"):
        widegram.gram(fake.NETWORK, bad, out, overwrite=True)
    assert out.read_bytes() == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dtype": "float16"}, "dtype 'float16' is unknown"),
        ({"get": "nnpg"}, "get 'nnpg' is not understood; give nngp, ntk"),
        ({"device": "cuda"}, r"CUDA is not available here.*--device cpu"),
        ({"device": "tpu"}, "device 'tpu' is unknown"),
        ({"threads": 0}, "threads is 0"),
        ({"tile": 0}, "tile is 0"),
        ({"memory": "lots"}, "memory size 'lots' is not understood"),
        ({"memory": "1MB"}, "too small"),
        ({"x2": np.zeros((4, 5))}, r"shape \(5,\), those of array \(6,\)"),
    ],
)
def test_bad_requests_write_nothing(made, tmp_path: Path, change, message) -> None:
    request = {"network": fake.NETWORK, "x1": fake.inputs(40), **change}
    with pytest.raises(WidegramError, match=message):
        widegram.gram(out=tmp_path / "K.h5", **request)
    assert os.listdir(tmp_path) == []


def stop_after(calls: int, number: signal.Signals):
    """A progress callback that sends a signal to this process at its ``calls``-th call."""
    seen = 0

    def progress(_) -> None:
        nonlocal seen
        seen += 1
        if seen == calls:
            os.kill(os.getpid(), number)

    return progress


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_run_resumes_to_the_same_bytes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number
) -> None:
    monkeypatch.setattr("widegram.machine.progress._REPORT_SECONDS", 0.0)
    handler = signal.getsignal(number)
    made = fake.install(monkeypatch)
    out, whole = tmp_path / "K.h5", tmp_path / "whole.h5"
    widegram.gram(fake.NETWORK, fake.inputs(70), whole, tile=16)
    with pytest.raises(Interrupted, match=r"[1-9]\d* of 15 tiles are saved; run the same command"):
        widegram.gram(fake.NETWORK, fake.inputs(70), out, tile=16, progress=stop_after(9, number))
    assert signal.getsignal(number) is handler
    with GramFile(out) as file, pytest.raises(WidegramError, match="is not complete"):
        file.require_complete()
    assert widegram.verify(out, sample=0).ok
    monkeypatch.setattr(filling, "BATCH_TILES", 2)  # another split into batches
    result = widegram.gram(fake.NETWORK, fake.inputs(70), out)
    assert result.resumed_tiles == len(made[1].calls)
    assert len(made[1].calls) + len(made[2].calls) == 15
    assert filecmp.cmp(out, whole, shallow=False)


def test_progress_ends_at_the_total(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("widegram.machine.progress._REPORT_SECONDS", 0.0)
    fake.install(monkeypatch)
    told = []
    widegram.gram(fake.NETWORK, fake.inputs(70), tmp_path / "K.h5", tile=16, progress=told.append)
    done = [p.done for p in told]
    assert done == sorted(done)
    assert (told[-1].done, told[-1].total, told[-1].seconds_left) == (4900, 4900, 0.0)
    assert 0 < told[0].seconds_left < float("inf")


def test_values_that_overflow_are_not_stored(made, tmp_path: Path, monkeypatch) -> None:
    def overflow(*arguments):
        block = fake.entries(*arguments)
        return np.where(block == block[1, 2], np.inf, block).astype(block.dtype)

    monkeypatch.setattr(fake.FakeEvaluator, "tile", lambda self, r, c, s, p: {
        key: overflow(r, c, s, self.dtype) for key in self.keys
    })  # fmt: skip
    with pytest.raises(WidegramError, match=r"nngp overflows at row 1, column 2.*float64"):
        widegram.gram(fake.NETWORK, fake.inputs(9), tmp_path / "K.h5")


@pytest.mark.parametrize("memory", [16 * 10**6, 10**9, 10**12])
@pytest.mark.parametrize("matrices", [1, 2, 40])
@pytest.mark.parametrize("n", [1, 40, 600, 5000, 60000])
def test_tile_keeps_to_its_budget(memory: int, matrices: int, n: int) -> None:
    tile = choose_tile(n, matrices, 8, memory)
    assert tile == n or tile % 16 == 0
    assert tile <= 512
    assert tile == min(n, 16) or matrices * tile * tile * 8 <= memory // 16


def test_tile_is_a_few_seconds_of_work() -> None:
    assert choose_tile(5000, 2, 4, 10**10) == 512
    assert choose_tile(600, 2, 4, 10**10) == 304
    assert choose_tile(600, 2, 4, 10**10, entry_cost=1e6) == 64
    assert choose_tile(600, 2, 4, 10**10, entry_cost=1e12) == 16
    assert choose_tile(600, 2, 8, 10**10, entry_cost=1e12) == 8


def test_tiles_computed_at_once_share_the_budget(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fake.FakeEvaluator, "workers", 4, raising=False)
    fake.install(monkeypatch)
    result = widegram.gram(fake.NETWORK, fake.inputs(600), tmp_path / "K.h5", memory="16MB")
    # Two matrices of float32, four tiles at work and one that waits.
    assert 5 * result.tile**2 * 8 <= 10**6
    assert choose_tile(600, 2, 4, 16 * 10**6) > 2 * result.tile - 16
    assert choose_tile(5000, 2, 4, 10**9, image_bytes=10**5, at_once=5) == 240


MEMORY_SCRIPT = textwrap.dedent(
    """
    import resource, sys
    import fake_evaluator as fake, pytest, widegram
    from widegram.computing import gram as compute
    with pytest.MonkeyPatch.context() as patch:
        fake.install(patch)
        n, out = int(sys.argv[1]), sys.argv[2]
        widegram.gram(fake.NETWORK, fake.inputs(n), out, memory="32MB")
        widegram.verify(out, sample=0)
        widegram.export(out, "ntk", out + ".npz", memory="32MB")
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    """
)


def test_memory_does_not_grow_with_the_matrix(tmp_path: Path) -> None:
    peaks = []
    for n in (600, 3500):
        done = subprocess.run(
            [sys.executable, "-c", MEMORY_SCRIPT, str(n), str(tmp_path / f"{n}.h5")],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
        peaks.append(int(done.stdout) * 1024)
    # Two matrices of 49 MB each, a budget of 32 MB; the small run needs nearly none of it.
    assert peaks[1] - peaks[0] < 32 * 10**6


def test_import_is_light() -> None:
    check = "import sys, widegram; sys.exit(bool({'numba', 'h5py', 'scipy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


def test_public_names() -> None:
    assert {name: hasattr(widegram, name) for name in widegram.__all__} == dict.fromkeys(
        widegram.__all__, True
    )
    with pytest.raises(AttributeError, match="nonsense"):
        widegram.nonsense  # noqa: B018
