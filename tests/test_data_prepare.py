"""Preparing raw data sets, each in exactly the format that its publishers write."""

from __future__ import annotations

import gzip
import os
import struct
from pathlib import Path

import h5py
import numpy as np
import pytest

import widegram
from test_data_cifar import CIFAR, load, write_cifar_binary
from widegram.data.digits import open_digits
from widegram.errors import WidegramError

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (30, 5, 4), dtype=np.uint8)
LABELS = RNG.integers(0, 10, 30, dtype=np.uint8)
TEST_IMAGES = RNG.integers(0, 256, (12, 5, 4), dtype=np.uint8)
TEST_LABELS = RNG.integers(0, 10, 12, dtype=np.uint8)


def idx(array: np.ndarray) -> bytes:
    codes = {"u1": 8, "i1": 9, "i2": 11, "i4": 12, "f4": 13, "f8": 14}
    code = codes[array.dtype.str[1:]]
    sizes = struct.pack(f">{array.ndim}I", *array.shape)
    return (
        bytes([0, 0, code, array.ndim])
        + sizes
        + array.astype(array.dtype.newbyteorder(">")).tobytes()
    )


def write_mnist(folder: Path, suffix: str = "") -> Path:
    folder.mkdir(exist_ok=True)
    pack = gzip.compress if suffix else bytes
    for name, array in (
        ("train-images-idx3-ubyte", IMAGES),
        ("train-labels-idx1-ubyte", LABELS),
        ("t10k-images-idx3-ubyte", TEST_IMAGES),
        ("t10k-labels-idx1-ubyte", TEST_LABELS),
    ):
        (folder / (name + suffix)).write_bytes(pack(idx(array)))
    return folder


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "data.h5"


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_mnist_family_directory(tmp_path: Path, out: Path, suffix: str) -> None:
    source = write_mnist(tmp_path / "mnist", suffix)
    result = widegram.prepare(source, out, normalize="none")
    assert (result.train_shape, result.test_shape) == ((30, 5, 4, 1), (12, 5, 4, 1))
    for split, images, labels in (("train", IMAGES, LABELS), ("test", TEST_IMAGES, TEST_LABELS)):
        x, y = load(out, split)
        np.testing.assert_array_equal(x, images[..., None])
        np.testing.assert_array_equal(y, labels)
        assert x.dtype == np.float32
    assert widegram.open_source(f"{out}:train/x").shape == (30, 5, 4, 1)


def test_single_idx_file_is_split_at_random(tmp_path: Path, out: Path) -> None:
    source = write_mnist(tmp_path / "mnist") / "train-images-idx3-ubyte"
    widegram.prepare(source, out, normalize="none", test=10, seed=3)
    with h5py.File(out) as file:
        held_out, kept = file["test/index"][...], file["train/index"][...]
        np.testing.assert_array_equal(file["train/y"], LABELS[kept])
    assert (len(held_out), len(kept)) == (10, 20)
    assert sorted([*held_out, *kept]) == list(range(30))


