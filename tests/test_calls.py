"""The commands solve, eig and predict as functions: what they give, and what they refuse."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import widegram
from cli_support import run
from widegram import WidegramError
from widegram.linalg.named import by_name
from widegram.linalg.settings import SolveOptions
from widegram.linalg.solvejob import SolveJob


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training and a cross matrix, labels and a solution by the function."""
    place = tmp_path_factory.mktemp("calls")
    x = np.random.default_rng(5).standard_normal((40, 4))
    np.savez(place / "d.npz", y=np.arange(30) % 3, u=np.arange(10) % 3)
    widegram.gram("fcn:depth=1", x[:30], place / "k.h5", dtype="float64")
    widegram.gram("fcn:depth=1", x[30:], place / "c.h5", x[:30], dtype="float64")
    widegram.solve(place / "k.h5", f"{place}/d.npz:y", place / "a.h5", diag_reg=1e-2)
    return place


def same(first: Path, second: Path) -> bool:
    return first.read_bytes() == second.read_bytes()


def test_solve_does_what_the_command_does(folder: Path, tmp_path: Path) -> None:
    asked = "solve", f"{folder}/k.h5", "--y", f"{folder}/d.npz:y", "--kernel", "nngp"
    more = "--diag-reg-path", "1e-3,1e-2", "--evidence", "--scale-prior", "--rows", "3:20"
    assert run(*asked, *more, "--out", f"{tmp_path}/a.h5").exit_code == 0
    result = widegram.solve(
        str(folder / "k.h5"), f"{folder}/d.npz:y", tmp_path / "b.h5", kernel="nngp",
        path=[1e-3, 1e-2], evidence=True, scale_prior=True, rows=range(3, 20),
    )  # fmt: skip
    assert (result.status, result.n, len(result.path)) == ("ok", 17, 2)
    assert same(tmp_path / "a.h5", tmp_path / "b.h5")


def test_solve_hands_on_how(folder: Path, tmp_path: Path) -> None:
    result = widegram.solve(
        folder / "k.h5", f"{folder}/d.npz:y", tmp_path / "a.h5", diag_reg=1.0, method="cg",
        preconditioner="none", memory="100MB",
    )  # fmt: skip
    assert (result.method, result.status) == ("cg", "ok")


def test_eig_does_what_the_command_does(folder: Path, tmp_path: Path) -> None:
    found = widegram.eig(folder / "k.h5", "nngp", full=True, out=tmp_path / "e.h5")
    with h5py.File(folder / "k.h5") as file:
        wanted = np.linalg.eigvalsh(file["nngp"][...])
    with h5py.File(tmp_path / "e.h5") as file:
        # LAPACK is backward stable: each eigenvalue moves by some eps |A|.
        np.testing.assert_allclose(file["eigenvalues"], wanted, rtol=0, atol=1e-14 * wanted[-1])
    assert found.n == 30
    assert widegram.eig(folder / "k.h5", k=2, which="SA").pairs.values.size == 2


def test_the_module_predict_is_called(folder: Path, tmp_path: Path) -> None:
    asked = "predict", f"{folder}/a.h5", "--cross", f"{folder}/c.h5", "--variance"
    assert run(*asked, "--out", f"{tmp_path}/p.h5").exit_code == 0
    result = widegram.predict(  # type: ignore[operator]  # a module
        folder / "a.h5", folder / "c.h5", y=f"{folder}/d.npz:u", variance=True,
        out=tmp_path / "q.h5", times=[1, math.inf],
    )  # fmt: skip
    assert (result.accuracy is not None, len(result.times)) == (True, 2)
    with h5py.File(tmp_path / "p.h5") as one, h5py.File(tmp_path / "q.h5") as other:
        np.testing.assert_array_equal(one["mean"], other["mean"])
        np.testing.assert_array_equal(one["variance"], other["variance"])
    assert next(iter(inspect.signature(widegram.predict).parameters)) == "solution"  # type: ignore[arg-type]  # a module
    assert widegram.predict.gp_inference is not None


