"""Operators over arrays, memmaps and HDF5 datasets; the sizes they read."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from linalg_support import peak_memory_below, with_spectrum
from widegram import WidegramError
from widegram.linalg import budget
from widegram.linalg.budget import array_budget, block_shape
from widegram.linalg.operator import GramOperator, as_operator

N = 203


@pytest.fixture(params=["array", "memmap", "hdf5"])
def source(request: pytest.FixtureRequest, tmp_path: Path):
    matrix = with_spectrum(np.linspace(1, 9, N)).astype(np.float32)
    if request.param == "array":
        yield matrix
    elif request.param == "memmap":
        np.save(tmp_path / "k.npy", matrix)
        yield np.load(tmp_path / "k.npy", mmap_mode="r")
    else:
        with h5py.File(tmp_path / "k.h5", "w") as file:
            yield file.create_dataset("k", data=matrix, chunks=(50, 50))


# Whole rows in three panels, and blocks narrower than a row.
@pytest.mark.parametrize("memory", [16 * N * 80, 16 * 64 * 70])
def test_products_and_norms(source, memory) -> None:
    dense = np.array(source, dtype=np.float64) + 0.25 * np.eye(N)
    operator = GramOperator(source, shift=0.25, memory=memory)
    x = np.random.default_rng(1).standard_normal((N, 3))
    # Sums of 203 products in another order.
    np.testing.assert_allclose(operator.matmat(x), dense @ x, atol=1e-12)
    np.testing.assert_allclose(operator.matvec(x[:, 0]), dense @ x[:, 0], atol=1e-12)
    np.testing.assert_array_equal(operator.diagonal(), np.diagonal(dense))
    assert operator.trace() == pytest.approx(np.trace(dense), rel=1e-14)
    assert operator.frobenius() == pytest.approx(np.linalg.norm(dense), rel=1e-13)
    np.testing.assert_array_equal(operator.load(), dense)
    np.testing.assert_array_equal(operator.cached().matmat(x), operator.cached().matmat(x))
    block = operator.block(slice(10, 40), slice(30, 203))
    np.testing.assert_array_equal(block, dense[10:40, 30:])


def test_cross_matrix(tmp_path) -> None:
    dense = np.random.default_rng(0).standard_normal((150, 90))
    with h5py.File(tmp_path / "k.h5", "w") as file:
        dataset = file.create_dataset("k", data=dense, chunks=(40, 40))
        x = np.random.default_rng(1).standard_normal((90, 2))
        for memory in (16 * 64 * 90, 16 * 64 * 64):
            operator = GramOperator(dataset, symmetric=False, memory=memory)
            np.testing.assert_allclose(operator.matmat(x), dense @ x, atol=1e-12)
        with pytest.raises(WidegramError, match=r"arrays of shape \(90, k\), found \(150, 2\)"):
            operator.matmat(np.zeros((150, 2)))
        with pytest.raises(WidegramError, match="not symmetric"):
            operator.load()


def test_shift_leaves_the_source_alone() -> None:
    matrix = with_spectrum(np.linspace(1, 2, 30))
    before = matrix.copy()
    operator = as_operator(matrix).shifted(3.0)
    operator.block(slice(0, 30), slice(0, 30))
    operator.frobenius()
    operator.load()
    np.testing.assert_array_equal(matrix, before)


def test_nan_is_named() -> None:
    matrix = np.eye(40)
    matrix[17, 17] = np.nan
    with pytest.raises(WidegramError, match=r"entry \(17, 17\) is nan"):
        as_operator(matrix).trace()


@pytest.mark.parametrize("bad", [np.eye(3, dtype=int), np.zeros(5), np.zeros((2, 2, 2))])
def test_refuses_what_is_no_matrix(bad) -> None:
    with pytest.raises(WidegramError, match="floating-point array of two dimensions"):
        as_operator(bad)


@pytest.mark.parametrize("rows", [1, 63, 64, 65, 511, 1000, 4000])
@pytest.mark.parametrize("cols", [1, 64, 700, 20000])
@pytest.mark.parametrize("budget", [1 << 16, 1 << 20, 1 << 26])
def test_blocks_fit_their_budget(rows, cols, budget) -> None:
    height, width = block_shape(rows, cols, 16, budget)
    assert 1 <= height <= rows
    assert 1 <= width <= cols
    assert height * width * 16 <= budget
    # A larger block would not fit, up to the rounding to 512.
    assert height == rows or 16 * cols * (height + 512) > budget or width < cols


def test_too_small_a_budget_says_how_much() -> None:
    with pytest.raises(WidegramError, match="give more memory, at least"):
        block_shape(1000, 1000, 16, 1000)


def test_array_budget_leaves_room_for_the_program() -> None:
    assert array_budget("2GB") < 2 * 10**9
    assert array_budget("20MB") == 10**7
    assert array_budget(None) > 0


@pytest.mark.parametrize(
    ("cores", "variables", "taken"),
    [  # of 200 MB, less what the program itself holds: the panels of matrices of 65 MB are 12 MB
        (1, {}, 16), (2, {}, 20), (16, {}, 76), (16, {"OPENBLAS_NUM_THREADS": "1"}, 16),
        (16, {"OPENBLAS_NUM_THREADS": "4", "OMP_NUM_THREADS": "2"}, 28),
        (2, {"OMP_NUM_THREADS": "16"}, 20), (2, {"OPENBLAS_NUM_THREADS": "x"}, 20),
    ],
)  # fmt: skip
def test_array_budget_leaves_what_blas_works_in(cores, variables, taken, monkeypatch) -> None:
    """A quota of the control group makes cores slow, and threads no fewer."""
    monkeypatch.setattr(budget, "schedulable_cores", lambda: cores)
    for name in budget._BLAS_THREADS:
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert budget._blas_scratch(65 * 10**6) == taken * 10**6
    assert array_budget("200MB") <= 200e6 - taken * 10**6
    # panels of 12,000 columns, 4 kB each, however large the matrix
    assert 49e6 < budget._blas_scratch(10**11) - budget._blas_scratch(0) + 16e6 < 50e6


def test_streaming_keeps_to_its_memory(tmp_path) -> None:
    n, budget = 3000, 8 * 10**6  # the matrix has 72 MB
    with h5py.File(tmp_path / "k.h5", "w") as file:
        dataset = file.create_dataset("k", (n, n), "f8", chunks=(100, 100))
        for lo in range(0, n, 100):
            dataset[lo : lo + 100] = 1.0
        x = np.ones((n, 4))
        GramOperator(dataset, memory=budget).matmat(x)  # BLAS takes its buffers now
        with peak_memory_below(budget + 4 * 10**6):  # and two blocks of vectors, and HDF5's cache
            found = GramOperator(dataset, memory=budget).matmat(x)
        assert (found == n).all()


def test_the_memory_fixture_fails_when_passed() -> None:
    with pytest.raises(AssertionError, match="peak memory grew"), peak_memory_below(10**6):
        np.ones(10**7)


def test_the_memory_fixture_sees_what_was_freed_before() -> None:
    """Arrays of up to 32 MB come from the heap once one was freed, and the one on top keeps the
    heap from shrinking: 80 MB of what is freed below it are used again without new pages."""
    size = 30 * 10**6 // 8
    np.ones(size)
    arrays = sorted((np.ones(size) for _ in range(6)), key=lambda array: array.ctypes.data)
    top = arrays.pop()
    arrays.clear()
    with pytest.raises(AssertionError, match="peak memory grew"), peak_memory_below(10**6):
        np.ones(10**7)
    assert top.size == size
