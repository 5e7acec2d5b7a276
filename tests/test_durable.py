"""The one way to write: layouts made in memory, data at known offsets, names given at the end."""

from __future__ import annotations

import ast
import errno
import os
import re
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

import widegram
import widegram_bench
import widegram_cli
from cli_support import run
from widegram.durable import (
    LiveFile,
    build,
    calls,
    check_bearable,
    new_file,
    new_hdf5,
    reserve,
    trailer,
    with_trailer,
)
from widegram.durable.part import part_name
from widegram.durable.sealed import write_sealed
from widegram.errors import WidegramError, WriteFailed

RNG = np.random.default_rng(0)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "K.h5"


@pytest.mark.parametrize(
    ("shape", "chunk"),
    [((), None), ((0,), None), ((7,), None), ((7,), (3,)), ((5, 4), None), ((10, 11), (4, 5)),
     ((3, 0), None), ((4, 5, 6), None), ((4, 5, 6), (2, 3, 6))],
)  # fmt: skip
@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "uint8", "bool", "complex128"])
def test_any_hdf5_reader_finds_the_data_where_it_was_put(out: Path, shape, chunk, dtype) -> None:
    data = (100 * RNG.normal(size=shape)).astype(dtype)

    def describe(file: h5py.File) -> None:
        file.attrs["text"] = "x" * 70000
        file["names"] = ["a", "bc"]
        reserve(file, "group/data", shape, dtype, chunk)

    with new_hdf5(out, describe) as new:
        new.write("group/data", data)
    with h5py.File(out) as file:
        np.testing.assert_array_equal(file["group/data"][()], data)
        assert file["group/data"].dtype == data.dtype
        assert file["group/data"].chunks == chunk
        assert file.attrs["text"] == "x" * 70000
        assert file["names"].asstr()[:].tolist() == ["a", "bc"]
    assert os.listdir(out.parent) == ["K.h5"]


def test_random_blocks_reach_their_places_in_a_live_file(out: Path) -> None:
    write_sealed(out, {"flags": np.zeros(3, "u1")}, {})
    shape, chunk = (23, 31), (8, 9)
    with new_hdf5(out, lambda f: reserve(f, "k", shape, "<f8", chunk), overwrite=True):
        pass
    wanted = np.zeros(shape)
    with LiveFile(out) as live:
        for _ in range(60):
            lo = RNG.integers(0, shape)
            hi = RNG.integers(lo, np.add(shape, 1))
            block = RNG.normal(size=tuple(hi - lo))
            wanted[lo[0] : hi[0], lo[1] : hi[1]] = block
            live.write("k", block, tuple(lo.tolist()))
            np.testing.assert_array_equal(live.read("k", tuple(lo.tolist()), block.shape), block)
        live.sync()
        with pytest.raises(IndexError, match="a block of shape"):
            live.write("k", np.zeros((2, 2)), (22, 0))
    with h5py.File(out) as file:
        np.testing.assert_array_equal(file["k"], wanted)


def test_what_is_reserved_costs_no_memory() -> None:
    image = build(lambda file: reserve(file, "k", (10**5, 10**5), "<f4", (4096, 4096)))
    assert image.size > 4 * 10**10
    assert sum(len(data) for _, data in image.segments) < 10**6


def test_a_file_of_known_content_is_written_the_same_twice(tmp_path: Path) -> None:
    for name in ("a.h5", "b.h5"):
        write_sealed(tmp_path / name, {"x": np.arange(9.0), "s/n": np.arange(3)}, {"format": "f"})
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_an_error_in_the_block_leaves_what_was_there(out: Path) -> None:
    out.write_bytes(b"mine")

    def fail() -> None:
        with new_file(out, overwrite=True) as part:
            part.stream().write(b"new")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert out.read_bytes() == b"mine"
    assert os.listdir(out.parent) == ["K.h5"]


def test_a_target_that_is_a_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    link, target = tmp_path / "link.h5", tmp_path / "far" / "K.h5"
    link.symlink_to(target)
    for content in (b"one", b"two"):
        with new_file(link, overwrite=True) as part:
            assert part.part.parent == target.parent
            part.stream().write(content)
        assert link.is_symlink()
        assert target.read_bytes() == content
    with pytest.raises(WidegramError, match="exists; choose another name"), new_file(link):
        pass


def test_links_that_lead_nowhere_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(WidegramError, match="is a link to itself"):
        write_sealed(tmp_path / "a", {}, {})
    (tmp_path / "c").symlink_to(tmp_path / "missing" / "K.h5")
    with pytest.raises(WidegramError, match=r"its directory .*missing does not exist"):
        write_sealed(tmp_path / "c", {}, {})


def test_a_part_of_the_users_is_left_alone(out: Path) -> None:
    other = Path(f"{out}.part")
    other.write_bytes(b"mine")
    write_sealed(out, {"x": np.ones(3)}, {})
    assert other.read_bytes() == b"mine"


