"""Shares of a matrix in files of their own, and joining them to what one run would have given."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
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
from widegram.durable import calls
from widegram.errors import WidegramError
from widegram.gramfile import GramFile, TileGrid
from widegram.sharding import Shard, cuts, parse_shard, tile_rows

SWEEP = {
    "input_shape": [6],
    "layers": [
        {"layer": "Repeat", "times": 3, "body": [{"layer": "Dense"}]},
        {"layer": "Readouts", "heads": {"a": [{"layer": "Dense"}], "b": []}},
    ],
}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fakes for tiles; and no waiting for the disk, which these kills do not need: the system
    keeps what a killed process wrote."""
    fake.install(monkeypatch)
    for name in ("sync", "sync_data", "sync_directory"):
        monkeypatch.setattr(calls, name, lambda *_: None)


def shares(out: Path, total: int, **options: Any) -> list[Path]:
    """Compute all shards of a matrix; their files."""
    options = {"network": fake.NETWORK, "x1": fake.inputs(70), "tile": 16, **options}
    for number in range(1, total + 1):
        assert widegram.gram(out=out, shard=(number, total), **options).complete
    return [Shard(number, total).file(out) for number in range(1, total + 1)]


def one_run(out: Path, **options: Any) -> dict[str, bytes]:
    options = {"network": fake.NETWORK, "x1": fake.inputs(70), "tile": 16, **options}
    widegram.gram(out=out, **options)
    return datasets(out)


def datasets(path: Path) -> dict[str, bytes]:
    """The bytes of every dataset, as any HDF5 reader sees them."""
    found = {}
    with h5py.File(path) as file:
        file.visititems(
            lambda name, item: found.update({name: item[()].tobytes()})
            if isinstance(item, h5py.Dataset)
            else None
        )
    return found


def flip(path: Path, dataset: str, row: int = 0, column: int = 0) -> None:
    """Change one bit of a dataset's number, and the file's time with it."""
    with h5py.File(path) as file:
        data = file[dataset]
        chunk = data.chunks
        place = (row // chunk[0] * chunk[0], column // chunk[1] * chunk[1])
        offset = data.id.get_chunk_info_by_coord(place).byte_offset
    fake.damage(path, offset)


# --- who has which tiles


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


# --- refusals


def test_missing_shards_are_named(tmp_path: Path) -> None:
    out = tmp_path / "K.h5"
    refused(r"no shard of it is in .*--shard K/N", "join", out)
    files = shares(out, 4)
    files[1].unlink()
    files[3].unlink()
    refused(r"2 of 4 shards are missing: 2, 4; run .*--shard 2/4.*K.h5.shard-2-of-4", "join", out)
    assert not out.exists()
    refused("is the name of a shard; name the matrix", "join", files[0])


def test_shards_of_different_cuts_are_refused(tmp_path: Path) -> None:
    out = tmp_path / "K.h5"
    shares(out, 2)
    shares(out, 3)
    refused("shards of 2 and of 3 are there; remove", "join", out)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x1": fake.inputs(70, 3)}, "made from other data as x1"),
        ({"network": "fcn:depth=2"}, "made from another network"),
        ({"dtype": "float64"}, "its dtype is float64, not float32"),
        ({"tile": 24}, "its tile is 24, not 16"),
        ({"get": "nngp"}, "its kernels is nngp, not nngp,ntk"),
        ({"x2": fake.inputs(70)}, "holds a matrix of x with x2"),
    ],
)
def test_a_foreign_shard_is_named(tmp_path: Path, change: Any, message: str) -> None:
    out, other = tmp_path / "K.h5", tmp_path / "other"
    other.mkdir()
    files = shares(out, 3)
    shutil.copy(shares(other / "K.h5", 3, **change)[0], files[0])
    refused(rf"shard-1-of-3: is of another run than K.h5.shard-2-of-3: .*{message}", "join", out)
    assert not out.exists()


def test_a_renamed_shard_is_named(tmp_path: Path) -> None:
    out = tmp_path / "K.h5"
    files = shares(out, 3)
    shutil.copy(files[0], files[2])
    refused("shard-3-of-3: .*it is shard 1 of 3, not shard 3 of 3", "join", out)
    one_run(tmp_path / "W.h5")
    shutil.copy(tmp_path / "W.h5", files[2])
    refused("shard-3-of-3: is no shard but a whole matrix", "join", out)


def test_devices_and_versions_are_not_mixed(tmp_path: Path, monkeypatch) -> None:
    from widegram.computing import gram as compute

    out = tmp_path / "K.h5"
    shares(out, 2)
    Shard(2, 2).file(out).unlink()
    monkeypatch.setattr(compute, "resolve_device", lambda device: device)
    options = {"tile": 16, "shard": "2/2"}
    widegram.gram(fake.NETWORK, fake.inputs(70), out, device="cuda", **options)
    refused("shard-2-of-2: .*its device is cuda, not cpu", "join", out)
    Shard(2, 2).file(out).unlink()
    monkeypatch.setattr(compute, "__version__", "0.0.9")
    widegram.gram(fake.NETWORK, fake.inputs(70), out, device="cpu", **options)
    refused(r"shard-2-of-2: .*version 0\.0\.9 of the program wrote it, not", "join", out)