@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "i4", "f4", "f8"])
def test_every_idx_type(tmp_path: Path, out: Path, dtype: str) -> None:
    values = (np.arange(24).reshape(4, 6) - 5 * (dtype != "u1")).astype(dtype)
    (tmp_path / "values.idx").write_bytes(idx(values))
    assert (
        widegram.prepare(tmp_path / "values.idx", out, normalize="none", test=0).test_shape is None
    )
    with h5py.File(out) as file:
        order = file["train/index"][...]
        np.testing.assert_array_equal(file["train/x"], values[order].astype(np.float32))
        assert "train/y" not in file
        assert "test" not in file


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda b: b[:-7], "is truncated: 600 bytes of data expected .* 593 found"),
        (lambda b: b + b"x", "is damaged: 600 bytes of data expected .* more than 600 found"),
        (lambda b: b[:9], "is truncated inside its header"),
        (lambda b: b"\1\2\3\4" + b[4:], r"is not an IDX file \(its first bytes are 01 02 03 04\)"),
        (lambda b: gzip.compress(b)[:-30], "is truncated or damaged .*download it again"),
        (lambda b: gzip.compress(b)[:60] + b"?" * 40, "is truncated or damaged"),
        (lambda b: b"", "is not an IDX file"),
        (lambda b: idx(IMAGES[:20]), "has 20 inputs, but there are 30 labels"),
    ],
)
def test_damaged_idx(tmp_path: Path, out: Path, damage, message: str) -> None:
    source = write_mnist(tmp_path / "mnist")
    path = source / "train-images-idx3-ubyte"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(WidegramError, match=message):
        widegram.prepare(source, out)
    assert not out.exists()


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.full(30, 1.5, "f4"), r"labels-idx1-ubyte: row 0 holds 1\.5, no whole number"),
        (np.full(30, np.nan, "f8"), "row 0 holds nan, no whole number"),
    ],
)
def test_idx_labels_that_are_not_whole(tmp_path: Path, out: Path, labels, message: str) -> None:
    source = write_mnist(tmp_path / "mnist")
    (source / "train-labels-idx1-ubyte").write_bytes(idx(labels))
    with pytest.raises(WidegramError, match=message):
        widegram.prepare(source, out)
    assert not out.exists()


def test_labels_beyond_64_bits(tmp_path: Path, out: Path) -> None:
    np.save(tmp_path / "x.npy", np.ones((3, 2)) * [[1], [2], [3]])
    np.save(tmp_path / "y.npy", np.array([1, 2, 2**64 - 1], np.uint64))
    with pytest.raises(WidegramError, match=r"row 2 holds 1\.84467e\+19, no whole number"):
        widegram.prepare(tmp_path / "x.npy", out)
    assert not out.exists()


def test_incomplete_idx_directories(tmp_path: Path, out: Path) -> None:
    source = write_mnist(tmp_path / "mnist")
    (source / "train-labels-idx1-ubyte").unlink()
    with pytest.raises(WidegramError, match=r"train-labels-idx1-ubyte \(or .gz\) are missing"):
        widegram.prepare(source, out)
    (source / "train-images-idx3-ubyte").unlink()
    with pytest.raises(WidegramError, match="has no train-images-idx3-ubyte file"):
        widegram.prepare(source, out)
    write_mnist(source)
    for name in ("train-images", "train-labels"):
        rank = 3 if "images" in name else 1
        (source / f"emnist-{name}-idx{rank}-ubyte").touch()
    with pytest.raises(WidegramError, match="holds several IDX data sets"):
        widegram.prepare(source, out)


def test_digits_are_embedded(out: Path) -> None:
    result = widegram.prepare("digits", out, train=100, test=50)
    assert (result.train_shape, result.test_shape) == ((100, 8, 8, 1), (50, 8, 8, 1))
    raw = open_digits().train
    images = raw.x.rows(0, 1797)
    assert images.shape == (1797, 8, 8, 1)
    assert (images.min(), images.max()) == (0, 16)
    # The published data set: counts of each class, and its first image's label and first row.
    assert np.bincount(raw.y).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert raw.y[0] == 0
    assert images[0, 0, :, 0].tolist() == [0, 0, 5, 13, 9, 1, 0, 0]


def test_a_seed_of_no_draw_is_named(tmp_path: Path, out: Path) -> None:
    source = write_cifar_binary(tmp_path / "cifar")
    for given, note in (
        ({"seed": 3}, "all rows are taken: seed 3 is unused"), ({}, ""),
        ({"seed": 3, "test": 2}, ""), ({"seed": 3, "balanced": True}, ""),
    ):  # fmt: skip
        made = widegram.prepare(source, out, overwrite=True, **given)
        assert note in made.note
        assert ("unused" in made.note) is bool(note)