@pytest.mark.parametrize("kind", ["link", "hard link", "fifo", "directory"])
def test_what_lies_in_the_way_of_a_part_is_not_touched(out: Path, kind: str) -> None:
    part, mine = part_name(out), out.with_name("mine")
    mine.write_bytes(b"mine")
    if kind == "link":
        part.symlink_to(mine)
    elif kind == "hard link":
        os.link(mine, part)
    elif kind == "fifo":
        os.mkfifo(part)
    else:
        part.mkdir()
    with pytest.raises(WidegramError, match="is in the way and no part that this program left"):
        write_sealed(out, {"x": np.ones(3)}, {})
    assert mine.read_bytes() == b"mine"
    assert os.path.lexists(part)
    assert not out.exists()


def test_a_part_that_a_killed_process_left_is_replaced(out: Path) -> None:
    part_name(out).write_bytes(b"left behind")
    write_sealed(out, {"x": np.ones(3)}, {})
    assert os.listdir(out.parent) == ["K.h5"]


def test_a_second_process_waits_its_turn(out: Path) -> None:
    with (
        new_file(out),
        pytest.raises(WidegramError, match="another process is creating this file"),
    ):
        write_sealed(out, {"x": np.ones(3)}, {})
    write_sealed(out, {"x": np.ones(3)}, {}, overwrite=True)
    with (
        LiveFile(out),
        pytest.raises(WidegramError, match="another process has this file open"),
    ):
        write_sealed(out, {"x": np.ones(3)}, {}, overwrite=True)


def test_names_as_long_as_a_file_system_takes(tmp_path: Path) -> None:
    out = tmp_path / ("ä" * 126 + ".h5")
    write_sealed(out, {"x": np.ones(3)}, {})
    assert os.listdir(tmp_path) == [out.name]