def test_an_unfinished_shard_and_one_being_written_are_named(tmp_path: Path) -> None:
    out = tmp_path / "K.h5"
    files = shares(out, 2)
    with open(files[1], "r+b") as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)
        refused("shard-2-of-2: another process has this file open", "join", out)
    files[1].unlink()

    def act() -> None:
        widegram.gram(fake.NETWORK, fake.inputs(70), out, tile=16, shard="2/2")

    last = count_calls(act)
    files[1].unlink()
    in_a_child(act, killing(last - 4, half=False))
    refused(r"shard-2-of-2: is not complete \(\d+ of \d+ tiles\); run its", "join", out)
    assert not out.exists()


@pytest.mark.parametrize("dataset", ["tiles/nngp", "mirrors/ntk"])
@pytest.mark.parametrize("virtual", [[], ["--virtual"]])
def test_a_damaged_shard_is_named_and_can_be_repaired(tmp_path: Path, dataset, virtual) -> None:
    out = tmp_path / "K.h5"
    np.save(tmp_path / "x.npy", fake.inputs(70))
    files = shares(out, 2, x1=tmp_path / "x.npy")
    flip(files[1], dataset)
    message = "shard-2-of-2: is damaged: .*not what was written.*verify --repair"
    refused(message, "join", out, *virtual)
    assert widegram.verify(files[0], sample=0).ok
    refused("shard-2-of-2: is damaged: .*wrong checksum", "verify", files[1], code=3)
    assert widegram.verify(files[1], sample=0, repair=True).ok
    assert run_json("join", out, *virtual)["complete"]


def test_a_file_of_another_run_is_not_joined_onto(tmp_path: Path) -> None:
    out = tmp_path / "K.h5"
    shares(out, 2)
    one_run(out, x1=fake.inputs(70, 5))
    before = out.read_bytes()
    refused("is the output of another run: it was made from other data", "join", out)
    refused("it is a whole matrix, not a virtual matrix over 2", "join", out, "--virtual")
    assert out.read_bytes() == before
    assert run_json("join", out, "--overwrite")["entries"] == 4900


@pytest.mark.parametrize(
    "words",
    [
        "export FILE --kernel ntk --to a.npy",
        "eig FILE",
        "solve FILE --y y.npy --out a.h5",
        "predict a.h5 --cross FILE",
        "gram --net fcn:depth=1 --x x.npy --out FILE",
    ],
)
def test_other_commands_refuse_a_shard(tmp_path: Path, monkeypatch, words: str) -> None:
    monkeypatch.chdir(tmp_path)
    shares(Path("K.h5"), 2)
    np.save("x.npy", fake.inputs(70))
    np.save("y.npy", np.zeros((70, 1)))
    if "predict" in words:
        one_run(Path("W.h5"))
        run_json("solve", "W.h5", "--y", "y.npy", "--diag-reg", "1", "--out", "a.h5")
    name = "K.h5.shard-2-of-2"
    refused("is shard 2 of 2 of a matrix; .*`widegram join K.h5`",
            *(name if word == "FILE" else word for word in words.split()))  # fmt: skip


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


# --- virtual files


@pytest.fixture
def virtual(tmp_path: Path) -> Path:
    out = tmp_path / "V.h5"
    shares(out, 4)
    assert widegram.join(out, virtual=True).virtual
    return out


@pytest.mark.parametrize(
    "options",
    [{}, {"x2": fake.inputs(50, 1), "tile": 12}, {"network": SWEEP, "depths": [3]}],
    ids=["symmetric", "cross", "sweep"],
)
def test_a_virtual_file_shows_the_matrix(tmp_path: Path, options: Any) -> None:
    wanted = one_run(tmp_path / "W.h5", **options)
    out = tmp_path / "a 100%b and ü.h5"
    shares(out, 3, **options)
    widegram.join(out, virtual=True)
    found = datasets(out)
    for own in ("state/header", "state/reserved"):  # of the file itself
        del found[own], wanted[own]
    del found["state/shards"]
    assert found == wanted
    assert out.stat().st_size < 0.5 * (tmp_path / "W.h5").stat().st_size
    with GramFile(out) as file:
        assert file.complete
        key = file.keys()[0]
        end = {"depth": 3, "head": "a"} if "depths" in options else {}
        assert file.dataset("nngp", **end)[:, :].tobytes() == wanted[key]
    assert widegram.verify(out, sample=0).ok
    assert widegram.join(out, virtual=True).resumed_tiles > 0


