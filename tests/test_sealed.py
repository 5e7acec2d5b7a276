"""Files with checksums: what was written is what is read, and a change is found, wherever it is."""

from __future__ import annotations

import random
from pathlib import Path

import h5py
import numpy as np
import pytest

from cli_support import refused, run, run_json
from widegram.durable import reserve
from widegram.durable.sealed import (
    Broken,
    SealedFile,
    check_dataset,
    check_seal,
    new_sealed,
    sealed_datasets,
    write_sealed,
)
from widegram.errors import WidegramError

DATASETS = {
    "alpha": np.arange(12.0).reshape(4, 3),
    "flags": np.array([True, False]),
    "p/q": np.int32(3),
    "none": np.zeros((0, 2)),
}
ATTRIBUTES = {"format": "widegram-x", "n": 3, "t": 0.5, "text": "é", "on": True, "few": [1.0, 2.0]}


def opened(path: Path) -> SealedFile:
    return SealedFile(path, "widegram-x", "an x", "make it again")


def read_all(path: Path) -> None:
    with opened(path) as file:
        for name in DATASETS:
            file.array(name)


def made(path: Path) -> Path:
    write_sealed(path, DATASETS, ATTRIBUTES, of={"alpha": {"formula": "x^2"}})
    return path


def test_what_was_written_is_read(tmp_path: Path) -> None:
    with opened(made(tmp_path / "a.h5")) as file:
        for name, array in DATASETS.items():
            np.testing.assert_array_equal(file.array(name), array)
        assert {n: file.attributes[n] for n in ("n", "t", "text", "on")} == {
            "n": 3, "t": 0.5, "text": "é", "on": True,
        }  # fmt: skip
        assert "alpha" in file
        assert "beta" not in file