def test_what_the_disk_did_not_keep_is_noticed(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def careless(descriptor: int, data: calls.Bytes, offset: int) -> None:
        os.pwrite(descriptor, bytes(memoryview(data).cast("B")[:-1]) + b"?", offset)

    monkeypatch.setattr(calls, "write", careless)
    with pytest.raises(WriteFailed, match="the disk did not keep what was written"):
        write_sealed(out, {"x": np.ones(3)}, {})
    assert os.listdir(out.parent) == []


CALLS = ("create", "write", "allocate", "sync", "rename", "sync_directory", "forget", "read")


def failing_at(patch: pytest.MonkeyPatch, name: str, at: int, number: int) -> None:
    """Let the ``at``-th call of ``calls.name`` fail, once."""
    seen, real = [0], getattr(calls, name)

    def call(*arguments: object) -> object:
        seen[0] += 1
        if seen[0] == at:
            raise OSError(number, os.strerror(number))
        return real(*arguments)

    patch.setattr(calls, name, call)


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_each_call_that_fails_ends_in_one_line_and_changes_nothing(
    out: Path, name: str, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    out.write_bytes(b"mine")
    for at in range(1, 10):
        with monkeypatch.context() as patch:
            failing_at(patch, name, at, number)
            said = ""
            try:
                write_sealed(out, {"x": np.arange(5.0)}, {}, overwrite=True)
            except WriteFailed as error:
                said = str(error)
        assert os.listdir(out.parent) == ["K.h5"]
        if not said:
            break
        assert re.fullmatch(".*(disk is full|cannot be written).*", said)
        if name != "sync_directory":  # there the rename has happened, of a file that is whole
            assert out.read_bytes() == b"mine"
    else:
        pytest.fail("there are more calls than were made to fail")
    with h5py.File(out) as file:
        np.testing.assert_array_equal(file["x"], np.arange(5.0))


@pytest.mark.parametrize("switch", ["FALSE", "0", "BEST_EFFORT"])
def test_file_systems_without_locks(out: Path, monkeypatch, switch: str) -> None:
    def none(*_: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", none)
    with pytest.raises(WidegramError, match=r"has no file locks .*HDF5_USE_FILE_LOCKING=FALSE"):
        write_sealed(out, {"x": np.ones(3)}, {})
    assert os.listdir(out.parent) == []
    monkeypatch.setenv("HDF5_USE_FILE_LOCKING", switch)
    write_sealed(out, {"x": np.ones(3)}, {})
    with LiveFile(out) as live:
        live.write("x", np.zeros(1), 2)


def test_a_live_file_that_lost_its_name(out: Path) -> None:
    write_sealed(out, {"x": np.ones(3)}, {})
    moved = out.with_name("moved.h5")
    with LiveFile(out) as live:
        live.check_place()
        out.rename(moved)
        with pytest.raises(WriteFailed, match=r"was moved while .* to .*moved\.h5"):
            live.check_place()
        write_sealed(out, {"x": np.ones(3)}, {})
        with pytest.raises(WriteFailed, match="was moved"):
            live.check_place()
        moved.replace(out)
        live.check_place()
        out.unlink()
        with pytest.raises(WriteFailed, match="was deleted or replaced"):
            live.check_place()


def sealed(out: Path) -> bytes:
    """A file with a trailer; returns its bytes."""

    def describe(file: h5py.File) -> None:
        file.attrs["text"] = "some text"
        reserve(file, "x", (5,), "<f8")

    with new_hdf5(out, with_trailer(build(describe), [(20, 4)])) as new:
        new.write("x", np.arange(5.0))
    return out.read_bytes()


def suspect(data: bytes) -> bool:
    return trailer.is_suspect(lambda offset, length: data[offset : offset + length], len(data))


def test_a_trailer_is_nothing_to_hdf5_and_knows_the_metadata(out: Path) -> None:
    data = sealed(out)
    with h5py.File(out) as file:
        np.testing.assert_array_equal(file["x"], np.arange(5.0))
        place = file["x"].id.get_offset()
    assert not suspect(data)
    length = trailer.trailer_size(lambda offset, n: data[offset : offset + n], len(data))
    kept = {*range(20, 24), *range(place, place + 40)}
    for offset in range(0, len(data) - length, 7):
        flipped = bytearray(data)
        flipped[offset] ^= 4
        inside = any(lo <= offset < lo + n for lo, n in spans_of(data))
        assert suspect(bytes(flipped)) == (inside and offset not in kept)


def spans_of(data: bytes) -> list[tuple[int, int]]:
    length = trailer.trailer_size(lambda offset, n: data[offset : offset + n], len(data))
    numbers = np.frombuffer(data[-length:-16], "<u8").tolist()
    return list(zip(numbers[:-3:2], numbers[1:-3:2], strict=True))


def test_another_program_cuts_the_trailer_off(out: Path) -> None:
    sealed(out)
    with h5py.File(out, "r+") as file:
        file.attrs["mine"] = 1
    assert not suspect(out.read_bytes())
    check_bearable(out)


def test_what_hdf5_does_not_come_back_from_is_left_to_another_process(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = bytearray(sealed(out))
    check_bearable(out)
    data[100] ^= 1
    out.write_bytes(data)
    check_bearable(out)  # damaged, and HDF5 says so or not, but it ends
    monkeypatch.setattr(trailer, "_PATIENCE", 0.1)
    monkeypatch.setattr(trailer, "_read_all", lambda path: time.sleep(60))
    with pytest.raises(ValueError, match="its metadata leads nowhere"):
        check_bearable(out)


def test_hdf5_writes_to_memory_alone_and_only_one_module_opens_files_for_writing() -> None:
    """HDF5 that closes a file it wrote may fail where no error is heard."""
    engine, *others = (Path(m.__file__).parent for m in (widegram, widegram_cli, widegram_bench))
    for path in sorted(path for root in (engine, *others) for path in root.rglob("*.py")):
        in_engine = path.is_relative_to(engine)
        name = str(path.relative_to(engine)) if in_engine else path.name
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            called, constants = (
                ast.unparse(node.func),
                [
                    value.value
                    for value in (*node.args, *(word.value for word in node.keywords))
                    if isinstance(value, ast.Constant)
                ],
            )
            if called.endswith("h5py.File"):
                assert "r" in constants or name == "durable/skeleton.py", (name, node.lineno)
            if not in_engine:
                continue
            if called in ("os.open", "os.write", "os.pwrite", "os.ftruncate", "os.truncate"):
                reading = "O_RDONLY" in ast.unparse(node) or name in READERS
                assert reading or name == "durable/calls.py", (name, node.lineno)
            if called == "open":
                modes = [c for c in constants if isinstance(c, str) and c]  # newline="" is none
                writes = any(set(mode) <= set("wbxa+") for mode in modes)
                assert not writes or name in READERS, (name, node.lineno)


# What opens with flags that are made elsewhere, and the cache of code, which has rules of its own.
READERS = ("validation/reading.py", "machine/codecache.py")


@pytest.mark.parametrize("command", ["bench kernels", "meanfield phase --w-var 1,2 --b-var 0.1"])
def test_a_folder_that_takes_no_files_is_said_before_anything_is_computed(
    command: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("computed")

    monkeypatch.setattr("widegram_bench.compare.cold_start", refuse)
    monkeypatch.setattr("widegram.meanfield.experiments.phase.phase_map", refuse)
    found = run(*command.split(), "--out", "/proc/o.h5")  # where the superuser cannot write either
    assert found.exit_code == 2
    assert "/proc/o.h5: cannot be written" in found.stderr
    monkeypatch.setattr(os, "access", lambda *_, **__: False)  # as for another user's folder
    found = run(*command.split(), "--out", tmp_path / "o.h5")
    assert found.exit_code == 2
    assert "cannot be written (Permission denied); choose another place" in found.stderr
