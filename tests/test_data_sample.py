"""`widegram data sample`: rows drawn at random, classes in balance, a file that `gram` takes."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from cli_support import refused, run, run_json
from widegram.data.sampling import balanced_draw

ROWS = 200


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    labels = rng.choice(4, ROWS, p=[0.6, 0.25, 0.12, 0.03])
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file["train/x"] = rng.standard_normal((ROWS, 5)).astype(np.float32)
        file["train/y"] = labels
    np.save(tmp_path / "x.npy", rng.standard_normal((ROWS, 5)))
    return tmp_path


def test_rows_indices_and_labels_are_those_of_the_source(folder) -> None:
    out = folder / "c.h5"
    found = run_json("data", "sample", f"{folder}/d.h5:train/x", "--n", 40, "--out", out)
    with h5py.File(out) as drawn, h5py.File(folder / "d.h5") as source:
        index = drawn["index"][:]
        assert index.size == np.unique(index).size == 40
        assert (np.diff(index) > 0).all()
        assert drawn["x"].dtype == np.float32
        np.testing.assert_array_equal(drawn["x"][:], source["train/x"][:][index])
        np.testing.assert_array_equal(drawn["y"][:], source["train/y"][:][index])
        assert (drawn.attrs["seed"], bool(drawn.attrs["balanced"])) == (0, True)
        counts = np.bincount(source["train/y"][:], minlength=4)
    assert sum(found["classes"].values()) == 40
    rare = int(counts.argmin())
    assert found["classes"][str(rare)] == min(counts[rare], 10)
    assert run("verify", out).exit_code == 0
    net = "fcn:depth=2"
    assert run("gram", "--net", net, "--x", f"{out}:x", "--out", folder / "K.h5").exit_code == 0


def test_the_seed_decides(folder) -> None:
    drawn = []
    for number, seed in enumerate((1, 1, 2)):
        out = folder / f"{number}.h5"
        data = f"{folder}/d.h5:train/x"
        run_json("data", "sample", data, "--n", 30, "--seed", seed, "--out", out)
        with h5py.File(out) as file:
            drawn.append(file["index"][:].tolist())
    assert drawn[0] == drawn[1] != drawn[2]


def test_without_labels_every_row_counts_alike(folder) -> None:
    out = folder / "c.h5"
    found = run_json("data", "sample", folder / "x.npy", "--n", ROWS, "--out", out)
    assert (found["labels"], found["balanced"], found["classes"]) == (False, False, {})
    with h5py.File(out) as file:
        assert file["x"].dtype == np.float64
        assert "y" not in file
        np.testing.assert_array_equal(file["index"][:], np.arange(ROWS))
    np.save(folder / "t.npy", np.linspace(0, 1, ROWS))
    targets = ["--labels", folder / "t.npy", "--overwrite"]
    found = run_json("data", "sample", folder / "x.npy", "--n", 7, "--out", out, *targets)
    assert (found["labels"], found["balanced"]) == (True, False)
    assert "without regard to classes" in run(
        "data", "sample", folder / "x.npy", "--n", 7, "--out", out, *targets
    ).stdout  # fmt: skip


def test_classes_with_few_rows_give_all_of_them() -> None:
    y = np.repeat([3, 5, 9], [2, 30, 50])
    for count in range(1, y.size + 1):
        index = balanced_draw(y, count, np.random.default_rng(count))
        assert index.size == np.unique(index).size == count
        few, first, second = (int((y[index] == label).sum()) for label in (3, 5, 9))
        if count <= 60:  # both others still have rows left
            assert abs(first - second) <= 1
        assert few in ({2} if count >= 6 else {count // 3, -(-count // 3)})


def test_refusals(folder) -> None:
    data, out = f"{folder}/d.h5:train/x", folder / "c.h5"
    refused("has 200 rows, 201 were asked", "data", "sample", data, "--n", 201, "--out", out)
    refused("is an input", "data", "sample", data, "--n", 1, "--out", folder / "d.h5")
    np.save(folder / "i.npy", np.ones((4, 3), np.uint8))
    refused("holds integers", "data", "sample", folder / "i.npy", "--n", 1, "--out", out)
    assert not out.exists()
    run("data", "sample", data, "--n", 1, "--out", out)
    refused("exists", "data", "sample", data, "--n", 1, "--out", out)
    np.save(folder / "nan.npy", np.where(np.arange(ROWS) == 7, np.nan, 1.0))
    message = r"nan\.npy: row 7 holds NaN .*; leave out rows that have no label"
    refused(message, "data", "sample", data, "--n",
            1, "--labels", folder / "nan.npy", "--out", folder / "other.h5")  # fmt: skip
