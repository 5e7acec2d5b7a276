"""What a run of ``gram`` does not trust: tiles on the disk, its inputs, its own file's name."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

import fake_evaluator as fake
import widegram
from cli_support import run_json
from widegram.computing import filling
from widegram.computing import gram as compute
from widegram.errors import WidegramError, WriteFailed
from widegram.gramfile import GramFile, writing
from widegram.machine.progress import Progress

N, TILE = 70, 16  # 15 tiles


@pytest.fixture(autouse=True)
def made(monkeypatch: pytest.MonkeyPatch) -> list[fake.FakeEvaluator]:
    monkeypatch.setattr("widegram.machine.progress._REPORT_SECONDS", 0.0)
    monkeypatch.setattr(filling, "BATCH_TILES", 2)
    return fake.install(monkeypatch)


@pytest.fixture
def x(tmp_path: Path) -> Path:
    np.save(tmp_path / "x.npy", fake.inputs(N))
    return tmp_path / "x.npy"


def gram(x: Path | np.ndarray, out: Path, **options: object) -> compute.GramResult:
    return widegram.gram(fake.NETWORK, x, out, tile=TILE, **options)


def at(share: float, act: Callable[[], object]) -> Callable[[Progress], None]:
    """A progress callback that acts once, when this share of the work is done."""
    done = False

    def progress(told: Progress) -> None:
        nonlocal done
        if not done and told.done >= share * told.total:
            done = True
            act()

    return progress


def unfinish(out: Path) -> None:
    """Leave the tiles of the first three rows and columns finished."""
    with h5py.File(out, "r+") as file:
        file["state/tiles"][3:] = 0
        file["state/tiles"][:, 3:] = 0
        file["state/checksums/ntk"][3:] = 0
        file.attrs.modify("complete", np.bool_(False))


def whole(out: Path) -> None:
    report = widegram.verify(out, sample=0)
    assert report.ok
    assert report.complete
    with h5py.File(out) as file:
        np.testing.assert_array_equal(file["nngp"], fake.expected(N, N, True))
        np.testing.assert_array_equal(file["ntk"], 2 * fake.expected(N, N, True))


@pytest.mark.parametrize("place", [(3, 40), (40, 3), (0, 0)])
def test_a_resumed_run_computes_damaged_tiles_again(x: Path, tmp_path: Path, place, caplog) -> None:
    out = tmp_path / "K.h5"
    gram(x, out)
    unfinish(out)
    with h5py.File(out, "r+") as file:
        file["ntk"][place] += 1
    result = gram(x, out)
    assert (result.damaged_tiles, result.resumed_tiles) == (1, 5)
    assert "1 finished tiles have not their checksums any more" in caplog.text
    whole(out)


def test_a_flag_that_is_not_0_or_1_is_not_trusted(x: Path, tmp_path: Path, made) -> None:
    out = tmp_path / "K.h5"
    gram(x, out)
    unfinish(out)
    with h5py.File(out, "r+") as file:
        file["state/tiles"][1, 0] = 3
    assert gram(x, out).damaged_tiles == 1
    assert (range(16), range(16, 32)) in made[-1].calls
    whole(out)


def test_a_flag_of_a_tile_that_was_never_computed_is_not_trusted(x: Path, tmp_path: Path) -> None:
    out = tmp_path / "K.h5"
    gram(x, out)
    unfinish(out)
    with h5py.File(out, "r+") as file:
        file["state/tiles"][4, 4] = 1
    assert gram(x, out).damaged_tiles == 1
    whole(out)


def test_a_lost_flag_of_a_complete_file_is_noticed(x: Path, tmp_path: Path, made) -> None:
    out = tmp_path / "K.h5"
    gram(x, out)
    with h5py.File(out, "r+") as file:
        file["state/tiles"][4, 4] = 0
    assert gram(x, out).entries == 36
    whole(out)


def test_large_files_are_sampled_unless_all_is_asked_for(
    x: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "_SAMPLE_TILES", 1)
    out = tmp_path / "K.h5"
    gram(x, out)
    for check, most in ((False, 1), (True, 6)):
        unfinish(out)
        with h5py.File(out, "r+") as file:
            file["ntk"][:] += 1
        assert gram(x, out, check=check).damaged_tiles == most
    whole(out)


def test_check_reads_a_complete_file_too(x: Path, tmp_path: Path) -> None:
    out = tmp_path / "K.h5"
    gram(x, out)
    assert gram(x, out, check=True).entries == 0
    with h5py.File(out, "r+") as file:
        file["ntk"][20, 20] += 1
    assert gram(x, out).entries == 0  # a complete file is left as it is
    result = run_json(
        *["gram", "--net", fake.NETWORK, "--x", x, "--out", out, "--tile", TILE, "--check"]
    )
    assert result["damaged_tiles"] == 1
    whole(out)


def double_in_place(x: Path) -> None:
    mapped = np.load(x, mmap_mode="r+")
    mapped[60:] *= 2
    mapped.flush()


def test_inputs_that_were_changed_in_place_end_the_run(x: Path, tmp_path: Path) -> None:
    out, before = tmp_path / "K.h5", x.read_bytes()
    with pytest.raises(
        WidegramError, match=r"is not complete: .*x\.npy: was changed while it was read; the 15"
    ):
        gram(x, out, progress=at(0.5, lambda: double_in_place(x)))
    x.write_bytes(before)
    assert gram(x, out).resumed_tiles == 0
    whole(out)


def test_columns_and_arrays_in_memory_that_were_changed(x: Path, tmp_path: Path) -> None:
    columns = fake.inputs(40, 1)

    def change() -> None:
        columns[7, 3] = 0.5

    with pytest.raises(WidegramError, match="array: was changed while it was read"):
        gram(x, tmp_path / "K.h5", x2=columns, progress=at(0.5, change))


def test_tiles_of_an_earlier_run_are_kept_when_inputs_change(x: Path, tmp_path: Path) -> None:
    out, before = tmp_path / "K.h5", x.read_bytes()
    gram(x, out)
    unfinish(out)
    with pytest.raises(WidegramError, match="the 9 tiles of this run are not kept"):
        gram(x, out, progress=at(0.7, lambda: double_in_place(x)))
    with GramFile(out) as file:
        assert not file.complete
        assert file.tiles() == (6, 15)
    with pytest.raises(WidegramError, match="it was made from other data as x1"):
        gram(x, out)
    x.write_bytes(before)
    assert gram(x, out).resumed_tiles == 6
    whole(out)


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_an_output_that_was_deleted(x: Path, tmp_path: Path, share: float) -> None:
    out = tmp_path / "K.h5"
    with pytest.raises(WriteFailed, match=r"K\.h5: was deleted or replaced .* is lost; run"):
        gram(x, out, progress=at(share, out.unlink))
    assert not out.exists()


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_an_output_that_was_replaced(x: Path, tmp_path: Path, share: float) -> None:
    out = tmp_path / "K.h5"
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(WriteFailed, match="was deleted or replaced"):
        gram(x, out, progress=at(share, lambda: (tmp_path / "mine").replace(out)))
    assert out.read_text() == "mine"


def test_a_folder_that_was_moved(x: Path, tmp_path: Path) -> None:
    folder, moved = tmp_path / "a", tmp_path / "b"
    folder.mkdir()
    with pytest.raises(WriteFailed, match=rf"was moved while .*, to {moved}/K\.h5; what is done"):
        gram(x, folder / "K.h5", progress=at(0.5, lambda: folder.rename(moved)))
    assert gram(x, moved / "K.h5").resumed_tiles > 0
    whole(moved / "K.h5")


def test_a_link_that_was_turned_elsewhere(x: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.h5"
    link.symlink_to(tmp_path / "K.h5")

    def turn() -> None:
        link.unlink()
        link.symlink_to(tmp_path / "other.h5")

    with pytest.raises(WriteFailed, match=r"was moved while .*K\.h5"):
        gram(x, link, progress=at(0.5, turn))


def test_an_output_that_is_a_link_writes_to_its_target(x: Path, tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    link, target = tmp_path / "link.h5", tmp_path / "far" / "K.h5"
    link.symlink_to(target)
    gram(x, link)
    whole(target)
    unfinish(target)
    assert gram(x, link).resumed_tiles == 6
    gram(x, link, overwrite=True)
    whole(target)
    assert link.is_symlink()
    assert os.listdir(target.parent) == ["K.h5"]


def test_a_file_that_another_program_rewrote_gets_its_layout_back(x: Path, tmp_path: Path) -> None:
    out = tmp_path / "K.h5"
    gram(x, out)
    unfinish(out)
    with h5py.File(out, "r+") as file:
        for name in ("complete", "device", "device_note"):
            value = file.attrs[name]
            del file.attrs[name]
            file.attrs[name] = value
        file["ntk"][0, 0] += 1  # all tiles are compared then
    assert not widegram.verify(out, sample=0).metadata_intact
    result = gram(x, out)
    assert (result.damaged_tiles, result.resumed_tiles) == (1, 5)
    assert widegram.verify(out, sample=0).metadata_intact
    whole(out)
    assert sorted(os.listdir(tmp_path)) == ["K.h5", "x.npy"]


@pytest.mark.parametrize("number", range(1, 9))
def test_a_change_of_device_that_is_cut_short_leaves_a_good_file(
    x: Path, tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    out, seen = tmp_path / "K.h5", 0
    monkeypatch.setattr(compute, "resolve_device", lambda device: device)

    def stop() -> None:
        raise Killed

    with pytest.raises(Killed):
        gram(x, out, device="cuda", progress=at(0.4, stop))
    saved = widegram.verify(out, sample=0).tiles_checked
    put = writing.LiveFile.put_bytes, writing.LiveFile.write

    def dying(real: Callable[..., None]) -> Callable[..., None]:
        def call(*arguments: object) -> None:
            nonlocal seen
            seen += 1
            if seen >= number:
                raise Killed
            real(*arguments)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(writing.LiveFile, "put_bytes", dying(put[0]))
        patch.setattr(writing.LiveFile, "write", dying(put[1]))
        with pytest.raises(Killed):
            gram(x, out, device="cpu")
    report = widegram.verify(out, sample=0)
    assert report.ok
    assert report.tiles_checked >= saved > 0
    assert gram(x, out, device="cpu").complete
    with h5py.File(out) as file:
        assert file.attrs["device"] == "cuda,cpu"
        assert file.attrs["device_note"].startswith("tiles come from cuda, then cpu: they differ")
    whole(out)
