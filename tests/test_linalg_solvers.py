"""Every solver against dense NumPy on matrices of known spectra."""

from __future__ import annotations

from dataclasses import replace

import mpmath
import numpy as np
import pytest

from linalg_support import with_spectrum
from widegram import WidegramError
from widegram.linalg import lapack
from widegram.linalg.cg import conjugate_gradients
from widegram.linalg.choose import choose
from widegram.linalg.definite import NotPositiveDefinite, round_up
from widegram.linalg.incore import load_cholesky
from widegram.linalg.loo import best_point, leave_one_out, path_choice, regulariser_path
from widegram.linalg.methods.conjugate_gradients import preconditioner_rank
from widegram.linalg.methods.method import Demand, dense_bytes
from widegram.linalg.operator import as_operator
from widegram.linalg.precondition import LowRank, nystrom, pivoted_cholesky
from widegram.linalg.settings import Resources, SolveOptions
from widegram.linalg.solving import absolute_regulariser, solve
from widegram.linalg.tridiagonal import Tridiagonal
from widegram.validation.choices import FACTORISATIONS, PRECONDITIONERS

N, K = 211, 4  # n is a multiple of no block size used here
SPECTRA = {
    "identity": np.ones(N),
    "condition 1e3": np.geomspace(1e-3, 1, N),
    "condition 1e6": np.geomspace(1e-6, 1, N),
    "condition 1e10": np.geomspace(1e-10, 1, N),
    "condition 1e14": np.geomspace(1e-14, 1, N),
    "repeated": np.repeat([0.1, 0.1, 2.0, 5.0], 60)[:N],
    "outlier": np.r_[np.geomspace(1e-3, 1e-1, N - 1), 100.0],
}
RNG_B = np.random.default_rng(5)
B = RNG_B.standard_normal((N, K))
GB = 10**9


def error_bound(values: np.ndarray) -> float:
    """Relative error of a backward-stable solve: condition number times a few n eps."""
    return float(values.max() / values.min()) * 20 * np.sqrt(N) * np.finfo(float).eps


def attainable(matrix: np.ndarray, x: np.ndarray) -> float:
    """Residual of a backward-stable solution in float64: some eps |A| |x| / |b|."""
    norms = np.linalg.norm(matrix, 2) * np.linalg.norm(x, axis=0) / np.linalg.norm(B, axis=0)
    return float(20 * np.finfo(float).eps * norms.max())


@pytest.mark.parametrize("name", SPECTRA)
@pytest.mark.parametrize("method", FACTORISATIONS[1:])
def test_factorisations(name, method, tmp_path) -> None:
    values = SPECTRA[name]
    matrix = with_spectrum(values)
    exact = np.random.default_rng(2).standard_normal((N, K))
    resources = Resources(4 * 10**5 if "ooc" in method else GB, work=tmp_path / "a.h5")
    operator = as_operator(matrix, memory=GB)
    found = solve(operator, matrix @ exact, SolveOptions(method), resources)
    assert found.status == "ok"
    assert found.residual < 1e-12  # refined: rounding level of the residual itself
    scale = np.linalg.norm(exact)
    assert np.linalg.norm(found.x - exact) / scale < error_bound(values)
    assert not list(tmp_path.glob("*.factor"))


@pytest.mark.parametrize("name", ["identity", "condition 1e3", "condition 1e6", "repeated"])
def test_float32_factor_is_refined_to_float64(name) -> None:
    matrix = with_spectrum(SPECTRA[name])
    options = SolveOptions("cholesky", np.float32)
    found = solve(as_operator(matrix), B, options, Resources(GB))
    assert found.details["factor_dtype"] == "float32"
    assert found.residual < attainable(matrix, found.x)  # float32 alone: 1e9 times that
    expected = np.linalg.solve(matrix, B)
    error = np.linalg.norm(found.x - expected) / np.linalg.norm(expected)
    assert error < error_bound(SPECTRA[name])


