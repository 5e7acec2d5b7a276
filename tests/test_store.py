"""The gram file: layout, locking, refusals of what is foreign, damaged or does not fit."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest

import fake_evaluator as fake
import widegram
from widegram.durable import calls, new_file
from widegram.durable.contents import checksum
from widegram.durable.part import part_name
from widegram.errors import WidegramError
from widegram.gramfile import GramFile, TileGrid, create, open_for_resume, writing


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "K.h5"


def fill_some(out: Path) -> None:
    """Create a file and finish its first three tiles."""
    header = fake.header(70)
    create(out, header)
    evaluator = fake.FakeEvaluator(header.keys, "float32")
    with open_for_resume(out, header) as writer:
        grid = writer.grid
        writer.write(
            (i, j, evaluator.tile(grid.rows(i), grid.cols(j), True))
            for i, j in writer.pending()[:3]
        )


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize(("n1", "n2", "tile"), [(1, 1, 1), (10, 10, 3), (7, 7, 7), (512, 512, 100)])
def test_grid_covers_every_entry_once(n1: int, n2: int, tile: int, symmetric: bool) -> None:
    grid = TileGrid(n1, n2, tile, symmetric)
    seen = np.zeros((n1, n2), int)
    for i, j in grid.tiles():
        rows, cols = grid.rows(i), grid.cols(j)
        seen[rows.start : rows.stop, cols.start : cols.stop] += 1
        if symmetric and i != j:
            seen[cols.start : cols.stop, rows.start : rows.stop] += 1
    assert (seen == 1).all()
    assert sum(grid.entries(i, j) for i, j in grid.tiles()) == n1 * n2


@pytest.mark.parametrize("n", [600, 5000, 60000])
@pytest.mark.parametrize("tile", [16, 32, 304, 4096])
def test_chunks_are_whole_tiles_with_little_padding(n: int, tile: int) -> None:
    chunk, _ = TileGrid(n, n, tile, True).chunk()
    assert chunk <= 512 + tile
    assert chunk == n or chunk % tile == 0 or tile > 512
    assert tile > 512 or -(-n // chunk) * chunk <= 1.1 * n


def test_storage_is_allocated_contiguous_and_plain(out: Path) -> None:
    create(out, fake.header(600, tile=304))
    assert os.listdir(out.parent) == ["K.h5"]
    # Superblock 2 or older: newer ones keep an "open for write" mark after a kill.
    assert out.read_bytes()[8] <= 2
    assert os.stat(out).st_blocks * 512 >= 2 * 600 * 600 * 4
    assert os.stat(out).st_size <= fake.header(600, tile=304).file_bytes()
    with h5py.File(out) as file:
        for name in ("nngp", "ntk"):
            assert file[name].chunks == (304, 304)
            assert file[name].id.get_create_plist().get_nfilters() == 0
            assert file[name].id.get_num_chunks() == 4
        assert file["state/tiles"].chunks is None
        assert file["state/tiles"].dtype == np.uint8
        assert not file["state/tiles"][...].any()
        assert file["state/checksums/ntk"].dtype == np.uint64


def test_root_attributes(monkeypatch: pytest.MonkeyPatch, out: Path) -> None:
    fake.install(monkeypatch)
    x = fake.inputs(20)
    widegram.gram(fake.NETWORK, x, out)
    network = widegram.load_network(fake.NETWORK, (6,))
    with GramFile(out) as file:
        assert file.attributes == {
            "format": "widegram-gram",
            "format_version": 2,
            "complete": True,
            "network": network.to_json(),
            "network_fingerprint": network.fingerprint(),
            "x1_fingerprint": widegram.open_source(x).fingerprint(),
            "x2_fingerprint": "",
            "x1_location": "",
            "x2_location": "",
            "dtype": "float32",
            "symmetric": True,
            "device": "cpu",
            "device_name": "",
            "device_note": "",
            "program_version": widegram.__version__,
            "tile": 20,
        }
        assert file.network == network.canonical()
        assert file.fingerprints["x2"] == file.fingerprints["x1"]


def test_state_and_checksums_say_what_is_finished(out: Path) -> None:
    fill_some(out)
    with h5py.File(out) as file:
        state = file["state/tiles"][...]
        assert np.argwhere(state).tolist() == [[0, 0], [0, 1], [0, 2], [1, 0], [2, 0]]
        stored = file["ntk"][32:48, 0:16]
        assert file["state/checksums/ntk"][2, 0] == checksum(stored)
        np.testing.assert_array_equal(stored, file["ntk"][0:16, 32:48].T)


def test_tile_without_its_mirrors_flag_is_computed_again(out: Path) -> None:
    fill_some(out)
    with h5py.File(out, "r+") as file:
        file["state/tiles"][2, 0] = 0
    with open_for_resume(out, fake.header()) as writer:
        assert writer.pending()[0] == (0, 2)


def test_unfinished_file_cannot_be_marked_complete(out: Path) -> None:
    fill_some(out)
    with open_for_resume(out, fake.header()) as writer, pytest.raises(RuntimeError):
        writer.finish()


HOLD = "import h5py, sys; f = h5py.File(sys.argv[1], 'r+'); print('open', flush=True); input()"


def test_second_writer_is_refused(out: Path) -> None:
    fill_some(out)
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(out)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        message = "another process has this file open"
        with pytest.raises(WidegramError, match=message):
            open_for_resume(out, fake.header())
        with pytest.raises(WidegramError, match=message):
            create(out, fake.header(), overwrite=True)
        with pytest.raises(WidegramError, match=message):
            GramFile(out)
        other.communicate("\n")
    open_for_resume(out, fake.header()).close()


def test_second_creator_is_refused(out: Path) -> None:
    with (
        new_file(out),
        pytest.raises(WidegramError, match="another process is creating this file"),
    ):
        create(out, fake.header())
    create(out, fake.header(), overwrite=True)


def test_part_of_a_killed_run_is_taken_over(out: Path) -> None:
    part_name(out).write_bytes(b"left behind")
    create(out, fake.header())
    with GramFile(out) as file:
        assert file.header == fake.header()
    assert os.listdir(out.parent) == ["K.h5"]


def test_too_little_disk_is_refused_before_anything_is_written(
    monkeypatch: pytest.MonkeyPatch, out: Path
) -> None:
    made = fake.install(monkeypatch)
    free = SimpleNamespace(f_blocks=1, f_bavail=1000, f_frsize=4096)
    monkeypatch.setattr(os, "statvfs", lambda _: free)
    needed = fake.header(1000, 512).file_bytes() - 2  # the fake header's network is "{}"
    with pytest.raises(WidegramError, match=r"too little disk: (\d+) bytes.*4096000 bytes") as info:
        widegram.gram(fake.NETWORK, fake.inputs(1000), out)
    found = re.search(r"disk: (\d+) bytes", str(info.value))
    assert found is not None
    assert int(found[1]) >= needed
    assert len(made) == 1
    assert not made[0].calls
    assert os.listdir(out.parent) == []


def test_disk_that_fills_up_while_allocating(monkeypatch: pytest.MonkeyPatch, out: Path) -> None:
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(WidegramError, match="the disk is full"):
        create(out, fake.header())
    assert os.listdir(out.parent) == []


def test_write_error_keeps_what_is_finished(monkeypatch: pytest.MonkeyPatch, out: Path) -> None:
    fill_some(out)

    def broken(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    header = fake.header()
    block = fake.entries(range(16), range(48, 64), True, "float32")
    with open_for_resume(out, header) as writer:
        monkeypatch.setattr(os, "fdatasync", broken)
        with pytest.raises(WidegramError, match=r"cannot be written: .*Input/output error"):
            writer.write([(0, 3, {"nngp": block, "ntk": block})])
    monkeypatch.undo()
    with open_for_resume(out, header) as writer:
        assert writer.pending()[0] == (0, 3)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no HDF5 at all", "is not an HDF5 file"),
        (b"", "is not an HDF5 file"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "is damaged, HDF5 cannot read it"),
    ],
)
def test_foreign_or_damaged_file_is_refused(monkeypatch, out: Path, content, message) -> None:
    fake.install(monkeypatch)
    out.write_bytes(content)
    for attempt in (
        lambda: GramFile(out),
        lambda: widegram.gram(fake.NETWORK, fake.inputs(20), out),
        lambda: widegram.export(out, "ntk", out.with_name("K.npy")),
    ):
        with pytest.raises(WidegramError, match=message):
            attempt()
    assert out.read_bytes() == content


def test_truncated_file_is_refused(out: Path) -> None:
    create(out, fake.header())
    os.truncate(out, out.stat().st_size // 2)
    with pytest.raises(WidegramError, match=r"is damaged, HDF5 cannot read it.*truncated"):
        GramFile(out)


def test_other_hdf5_file_is_refused(monkeypatch: pytest.MonkeyPatch, out: Path) -> None:
    fake.install(monkeypatch)
    with h5py.File(out, "w") as file:
        file["x"] = [1.0]
    with pytest.raises(WidegramError, match="but not a widegram gram file; `widegram data info`"):
        widegram.gram(fake.NETWORK, fake.inputs(20), out)


def test_newer_format_is_refused(out: Path) -> None:
    create(out, fake.header())
    with h5py.File(out, "r+") as file:
        file.attrs["format_version"] = 9
    with pytest.raises(WidegramError, match="has format version 9; this program reads 2"):
        GramFile(out)


@pytest.mark.parametrize("name", ["nngp", "ntk", "state/tiles", "state/checksums"])
def test_missing_dataset_is_damage(out: Path, name: str) -> None:
    create(out, fake.header())
    with h5py.File(out, "r+") as file:
        del file[name]
    with pytest.raises(WidegramError, match="is damaged"):
        GramFile(out).dataset("nngp")


def test_places_that_cannot_be_written(out: Path) -> None:
    with pytest.raises(WidegramError, match="is a directory; give the name of a file in it"):
        create(out.parent, fake.header())
    with pytest.raises(WidegramError, match=r"its directory .* does not exist; create it first"):
        create(out.parent / "missing" / "K.h5", fake.header())
    out.touch()
    with pytest.raises(WidegramError, match="exists; choose another name or pass --overwrite"):
        create(out, fake.header())
    with pytest.raises(WidegramError, match="is not a regular file"):
        create(Path("/dev/null"), fake.header(), overwrite=True)


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.EACCES, r"cannot be written \(Permission denied\); choose another place"),
        (errno.EROFS, r"cannot be written \(Read-only file system\); choose another place"),
        (errno.ENAMETOOLONG, "cannot be written: .*File name too long"),
    ],
)
def test_place_that_refuses_new_files(monkeypatch, out: Path, number: int, message: str) -> None:
    # Simulated, since permissions do not stop the superuser.
    def refuse(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(calls, "create", refuse)
    with pytest.raises(WidegramError, match=message):
        create(out, fake.header())


def test_file_without_permission(monkeypatch: pytest.MonkeyPatch, out: Path) -> None:
    create(out, fake.header())
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(WidegramError, match="permission denied"):
        GramFile(out)


def test_missing_file_names_the_nearest(out: Path) -> None:
    create(out, fake.header())
    with pytest.raises(WidegramError, match=r"K1\.h5: no such file; did you mean '.*K\.h5'\?"):
        GramFile(out.with_name("K1.h5"))


@pytest.mark.parametrize("free", [0, 1 << 40])
def test_what_memory_cannot_hold_is_dropped_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int
) -> None:
    """Each tile and mirror image once it is on the disk, and no flag or checksum."""
    path, header = tmp_path / "K.h5", fake.header(1024, 512)
    create(path, header)
    dropped: list[tuple[int, int]] = []
    synced: list[int] = []
    sync, forget = calls.sync_data, calls.forget
    monkeypatch.setattr(writing, "free_memory", lambda: free)
    monkeypatch.setattr(calls, "sync_data", lambda fd: synced.append(len(dropped)) or sync(fd))
    monkeypatch.setattr(
        calls, "forget", lambda fd, *span: dropped.append(span) or forget(fd, *span)
    )
    with open_for_resume(path, header) as writer:
        block = np.ones((512, 512), np.float32)
        writer.write([(0, 1, {"nngp": block, "ntk": block})])
    assert [size for size, _ in dropped] == ([] if free else [block.nbytes] * 4)
    assert synced[0] == 0