@pytest.mark.parametrize("block", [10**9, 900])
def test_standardize_uses_the_training_rows_alone(
    tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr("widegram.data.preparing.budget", lambda _: 16 * block)
    source = write_cifar_binary(tmp_path / "cifar")
    result = widegram.prepare(source, out, train=8, test=3, seed=1)
    with h5py.File(out) as file:
        chosen, held_out = file["train/index"][...], file["test/index"][...]
        mean, std = file.attrs["mean"], file.attrs["std"]
        assert (file.attrs["normalize"], file.attrs["seed"]) == ("standardize", 1)
    raw = CIFAR[:20][chosen].astype(np.float64)
    # float64 sums in another order than NumPy's: a few units in the last place.
    np.testing.assert_allclose(mean, raw.mean((0, 1, 2)), rtol=1e-13)
    np.testing.assert_allclose(std, raw.std((0, 1, 2)), rtol=1e-13)
    assert result.mean == tuple(mean)
    # Rounded to float32 at values up to 2: half a unit is 1.2e-7.
    np.testing.assert_allclose(load(out)[0], (raw - mean) / std, atol=2e-7)
    wanted = (CIFAR[20:][held_out] - mean) / std
    np.testing.assert_allclose(load(out, "test")[0], wanted, atol=2e-7)


def test_constant_features_stay_finite(tmp_path: Path, out: Path) -> None:
    x = RNG.normal(size=(10, 3))
    x[:, 1] = 7.0
    np.save(tmp_path / "x.npy", x)
    assert widegram.prepare(tmp_path / "x.npy", out, test=0).std[1] == 1.0
    with h5py.File(out) as file:
        assert (file["train/x"][:, 1] == 0).all()


def test_unit_norm_leaves_zero_images_alone(tmp_path: Path, out: Path) -> None:
    x = RNG.normal(size=(10, 4, 4, 1))
    x[6] = 0
    np.savez(tmp_path / "d.npz", x=x, y=np.arange(10))
    widegram.prepare(tmp_path / "d.npz", out, test=0, normalize="unit-norm")
    images, labels = load(out)
    norms = np.linalg.norm(images.reshape(10, -1).astype(np.float64), axis=1)
    # Each value is rounded to float32.
    np.testing.assert_allclose(norms, np.where(labels == 6, 0, 1), atol=1e-7)


def test_selection_depends_on_the_seed_alone(tmp_path: Path) -> None:
    def rows(seed: int, **counts: int) -> dict[str, list[int]]:
        path = tmp_path / "out.h5"
        widegram.prepare("digits", path, seed=seed, overwrite=True, **counts)
        with h5py.File(path) as file:
            return {split: file[f"{split}/index"][...].tolist() for split in ("train", "test")}

    small, large = rows(0, train=50, test=20), rows(0, train=90, test=20)
    assert large["test"] == small["test"]
    assert large["train"][:50] == small["train"]
    assert rows(1, train=50, test=20) != small
    assert not set(large["train"]) & set(large["test"])
    default = rows(0)
    assert (len(default["train"]), len(default["test"])) == (1438, 359)
    source = write_mnist(tmp_path / "mnist")
    widegram.prepare(source, tmp_path / "a.h5", train=5, seed=0)
    widegram.prepare(source, tmp_path / "b.h5", train=9, seed=0)
    np.testing.assert_array_equal(load(tmp_path / "a.h5")[1], load(tmp_path / "b.h5")[1][:5])


@pytest.mark.parametrize(
    ("names", "key"),
    [
        (("x", "y"), ""),
        (("images", "labels"), ""),
        (("data", "target"), ""),
        (("x_train", "y_train"), ""),
        (("train/x", "train/y"), ":train/x"),
        (("features", "classes"), ":features"),
    ],
)
def test_labelled_arrays(tmp_path: Path, out: Path, names, key: str) -> None:
    x, y = RNG.normal(size=(10, 3)), np.arange(10)
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file[names[0]], file[names[1]] = x, y
    labels = f"{tmp_path}/d.h5:classes" if names[1] == "classes" else None
    result = widegram.prepare(f"{tmp_path}/d.h5{key}", out, normalize="none", test=0, labels=labels)
    assert result.labels
    found = load(out)
    np.testing.assert_array_equal(found[0], x[found[1]].astype(np.float32))


def test_labels_are_those_of_the_same_group(tmp_path: Path, out: Path) -> None:
    x, y = RNG.normal(size=(10, 3)), np.arange(10)
    np.savez(tmp_path / "d.npz", **{"a/x": x, "a/y": y, "b/x": x[:4], "b/y": y[:4]})
    widegram.prepare(f"{tmp_path}/d.npz:b/x", out, normalize="none", test=0)
    found = load(out)
    np.testing.assert_array_equal(found[0], x[found[1]].astype(np.float32))
    assert len(found[1]) == 4


def test_arrays_with_their_own_test_split(tmp_path: Path, out: Path) -> None:
    path = tmp_path / "mnist.npz"
    np.savez_compressed(
        path, x_train=IMAGES, y_train=LABELS, x_test=TEST_IMAGES, y_test=TEST_LABELS
    )
    widegram.prepare(path, out, normalize="none")
    np.testing.assert_array_equal(load(out)[0], IMAGES[..., None])
    np.testing.assert_array_equal(load(out, "test")[1], TEST_LABELS)


def test_npy_takes_labels_from_the_file_beside(tmp_path: Path, out: Path) -> None:
    np.save(tmp_path / "x.npy", IMAGES)
    result = widegram.prepare(tmp_path / "x.npy", out, test=0)
    assert (result.labels, result.note) == (False, "no labels were found; name them with --labels")
    np.save(tmp_path / "y.npy", LABELS[:, None])
    assert widegram.prepare(tmp_path / "x.npy", out, test=0, overwrite=True).labels
    with h5py.File(out) as file:
        np.testing.assert_array_equal(file["train/y"], LABELS[file["train/index"][...]])


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("digits", {"normalize": "minmax"}, "normalize 'minmax' is unknown"),
        ("digits", {"train": 0}, "train is 0; it must be at least 1"),
        ("digits", {"test": -1}, "test is -1; it must be at least 0"),
        ("digits", {"train": 1800}, "has 1797 inputs, too few for 1800 training and 0 test"),
        ("digits", {"train": 1700, "test": 98}, "too few for 1700 training and 98 test"),
        ("digits", {"labels": "y.npy"}, "brings its own labels"),
        ("mnist", {"train": 31}, "has 30 inputs, 31 were asked for"),
        ("mnst", {}, r"mnst: no such file; did you mean '.*mnist'\?"),
        ("empty", {}, "holds neither IDX files .* nor CIFAR-10 or CIFAR-100 batches"),
        ("notes.txt", {}, "unknown data; give digits, an IDX file"),
        ("nan.npy", {}, r"nan\.npy: row 4 holds NaN"),
        ("line.npy", {}, r"has shape \(5,\); expected \(n, D\)"),
        ("none.npy", {}, "is empty"),
        ("text.npy", {}, "numbers are needed"),
        ("two.npz", {}, r"which array holds the inputs\? write .*two\.npz:NAME; it holds: a, b"),
        ("two.npz:c", {}, "no key 'c'; it holds: a, b"),
    ],
)
def test_refusals_leave_nothing_behind(
    tmp_path, out, monkeypatch, source, options, message
) -> None:
    monkeypatch.chdir(tmp_path)
    write_mnist(tmp_path / "mnist")
    Path("empty").mkdir()
    Path("notes.txt").write_text("notes")
    spoiled = RNG.normal(size=(9, 3))
    spoiled[4, 1] = np.nan
    np.save("nan.npy", spoiled)
    np.save("line.npy", np.zeros(5))
    np.save("none.npy", np.zeros((0, 3)))
    np.save("text.npy", np.array([["a"]]))
    np.savez("two.npz", a=spoiled, b=spoiled)
    before = sorted(os.listdir())
    with pytest.raises(WidegramError, match=message) as info:
        widegram.prepare(source, out, **options)
    assert "\n" not in str(info.value)
    assert sorted(os.listdir()) == before


def test_existing_file_is_kept_unless_overwritten(out: Path) -> None:
    out.write_bytes(b"mine")
    with pytest.raises(WidegramError, match="exists; choose another name or pass --overwrite"):
        widegram.prepare("digits", out)
    assert out.read_bytes() == b"mine"
    widegram.prepare("digits", out, train=9, test=0, overwrite=True)
    assert load(out)[0].shape == (9, 8, 8, 1)
