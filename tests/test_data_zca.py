"""ZCA against a singular value decomposition by hand; products that depend on their rows alone."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

import widegram
from cli_support import refused
from widegram.data.exact import exact_product
from widegram.data.zca import learn_zca, moments
from widegram.errors import WidegramError

RNG = np.random.default_rng(7)


def by_hand(train: np.ndarray, test: np.ndarray, eps: float) -> np.ndarray:
    """Whitened test rows (m, D), from the singular values of the centred training rows."""
    mean = train.mean(axis=0)
    _, values, turn = np.linalg.svd(train - mean, full_matrices=True)
    eigenvalues = np.zeros(train.shape[1])
    eigenvalues[: len(values)] = values**2 / len(train)
    scales = 1 / np.sqrt(eigenvalues + eps * eigenvalues.mean())
    return (test - mean) @ turn.T * scales @ turn


def correlated(n: int, features: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    mix = rng.normal(size=(features, features)) * 10.0 ** -np.linspace(0, 2, features)[:, None]
    return rng.normal(size=(n, features)) @ mix + rng.normal(size=features)


@pytest.mark.parametrize("eps", [1e-4, 0.1, 10.0])
@pytest.mark.parametrize(("n", "shape"), [(90, (12,)), (9, (12,)), (40, (3, 4, 2))])
def test_zca_is_what_singular_values_give(tmp_path: Path, eps: float, n: int, shape) -> None:
    x = correlated(n + 20, int(np.prod(shape)), seed=1).reshape(-1, *shape)
    np.save(tmp_path / "x.npy", x)
    out = tmp_path / "d.h5"
    found = widegram.prepare(tmp_path / "x.npy", out, test=20, normalize="none", zca=eps)
    assert found.zca == eps
    with h5py.File(out) as file:
        flat = x.reshape(len(x), -1)
        train, test = flat[file["train/index"][...]], flat[file["test/index"][...]]
        for part, rows in (("train", train), ("test", test)):
            wanted = by_hand(train, rows, eps)
            made = file[f"{part}/x"][...]
            assert made.shape[1:] == shape
            # float32: half a unit is 6e-8 of a number; both ways err by 1e-16 times sqrt(1 / eps)
            # relative to the largest number of a row.
            scale = abs(wanted).max()
            np.testing.assert_allclose(made.reshape(wanted.shape), wanted, atol=2e-7 * scale)
        assert file.attrs["zca"] == eps
        spread = ((train - train.mean(axis=0)) ** 2).mean()  # the mean eigenvalue: trace / D
        np.testing.assert_allclose(file.attrs["zca_regulariser"], eps * spread, rtol=1e-12)
        # LAPACK's eigenvalues err by 1e-16 times the largest, times a few dozen.
        values = np.linalg.eigvalsh(np.cov(train.T, bias=True))
        np.testing.assert_allclose(
            file["statistics/zca_eigenvalues"], values, atol=1e-13 * values[-1]
        )


@pytest.mark.parametrize("normalize", ["standardize", "global", "unit-norm", "unit-square"])
def test_zca_whitens_what_normalize_made(tmp_path: Path, normalize: str) -> None:
    out, plain = tmp_path / "d.h5", tmp_path / "n.h5"
    widegram.prepare("digits", out, train=300, test=30, normalize=normalize, zca=0.1)
    widegram.prepare("digits", plain, train=300, test=30, normalize=normalize)
    with h5py.File(out) as file, h5py.File(plain) as same:
        train, test = (same[f"{p}/x"][...].reshape(-1, 64).astype(float) for p in ("train", "test"))
        wanted = by_hand(train, test, 0.1)
        made = file["test/x"][...].reshape(-1, 64)
    # The inputs of ``wanted`` are rounded to float32, 6e-8; directions that vary least grow by
    # 1 / sqrt(0.1).
    np.testing.assert_allclose(made, wanted, atol=2e-6 * abs(wanted).max())


def test_moments_do_not_depend_on_how_rows_come() -> None:
    # A mean far from 0 loses what a difference of squares would not keep.
    x = correlated(101, 9, seed=2) + 1e6
    wanted = np.cov(x.T, bias=True)
    for cuts in ([], [1], [1, 2, 50], list(range(1, 101))):
        mean, covariance = moments(np.split(x, cuts), 9)
        lower = np.tril_indices(9)
        # Rows are known to 1e-10, relative to variances of about 1.
        np.testing.assert_allclose(covariance[lower], wanted[lower], rtol=1e-8, atol=1e-9)
        np.testing.assert_allclose(mean, x.mean(axis=0), rtol=1e-14)


def test_rows_are_read_once_for_zca() -> None:
    passes = []

    def blocks():
        passes.append(1)
        yield from np.split(correlated(60, 5, seed=3), 4)

    learn_zca(blocks(), 5, 0.1, "x")
    assert len(passes) == 1


@pytest.mark.parametrize(("n", "k", "m"), [(33, 7, 7), (130, 70, 300), (5, 1, 1), (3, 1025, 3)])
def test_exact_products(n: int, k: int, m: int) -> None:
    rng = np.random.default_rng(n)
    a = rng.normal(size=(n, k)) * np.exp(8 * rng.normal(size=(n, 1)))
    b = rng.normal(size=(k, m)) * np.exp(8 * rng.normal(size=(1, m)))
    a[0] = 0
    made = exact_product(a, b)
    scale = abs(a).max(axis=1, keepdims=True) * abs(b).max(axis=0)
    error = abs(made - a.astype(np.longdouble) @ b.astype(np.longdouble))
    assert (error <= k * 2.0**-52 * scale).all()  # what the docstring promises
    order = rng.permutation(n)
    np.testing.assert_array_equal(exact_product(a[order], b), made[order])
    np.testing.assert_array_equal(np.vstack([exact_product(row[None], b) for row in a]), made)


def test_memory_changes_no_bit(tmp_path: Path) -> None:
    for memory in ("16MB", "300MB"):
        out = tmp_path / f"{memory}.h5"
        widegram.prepare("digits", out, zca=0.1, normalize="unit-square", memory=memory)
    with h5py.File(tmp_path / "16MB.h5") as small, h5py.File(tmp_path / "300MB.h5") as large:
        for name in ("train/x", "test/x", "statistics/zca_matrix"):
            np.testing.assert_array_equal(small[name], large[name])


@pytest.mark.parametrize("eps", ["0", "-1", "nan", "inf", "1e9"])
def test_eps_that_are_none(tmp_path: Path, eps: str) -> None:
    message = "must be above 0 and at most 1e"
    refused(message, "data", "prepare", "digits", "--out", tmp_path / "d.h5", "--zca", eps)
    assert not (tmp_path / "d.h5").exists()


def test_what_zca_cannot_be_learnt_from(tmp_path: Path) -> None:
    def attempt(message: str, x: np.ndarray, **options) -> None:
        np.save(tmp_path / "x.npy", x)
        with pytest.raises(WidegramError, match=message):
            widegram.prepare(tmp_path / "x.npy", tmp_path / "d.h5", test=0, **options)

    x = RNG.normal(size=(12, 3))
    attempt("its training inputs do not vary", np.ones((5, 3)), zca=0.1)
    attempt("leave the range of float64", x * 1e200, zca=0.1, normalize="none")
    attempt("leave the range of float64", x * 1e-160, zca=0.1, normalize="none")
    flat = np.hstack([x, x])  # three directions without variance
    attempt("below what rounding does to eigenvalues .*; use at least", flat, zca=1e-16)
    wide = np.zeros((2, 2000))
    attempt("ZCA of 2000 numbers an input needs .*--memory", wide, zca=0.1, memory="100MB")
    attempt("zca is abc", x, zca="abc")
    attempt(r"row \d+ holds NaN", np.where(np.eye(12, 3) > 0, np.nan, x), zca=0.1)
    assert not (tmp_path / "d.h5").exists()