def test_pieces_and_late_datasets_make_the_same_checksums(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    blocks = {f"depth/{n}/x": rng.standard_normal((30, 7)) for n in range(60)}

    def describe(file: h5py.File) -> None:
        for name in blocks:
            reserve(file, name, (30, 7), "<f8")

    late = {f"measure{n}": np.arange(n) for n in range(40)}
    attributes = {"format": "widegram-x", **{f"a{n}": "t" * 10 * n for n in range(60)}}
    with new_sealed(tmp_path / "a.h5", describe) as new:
        for lo in range(0, 30, 13):
            for name, block in blocks.items():
                new.append(name, block[lo : lo + 13])
        new.finish(late, attributes, of={name: {"level": 0.5} for name in blocks})
    write_sealed(tmp_path / "b.h5", {**blocks, **late}, {"format": "widegram-x"})
    with opened(tmp_path / "a.h5") as a, opened(tmp_path / "b.h5") as b:
        for name in (*blocks, *late):
            np.testing.assert_array_equal(a.array(name), b.array(name))
    with h5py.File(tmp_path / "a.h5") as a, h5py.File(tmp_path / "b.h5") as b:
        assert sealed_datasets(a) == sealed_datasets(b)
        for name in sealed_datasets(a):
            assert a[name].attrs["checksum"] == b[name].attrs["checksum"]


def test_missing_rows_are_no_file(tmp_path: Path) -> None:
    def short() -> None:
        with new_sealed(tmp_path / "a.h5", lambda file: reserve(file, "x", (3, 2), "<f8")) as new:
            new.append("x", np.ones((2, 2)))
            new.finish({}, {"format": "widegram-x"})

    with pytest.raises(RuntimeError, match="rows of x are missing"):
        short()
    assert list(tmp_path.iterdir()) == []


CHANGES = {
    "a value": lambda f: f["alpha"].__setitem__((1, 1), 5.5),
    "an attribute": lambda f: f.attrs.modify("t", 0.25),
    "an attribute of a dataset": lambda f: f["alpha"].attrs.modify("formula", "y^2"),
    "a checksum": lambda f: f["alpha"].attrs.modify("checksum", np.uint64(5)),
    "the seal": lambda f: f.attrs.modify("seal", np.uint64(5)),
    "no seal": lambda f: f.attrs.__delitem__("seal"),
    "a name": lambda f: f.move("alpha", "beta"),
    "a dataset less": lambda f: f.__delitem__("none"),
    "an attribute more": lambda f: f.attrs.create("more", 1),
    "another shape": lambda f: (f.__delitem__("flags"), f.create_dataset("flags", data=[True])),
}


@pytest.mark.parametrize("what", CHANGES)
def test_every_change_is_found(tmp_path: Path, what: str) -> None:
    path = made(tmp_path / "a.h5")
    with h5py.File(path, "r+") as file:
        CHANGES[what](file)
    with pytest.raises(Broken, match=r"a\.h5: is damaged or was changed: .*; make it again"):
        read_all(path)


def test_what_a_user_adds_is_left_alone(tmp_path: Path) -> None:
    with h5py.File(made(tmp_path / "a.h5"), "r+") as file:
        file["mine"] = np.ones(3)
    with h5py.File(tmp_path / "a.h5") as file:
        check_seal(file)
        for name in sealed_datasets(file):
            check_dataset(file[name])


def test_foreign_files_say_what_they_are_not(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = 1
    with pytest.raises(WidegramError, match=r"a\.h5: is not an x"):
        opened(tmp_path / "a.h5")
    (tmp_path / "b.h5").write_bytes(b"text")
    with pytest.raises(WidegramError, match=r"b\.h5: is not an HDF5 file"):
        opened(tmp_path / "b.h5")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A file of each kind that is written whole, by its name for ``verify``."""
    folder = tmp_path_factory.mktemp("kinds")
    rng = np.random.default_rng(0)
    np.save(folder / "x.npy", rng.standard_normal((8, 3)))
    np.save(folder / "t.npy", rng.standard_normal((4, 3)))
    np.save(folder / "y.npy", np.arange(8) % 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        net = "gram --net fcn:depth=1 --device cpu --x"
        for line in (
            f"{net} x.npy --out K.h5",
            f"{net} t.npy --x2 x.npy --out C.h5",
            "solve K.h5 --y y.npy --diag-reg 1e-3 --out A.h5",
            "predict A.h5 --cross C.h5 --out P.h5",
            "eig K.h5 --out E.h5",
            "export K.h5 --kernel ntk --to M.h5",
            "data prepare x.npy --labels y.npy --test 4 --out D.h5",
            "meanfield phase --w-var 1,2 --b-var 0.1 --out F.h5",
            "meanfield spectrum --x D.h5 --depths 1,2 --out S.h5",
            "meanfield trainability --data D.h5 --depths 1 --w-var 1,2 --train 4 --out T.h5",
        ):
            found = run(*line.split())
            assert found.exit_code == 0, (line, found.stderr)
    return {
        "gram": folder / "K.h5",
        "solution": folder / "A.h5",
        "prediction": folder / "P.h5",
        "spectrum": folder / "E.h5",
        "exported matrix": folder / "M.h5",
        "prepared data": folder / "D.h5",
        "phase diagram": folder / "F.h5",
        "sweep of spectra": folder / "S.h5",
        "trainability map": folder / "T.h5",
    }


KINDS = (
    "gram", "solution", "prediction", "spectrum", "exported matrix", "prepared data",
    "phase diagram", "sweep of spectra", "trainability map",
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_verify_takes_every_kind_of_file(files: dict[str, Path], tmp_path: Path, kind: str) -> None:
    found = run_json("verify", files[kind])
    assert found["kind"] == kind
    assert found["ok"] is found["complete"] is True
    damaged = tmp_path / "d.h5"
    damaged.write_bytes(files[kind].read_bytes())
    with h5py.File(damaged, "r+") as file:
        name = "nngp" if kind == "gram" else sealed_datasets(file)[-1]
        file[name][...] = file[name][...] + 1
    line = refused("is damaged", "verify", damaged, code=3)
    assert name in line
    found = run("verify", damaged, "--json")
    assert found.exit_code == 3
    assert '"ok": false' in found.stdout


def test_readers_refuse_what_verify_would_find(files: dict[str, Path], tmp_path: Path) -> None:
    cross = files["gram"].with_name("C.h5")
    for number, (kind, line) in enumerate((
        ("solution", ["predict", "FILE", "--cross", cross]),
        ("prepared data", ["gram", "--net", "fcn", "--x", "FILE:train/x", "--out", "o.h5"]),
        ("prepared data", ["predict", files["solution"], "--cross", cross, "--y", "FILE:train/y"]),
        ("prepared data", ["meanfield", "table", "--x", "FILE", "--images", 2]),
        ("trainability map", ["meanfield", "trainability", "--data", files["prepared data"],
                              "--depths", 1, "--w-var", "1,2", "--train", 4, "--out", "FILE"]),
    )):  # fmt: skip
        damaged = tmp_path / f"d{number}.h5"
        damaged.write_bytes(files[kind].read_bytes())
        with h5py.File(damaged, "r+") as file:
            for name in sealed_datasets(file):
                file[name][...] = file[name][...] + 1
        words = [str(word).replace("FILE", str(damaged)) for word in line]
        refused("is damaged or was changed", *words)


def test_flipped_bits_are_found_or_change_nothing(files: dict[str, Path], tmp_path: Path) -> None:
    """A sample; ``tests/campaigns/bitflips.py`` flips more, in files of every kind."""
    generator = random.Random(0)
    whole, path = files["solution"].read_bytes(), tmp_path / "a.h5"
    with h5py.File(files["solution"]) as file:
        expected = {name: file[name][()].tobytes() for name in sealed_datasets(file)}
        attributes = {name: np.asarray(value).tobytes() for name, value in file.attrs.items()}
    refusals = 0
    for _ in range(24):
        damaged = bytearray(whole)
        damaged[generator.randrange(len(whole))] ^= 1 << generator.randrange(8)
        path.write_bytes(damaged)
        try:
            with SealedFile(path, "widegram-solution", "a solution", "solve again") as file:
                for name, content in expected.items():
                    assert file.array(name).tobytes() == content
                for name, content in attributes.items():
                    assert np.asarray(file.attributes[name]).tobytes() == content
        except WidegramError:
            refusals += 1
    assert refusals > 4