def test_float32_factor_rescued_by_gradients() -> None:
    # Condition 1e8 with rounding 6e-8: refinement diverges, the factor still preconditions.
    values = np.r_[np.full(5, 2e-8), np.geomspace(0.5, 1, N - 5)]
    matrix = with_spectrum(values) + 3e-7 * np.eye(N)
    options = SolveOptions("cholesky", np.float32)
    found = solve(as_operator(matrix), B, options, Resources(GB))
    assert found.status == "ok"
    assert found.iterations > 1
    assert found.residual < attainable(matrix, found.x)


@pytest.mark.parametrize("preconditioner", PRECONDITIONERS)
@pytest.mark.parametrize("name", ["identity", "condition 1e3", "repeated", "outlier"])
def test_conjugate_gradients(name, preconditioner) -> None:
    matrix = with_spectrum(SPECTRA[name])
    options = SolveOptions("cg", preconditioner=preconditioner, rank=30, tol=1e-10)
    found = solve(as_operator(matrix), B, options, Resources(GB))
    assert found.status == "ok"
    true = np.linalg.norm(B - matrix @ found.x, axis=0) / np.linalg.norm(B, axis=0)
    assert found.residual == pytest.approx(true.max(), rel=1e-3, abs=1e-14)
    assert true.max() <= 1e-10
    assert found.iterations == len(found.history)


@pytest.mark.parametrize("make", [nystrom, pivoted_cholesky])
def test_preconditioners_cut_iterations(make) -> None:
    # 80 large eigenvalues, the rest near the regulariser.
    mu, values = 1e-3, np.r_[np.full(N - 80, 1e-4), np.geomspace(1, 100, 80)]
    operator = as_operator(with_spectrum(values)).shifted(mu)
    kind = make(operator.shifted(0.0), 90, mu)
    assert kind.rank <= 90
    plain = conjugate_gradients(operator.matmat, B, tol=1e-9)
    quick = conjugate_gradients(operator.matmat, B, kind, tol=1e-9)
    assert quick.iterations < plain.iterations / 2


def test_preconditioner_of_full_rank_is_the_inverse() -> None:
    matrix, mu = with_spectrum(SPECTRA["condition 1e3"]), 1e-2
    kind = nystrom(as_operator(matrix), N, mu)
    # P^-1 scales the complement of its range by 1 and the rest by (theta + mu) / (lambda + mu).
    expected = (kind.values[-1] + mu) * np.linalg.solve(matrix + mu * np.eye(N), B)
    np.testing.assert_allclose(kind(B), expected, rtol=1e-6, atol=1e-8)


def test_empty_preconditioner_is_the_identity() -> None:
    np.testing.assert_array_equal(LowRank(np.empty((N, 0)), np.empty(0), 0.1)(B), B)


def test_dependent_right_hand_sides() -> None:
    labels = np.random.default_rng(0).integers(0, 10, N)
    y = np.eye(10)[labels] - 0.1  # rows sum to zero: the columns are dependent
    y = np.hstack([y, y[:, :1], np.zeros((N, 1))])
    matrix = with_spectrum(SPECTRA["condition 1e3"])
    found = conjugate_gradients(as_operator(matrix).matmat, y, tol=1e-9)
    assert found.status == "ok"
    assert np.abs(y - matrix @ found.x).max() < 1e-8
    assert (found.x[:, -1] == 0).all()


def test_more_right_hand_sides_take_fewer_iterations() -> None:
    operator = as_operator(with_spectrum(SPECTRA["condition 1e3"]))
    many = np.random.default_rng(3).standard_normal((N, 20))
    alone = conjugate_gradients(operator.matmat, many[:, :1], tol=1e-8)
    block = conjugate_gradients(operator.matmat, many, tol=1e-8)
    assert block.iterations < alone.iterations / 2


def test_stagnation_says_what_to_try() -> None:
    operator = as_operator(with_spectrum(SPECTRA["condition 1e14"]))
    found = conjugate_gradients(operator.matmat, B, tol=1e-12, max_iter=3000)
    assert found.status == "stagnated"
    assert "larger --diag-reg" in found.message
    few = conjugate_gradients(operator.matmat, B, tol=1e-12, max_iter=3)
    assert (few.status, few.iterations) == ("max_iterations", 3)
    assert "--max-iter" in few.message


