"""Out-of-core Cholesky: plans, kills, memory; restart files of conjugate gradients."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from linalg_support import peak_memory_below, with_spectrum
from widegram import WidegramError
from widegram.linalg.blas import solve_right, subtract_product, subtract_square
from widegram.linalg.definite import NotPositiveDefinite
from widegram.linalg.factorfile import FactorFile
from widegram.linalg.operator import GramOperator, as_operator
from widegram.linalg.outofcore import OutOfCoreCholesky, disk_cholesky, plan_columns
from widegram.linalg.restart import RestartFile
from widegram.linalg.settings import Resources, SolveOptions
from widegram.linalg.solving import absolute_regulariser, solve
from widegram.machine.progress import Progress

N = 301
B = np.random.default_rng(0).standard_normal((N, 3))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_products_in_place(dtype) -> None:
    rng = np.random.default_rng(3)
    target, left, right = (
        rng.standard_normal(shape).astype(dtype) for shape in ((9, 20), (9, 7), (5, 7))
    )
    expected = target.copy()
    expected[:, 3:8] -= left @ right.T
    expected[:, 10:19] -= np.tril(left @ left.T)
    factor = np.tril(rng.standard_normal((5, 5))).astype(dtype) + 5 * np.eye(5, dtype=dtype)
    solved = np.linalg.solve(factor, expected[:, 3:8].T).T
    subtract_product(target[:, 3:8], left, right)  # views whose rows lie further apart
    subtract_square(target[:, 10:19], left)
    solve_right(factor, target[:, 3:8])
    expected[:, 3:8] = solved
    # Sums of 7 terms of order 1, and a triangle of condition below 10.
    np.testing.assert_allclose(target, expected, atol=100 * np.finfo(dtype).eps)
    with pytest.raises(ValueError, match="contiguous rows"):
        subtract_square(target[:, :9].T, left)


@pytest.mark.parametrize("n", [1, 15, 16, 513, 3000, 20_011])
@pytest.mark.parametrize("itemsize", [4, 8])
@pytest.mark.parametrize("passes", [6, 20, 1000])
def test_plans_fit_and_cover(n, itemsize, passes) -> None:
    budget = 16 * n * itemsize * passes
    plan = plan_columns(n, budget, itemsize)
    assert plan.peak(itemsize) <= budget
    assert [c for group in plan.groups for c in group] == list(range(plan.columns))
    assert (plan.columns - 1) * plan.width < n <= plan.columns * plan.width


def test_a_plan_that_cannot_be_says_what_it_needs() -> None:
    with pytest.raises(WidegramError, match=r"it needs 12\.8 MB"):
        plan_columns(20_000, 10**6, 8)


@pytest.mark.parametrize("memory", [3 * 10**5, 5 * 10**5, 10**8])  # many groups, few, one
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_agrees_with_numpy(memory, dtype, tmp_path) -> None:
    matrix = with_spectrum(np.geomspace(1e-3, 1, N))
    factor = OutOfCoreCholesky(as_operator(matrix), tmp_path / "f", memory=memory, dtype=dtype)
    eps = float(np.finfo(dtype).eps)
    expected = np.linalg.solve(matrix, B)
    # Condition 1e3; refinement takes the float32 factor to float64.
    np.testing.assert_allclose(factor.solve(B).x, expected, rtol=1e-9, atol=1e-9)
    assert factor.logdet() == pytest.approx(np.linalg.slogdet(matrix)[1], rel=1e3 * eps)
    half = factor.half(B)
    np.testing.assert_allclose(half.T @ half, B.T @ expected, rtol=2e4 * eps, atol=2e6 * eps)
    inverse = np.diagonal(np.linalg.inv(matrix))
    np.testing.assert_allclose(factor.inverse_diagonal(), inverse, rtol=2e4 * eps)
    factor.close(delete=True)
    assert not (tmp_path / "f").exists()


def test_budgets_give_the_same_bits_for_one_width(tmp_path) -> None:
    n = 2100
    root = np.random.default_rng(0).standard_normal((n, 60))
    matrix = root @ root.T + np.eye(n)
    found = []
    for name, memory, groups in (("a", 44 * 10**6, 2), ("b", 10**8, 1)):
        plan = plan_columns(n, memory, 8)
        assert (plan.width, len(plan.groups)) == (512, groups)
        factor = OutOfCoreCholesky(as_operator(matrix), tmp_path / name, memory=memory)
        found.append(factor.apply(np.ones((n, 1))))
        factor.close()
    np.testing.assert_array_equal(*found)


def test_not_definite_names_pivot_and_leaves_no_file(tmp_path) -> None:
    matrix = with_spectrum(np.r_[-0.01, np.linspace(1, 2, N - 1)])
    operator = as_operator(matrix)
    for dtype in (np.float64, np.float32):
        with pytest.raises(NotPositiveDefinite, match=r"smallest pivot -.* at row .*take") as info:
            disk_cholesky(operator, tmp_path / "f", memory=5 * 10**5, dtype=dtype)
        assert not (tmp_path / "f").exists()
        shift = absolute_regulariser(operator, info.value.advice.diag_reg, absolute=False)
        factor = disk_cholesky(
            operator.shifted(shift), tmp_path / "f", memory=5 * 10**5, dtype=dtype
        )
        assert factor.solve(np.ones((N, 1))).status == "ok"
        factor.close(delete=True)


def test_work_files_of_another_problem(tmp_path) -> None:
    matrix = with_spectrum(np.linspace(1, 2, N))
    OutOfCoreCholesky(as_operator(matrix), tmp_path / "f", memory=5 * 10**5, key="one").close()
    with pytest.raises(WidegramError, match="another matrix, labels or regulariser"):
        OutOfCoreCholesky(as_operator(matrix), tmp_path / "f", memory=5 * 10**5, key="two")
    factor = OutOfCoreCholesky(
        as_operator(matrix), tmp_path / "f", memory=5 * 10**5, key="two", discard_other=True
    )
    assert factor.resumed == 0
    factor.close()
    (tmp_path / "g").write_bytes(b"no HDF5")
    with pytest.raises(WidegramError, match="is in the way and no work file"):
        FactorFile(tmp_path / "g", N, 16, np.dtype(float), "")


class Stop(Exception):
    """Raised in place of a kill."""


@pytest.mark.parametrize("budgets", [(3 * 10**5, 3 * 10**5), (3 * 10**5, 10**8)])
def test_resumes_where_it_stopped(budgets, tmp_path) -> None:
    matrix = with_spectrum(np.geomspace(1e-2, 1, N))

    def stop_half_way(told: Progress) -> None:
        if told.what == "factoring" and told.done > 0.5 * told.total:
            raise Stop

    with pytest.raises(Stop):
        OutOfCoreCholesky(
            as_operator(matrix), tmp_path / "f", memory=budgets[0], progress=stop_half_way
        )
    factor = OutOfCoreCholesky(as_operator(matrix), tmp_path / "f", memory=budgets[1])
    assert factor.resumed > 0
    whole = OutOfCoreCholesky(as_operator(matrix), tmp_path / "g", memory=budgets[0])
    np.testing.assert_allclose(factor.apply(B), whole.apply(B), rtol=1e-11, atol=1e-12)


def test_memory_stays_in_the_budget(tmp_path) -> None:
    n, budget = 2000, 6 * 10**6  # the matrix has 32 MB, its lower half 16 MB
    with h5py.File(tmp_path / "k.h5", "w") as file:
        dataset = file.create_dataset("k", (n, n), "f8", chunks=(100, 100))
        for lo in range(0, n, 100):
            block = np.full((100, n), 0.5)
            block[np.arange(100), lo + np.arange(100)] = 2.0
            dataset[lo : lo + 100] = block
        operator = GramOperator(dataset, memory=budget // 4)
        OutOfCoreCholesky(operator, tmp_path / "warm", memory=budget).close()
        with peak_memory_below(budget + 3 * 10**6):  # and HDF5's chunk cache
            factor = OutOfCoreCholesky(operator, tmp_path / "f", memory=budget)
        x = factor.solve(np.ones((n, 1))).x
    # Condition 7e2, and rounding of a residual of 2000 terms: some 50 eps.
    np.testing.assert_allclose(x, 1.0 / (1.5 + 0.5 * n), rtol=1e-11)


KILLED = """
import sys, numpy as np
from widegram.linalg.operator import as_operator
from widegram.linalg.outofcore import OutOfCoreCholesky
matrix = np.load(sys.argv[1], mmap_mode="r")
OutOfCoreCholesky(as_operator(matrix), sys.argv[2], memory=int(sys.argv[3]), key="k").close()
"""


@pytest.mark.slow
@pytest.mark.parametrize("trial", range(5))
def test_kill_dash_nine(trial, tmp_path) -> None:
    n, memory = 3000, 12 * 10**6
    rng = np.random.default_rng(trial)
    root = rng.standard_normal((n, 50))
    matrix = root @ root.T + np.eye(n)
    np.save(tmp_path / "k.npy", matrix)
    arguments = [sys.executable, "-c", KILLED, str(tmp_path / "k.npy"), str(tmp_path / "f")]
    process = subprocess.Popen([*arguments, str(memory)])
    while not (tmp_path / "f").exists():
        time.sleep(0.01)
    time.sleep(float(rng.uniform(0.02, 0.4)))
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    subprocess.run([*arguments, str(memory)], check=True)
    factor = OutOfCoreCholesky(as_operator(matrix), tmp_path / "f", memory=memory, key="k")
    assert factor.resumed == factor.solve(np.ones((n, 1))).details["columns"]
    expected = np.linalg.solve(matrix, np.ones(n))
    np.testing.assert_allclose(factor.solve(np.ones((n, 1))).x[:, 0], expected, rtol=1e-8)


def test_gradients_go_on_from_their_restart_file(tmp_path) -> None:
    operator = as_operator(with_spectrum(np.geomspace(1e-4, 1, N)))
    options = SolveOptions("cg", preconditioner="none", tol=1e-8, max_iter=40)
    resources = Resources(10**9, work=tmp_path / "a.h5", key="p")
    first = solve(operator, B, options, resources)
    assert first.status == "max_iterations"
    assert (tmp_path / "a.h5.restart").exists()
    with pytest.raises(WidegramError, match="belongs to another problem"):
        solve(operator.shifted(1.0), B, options, resources)
    assert solve(operator.shifted(1.0), B, options, replace(resources, overwrite=True))
    again = solve(operator, B, replace(options, max_iter=2000), resources)
    assert again.status == "ok"
    assert not (tmp_path / "a.h5.restart").exists()


def test_a_checkpoint_is_nearly_as_good_as_the_run(tmp_path) -> None:
    operator = as_operator(with_spectrum(np.geomspace(1e-2, 1, N)))
    restart = RestartFile(tmp_path / "r", "key", seconds=0.0)
    seen = []

    def checkpoint(x: np.ndarray, iterations: int) -> None:
        restart.counting_from(5)(x, iterations)
        seen.append(np.linalg.norm(B - operator.matmat(x)))

    from widegram.linalg.cg import conjugate_gradients

    found = conjugate_gradients(operator.matmat, B, tol=1e-9, checkpoint=checkpoint)
    x, iterations = restart.load(B.shape)
    assert iterations == 5 + found.iterations
    np.testing.assert_array_equal(x, found.x)
    assert seen[-1] < 1e-6 * seen[0]
    np.save(tmp_path / "broken", np.ones(3))
    (tmp_path / "r").write_bytes((tmp_path / "broken.npy").read_bytes())
    with pytest.raises(WidegramError, match="is in the way and no work file"):
        restart.load(B.shape)


def test_work_files_lie_beside_the_output(tmp_path) -> None:
    operator = as_operator(with_spectrum(np.linspace(1, 2, N)))
    options, resources = SolveOptions("cholesky-ooc"), Resources(5 * 10**5)
    with pytest.raises(WidegramError, match="a place for its work file"):
        solve(operator, B, options, resources)
    seen: list[Path] = []

    def look(told: Progress) -> None:
        seen.extend(tmp_path.glob("a.h5.factor"))

    solve(operator, B, options, replace(resources, work=tmp_path / "a.h5", progress=look))
    assert seen
    assert not list(tmp_path.iterdir())
