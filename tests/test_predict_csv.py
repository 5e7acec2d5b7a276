"""`predict --csv`: the numbers of the prediction file, with labels and ids."""

from __future__ import annotations

import csv
from pathlib import Path

import h5py
import numpy as np
import pytest

import widegram
from cli_support import refused, run, run_json

RNG = np.random.default_rng(6)
N, M = 20, 7
X = RNG.standard_normal((N + M, 3))
LABELS = np.array([3, 5, 9])[np.arange(N + M) % 3]
NUMBERS = X[:, :2] ** 2
NAMES = np.array([f'row {i}, "{i}"' for i in range(M)])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("csv")
    widegram.gram("fcn:depth=1,b_var=0.1", X[:N], place / "K.h5", dtype="float64")
    widegram.gram("fcn:depth=1,b_var=0.1", X[N:], place / "C.h5", X[:N], dtype="float64")
    np.savez(place / "d.npz", y=LABELS[:N], u=LABELS[N:], r=NUMBERS[:N], s=NUMBERS[N:],
             one=NUMBERS[:N, 0], names=NAMES, numbers=np.arange(M) * 100,
             floats=np.zeros(M))  # fmt: skip
    for name in ("y", "r", "one"):
        run_json("solve", place / "K.h5", "--y", f"{place}/d.npz:{name}", "--kernel", "nngp",
                 "--diag-reg", 0.1, "--out", place / f"{name}.h5",
                 *(("--normalize-y",) if name == "r" else ()))  # fmt: skip
    return place


def table(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return list(rows[0]), rows


def column(rows: list[dict[str, str]], *names: str) -> np.ndarray:
    return np.array([[float(row[name]) for name in names] for row in rows]).squeeze()


def test_a_classification(folder: Path, tmp_path: Path) -> None:
    found = run_json("predict", folder / "y.h5", "--cross", folder / "C.h5", "--y",
                     f"{folder}/d.npz:u", "--variance", "--rows", "5:7,0:3", "--ids",
                     f"{folder}/d.npz:names", "--csv", tmp_path / "p.csv", "--out",
                     tmp_path / "P.h5")  # fmt: skip
    assert found["csv"] == str(tmp_path / "p.csv")
    names, rows = table(tmp_path / "p.csv")
    assert names == [
        "index", "id", "predicted", "label", "mean_3", "mean_5", "mean_9", "probability_3",
        "probability_5", "probability_9", "variance_latent", "std_latent", "variance", "std",
    ]  # fmt: skip
    chosen = [5, 6, 0, 1, 2]
    assert [row["id"] for row in rows] == NAMES[chosen].tolist()
    assert column(rows, "index").tolist() == chosen
    assert column(rows, "label").tolist() == LABELS[N:][chosen].tolist()
    with h5py.File(tmp_path / "P.h5") as file:
        for name, values in (("mean", file["mean"]), ("probability", file["probability"])):
            read = column(rows, *(f"{name}_{one}" for one in (3, 5, 9)))
            np.testing.assert_array_equal(read, values)  # all digits
        for name in ("predicted", "variance", "variance_latent"):
            np.testing.assert_array_equal(column(rows, name), file[name])
        np.testing.assert_array_equal(column(rows, "std"), np.sqrt(file["variance"]))


def test_a_regression(folder: Path, tmp_path: Path) -> None:
    arguments = ("--cross", folder / "C.h5", "--csv", tmp_path / "p.csv", "--overwrite")
    run_json("predict", folder / "one.h5", *arguments)
    names, rows = table(tmp_path / "p.csv")
    assert (names, len(rows)) == (["index", "mean"], M)
    run_json("predict", folder / "r.h5", *arguments, "--y", f"{folder}/d.npz:s", "--variance",
             "--ids", f"{folder}/d.npz:numbers")  # fmt: skip
    names, rows = table(tmp_path / "p.csv")
    assert names[:6] == ["index", "id", "mean_0", "mean_1", "label_0", "label_1"]
    assert names[6:] == [f"{what}{end}_{j}" for end in ("_latent", "")
                         for what in ("variance", "std") for j in range(2)]  # fmt: skip
    np.testing.assert_array_equal(column(rows, "label_0", "label_1"), NUMBERS[N:])
    assert column(rows, "id").tolist() == [100 * i for i in range(M)]


def test_what_is_refused(folder: Path, tmp_path: Path) -> None:
    predict = ("predict", folder / "y.h5", "--cross", folder / "C.h5")
    csv_file, d = tmp_path / "p.csv", f"{folder}/d.npz"
    assert run(*predict, "--csv", csv_file).exit_code == 0
    before = csv_file.read_bytes()
    for message, *arguments in (
        ("p.csv: exists; choose another name or pass --overwrite", "--csv", csv_file),
        ("is named for two outputs", "--csv", tmp_path / "q", "--out", tmp_path / "q"),
        ("is an input of this command", "--csv", folder / "C.h5", "--overwrite"),
        ("is an input of this command", "--csv", folder / "d.npz", "--ids", f"{d}:names",
         "--overwrite"),
        (r"d.npz:y: has shape \(20,\); an id is needed for each of the 7 rows", "--csv",
         tmp_path / "q.csv", "--ids", f"{d}:y"),
        ("holds float64; ids are whole numbers or text", "--csv", tmp_path / "q.csv", "--ids",
         f"{d}:floats"),
        ("--ids serves --csv", "--ids", f"{d}:names"),
        ("its directory .* does not exist", "--csv", tmp_path / "gone" / "p.csv"),
    ):  # fmt: skip
        refused(message, *predict, *arguments)
    assert csv_file.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["p.csv"]
