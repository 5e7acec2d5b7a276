"""Statistics of training inputs alone, kept, and applied to other data later, bit by bit."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

import widegram
from cli_support import refused, run, run_json
from widegram.data import apply
from widegram.data.digits import open_digits
from widegram.validation.choices import NORMALIZATIONS

RNG = np.random.default_rng(11)
IMAGES = RNG.integers(0, 256, (60, 5, 4, 3), dtype=np.uint8)
LABELS = RNG.integers(0, 4, 60)


@pytest.mark.parametrize("zca", [None, 0.1])
@pytest.mark.parametrize("normalize", NORMALIZATIONS)
def test_training_rows_become_the_same_bits(tmp_path: Path, normalize: str, zca) -> None:
    np.savez(tmp_path / "raw.npz", x=IMAGES, y=LABELS)
    stats, out = tmp_path / "stats.h5", tmp_path / "new.h5"
    widegram.prepare(
        tmp_path / "raw.npz", stats, train=31, test=9, normalize=normalize, zca=zca, seed=2
    )
    with h5py.File(stats) as file:
        index, train, test = (file[n][...] for n in ("train/index", "train/x", "test/x"))
        held_out = file["test/index"][...]
    whole = apply(stats, tmp_path / "raw.npz", out, memory="16MB")
    assert whole.shapes == {"x": (60, 5, 4, 3)}
    with h5py.File(out) as file:
        np.testing.assert_array_equal(file["x"][...][index], train)
        np.testing.assert_array_equal(file["x"][...][held_out], test)
        np.testing.assert_array_equal(file["y"], LABELS)
        assert file.attrs["normalize"] == normalize
    # A single row, of another dtype, without labels.
    np.save(tmp_path / "one.npy", IMAGES[index[:1]].astype(np.float32))
    apply(stats, tmp_path / "one.npy", tmp_path / "one.h5")
    with h5py.File(tmp_path / "one.h5") as file:
        np.testing.assert_array_equal(file["x"], train[:1])
        assert "y" not in file


@pytest.mark.parametrize(
    ("normalize", "wanted"),
    [
        ("channel", lambda x, t: (x - t.mean((0, 1, 2))) / t.std((0, 1, 2))),
        ("standardize", lambda x, t: (x - t.mean((0, 1, 2))) / t.std((0, 1, 2))),
        ("global", lambda x, t: (x - t.mean()) / t.std()),
        ("unit-norm", lambda x, t: x / np.sqrt((x**2).sum((1, 2, 3), keepdims=True))),
        ("unit-square", lambda x, t: x / np.sqrt((x**2).mean((1, 2, 3), keepdims=True))),
        ("none", lambda x, t: x),
    ],
)
def test_each_normalization_is_its_formula(tmp_path: Path, normalize: str, wanted) -> None:
    np.savez(tmp_path / "raw.npz", x=IMAGES, y=LABELS)
    widegram.prepare(tmp_path / "raw.npz", tmp_path / "d.h5", normalize=normalize, test=20)
    with h5py.File(tmp_path / "d.h5") as file:
        train, test = (IMAGES[file[f"{p}/index"][...]].astype(float) for p in ("train", "test"))
        # Rounded to float32: half a unit of numbers up to 255, relative 6e-8.
        np.testing.assert_allclose(file["train/x"], wanted(train, train), rtol=2e-7, atol=1e-7)
        np.testing.assert_allclose(file["test/x"], wanted(test, train), rtol=2e-7, atol=1e-7)


def test_a_mean_for_each_of_many_features_is_no_attribute(tmp_path: Path) -> None:
    np.save(tmp_path / "wide.npy", RNG.normal(size=(4, 10_000)))
    out = tmp_path / "d.h5"
    made = widegram.prepare(tmp_path / "wide.npy", out, test=0)
    assert len(made.mean) == 10_000
    apply(out, tmp_path / "wide.npy", tmp_path / "a.h5")
    with h5py.File(out) as file, h5py.File(tmp_path / "a.h5") as again:
        np.testing.assert_array_equal(file["train/x"], again["x"][...][file["train/index"][...]])


def test_from_the_shell(tmp_path: Path) -> None:
    stats, out = tmp_path / "stats.h5", tmp_path / "new.h5"
    made = run_json("data", "prepare", "digits", "--out", stats, "--train", 200, "--zca", 0.1)
    assert made["zca"] == 0.1
    assert made["treatment"].startswith("standardize, zca 0.1 (regulariser ")
    applied = run_json("data", "apply", stats, "digits", "--out", out)
    assert applied["shapes"] == {"x": [1797, 8, 8, 1]}
    assert applied["treatment"] == made["treatment"]
    assert run("verify", stats).exit_code == run("verify", out).exit_code == 0
    for path in (stats, out):
        assert run_json("data", "info", path)["attributes"]["treatment"] == made["treatment"]
        assert run_json("info", path) == run_json("data", "info", path)
        refused("--depth and --head are of gram files", "info", path, "--depth", 1)
    text = run("data", "apply", stats, "digits", "--out", out, "--overwrite").stdout
    assert "zca 0.1" in text
    assert widegram.open_source(f"{out}:x").shape == (1797, 8, 8, 1)


def test_a_source_with_a_test_split_keeps_it(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x_train=IMAGES[:40], x_test=IMAGES[40:], y_train=LABELS[:40],
             y_test=LABELS[40:])  # fmt: skip
    stats, out = tmp_path / "stats.h5", tmp_path / "new.h5"
    widegram.prepare(tmp_path / "d.npz", stats, train=20)
    assert apply(stats, tmp_path / "d.npz", out).shapes == {
        "train/x": (40, 5, 4, 3), "test/x": (20, 5, 4, 3),
    }  # fmt: skip
    with h5py.File(stats) as file, h5py.File(out) as new:
        np.testing.assert_array_equal(new["test/x"], file["test/x"])
        np.testing.assert_array_equal(new["test/y"], LABELS[40:])


def test_classes_in_balance(tmp_path: Path) -> None:
    labels = open_digits().train.y

    def rows(**options) -> np.ndarray:
        out = tmp_path / "d.h5"
        made = widegram.prepare("digits", out, balanced=True, overwrite=True, **options)
        with h5py.File(out) as file:
            index = file["train/index"][...]
            assert len(set(index)) == len(index)
            assert not set(index) & set(file["test/index"][...])
            counted = np.bincount(labels[index], minlength=10)
            assert made.classes == {str(k): n for k, n in enumerate(counted)}
            return index

    assert set(np.bincount(labels[rows(train=50, test=100)])) == {5}
    uneven = np.bincount(labels[rows(train=57, test=100)])
    assert sorted(uneven) == [5, 5, 5, 6, 6, 6, 6, 6, 6, 6]
    many, few = rows(train=300, test=100, seed=4), rows(train=90, test=100, seed=4)
    np.testing.assert_array_equal(many[:90], few)
    whole = rows(test=100)
    remaining = np.bincount(labels, minlength=10) - np.bincount(labels[_held_out(100)])
    assert len(whole) == 10 * remaining.min()
    # More than the smallest class has: it gives all that it has.
    most = np.bincount(labels[rows(train=1690, test=100)])
    np.testing.assert_array_equal(np.minimum(most, remaining), most)
    assert most.min() == remaining.min()


def _held_out(count: int) -> np.ndarray:
    """Test rows of seed 0, which a selection in balance leaves alone."""
    return np.random.default_rng(0).permutation(1797)[:count]


def test_refusals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run("data", "prepare", "digits", "--out", "stats.h5", "--train", 20, "--test", 5)
    np.save("x.npy", RNG.normal(size=(5, 3)))
    np.save("nan.npy", np.full((2, 8, 8, 1), np.nan))
    np.save("reals.npy", RNG.normal(size=5))
    with h5py.File("other.h5", "w") as file:
        file["x"] = 1.0
    apply_ = ("data", "apply")
    refused(r"shape \(3,\), stats.h5 was learnt from inputs of shape \(8, 8, 1\)", *apply_,
            "stats.h5", "x.npy", "--out", "d.h5")  # fmt: skip
    refused("row 0 holds NaN", *apply_, "stats.h5", "nan.npy", "--out", "d.h5")
    refused("is not prepared data", *apply_, "other.h5", "digits", "--out", "d.h5")
    refused("no such file", *apply_, "none.h5", "digits", "--out", "d.h5")
    refused("is not an HDF5 file", *apply_, "x.npy", "digits", "--out", "d.h5")
    refused("exists", *apply_, "stats.h5", "digits", "--out", "x.npy")
    for name in ("stats.h5", "nan.npy"):
        refused("is an input", *apply_, "stats.h5", "nan.npy", "--out", name, "--overwrite")
    run(*apply_, "stats.h5", "digits", "--out", "d.h5")
    refused("d.h5: holds no statistics to apply", *apply_, "d.h5", "digits", "--out", "e.h5")
    with h5py.File("stats.h5", "r+") as file:
        file["statistics/scaled_mean"][0] += 1
    refused("is damaged", *apply_, "stats.h5", "digits", "--out", "e.h5")
    prepare = ("data", "prepare")
    refused("has no classes to balance", *prepare, "x.npy", "--out", "e.h5", "--balanced")
    refused("has no classes to balance", *prepare, "x.npy", "--labels", "reals.npy", "--out",
            "e.h5", "--balanced")  # fmt: skip
    assert not Path("e.h5").exists()