def test_indefinite_matrices_are_refused() -> None:
    values = np.r_[-0.5, np.linspace(1, 2, N - 1)]
    with pytest.raises(WidegramError, match="not positive definite; take a larger regulariser"):
        conjugate_gradients(as_operator(with_spectrum(values)).matmat, B)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("low", [-1e-2, -1e-5, 0.0])
def test_proposed_regulariser_works(dtype, low) -> None:
    values = np.r_[np.full(20, low), np.geomspace(1e-3, 1, N - 20)]
    matrix = with_spectrum(values).astype(dtype)
    with pytest.raises(
        NotPositiveDefinite, match=r"smallest pivot .* at row .* take diag_reg="
    ) as info:
        load_cholesky(as_operator(matrix.astype(np.float64) - 1e-9 * np.eye(N)), dtype)
    operator = as_operator(matrix)
    shift = absolute_regulariser(operator, info.value.advice.diag_reg, absolute=False)
    assert load_cholesky(operator.shifted(shift), dtype).solve(B).residual < 1e-9
    assert info.value.pivot <= 0
    assert 0 <= info.value.row < N


def test_factor_values() -> None:
    matrix = with_spectrum(SPECTRA["condition 1e3"])
    factor = load_cholesky(as_operator(matrix))
    assert factor.logdet() == pytest.approx(np.linalg.slogdet(matrix)[1], rel=1e-12)
    half = factor.half(B)
    np.testing.assert_allclose(half.T @ half, B.T @ np.linalg.solve(matrix, B), rtol=1e-9)
    inverse = np.diagonal(np.linalg.inv(matrix))
    np.testing.assert_allclose(factor.inverse_diagonal(), inverse, rtol=1e-9)


@pytest.mark.parametrize(
    ("memory", "count", "method"),
    [(GB, 3, "cholesky"), (GB, 9, "tridiagonal"), (5 * 10**4, 9, "cholesky-ooc")],
)
def test_leave_one_out_is_leaving_one_out(memory, count, method, tmp_path) -> None:
    n = 61
    matrix = with_spectrum(np.geomspace(1e-3, 1, n)) + 0.1
    y = np.eye(3)[np.random.default_rng(1).integers(0, 3, n)] - 1 / 3
    options, resources = SolveOptions(), Resources(memory, work=tmp_path / "a.h5")
    shifts = np.geomspace(1e-4, 1.0, count).tolist()
    operator = as_operator(matrix, memory=10**6)
    assert path_choice(operator, 3, count, options, resources).method == method
    points = regulariser_path(operator, y, shifts, options, resources)
    for shift, point in zip(shifts, points, strict=True):
        regularised = matrix + shift * np.eye(n)
        left = np.empty_like(y)
        for i in range(n):
            rest = np.arange(n) != i
            alpha = np.linalg.solve(regularised[np.ix_(rest, rest)], y[rest])
            left[i] = matrix[i, rest] @ alpha
        assert point.mse == pytest.approx(np.mean((y - left) ** 2), rel=1e-8)
        assert point.accuracy == np.mean(left.argmax(1) == y.argmax(1))
        np.testing.assert_allclose(
            point.alpha, np.linalg.solve(regularised, y), rtol=1e-7, atol=1e-9
        )
    assert best_point(points).mse == min(point.mse for point in points)


@pytest.mark.parametrize("n", [2, 3, 40])
def test_tridiagonal_reduction(n) -> None:
    matrix = with_spectrum(np.linspace(-0.5, 2, n))
    reduced = Tridiagonal(np.asfortranarray(matrix))
    assert [reduced.definite(shift) for shift in (0.4, 0.6)] == [False, True]
    diagonals = reduced.inverse_diagonals([0.6, 3.0])
    for shift, diagonal in zip((0.6, 3.0), diagonals.T, strict=True):
        inverse = np.linalg.inv(matrix + shift * np.eye(n))
        # Condition below 30: some hundred eps.
        np.testing.assert_allclose(diagonal, np.diagonal(inverse), rtol=1e-12)
        np.testing.assert_allclose(reduced.solve(shift, np.eye(n)), inverse, atol=1e-12)