REFUSED: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    r"solve: unknown setting 'diag_regs', did you mean 'diag_reg'\?": (
        widegram.solve, {"diag_regs": 1}),
    r"solve: unknown setting 'options'": (widegram.solve, {"options": SolveOptions()}),
    r"method 'qr' is unknown; choose auto, ": (widegram.solve, {"method": "qr"}),
    r"kernel 'ntkk' is unknown": (widegram.solve, {"kernel": "ntkk"}),
    r"path is 3.0; it must be a list of numbers": (widegram.solve, {"path": 3.0}),
    r"diag_reg is 'x'; it must be a number": (widegram.solve, {"diag_reg": "x"}),
    r"evidence is 'yes'; it must be True or False": (widegram.solve, {"evidence": "yes"}),
    r"max_iter is -1; it must be at least 0": (widegram.solve, {"max_iter": -1}),
    r"centers is 3; it must be the name of a file": (widegram.solve, {"centers": 3}),
    r"dtype 'float16': a factor is float32 or float64": (widegram.solve, {"dtype": "float16"}),
    r"dtype 3: a factor is": (widegram.solve, {"dtype": 3}),
    r"folds 0: give a number from 2": (widegram.solve, {"method": "svm", "folds": 0}),
    r"--k 0: give 1 <= k <= 30": (widegram.eig, {"k": 0}),
    r"which 'XA' is unknown; choose LA, SA, BE": (widegram.eig, {"which": "XA", "k": 2}),
    r"tol is 0; it must be above 0 and at most 1": (widegram.eig, {"tol": 0.0, "k": 2}),
    r"probes is 1; it must be at least 2": (widegram.eig, {"probes": 1, "density": True}),
    r"eig: unknown setting 'ful', did you mean 'full'\?": (widegram.eig, {"ful": True}),
}  # fmt: skip


@pytest.mark.parametrize("message", REFUSED)
def test_refused(message: str, folder: Path, tmp_path: Path) -> None:
    function, settings = REFUSED[message]
    places = [f"{folder}/d.npz:y", tmp_path / "x.h5"] if function is widegram.solve else []
    with pytest.raises(WidegramError, match=message):
        function(folder / "k.h5", *places, **settings)
    assert not list(tmp_path.iterdir())


def test_predict_refuses(folder: Path) -> None:
    with pytest.raises(WidegramError, match=r"predict: unknown setting 'time'"):
        widegram.predict(folder / "a.h5", time=3)  # type: ignore[operator]  # a module


def test_outputs_are_kept(folder: Path) -> None:
    with pytest.raises(WidegramError, match="exists; choose another name"):
        widegram.eig(folder / "k.h5", out=folder / "a.h5")
    with pytest.raises(WidegramError, match="is an input of this command"):
        widegram.eig(folder / "k.h5", out=folder / "k.h5", overwrite=True)


def test_paths_become_what_the_records_have() -> None:
    (job,) = by_name("solve", {"gram": "k.h5", "y": Path("y.npy"), "rows": [1, 2]}, SolveJob)
    assert job == {"gram": Path("k.h5"), "y": "y.npy", "rows": [1, 2]}


def test_texts_of_numpy_are_texts(folder: Path, tmp_path: Path) -> None:
    kernel = np.array(["ntk"])[0]
    widegram.eig(folder / "k.h5", kernel, full=True, out=tmp_path / "e.h5")
    with h5py.File(tmp_path / "e.h5") as file:
        assert file.attrs["kernel"] == "ntk"
    search = widegram.Search(kernel=kernel, dtype=np.array(["float64"])[0])
    x = np.random.default_rng(5).standard_normal((30, 4))
    made = widegram.tune("fcn:depth=1", x, f"{folder}/d.npz:y", tmp_path / "t.h5", search)
    assert made.kernel == "ntk"


@pytest.mark.parametrize("dtype", ["float32", np.float32, np.dtype("float32")])
def test_a_factor_in_float32_gives_no_leave_one_out_however_it_is_asked(
    folder: Path, tmp_path: Path, dtype: Any
) -> None:
    asked = {"diag_reg": 0.1, "loo": True, "dtype": dtype}
    with pytest.raises(WidegramError, match="a factorisation in float64"):
        widegram.solve(folder / "k.h5", f"{folder}/d.npz:y", tmp_path / "a.h5", **asked)
