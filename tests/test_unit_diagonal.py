"""Kernels scaled to a unit diagonal, and the shift of one-hot targets: solve, predict, export."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import widegram
from cli_support import refused, run, run_json
from widegram.errors import WidegramError
from widegram.linalg.targets import encode

RNG = np.random.default_rng(11)
# Norms that differ by a factor of ten, so that a unit diagonal matters.
X = RNG.standard_normal((19, 5)) * np.linspace(0.3, 3, 19)[:, None]
TEST = RNG.standard_normal((4, 5)) * np.array([0.5, 1, 2, 3])[:, None]
LABELS = np.arange(19) % 3
NET = "fcn:depth=2,b_var=0.1"
REG = 0.05
# Condition numbers of some hundreds in float64.
RTOL = 1e-11


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("unit")
    widegram.gram(NET, X, place / "K.h5", dtype="float64", tile=8)
    widegram.gram(NET, TEST, place / "C.h5", X, dtype="float64")
    np.save(place / "y.npy", LABELS)
    return place


def unit(folder: Path, kernel: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """K, K(test, train), both in units of ``kernel``; the roots of its diagonals."""
    with h5py.File(folder / "K.h5") as train, h5py.File(folder / "C.h5") as cross:
        d = np.sqrt(np.diagonal(train[kernel][...]))
        e = np.sqrt(cross[f"diagonal/x1/{kernel}"][...])
        return train[kernel] / np.outer(d, d), cross[kernel] / np.outer(e, d), d, e


def solved(folder: Path, out: Path, *options: object) -> dict[str, Any]:
    return run_json("solve", folder / "K.h5", "--y", folder / "y.npy", "--unit-diagonal",
                    "--diag-reg", REG, "--out", out, *options)  # fmt: skip


@pytest.mark.parametrize("kernel", ["nngp", "ntk"])
def test_means_and_variances_are_of_the_scaled_kernel(
    kernel: str, folder: Path, tmp_path: Path
) -> None:
    a, p = tmp_path / "A.h5", tmp_path / "P.h5"
    found = solved(folder, a, "--kernel", kernel)
    assert (found["unit_diagonal"], found["shift"]) == (True, pytest.approx(REG, rel=1e-14))
    run("predict", a, "--cross", folder / "C.h5", "--variance", "--time", "3", "--out", p)
    k, cross, d, e = unit(folder, kernel)
    y = np.eye(3)[LABELS] - 1 / 3
    weights = cross @ np.linalg.inv(k + REG * np.eye(19))
    with h5py.File(folder / "K.h5") as train, h5py.File(folder / "C.h5") as other:
        prior = other["diagonal/x1/nngp"] / e**2
        nngp, across = train["nngp"] / np.outer(d, d), other["nngp"] / np.outer(e, d)
    spread = prior - 2 * np.sum(weights * across, 1) + np.sum(weights @ nngp * weights, 1)
    if kernel == "nngp":
        spread = 1 - np.sum(weights * cross, 1)
    with h5py.File(p) as file:
        np.testing.assert_allclose(file["mean"][...], weights @ y, rtol=RTOL, atol=RTOL)
        np.testing.assert_allclose(file["variance_latent"][...], spread, rtol=1e-9)
        lam, v = np.linalg.eigh(k + REG * np.eye(19))
        eta = 2 / np.linalg.eigvalsh(k)[-1]
        flow = cross @ (v * ((1 - np.exp(-eta * 3 * lam)) / lam)) @ v.T @ y
        np.testing.assert_allclose(file["time/3/mean"][...], flow, rtol=1e-9, atol=1e-11)


def test_export_is_symmetric_with_ones(folder: Path, tmp_path: Path) -> None:
    to = tmp_path / "K.npy"
    run("export", folder / "K.h5", "--kernel", "ntk", "--unit-diagonal", "--to", to)
    found = np.load(to)
    assert np.array_equal(found, found.T)
    assert np.array_equal(np.diagonal(found), np.ones(19))
    np.testing.assert_allclose(found, unit(folder, "ntk")[0], rtol=1e-14)
    run("export", folder / "C.h5", "--kernel", "ntk", "--unit-diagonal", "--to", tmp_path / "C.npy")
    np.testing.assert_allclose(np.load(tmp_path / "C.npy"), unit(folder, "ntk")[1], rtol=1e-14)


def test_an_input_without_a_kernel_is_named(tmp_path: Path) -> None:
    x = X.copy()
    x[3] = 0
    widegram.gram("fcn:depth=1", x, tmp_path / "K.h5")
    np.save(tmp_path / "y.npy", LABELS)
    wanted = r"row 3 of x1 has K\(x, x\) = 0.*give the network biases"
    refused(wanted, "solve", tmp_path / "K.h5", "--kernel", "ntk", "--y", tmp_path / "y.npy",
            "--unit-diagonal", "--out", tmp_path / "A.h5")  # fmt: skip


@pytest.mark.parametrize(
    ("options", "shift"),
    [((), 1 / 3), (("--targets", "centered"), 1 / 3), (("--targets", "one-hot"), 0.0),
     (("--target-shift", "0.1"), 0.1)],
)  # fmt: skip
def test_targets_are_one_hot_less_a_shift(
    options: tuple[str, ...], shift: float, folder: Path, tmp_path: Path
) -> None:
    a = tmp_path / "A.h5"
    found = solved(folder, a, "--kernel", "ntk", *options)
    assert found["target_shift"] == pytest.approx(shift, abs=1e-16)
    with h5py.File(a) as file:
        # One subtraction.
        np.testing.assert_allclose(file["targets"][...], np.eye(3)[LABELS] - shift, atol=1e-16)
    np.save(tmp_path / "test.npy", np.array([0, 1, 2, 0]))
    judged = run_json("predict", a, "--cross", folder / "C.h5", "--y", tmp_path / "test.npy",
                      "--out", tmp_path / "P.h5")  # fmt: skip
    with h5py.File(tmp_path / "P.h5") as file:
        wanted = np.mean((file["mean"][...] - (np.eye(3)[[0, 1, 2, 0]] - shift)) ** 2)
    assert judged["mse"] == pytest.approx(wanted, rel=1e-12)


def test_shifts_that_mean_nothing_are_refused(folder: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "numbers.npy", RNG.standard_normal(19))
    command = ("solve", folder / "K.h5", "--kernel", "ntk", "--out", tmp_path / "A.h5")
    labels = ("--y", folder / "y.npy")
    refused("give one of them", *command, *labels, "--targets", "one-hot", "--target-shift", "0.1")
    refused("are of classes", *command, "--y", tmp_path / "numbers.npy", "--targets", "one-hot")
    refused("give a number from -1000 to 1000", *command, *labels, "--target-shift", "nan")
    refused("give a number from -1000 to 1000", *command, *labels, "--target-shift", "1e9")


def test_another_shift_is_another_right_hand_side() -> None:
    prints = {encode(LABELS, shift=shift).fingerprint for shift in (None, 0.0, 0.1)}
    assert len(prints) == 3
    assert encode(LABELS).fingerprint == encode(LABELS, shift=1 / 3).fingerprint
    with pytest.raises(WidegramError, match="are of classes"):
        encode(np.ones(4), shift=0.0)
