"""Values at the ends of floating point, and features that hardly vary, where data is prepared."""

from __future__ import annotations

import os

import h5py
import numpy as np
import pytest

from cli_support import refused, run_json


@pytest.fixture(autouse=True)
def _folder(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)


def prepared(x: np.ndarray, *options: object, rows: int = 0) -> np.ndarray:
    """/train/x of all rows of ``x`` but the first ``rows``, which are for the test."""
    np.savez("raw.npz", x=x, y=np.arange(len(x)))
    run_json("data", "prepare", "raw.npz", "--out", "d.h5", "--overwrite", "--test", rows, *options)
    with h5py.File("d.h5") as file:
        order = np.argsort(file["train/index"][()])
        return file["train/x"][()][order]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("value", [0.1, 14.62, 1 / 3, -0.3, 1e8 + 0.1, 1e30, 1e-30, 0.0])
@pytest.mark.parametrize("rows", [3, 50, 1000])
def test_constant_features_become_zero(value: float, rows: int, dtype: type):
    x = np.random.default_rng(0).standard_normal((rows, 2)).astype(dtype)
    x[:, 0] = value
    train = prepared(x)
    assert not train[:, 0].any()
    np.testing.assert_allclose(train[:, 1].std(), 1, rtol=1e-5)  # float32 of the file


def test_features_that_differ_by_rounding_are_constant():
    x = np.random.default_rng(0).standard_normal((50, 2))
    x[:, 0] = 0.1
    x[::2, 0] = np.nextafter(0.1, 1)
    # 0.1 and the number after it differ by 1.4e-17: kept as it is, not divided by its own size.
    assert abs(prepared(x)[:, 0]).max() < 1e-16


def test_a_constant_channel_of_images():
    x = np.random.default_rng(0).random((20, 4, 4, 2))
    x[..., 1] = 0.1
    train = prepared(x)
    assert not train[..., 1].any()
    assert abs(train[..., 0]).max() > 1


def test_a_test_row_beside_a_constant_keeps_its_difference():
    x = np.random.default_rng(0).standard_normal((20, 2))
    for seed in range(20):
        x[:, 0] = 0.1
        x[19, 0] = 0.2
        train = prepared(x, "--seed", seed, rows=4)
        if not train[:, 0].any():
            break
    with h5py.File("d.h5") as file:
        # 0.2 - 0.1 over a deviation of 1, in float32
        assert file["test/x"][:, 0].max() == pytest.approx(0.1, rel=1e-6)


@pytest.mark.parametrize("scale", [1e200, 1e-200, 1.7e308, 5e-324 * 2**20])
def test_values_of_every_size_are_standardized(scale: float):
    x = np.random.default_rng(0).uniform(-1, 1, (30, 3))
    x[0] = 1, -1, 1  # the largest number of either sign
    with np.errstate(under="ignore"):
        train = prepared(x * scale)
    # The smallest scale leaves 20 bits of each number.
    np.testing.assert_allclose(train, (x - x.mean(0)) / x.std(0), atol=1e-5)
    unit = prepared(x * scale, "--normalize", "unit-norm")
    np.testing.assert_allclose(unit, x / np.linalg.norm(x, axis=1)[:, None], atol=1e-5)


@pytest.mark.parametrize(
    ("value", "message"),
    [(1e200, r"row 3 holds 1e\+200, which exceeds"), (1e-200, r"row 3 holds 1e-200, which is too")],
)
def test_what_float32_cannot_hold_is_refused(value: float, message: str):
    x = np.ones((8, 2))
    x[3] = value
    np.save("x.npy", x)
    refused(message, "data", "prepare", "x.npy", "--normalize", "none", "--out", "d.h5")
    assert os.listdir() == ["x.npy"]


def test_a_test_row_far_outside_is_refused():
    x = np.zeros((10, 1))
    np.save("x.npy", x)
    x[4] = 1e60
    np.savez("split.npz", x_train=np.zeros((10, 1)), x_test=x)
    refused(
        r"x_test: row 4 holds 1e\+60, which exceeds what float32 holds; its feature hardly varies",
        "data", "prepare", "split.npz", "--out", "d.h5",
    )  # fmt: skip
