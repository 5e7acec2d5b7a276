"""A run whose evaluator fails: what is kept, what the file says, which error is shown."""

from __future__ import annotations

import signal
import threading
from pathlib import Path

import h5py
import numpy as np
import pytest

import fake_evaluator as fake
import widegram
from widegram.errors import Interrupted, WidegramError
from widegram.gramfile.writing import GramWriter
from widegram.machine import progress

X = fake.inputs(70)  # 15 tiles of 16 x 16
ERRORS = [WidegramError("device cuda:0: gone"), RuntimeError("a bug"), KeyboardInterrupt()]


def _fail_at(monkeypatch: pytest.MonkeyPatch, call: int, error: BaseException) -> None:
    tile = fake.FakeEvaluator.tile

    def failing(self, *arguments):
        if len(self.calls) == call:
            raise error
        return tile(self, *arguments)

    monkeypatch.setattr(fake.FakeEvaluator, "tile", failing)


def _failed(out: Path, call: int, error: BaseException, device: str = "cpu") -> None:
    """A run that ends with an error at the call of that number."""
    with pytest.MonkeyPatch.context() as patch:
        _fail_at(patch, call, error)
        with pytest.raises(type(error)):
            _run(out, device)


def _full_disk(self: GramWriter, *batch: object) -> None:
    raise OSError("no space left on device")


def _attribute(path: Path) -> str:
    with h5py.File(path) as file:
        return str(file.attrs["device"])


def _run(out: Path, device: str = "cpu") -> widegram.computing.gram.GramResult:
    return widegram.gram(fake.NETWORK, X, out, tile=16, device=device)


@pytest.fixture(autouse=True)
def _fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    fake.install(monkeypatch)
    monkeypatch.setattr("widegram.computing.gram.resolve_device", lambda device: device)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_tiles_before_the_error_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    out = tmp_path / "K.h5"
    with monkeypatch.context() as patch:
        _fail_at(patch, 4, error)
        with pytest.raises(type(error)) as raised:
            _run(out)
    assert raised.value is error
    assert _run(out).resumed_tiles == 4
    with h5py.File(out) as file:
        np.testing.assert_array_equal(file["nngp"], fake.expected(70, 70, True))


def _columns_ahead(monkeypatch: pytest.MonkeyPatch, waits: int, error: Exception | None) -> None:
    """Two tiles at once; the one of columns ``waits`` onwards in the first row waits for the next
    one, and then raises ``error`` if there is one."""
    later, tile = threading.Event(), fake.FakeEvaluator.tile

    def gated(self, rows, cols, *arguments):
        if rows.start == 0 and cols.start == waits:
            assert later.wait(60)
            if error is not None:
                raise error
        found = tile(self, rows, cols, *arguments)
        if rows.start == 0 and cols.start == waits + 16:
            later.set()
        return found

    monkeypatch.setattr(fake.FakeEvaluator, "tile", gated)
    monkeypatch.setattr(fake.FakeEvaluator, "workers", 2, raising=False)


def test_a_tile_computed_ahead_of_the_failing_one_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "K.h5"
    with monkeypatch.context() as patch:
        _columns_ahead(patch, 32, ERRORS[0])
        with pytest.raises(WidegramError, match="device cuda:0: gone"):
            _run(out)
    with h5py.File(out) as file:
        state = file["state/tiles"][0]
    np.testing.assert_array_equal(state[:4], [1, 1, 0, 1])
    assert _run(out).complete
    with h5py.File(out) as file:
        np.testing.assert_array_equal(file["nngp"], fake.expected(70, 70, True))


def test_a_tile_computed_ahead_is_kept_when_a_run_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[widegram.machine.progress.Progress] = []

    def stop(progress: widegram.machine.progress.Progress) -> None:
        if not told:
            signal.raise_signal(signal.SIGINT)
        told.append(progress)

    out = tmp_path / "K.h5"
    with monkeypatch.context() as patch:
        _columns_ahead(patch, 0, None)
        patch.setattr(progress, "_REPORT_SECONDS", 0.0)
        with pytest.raises(Interrupted, match=r"[23] of 15 tiles are saved"):
            widegram.gram(fake.NETWORK, X, out, tile=16, device="cpu", progress=stop)
    with h5py.File(out) as file:
        np.testing.assert_array_equal(file["state/tiles"][0, :2], [1, 1])


def test_an_error_of_progress_keeps_the_tile_it_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def progress(told: widegram.machine.progress.Progress) -> None:
        if told.done == told.total:
            raise RuntimeError("a bug")

    out = tmp_path / "K.h5"
    # The fake's tiles say nothing of their parts, so that the callback hears of whole ones only.
    tile = fake.FakeEvaluator.tile
    monkeypatch.setattr(fake.FakeEvaluator, "tile", lambda s, r, c, m, p: tile(s, r, c, m))
    with pytest.raises(RuntimeError, match="a bug"):
        widegram.gram(fake.NETWORK, X, out, tile=16, device="cpu", progress=progress)
    assert _run(out).resumed_tiles == 15


def test_an_error_of_writing_hides_none_of_computing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _fail_at(monkeypatch, 4, ERRORS[0])
    monkeypatch.setattr(GramWriter, "write", _full_disk)
    with pytest.raises(WidegramError, match="device cuda:0: gone"):
        _run(tmp_path / "K.h5")


def test_a_device_is_named_right_before_it_finishes_a_tile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "K.h5"
    _failed(out, 4, ERRORS[0], "cuda")
    _failed(out, 0, ERRORS[1])
    assert _attribute(out) == "cuda"
    with monkeypatch.context() as patch:
        patch.setattr(GramWriter, "write", _full_disk)
        with pytest.raises(OSError, match="no space"):
            _run(out)
    assert _attribute(out) == "cuda,cpu"
    assert _run(out).resumed_tiles == 4


def test_a_device_that_finished_nothing_is_not_named(tmp_path: Path) -> None:
    out = tmp_path / "K.h5"
    _failed(out, 0, ERRORS[0], "cuda")
    assert _run(out).resumed_tiles == 0
    assert _attribute(out) == "cpu"


def test_another_version_that_goes_on_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "K.h5"
    with monkeypatch.context() as patch:
        _fail_at(patch, 4, RuntimeError("a bug"))
        patch.setattr("widegram.computing.gram.__version__", "0.0.9")
        with pytest.raises(RuntimeError):
            _run(out)
    said = f"widegram 0.0.9 began it, and {widegram.__version__} goes on"
    assert _run(out).complete
    assert sum(said in line for line in caplog.messages) == 1
    assert _run(out).complete  # nothing is left to be done: nothing is said
    assert sum(said in line for line in caplog.messages) == 1
