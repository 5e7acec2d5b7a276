"""`solve`, `eig` and `predict` of some rows: against the same with a file of those rows alone."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

import widegram
from cli_support import refused, run_json
from linalg_support import peak_memory_below, write_gram

RNG = np.random.default_rng(8)
N = 40
X = RNG.standard_normal((N, 5)) * np.linspace(0.5, 2, N)[:, None]
LABELS = np.arange(N) % 3
NUMBERS = np.stack([X[:, 0] * X[:, 1], X[:, 2]], axis=1)
TRAIN = RNG.permutation(N)[:25]
TEST = np.setdiff1d(np.arange(N), TRAIN)[::-1].copy()
NET = "fcn:depth=2,b_var=0.1"
# Condition numbers of some hundreds in float64; kernels of the same inputs in another matrix have
# the same bits.
RTOL = 1e-11


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("rows")
    gram = {"dtype": "float64", "tile": 16}
    widegram.gram(NET, X, place / "K.h5", **gram)
    widegram.gram(NET, X[TRAIN], place / "part.h5", **gram)
    widegram.gram(NET, X[TEST], place / "cross.h5", X[TRAIN], **gram)
    widegram.gram(NET, X[TEST], place / "wide.h5", X, **gram)
    widegram.gram(NET, X[:9], place / "centers.h5", **gram)
    widegram.gram(NET, X, place / "low.h5", X[:9], **gram)
    np.savez(place / "d.npz", y=LABELS, r=NUMBERS, train=TRAIN, test=TEST,
             y_train=LABELS[TRAIN], r_train=NUMBERS[TRAIN],
             y_test=LABELS[TEST], r_test=NUMBERS[TEST])  # fmt: skip
    return place


def predicted(
    folder: Path, out: Path, arguments: tuple[object, ...], more: tuple[object, ...]
) -> dict[str, np.ndarray]:
    """The datasets of a solution and of what it predicts, and the figures of both commands.

    ``arguments``: matrix, labels, what chooses rows; the cross file or rows of test points, labels.
    """
    matrix, y, chosen, cross, judged = arguments
    solving, predicting = more
    a, p = out / "a.h5", out / "p.h5"
    out.mkdir()
    found = run_json("solve", folder / matrix, "--y", f"{folder}/d.npz:{y}", "--out", a,
                     *chosen, *solving)  # fmt: skip
    found |= run_json("predict", a, *cross, "--y", f"{folder}/d.npz:{judged}", "--out", p,
                      *predicting)  # fmt: skip
    values = {name: v for name, v in found.items() if isinstance(v, float) and name != "seconds"}
    del values["residual"]
    with h5py.File(a) as solution, h5py.File(p) as prediction:
        values |= {name: solution[name][...] for name in ("alpha", "targets")}
        names: list[str] = []
        prediction.visit(names.append)
        values |= {n: prediction[n][...] for n in names if isinstance(prediction[n], h5py.Dataset)}
    return values


@pytest.mark.parametrize(
    ("y", "solving", "predicting"),
    [
        ("y", ("--diag-reg", 0.02), ("--variance", "--time", "3,inf")),
        ("y", ("--kernel", "nngp", "--diag-reg-path", "0.01,0.1", "--unit-diagonal", "--evidence",
               "--loo", "--targets", "one-hot"), ("--variance",)),
        ("r", ("--kernel", "nngp", "--diag-reg", 0.02, "--normalize-y"), ("--variance",)),
        ("r", ("--method", "cg", "--diag-reg", 0.1, "--tol", 1e-13), ()),
        ("y", ("--method", "cholesky-ooc", "--diag-reg", 0.1), ("--variance", "--method",
                                                               "cholesky-ooc")),
    ],
)  # fmt: skip
def test_rows_are_a_file_of_their_own(
    folder: Path, tmp_path: Path, y: str, solving: tuple, predicting: tuple
) -> None:
    train, test = ("--rows", f"{folder}/d.npz:train"), ("--rows", f"{folder}/d.npz:test")
    more, cross = (solving, predicting), ("--cross", folder / "cross.h5")
    rows = predicted(folder, tmp_path / "rows", ("K.h5", y, train, test, y), more)
    alone = "part.h5", f"{y}_train", (), cross, f"{y}_test"
    part = predicted(folder, tmp_path / "part", alone, more)
    assert rows.pop("rows").tolist() == TEST.tolist()
    assert rows.pop("train/rows").tolist() == TRAIN.tolist()
    assert set(rows) == set(part)
    for name, wanted in part.items():
        # Columns that two solutions leave at 0 but for their condition.
        np.testing.assert_allclose(rows[name], wanted, rtol=RTOL, atol=1e-12, err_msg=name)


def test_a_wide_cross_file_gives_its_columns(folder: Path, tmp_path: Path) -> None:
    a = tmp_path / "A.h5"
    run_json("solve", folder / "K.h5", "--y", f"{folder}/d.npz:y", "--rows",
             f"{folder}/d.npz:train", "--diag-reg", 0.1, "--out", a)  # fmt: skip
    for name, options in (("wide", ("--cross", folder / "wide.h5")),
                          ("own", ("--rows", f"{folder}/d.npz:test"))):  # fmt: skip
        run_json("predict", a, *options, "--out", tmp_path / f"{name}.h5")
    run_json("predict", a, "--cross", folder / "wide.h5", "--rows", "2:5", "--out",
             tmp_path / "some.h5")  # fmt: skip
    with (h5py.File(tmp_path / "wide.h5") as wide, h5py.File(tmp_path / "own.h5") as own,
          h5py.File(tmp_path / "some.h5") as some):  # fmt: skip
        np.testing.assert_allclose(wide["mean"], own["mean"], rtol=RTOL)
        np.testing.assert_allclose(some["mean"], own["mean"][2:5], rtol=RTOL)
    refused("its x2 is not the training data", "predict", a, "--cross", folder / "cross.h5")


def test_spectrum_is_of_the_rows(folder: Path, tmp_path: Path) -> None:
    e = tmp_path / "E.h5"
    run_json("eig", folder / "K.h5", "--full", "--vectors", "--rows", f"{folder}/d.npz:train",
             "--out", e)  # fmt: skip
    with h5py.File(folder / "K.h5") as file, h5py.File(e) as found:
        matrix = file["ntk"][...][np.ix_(TRAIN, TRAIN)]
        values, vectors = found["eigenvalues"][...], found["eigenvectors"][...]
        assert found["rows"][...].tolist() == TRAIN.tolist()
    np.testing.assert_allclose(values, np.linalg.eigvalsh(matrix), rtol=1e-10)
    np.testing.assert_allclose(matrix @ vectors, vectors * values, atol=1e-12 * values[-1])


def test_centers_take_rows(folder: Path, tmp_path: Path) -> None:
    widegram.gram(NET, X[TRAIN], tmp_path / "few.h5", X[:9], dtype="float64")
    widegram.gram(NET, X[TEST], tmp_path / "few-cross.h5", X[:9], dtype="float64")
    common = ("--method", "nystrom", "--centers", folder / "centers.h5", "--kernel", "nngp",
              "--diag-reg-path", "0.01,0.1")  # fmt: skip
    chosen = ("--rows", f"{folder}/d.npz:train")
    for name, matrix, rows, y in (("rows", folder / "low.h5", chosen, "r"),
                                  ("part", tmp_path / "few.h5", (), "r_train")):  # fmt: skip
        run_json("solve", matrix, "--y", f"{folder}/d.npz:{y}", *rows, *common, "--out",
                 tmp_path / f"{name}-a.h5")  # fmt: skip
    for name, options in (("rows", ("--rows", f"{folder}/d.npz:test")),
                          ("part", ("--cross", tmp_path / "few-cross.h5"))):  # fmt: skip
        run_json("predict", tmp_path / f"{name}-a.h5", *options, "--variance", "--out",
                 tmp_path / f"{name}-p.h5")  # fmt: skip
    with h5py.File(tmp_path / "rows-p.h5") as rows, h5py.File(tmp_path / "part-p.h5") as part:
        for name in ("mean", "train/mean", "variance"):
            # The condition of the normal equations, and their announced error.
            np.testing.assert_allclose(rows[name], part[name], rtol=1e-7)


def test_machines_take_rows_of_every_class(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    svm = ("--method", "svm", "--c-path", "2")
    for name, matrix, y, options in (
        ("rows", "K.h5", "y", ("--rows", f"{folder}/d.npz:train")),
        ("part", "part.h5", "y_train", ()),
    ):
        run_json("solve", folder / matrix, "--y", f"{folder}/d.npz:{y}", *options, *svm, "--out",
                 tmp_path / f"{name}.h5")  # fmt: skip
    for name, options in (("rows", ("--rows", f"{folder}/d.npz:test")),
                          ("part", ("--cross", folder / "cross.h5"))):  # fmt: skip
        run_json("predict", tmp_path / f"{name}.h5", *options, "--out", tmp_path / f"{name}-p.h5")
    with h5py.File(tmp_path / "rows-p.h5") as rows, h5py.File(tmp_path / "part-p.h5") as part:
        # LIBSVM stops at 1e-3, whatever the order of the rows.
        np.testing.assert_allclose(rows["decision"], part["decision"], atol=1e-2)
    np.save(tmp_path / "y.npy", np.array([0, 1] * 10 + [2] * 20))
    some = ("--y", tmp_path / "y.npy", "--rows", ":20", "--out", tmp_path / "no.h5")
    message = "hold none of class 2, and method svm needs some of each"
    refused(message, "solve", folder / "K.h5", *some, *svm)


def test_solutions_say_whose_they_are(folder: Path, tmp_path: Path) -> None:
    y = f"{folder}/d.npz:y"
    solve = ("solve", folder / "K.h5", "--y", y, "--diag-reg", 0.1, "--rows")
    run_json(*solve, ":30", "--out", tmp_path / "A.h5")
    found = run_json("predict", tmp_path / "A.h5", "--rows", "28:35")
    assert (found["n_test"], found["trained_on"]) == (7, 2)
    with h5py.File(tmp_path / "A.h5") as file:
        assert file["rows"][...].tolist() == list(range(30))
        assert file.attrs["rows_of"] == N
    # Classes are those of all labels: rows of a learning curve may have none of one.
    np.save(tmp_path / "y.npy", np.array([0, 1] * 10 + [2] * 20))
    a = tmp_path / "two.h5"
    run_json("solve", folder / "K.h5", "--y", tmp_path / "y.npy", "--rows", ":8", "--out", a)
    assert run_json("predict", a, "--rows", "8:", "--y", tmp_path / "y.npy")["k"] == 3
    refused("rows that are chosen hold the single class 2", "solve", folder / "K.h5", "--y",
            tmp_path / "y.npy", "--rows", "20:", "--out", tmp_path / "one.h5")  # fmt: skip
    refused("holds 25 labels, the matrix has 40 rows", "solve", folder / "K.h5", "--y",
            f"{folder}/d.npz:y_train", "--rows", ":25", "--out", tmp_path / "few.h5")  # fmt: skip
    refused("give the cross file kernel.test, train., or rows of", "predict", a)
    refused("there is no row 40", "predict", a, "--rows", _saved(tmp_path, [40]))
    refused("0:41 is no range of rows", "eig", folder / "K.h5", "--rows", "0:41")
    refused("is an input of this command", "solve", folder / "K.h5", "--y", y, "--rows",
            _saved(tmp_path, [1, 2]), "--out", tmp_path / "r.npy", "--overwrite")  # fmt: skip


def _saved(folder: Path, rows: list[int]) -> Path:
    np.save(folder / "r.npy", np.array(rows))
    return folder / "r.npy"


def test_a_factor_of_other_rows_is_not_gone_on_with(folder: Path, tmp_path: Path) -> None:
    from widegram.linalg.gramsource import open_train

    keys = set()
    for rows in (None, ":30", "0:29", f"{folder}/d.npz:train"):
        with open_train(folder / "K.h5", "ntk", memory=1 << 20, rows=rows) as train:
            keys.add(train.key())
    assert len(keys) == 4


def test_memory_is_bounded(tmp_path: Path) -> None:
    """A third of 4,000 rows, drawn, by the largest blocks that are allowed: of 64 MB."""
    n = 4000
    ramp = np.linspace(0, 1, n, dtype=np.float32)
    matrix = np.exp(-np.abs(ramp[:, None] - ramp))
    write_gram(tmp_path / "K.h5", {"ntk": matrix}, tile=512)
    del matrix
    y = np.sin(9 * ramp.astype(float))
    np.savez(tmp_path / "d.npz", y=y, rows=np.random.default_rng(0).permutation(n)[: n // 3])
    arguments = ("solve", tmp_path / "K.h5", "--y", f"{tmp_path}/d.npz:y", "--rows",
                 f"{tmp_path}/d.npz:rows", "--method", "cg", "--diag-reg", 0.1, "--memory",
                 "20MB", "--out", tmp_path / "A.h5")  # fmt: skip
    # What is imported, and what BLAS keeps from its first products on, is no part of it.
    run_json(*(tmp_path / "first.h5" if word == tmp_path / "A.h5" else word for word in arguments))
    with peak_memory_below(40 * 10**6):
        assert run_json(*arguments)["status"] == "ok"


def test_rows_without_a_cross_file_are_the_solution_s(folder: Path, tmp_path: Path) -> None:
    """Not those of a matrix of other inputs that is named in place of it."""
    a, out = tmp_path / "a.h5", tmp_path / "p.h5"
    labels = ("--y", f"{folder}/d.npz:y_train", "--diag-reg", 0.1)
    run_json("solve", folder / "part.h5", *labels, "--out", a)
    other = ("predict", a, "--rows", "0:3", "--gram", folder / "cross.h5", "--out", out)
    refused(r"cross\.h5: is not the training matrix of .*a\.h5 .its x1 differs.; .*--cross", *other)
    assert not out.exists()
    assert run_json(*other[:5], folder / "part.h5", "--out", out)["n_test"] == 3