def test_a_path_of_one_row() -> None:
    points = regulariser_path(
        as_operator(np.eye(1)), np.ones((1, 1)), [1.0] * 9, SolveOptions(), Resources(GB)
    )
    assert points[8].mse == pytest.approx(1.0)


def test_leave_one_out_that_does_not_fit_is_refused() -> None:
    operator = as_operator(np.eye(30))
    options = SolveOptions("cg")
    with pytest.raises(WidegramError, match="too many for one in memory or on the disk"):
        path_choice(operator, 1, 1, options, Resources(GB))
    points = regulariser_path(
        as_operator(-np.eye(30)), np.ones((30, 1)), [0, 0.5], SolveOptions(), Resources(GB)
    )
    with pytest.raises(WidegramError, match="give larger ones"):
        best_point(points)


@pytest.mark.parametrize("count", [2, 12])
@pytest.mark.parametrize("memory", [GB, 4 * 10**5])
def test_a_path_passes_over_singular_points(memory, count, tmp_path) -> None:
    values = np.r_[np.zeros(10), np.geomspace(1e-2, 1, N - 10)]
    resources = Resources(memory, work=tmp_path / "a.h5")
    operator = as_operator(with_spectrum(values) - 1e-12 * np.eye(N), memory=10**5)
    shifts = [0.0] * (count - 1) + [0.1]
    points = regulariser_path(operator, B, shifts, SolveOptions(), resources)
    assert [point.resolved for point in points] == [False] * (count - 1) + [True]
    assert best_point(points) is points[-1]


@pytest.mark.parametrize("method", ["tridiagonal", "cholesky"])
def test_leave_one_out_numbers_are_right_or_not_resolved(method) -> None:
    x = np.linspace(0, 3, 24)
    matrix = np.exp(-0.5 * (x[:, None] - x) ** 2)
    y = np.sin(x)[:, None]
    shifts = np.geomspace(1e-15, 1e-9, 13).tolist()
    operator, resources = as_operator(matrix), Resources(GB)
    choice = replace(path_choice(operator, 1, 13, SolveOptions(), resources), method=method)
    points = regulariser_path(operator, y, shifts, SolveOptions(), resources, choice)
    for point in points:
        if point.resolved:
            exact = _exact_leave_one_out(matrix, y, point.shift)
            # What counts as resolved: twice its limit, as errors are squared.
            assert point.mse == pytest.approx(exact, rel=2e-3)
    # Their residuals are all below 1e-8.
    assert not any(point.resolved for point in points if point.shift < 1e-14)
    assert all(point.resolved for point in points if point.shift > 1e-11)


def _exact_leave_one_out(matrix: np.ndarray, y: np.ndarray, shift: float) -> float:
    with mpmath.workdps(50):
        inverse = (mpmath.matrix(matrix.tolist()) + shift * mpmath.eye(len(y))) ** -1
        alpha = inverse * mpmath.matrix(y.tolist())
        errors = [alpha[i] / inverse[i, i] for i in range(len(y))]
        return float(mpmath.fsum(error**2 for error in errors) / len(y))


def test_leave_one_out_of_a_diagonal_matrix_predicts_zero() -> None:
    y = np.array([[2.0], [-1.0]])
    assert leave_one_out(y / 3.0, np.full(2, 1 / 3.0), y)[0] == pytest.approx(2.5)


@pytest.mark.parametrize("method", ["cholesky", "cg"])
def test_runs_are_bit_reproducible(method) -> None:
    operator = as_operator(with_spectrum(SPECTRA["outlier"]))
    options = SolveOptions(method, seed=3)
    first, second = (solve(operator, B, options, Resources(GB)).x for _ in range(2))
    assert (first == second).all()


