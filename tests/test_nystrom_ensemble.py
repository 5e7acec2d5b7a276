"""`predict --variance` of NTK solutions by centers: an ensemble's spread, beside dense algebra."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

import widegram
from cli_support import refused, run_json
from widegram.errors import WidegramError
from widegram.predict import center_ensemble

N, M, TEST, SHIFT = 40, 10, 8, 0.3
NETWORK = "fcn:depth=2"


def inputs(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, 5))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of both kernels in float64: rows, centers, test points."""
    place = tmp_path_factory.mktemp("ensemble")
    x, test = inputs(N, 0), inputs(TEST, 1)
    np.save(place / "y.npy", inputs(N, 2)[:, :2])
    pairs = {"k": (x, x[:M]), "c": (x[:M], None), "t": (test, x[:M]), "whole": (x, None),
             "cross": (test, x), "all": (x, x)}  # fmt: skip
    for name, (x1, x2) in pairs.items():
        widegram.gram(NETWORK, x1, place / f"{name}.h5", x2, dtype="float64")
    widegram.gram(NETWORK, x, place / "ntk.h5", x[:M], dtype="float64", get="ntk")
    return place


def solve(folder: Path, rows: str, out: str, *more: object) -> None:
    run_json("solve", folder / f"{rows}.h5", "--y", folder / "y.npy", "--diag-reg", SHIFT,
             "--absolute", "--out", folder / out, "--overwrite", *more)  # fmt: skip


def latent(folder: Path, solution: str, cross: str) -> np.ndarray:
    run_json("predict", folder / solution, "--cross", folder / f"{cross}.h5", "--variance",
             "--out", folder / "p.h5", "--overwrite")  # fmt: skip
    with h5py.File(folder / "p.h5") as file:
        assert file.attrs["variance_of"] == "ensemble of trained networks"
        np.testing.assert_allclose(file["variance"], file["variance_latent"][:] + SHIFT)
        return np.asarray(file["variance_latent"])


def read(folder: Path, name: str, kernel: str) -> np.ndarray:
    with h5py.File(folder / f"{name}.h5") as file:
        return np.asarray(file[kernel])


def test_the_spread_of_the_ensemble(folder: Path) -> None:
    solve(folder, "k", "a.h5", "--method", "nystrom", "--centers", folder / "c.h5")
    found = latent(folder, "a.h5", "t")
    k, c, t = (read(folder, name, "ntk") for name in "kct")
    kn, cn, tn = (read(folder, name, "nngp") for name in "kct")
    pull = t @ np.linalg.solve(k.T @ k + SHIFT * c, k.T)  # (test, rows)
    q_rows, q_test = (
        left @ np.linalg.solve(cn, right.T) for left, right in ((kn, kn), (tn, kn))
    )
    with h5py.File(folder / "t.h5") as file:
        prior = file["diagonal/x1/nngp"][:]
    wanted = prior - 2 * np.sum(pull * q_test, axis=1) + np.sum((pull @ q_rows) * pull, axis=1)
    # Conditions below 1e4 of both kernels of ten centers.
    np.testing.assert_allclose(found, wanted, atol=1e-10 * prior.max())


def test_centers_that_are_all_rows_have_the_exact_spread(folder: Path) -> None:
    solve(folder, "all", "a.h5", "--method", "nystrom", "--centers", folder / "whole.h5")
    found = latent(folder, "a.h5", "cross")
    solve(folder, "whole", "b.h5", "--method", "cholesky")
    wanted = latent(folder, "b.h5", "cross")
    # Conditions below 1e5 of both kernels, squared in the normal equations' eigenvectors.
    np.testing.assert_allclose(found, wanted, atol=1e-8 * wanted.max())


def test_what_lacks_the_nngp_is_refused(folder: Path) -> None:
    solve(folder, "ntk", "b.h5", "--method", "nystrom", "--centers", folder / "c.h5")
    ask = ["--cross", folder / "t.h5", "--variance"]
    refused(r"ntk.h5: has no /nngp.*--get nngp,ntk", "predict", folder / "b.h5", *ask)
    solve(folder, "k", "a.h5", "--method", "nystrom", "--centers", folder / "c.h5")
    with pytest.raises(WidegramError, match=r"by 5000 centers does not fit in 500\.0 MB; "):
        center_ensemble._height(5000, 4, 500 * 10**6)
    (folder / "k.h5").rename(folder / "elsewhere.h5")
    refused("reads the files of the solution again", "predict", folder / "a.h5", *ask)
    (folder / "elsewhere.h5").rename(folder / "k.h5")