def test_slices_of_a_virtual_matrix_are_those_of_an_array(virtual: Path) -> None:
    array, random = fake.expected(70, 70, True), np.random.default_rng(0)
    with GramFile(virtual) as file:
        data = file.dataset("nngp")
        assert (data.shape, len(data), data.dtype) == ((70, 70), 70, np.float32)
        np.testing.assert_array_equal(np.asarray(data), array)
        for _ in range(60):
            a, b, c, d = random.integers(-80, 80, 4).tolist()
            step = int(random.choice([1, 2, 7]))
            places = (np.s_[a:b, c:d], np.s_[a:b:step], np.s_[::-step, c:d], np.s_[..., c:d])
            for place in places:
                np.testing.assert_array_equal(data[place], array[place])
        assert data[3, 5] == array[3, 5]
        np.testing.assert_array_equal(data[-1], array[-1])
        np.testing.assert_array_equal(data[2:9, -3], array[2:9, -3])
        with pytest.raises(IndexError):
            data[70]


COMMANDS = ["info FILE", "export FILE --kernel ntk --to a.npy", "eig FILE", "verify FILE"]


@pytest.mark.parametrize("words", COMMANDS)
def test_a_missing_or_changed_shard_is_refused(virtual: Path, monkeypatch, words: str) -> None:
    monkeypatch.chdir(virtual.parent)
    line = ["V.h5" if word == "FILE" else word for word in words.split()]
    part = Shard(3, 4).file(virtual)
    assert run(*line).exit_code == 0
    kept = part.read_bytes()
    part.unlink()
    refused("V.h5: .*V.h5.shard-3-of-4 is missing, which holds its tiles", *line)
    part.write_bytes(kept)  # the same bytes at another time
    Path("a.npy").unlink(missing_ok=True)
    assert run(*line).exit_code == 0
    flip(part, "tiles/ntk")
    refused("the shard .*shard-3-of-4 was changed since it was joined: .*damaged", *line)
    part.write_bytes(kept[: len(kept) // 2])
    refused("the shard .*shard-3-of-4 was changed since it was joined", *line)
    part.unlink()
    shares(virtual, 4, x1=fake.inputs(70, 9), overwrite=True)
    refused("shard-1-of-4 was changed since it was joined: .*holds something else", *line)


def test_damage_without_a_trace_is_found_by_its_checksum(virtual: Path, tmp_path: Path) -> None:
    part = Shard(1, 4).file(virtual)
    before = part.stat()
    flip(part, "tiles/ntk")
    os.utime(part, ns=(before.st_atime_ns, before.st_mtime_ns))
    refused("ntk rows 0-15, columns 0-15 have another checksum than was written",
            "export", virtual, "--kernel", "ntk", "--to", tmp_path / "a.npy")  # fmt: skip
    refused("wrong checksum", "verify", virtual, code=3)
    refused("repair these, then join them again", "verify", virtual, "--repair")


def test_a_virtual_file_is_used_as_a_whole_one(virtual: Path, tmp_path: Path) -> None:
    one_run(tmp_path / "W.h5")
    np.save(tmp_path / "y.npy", np.arange(70.0)[:, None])
    answers = []
    for path in (virtual, tmp_path / "W.h5"):
        out = tmp_path / f"{path.name}.alpha"
        line = ["solve", path, "--y", tmp_path / "y.npy", "--diag-reg", "1e4", "--out", out]
        assert run(*line, "--method", "cg", "--max-iter", "3").exit_code == 0
        with h5py.File(out) as file:
            answers.append(file["alpha"][()].tobytes())
    assert answers[0] == answers[1]


def test_many_shards_are_not_open_at_once(tmp_path: Path, monkeypatch) -> None:
    from widegram.gramfile import elsewhere

    monkeypatch.setattr(elsewhere, "_OPEN", 2)
    out = tmp_path / "V.h5"
    shares(out, 5)
    widegram.join(out, virtual=True)
    with GramFile(out) as file:
        np.testing.assert_array_equal(file.dataset("nngp")[:], fake.expected(70, 70, True))
        assert len(file._shards._opened) == 2
        Shard(1, 5).file(out).unlink()
        with pytest.raises(WidegramError, match="shard-1-of-5 is missing"):
            file.dataset("nngp")[:2]


def test_a_forged_mark_leads_nowhere(virtual: Path, tmp_path: Path) -> None:
    """Virtual datasets elsewhere in the file, or a table that names other folders."""
    with h5py.File(tmp_path / "D.h5", "w") as file:
        layout = h5py.VirtualLayout((3, 3), "f4")
        layout[:] = h5py.VirtualSource("other.h5", "x", (3, 3))
        file.create_virtual_dataset("x", layout)
        file.attrs.update({"format": "widegram-gram", "shards_of": "V.h5"})
    refused("is a virtual dataset", "gram", "--net", "fcn:depth=1", "--x", f"{tmp_path}/D.h5:x",
            "--out", tmp_path / "o.h5")  # fmt: skip
    refused("D.h5", "info", tmp_path / "D.h5")
    with h5py.File(virtual, "r+") as file:
        file.attrs["shards_of"] = "../V.h5"
    refused("V.h5: is damaged", "info", virtual)