def test_choice_follows_memory() -> None:
    whole, half = dense_bytes(10_000, 10, 8) * 5 // 4, dense_bytes(10_000, 10, 4) * 5 // 4
    disk = 10**12
    found = [choose("auto", Demand(10_000, 10, m, None, disk)) for m in (whole, half, 2 * 10**8)]
    assert [c.method for c in found] == ["cholesky", "cholesky", "cholesky-ooc"]
    assert [c.dtype.name for c in found] == ["float64", "float32", "float64"]
    assert choose("auto", Demand(10_000, 10, 2 * 10**8, None, 10**6)).method == "cg"
    assert choose("auto", Demand(200_000, 10, 4 * 10**9, None, disk)).method == "cg"
    assert "do not fit" in found[2].reason
    with pytest.raises(WidegramError, match="take --method cholesky-ooc or cg"):
        choose("cholesky", Demand(10_000, 10, 2 * 10**8, None, disk))
    with pytest.raises(WidegramError, match="choose from auto, cholesky"):
        choose("lu", Demand(10, 1, GB, None, disk))
    with pytest.raises(WidegramError, match="right-hand sides do not fit"):
        choose("cg", Demand(10**6, 100, GB, None, disk))


@pytest.mark.parametrize("budget", [10**7, 10**8, 10**9])
def test_preconditioner_rank_fits(budget) -> None:
    n, k = 20_000, 2
    rank = preconditioner_rank(n, k, budget, None)
    assert 0 <= rank <= 400
    assert 8 * 4 * n * rank <= budget // 2
    assert preconditioner_rank(100, 1, budget, None) == 25
    assert preconditioner_rank(100, 1, budget, 1000) == 100


@pytest.mark.parametrize(("value", "expected"), [(0.9, 1.0), (1.0, 1.0), (1.1, 2.0), (3e-7, 5e-7)])
def test_round_up(value, expected) -> None:
    assert round_up(value) == expected


@pytest.mark.parametrize("bad", [-1e-9, np.nan, np.inf])
def test_negative_regularisers_are_refused(bad) -> None:
    with pytest.raises(WidegramError, match="zero or positive"):
        absolute_regulariser(as_operator(np.eye(3)), bad, absolute=True)


@pytest.mark.parametrize("tol", [np.nan, -1.0, np.inf])
def test_a_tolerance_that_is_no_share_is_refused(tol: float) -> None:
    with pytest.raises(WidegramError, match="give a number from 0 to 1"):
        conjugate_gradients(lambda x: 2.0 * x, np.ones((3, 1)), tol=tol)


@pytest.mark.parametrize("bad", ["x", None, [1.0]])
def test_a_regulariser_that_is_no_number_is_refused(bad: object) -> None:
    with pytest.raises(WidegramError, match="a regulariser is a number"):
        absolute_regulariser(as_operator(np.eye(3)), bad, absolute=True)  # type: ignore[arg-type]


def test_a_regulariser_beyond_float64_is_refused() -> None:
    with pytest.raises(WidegramError, match=r"diag_reg 1e\+308: times the trace .* smaller"):
        absolute_regulariser(as_operator(10 * np.eye(3)), 1e308, absolute=False)
    assert absolute_regulariser(as_operator(10 * np.eye(3)), 1e308, absolute=True) == 1e308


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [40, 41, 80, 100])
def test_matrices_beyond_lapack_are_factored_by_panels(n, dtype, monkeypatch) -> None:
    """Matrices too wide for the buffers of OpenBLAS: here beyond 30 rows, by panels of 20."""
    monkeypatch.setattr(lapack, "_WIDEST", 30)
    monkeypatch.setattr(lapack, "_PANEL", 20)
    root = np.random.default_rng(n).standard_normal((n, n + 5))
    matrix = root @ root.T
    held = np.asfortranarray(matrix, dtype=dtype)
    assert lapack.potrf(held) == 0
    # A factor is off by n eps of its largest entries at most (backward stability of Cholesky).
    eps = n * np.finfo(dtype).eps * float(np.abs(matrix).max())
    np.testing.assert_allclose(np.tril(held) @ np.tril(held).T, matrix, rtol=0, atol=eps)
    np.testing.assert_array_equal(np.triu(held, 1), np.triu(matrix.astype(dtype), 1))
    bad = np.asfortranarray(np.eye(n), dtype=dtype)
    bad[n - 1, n - 1] = -1.0
    assert lapack.potrf(bad) == n
