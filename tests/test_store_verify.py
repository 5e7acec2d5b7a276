"""``verify``: damage of every kind is found, good files are not accused."""

from __future__ import annotations

import os
import re
from pathlib import Path

import h5py
import numpy as np
import pytest

import fake_evaluator as fake
import widegram
from widegram.backends.job import Job
from widegram.computing import choosing
from widegram.durable import find_extents
from widegram.durable.contents import checksum
from widegram.errors import Damaged, WidegramError
from widegram.gramfile import create
from widegram.network import Network, load_network
from widegram.reference.affordable import affordable_entries


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[fake.FakeEvaluator]:
    return fake.install(monkeypatch)


@pytest.fixture
def out(made, tmp_path: Path) -> Path:
    """A complete file whose inputs lie beside it."""
    np.save(tmp_path / "x.npy", fake.inputs(70))
    widegram.gram(fake.NETWORK, tmp_path / "x.npy", tmp_path / "K.h5", tile=16)
    return tmp_path / "K.h5"


def offset_of(out: Path, dataset: str, row: int, col: int) -> int:
    """Where an entry lies in the file."""
    with h5py.File(out) as file:
        stored = file[dataset]
        if stored.chunks is None:
            start = stored.id.get_offset()
            return start + (row * stored.shape[1] + col) * stored.dtype.itemsize
        high, wide = stored.chunks
        chunk = stored.id.get_chunk_info_by_coord((row // high * high, col // wide * wide))
        return chunk.byte_offset + (row % high * wide + col % wide) * stored.dtype.itemsize


def test_good_file(out: Path) -> None:
    told = []
    report = widegram.verify(out, progress=told.append)
    assert report.ok
    assert (report.complete, report.tiles, report.tiles_checked) == (True, 15, 15)
    assert report.entries_recomputed >= 3 * 16 * 6  # four tiles, the last ones 6 rows or columns
    assert (report.max_difference, report.note) == (0.0, "")
    assert (report.dense_entries, report.dense_difference, report.dense_note) == (16, 0.0, "")
    assert (told[-1].done, told[-1].total, told[-1].unit) == (25, 25, "tiles")
    report.raise_if_damaged()
    assert report.as_dict()["ok"] is True


@pytest.mark.parametrize("dataset", ["nngp", "ntk"])
@pytest.mark.parametrize(("row", "col"), [(0, 0), (3, 40), (40, 3), (69, 69)])
def test_flipped_bit_is_found(out: Path, dataset: str, row: int, col: int) -> None:
    fake.damage(out, offset_of(out, dataset, row, col))
    report = widegram.verify(out, sample=0)
    low, left = row // 16 * 16, col // 16 * 16
    assert len(report.damage) in (1, 2)  # the upper tile of a pair is compared with its mirror
    assert any(f"{dataset} rows {low}-" in d and f"columns {left}-" in d for d in report.damage)
    with pytest.raises(
        Damaged,
        match=r"is damaged: .*wrong checksum.*verify --repair or compute it again with --overwrite",
    ):
        report.raise_if_damaged()
    assert Damaged.exit_code == 3


def test_flipped_checksum_and_state_are_found(out: Path) -> None:
    fake.damage(out, offset_of(out, "state/checksums/ntk", 1, 2))
    fake.damage(out, offset_of(out, "state/tiles", 2, 2))
    damage = "; ".join(widegram.verify(out, sample=0).damage)
    assert "ntk rows 16-31, columns 32-47: wrong checksum" in damage
    assert "it says complete, but 1 tiles are not finished" in damage


def rewrite(out: Path, dataset: str, row: int, col: int, value: float) -> None:
    """Change an entry and the checksum of its tile with it."""
    with h5py.File(out, "r+") as file:
        file[dataset][row, col] = value
        i, j = row // 16, col // 16
        tile = file[dataset][i * 16 : i * 16 + 16, j * 16 : j * 16 + 16]
        file[f"state/checksums/{dataset}"][i, j] = checksum(tile)


def test_asymmetry_and_nan_are_found_behind_right_checksums(out: Path) -> None:
    rewrite(out, "nngp", 3, 40, -1.0)
    rewrite(out, "ntk", 20, 20, np.nan)
    damage = "; ".join(widegram.verify(out, sample=0).damage)
    assert "nngp rows 0-15, columns 32-47: not symmetric" in damage
    assert "ntk rows 16-31, columns 16-31: not finite" in damage


def test_wrong_values_are_found_by_computing_them_again(out: Path) -> None:
    for row, col in ((3, 40), (40, 3)):
        rewrite(out, "nngp", row, col, -1.0)
    assert widegram.verify(out, sample=0).ok
    report = widegram.verify(out, sample=15)
    assert "nngp rows 0-15, columns 32-47: differs from the recomputed values" in report.damage[0]
    assert report.max_difference > 1e-4


class Biased(fake.FakeEvaluator):
    """Computes entries as a fake does, those of ``kind`` wrong by half."""

    def __init__(self, kind: str, dtype: str) -> None:
        super().__init__(("nngp", "ntk"), dtype)
        self.kind = kind

    def tile(self, rows: range, cols: range, symmetric: bool, progress=None):
        arrays = super().tile(rows, cols, symmetric)
        equal = np.equal.outer(rows, cols)
        arrays["ntk"][equal if self.kind == "diagonal" else ~equal] *= 1.5
        return arrays


@pytest.mark.parametrize("kind", ["diagonal", "others"])
def test_a_fault_of_the_method_itself_is_found_by_another(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What wrote the file recomputes the same wrong values; the dense reference does not."""

    def make(device: str, job: Job) -> fake.FakeEvaluator:
        right = fake.FakeEvaluator(("nngp", "ntk"), job.dtype)
        return right if device == "reference" else Biased(kind, job.dtype)

    monkeypatch.setattr(choosing, "on_device", make)
    out = tmp_path / "K.h5"
    widegram.gram(fake.NETWORK, fake.inputs(40), out, tile=16)
    report = widegram.verify(out, fake.inputs(40))
    assert report.max_difference == 0
    assert report.dense_difference > 0.1
    assert all("differs from the dense reference by" in line for line in report.damage)
    assert all(line.startswith("ntk row") for line in report.damage)
    with pytest.raises(Damaged, match="differs from the dense reference"):
        report.raise_if_damaged()


def test_what_float64_cannot_hold_densely_is_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Overflows(fake.FakeEvaluator):
        def tile(self, rows: range, cols: range, symmetric: bool, progress=None):
            return {key: np.full((1, 1), np.inf) for key in self.keys}

    def make(device: str, job: Job) -> fake.FakeEvaluator:
        kind = Overflows if device == "reference" else fake.FakeEvaluator
        return kind(("nngp", "ntk"), job.dtype)

    monkeypatch.setattr(choosing, "on_device", make)
    widegram.gram(fake.NETWORK, fake.inputs(20), tmp_path / "K.h5")
    report = widegram.verify(tmp_path / "K.h5", fake.inputs(20))
    assert report.ok
    assert report.dense_entries == 0
    assert "what the dense reference can hold" in report.dense_note


def layers(count: int, act: str = "relu", shape: tuple[int, ...] = (8, 8, 1)) -> Network:
    return load_network(f"cnn-p:depth={count},act={act}", shape)


def test_the_size_of_a_network_decides_how_many_entries_are_computed_densely() -> None:
    assert affordable_entries(layers(3)) == 16
    assert affordable_entries(load_network("fcn:depth=100", (3000,))) == 16
    few = affordable_entries(layers(4, shape=(28, 28, 1)))
    assert 0 < few < 16
    # twice the layers: half the entries; a series costs as much as ten layers
    assert few / 4 < affordable_entries(layers(8, shape=(28, 28, 1))) <= few / 2 + 1
    assert affordable_entries(layers(200, shape=(28, 28, 1))) == 0
    assert affordable_entries(layers(4, "tanh", (28, 28, 1))) <= few / 4
    # every depth of a sweep is computed on its own
    assert affordable_entries(layers(4, shape=(28, 28, 1)), (3, 4)) < few
    # all pixel pairs of 96 x 96: 85 million numbers a tensor
    assert affordable_entries(layers(1, shape=(96, 96, 1)), memory=2**40) == 0
    # ten tensors of 28 x 28: 49 MB, half the budget
    assert affordable_entries(layers(1, shape=(28, 28, 1)), memory=98 * 10**6) == 0
    assert affordable_entries(layers(1, shape=(28, 28, 1)), memory=99 * 10**6) > 0
    # branches count
    wide, narrow = (load_network(f"wide-resnet:depth={d}", (32, 32, 3)) for d in (28, 10))
    assert affordable_entries(wide) < affordable_entries(narrow) < 16


def test_images_too_large_for_the_reference_are_said_to_be(made, tmp_path: Path) -> None:
    x = np.ones((3, 96, 96, 1))
    widegram.gram("cnn-f:depth=2", x, tmp_path / "K.h5")
    report = widegram.verify(tmp_path / "K.h5", x)
    assert report.ok
    assert report.entries_recomputed == 9
    assert report.dense_entries == 0
    assert report.dense_note == (
        "images of 96 x 96 and 6 layers are too large for the dense reference"
    )


def test_unfinished_file_is_checked_as_far_as_it_goes(out: Path) -> None:
    with h5py.File(out, "r+") as file:
        file["state/tiles"][1:, 1:] = 0
        file["nngp"][20:, 20:] = 7.0
        file.attrs["complete"] = False
    report = widegram.verify(out)
    assert report.ok
    assert (report.complete, report.tiles_checked) == (False, 5)
    assert report.entries_recomputed > 0


def test_data_that_moved_or_changed_is_noted(out: Path) -> None:
    x = out.with_name("x.npy")
    x.rename(out.with_name("y.npy"))
    report = widegram.verify(out)
    assert report.ok
    assert report.entries_recomputed == 0
    assert "no tiles were recomputed: " in report.note
    assert "x.npy: no such file" in report.note
    assert widegram.verify(out, x1=out.with_name("y.npy")).entries_recomputed > 0
    np.save(x, fake.inputs(70, 3))
    again = widegram.verify(out)
    assert "is not the x1 that the file was made from" in again.note
    assert (again.dense_entries, again.dense_note) == (0, again.note)


def test_data_that_is_named_must_be_the_file_s(out: Path) -> None:
    other = out.with_name("other.npy")
    np.save(other, fake.inputs(70, 3))
    with pytest.raises(WidegramError, match=r"other\.npy is not the x1 that the file was"):
        widegram.verify(out, x1=other)
    with pytest.raises(WidegramError, match="the matrix is symmetric, of x1 alone; leave x2 out"):
        widegram.verify(out, x2=other)


def test_inputs_in_memory_must_be_given_again(made, tmp_path: Path) -> None:
    x1, x2 = fake.inputs(20), fake.inputs(9, 1)
    widegram.gram(fake.NETWORK, x1, tmp_path / "K.h5", x2)
    assert "x1 was an array in memory" in widegram.verify(tmp_path / "K.h5").note
    assert "x2 was an array in memory" in widegram.verify(tmp_path / "K.h5", x1).note
    assert widegram.verify(tmp_path / "K.h5", x1, x2).entries_recomputed == 16 * 9


@pytest.mark.parametrize("name", ["network", "network_fingerprint", "x1_location", "tile"])
def test_changed_attributes_are_damage(out: Path, name: str) -> None:
    with h5py.File(out, "r+") as file:
        old = file.attrs[name]
        file.attrs[name] = 15 if name == "tile" else old + " "
    with pytest.raises(Damaged, match=r"is damaged.*another checksum"):
        widegram.verify(out)


def test_network_that_lost_its_fingerprint_is_damage(tmp_path: Path) -> None:
    network = widegram.load_network(fake.NETWORK, (6,)).to_json()
    create(tmp_path / "K.h5", fake.header(network=network))
    with pytest.raises(Damaged, match="its network has another fingerprint"):
        widegram.verify(tmp_path / "K.h5")


@pytest.mark.parametrize("keep", [0.1, 0.6])
def test_truncated_file_is_damage(out: Path, keep: float) -> None:
    os.truncate(out, int(out.stat().st_size * keep))
    with pytest.raises(Damaged, match="HDF5 cannot read it"):
        widegram.verify(out)


def test_foreign_file_is_no_damage(tmp_path: Path) -> None:
    (tmp_path / "K.h5").write_bytes(b"text")
    with pytest.raises(WidegramError, match="is not an HDF5 file") as info:
        widegram.verify(tmp_path / "K.h5")
    assert info.value.exit_code == 2


@pytest.mark.parametrize("value", [2, 3, 255])
def test_flags_are_exactly_0_or_1(out: Path, value: int) -> None:
    with h5py.File(out, "r+") as file:
        file["state/tiles"][1, 0] = value
    damage = "; ".join(widegram.verify(out, sample=0).damage)
    assert f"the flag of tile 1, 0 is {value}, not 0 or 1" in damage


@pytest.mark.parametrize("value", [2, 255])
def test_complete_is_true_or_false(out: Path, value: int) -> None:
    offset = _offset_of_complete(out)
    with open(out, "r+b") as file:
        file.seek(offset)
        assert file.read(1) == b"\x01"
        file.seek(offset)
        file.write(bytes([value]))
    with pytest.raises(Damaged, match=f"attribute complete is {value}"):
        widegram.verify(out, sample=0)


def _offset_of_complete(out: Path) -> int:
    with h5py.File(out) as file:
        return int(file["state/reserved"][0])


DAMAGE = {
    "data": lambda out: fake.damage(out, offset_of(out, "ntk", 3, 40)),
    "mirror": lambda out: fake.damage(out, offset_of(out, "ntk", 40, 3)),
    "diagonal": lambda out: fake.damage(out, offset_of(out, "nngp", 69, 69)),
    "checksum": lambda out: fake.damage(out, offset_of(out, "state/checksums/ntk", 1, 2)),
    "flag": lambda out: fake.damage(out, offset_of(out, "state/tiles", 2, 2)),
    "flag of a mirror": lambda out: fake.damage(out, offset_of(out, "state/tiles", 2, 0)),
    "asymmetry": lambda out: rewrite(out, "nngp", 3, 40, -1.0),
    "not finite": lambda out: rewrite(out, "ntk", 20, 20, np.nan),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_repair_gives_the_same_bytes_again(out: Path, kind: str) -> None:
    before = out.read_bytes()
    DAMAGE[kind](out)
    assert out.read_bytes() != before
    report = widegram.verify(out, sample=0, repair=True)
    assert report.ok
    assert report.repaired
    assert report.complete
    # Byte 20 says to HDF5 that a program had the file open for writing, which cuts off the trailer.
    assert changed_bytes(before, out.read_bytes()) <= {20}
    assert widegram.verify(out, sample=0).repaired == ()


def changed_bytes(one: bytes, other: bytes) -> set[int]:
    size = min(len(one), len(other))
    pairs = np.frombuffer(one, "u1", size), np.frombuffer(other, "u1", size)
    return set(np.flatnonzero(pairs[0] != pairs[1]).tolist())


def test_data_that_nothing_is_compared_with_is_refused(out: Path) -> None:
    """It was passed over, whatever it was, and the file found in order."""
    assert widegram.verify(out, fake.inputs(70)).ok
    for words in ((fake.inputs(70), None), (None, fake.inputs(70))):
        with pytest.raises(WidegramError, match="nothing is computed again of sample 0, and x1"):
            widegram.verify(out, *words, sample=0)
    with pytest.raises(WidegramError, match="sample"):
        widegram.verify(out, sample=-1)
    with pytest.raises(WidegramError, match="symmetric, of x1 alone"):
        widegram.verify(out, None, fake.inputs(70))


def test_repair_computes_damaged_tiles_alone(made, out: Path) -> None:
    DAMAGE["data"](out)
    DAMAGE["diagonal"](out)
    widegram.verify(out, sample=0, repair=True)
    assert made[-1].calls == [(range(16), range(32, 48)), (range(64, 70), range(64, 70))]


def test_repair_of_an_unfinished_file_leaves_it_unfinished(out: Path) -> None:
    with h5py.File(out, "r+") as file:
        file["state/tiles"][1:, 1:] = 0
        file.attrs["complete"] = False
    DAMAGE["data"](out)
    report = widegram.verify(out, sample=0, repair=True)
    assert (report.ok, report.complete, report.tiles_checked) == (True, False, 5)


def test_repair_without_the_same_data_changes_nothing(out: Path) -> None:
    DAMAGE["data"](out)
    before = out.read_bytes()
    np.save(out.with_name("x.npy"), fake.inputs(70, 3))
    with pytest.raises(WidegramError, match=r"cannot be repaired: .*is not the x1"):
        widegram.verify(out, sample=0, repair=True)
    out.with_name("x.npy").unlink()
    with pytest.raises(WidegramError, match=r"cannot be repaired: .*no such file"):
        widegram.verify(out, sample=0, repair=True)
    assert out.read_bytes() == before
    assert widegram.verify(out, fake.inputs(70), sample=0, repair=True).ok


REFUSED = "is damaged|is not an HDF5|not a widegram|version|its type has no counterpart"


@pytest.mark.parametrize("count", [6, pytest.param(300, marks=pytest.mark.slow)])
def test_no_flipped_bit_of_the_metadata_passes_in_silence(out: Path, count: int) -> None:
    """All but HDF5's marks of a file that is open, and ``complete``, whose meaning is checked."""
    before, random = out.read_bytes(), np.random.default_rng(5)
    found = noticed = 0
    for offset in random.choice(metadata_offsets(out), count).tolist():
        data = bytearray(before)
        data[offset] ^= 1 << int(random.integers(8))
        out.write_bytes(data)
        try:
            report = widegram.verify(out, sample=0)
        except WidegramError as error:
            found += bool(re.search(REFUSED, str(error)))
            continue
        assert not (report.metadata_intact and report.ok)
        noticed += 1
        assert widegram.verify(out, sample=0, repair=True).metadata_intact
        assert out.read_bytes() == before
    assert found + noticed == count
    assert noticed > 0


def metadata_offsets(out: Path) -> list[int]:
    """Bytes that belong to no dataset."""
    free = np.ones(out.stat().st_size, bool)
    free[20:24] = False
    with h5py.File(out) as file:
        free[int(file["state/reserved"][0])] = False
        for extent in find_extents(file).values():
            size = int(np.prod(extent.chunk)) * extent.dtype.itemsize
            for offset in extent.offsets.ravel().tolist():
                free[offset : offset + size] = False
    return np.flatnonzero(free).tolist()
