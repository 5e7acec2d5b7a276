"""What solvers say of their own result: status, advice, units, and what they refuse."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import h5py
import numpy as np
import pytest
from click.testing import CliRunner

from linalg_support import with_spectrum, write_gram
from widegram import WidegramError
from widegram.linalg.definite import NotPositiveDefinite, ZeroMatrix
from widegram.linalg.eigen import choose_driver, divide_and_conquer_counts
from widegram.linalg.incore import load_cholesky
from widegram.linalg.loo import regulariser_path
from widegram.linalg.operator import GramOperator, as_operator
from widegram.linalg.settings import Resources, SolveOptions
from widegram.linalg.solution import ACCEPTED
from widegram.linalg.solving import absolute_regulariser, solve
from widegram.linalg.targets import encode
from widegram.predict import gp_inference
from widegram_cli.main import program

N = 150
GB = 10**9
B = np.random.default_rng(0).standard_normal((N, 2))
CONDITIONS = [1e2, 1e6, 1e10, 1e14, 3e15, 1e16]


def true_residual(matrix: np.ndarray, x: np.ndarray, b: np.ndarray) -> float:
    return float(np.max(np.linalg.norm(b - matrix @ x, axis=0) / np.linalg.norm(b, axis=0)))


@pytest.mark.parametrize("condition", CONDITIONS)
@pytest.mark.parametrize(
    ("method", "dtype"),
    [
        ("cholesky", np.float64),
        ("cholesky", np.float32),
        ("cholesky-ooc", np.float64),
        ("cholesky-ooc", np.float32),
        ("cg", None),
    ],
)
def test_ok_means_a_small_true_residual(condition, method, dtype, tmp_path) -> None:
    matrix = with_spectrum(np.geomspace(1 / condition, 1, N))
    memory = 3 * 10**5 if "ooc" in method else GB
    resources = Resources(memory, work=tmp_path / "a")
    try:
        operator = as_operator(matrix, memory=GB)
        found = solve(operator, B, SolveOptions(method, dtype), resources)
    except WidegramError:  # no factor, which is said
        assert condition >= (1e6 if dtype == np.float32 else 1e14)
        return
    true = true_residual(matrix, found.x, B)
    # The product with the matrix is rounded anew: eps times |A| |x| / |b|, at most eps / lambda.
    noise = 40 * np.finfo(float).eps * np.linalg.norm(found.x, axis=0).max()
    assert found.residual == pytest.approx(true, rel=1e-2, abs=noise)
    assert (found.status == "ok") == (found.residual <= ACCEPTED)
    assert found.status == "ok" or condition >= 1e6
    assert found.status == "ok" or "take a larger --diag-reg" in found.message


@pytest.mark.parametrize("count", [1, 3, 12])
def test_a_path_tells_its_true_residuals(count) -> None:
    matrix = with_spectrum(np.geomspace(1e-15, 1, N))
    shifts = np.geomspace(1e-15, 1e-2, count).tolist()
    operator = as_operator(matrix)
    for point in regulariser_path(operator, B, shifts, SolveOptions(), Resources(GB)):
        if np.isfinite(point.residual):
            true = true_residual(matrix + point.shift * np.eye(N), point.alpha, B)
            noise = 40 * np.finfo(float).eps * np.linalg.norm(point.alpha, axis=0).max()
            assert point.residual == pytest.approx(true, rel=1e-2, abs=noise)
        else:
            assert not point.resolved


def test_the_command_says_that_it_did_not_solve(tmp_path) -> None:
    gram = write_gram(tmp_path / "k.h5", {"ntk": with_spectrum(np.geomspace(3e-15, 1, N))})
    np.save(tmp_path / "y.npy", B)
    for extra in ([], ["--loo"], ["--diag-reg-path", "0,1e-15"]):
        command = ["solve", gram, "--y", tmp_path / "y.npy", "--out", tmp_path / "a.h5"]
        command += ["--overwrite", *extra, "--json"]
        result = CliRunner().invoke(program, [str(part) for part in command])
        if result.exit_code == 2:
            assert "well enough" in result.stderr
            continue
        found = json.loads(result.stdout)
        assert found["residual"] > ACCEPTED
        assert found["status"] == "stagnated"
        assert "not solved" in found["message"]


@pytest.mark.parametrize("unit", [1e42, 1e-46, 1e-290, 1e290])
@pytest.mark.parametrize("method", ["cholesky", "cholesky-ooc", "cg"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_units_do_not_matter(unit, method, dtype, tmp_path) -> None:
    matrix = with_spectrum(np.geomspace(1e-3, 1, N))
    memory = 3 * 10**5 if "ooc" in method else GB
    options = SolveOptions(method, dtype, tol=1e-12)
    resources = Resources(memory, work=tmp_path / "a")
    found = solve(as_operator(unit * matrix, memory=GB), B, options, resources)
    assert found.status == "ok"
    # Condition 1e3 times some eps.
    np.testing.assert_allclose(unit * found.x, np.linalg.solve(matrix, B), rtol=1e-8, atol=1e-10)


def test_a_float32_factor_of_rows_in_many_units() -> None:
    matrix = with_spectrum(np.geomspace(1e-3, 1, N))
    units = 10.0 ** np.random.default_rng(1).uniform(-25, 25, N)
    mixed = units[:, None] * matrix * units
    factor = load_cholesky(as_operator(mixed), np.float32)
    expected = np.linalg.solve(matrix, B) / units[:, None]
    found = factor.solve(B * units[:, None])
    assert found.status == "ok"
    np.testing.assert_allclose(found.x * units[:, None], expected * units[:, None], rtol=1e-7)
    # A float32 factor: n eps of the logarithm of each pivot.
    assert factor.logdet() == pytest.approx(np.linalg.slogdet(mixed)[1], abs=N * 1e-4)
    half = factor.half(B)
    quadratic = B.T @ (np.linalg.solve(matrix, B / units[:, None]) / units[:, None])
    # Condition 1e3 in float32.
    np.testing.assert_allclose(half.T @ half, quadratic, rtol=1e-3, atol=1e-3 * quadratic.max())
    inverse = np.diagonal(np.linalg.inv(matrix)) / units**2
    np.testing.assert_allclose(factor.inverse_diagonal(), inverse, rtol=1e-3)


def test_scaled_operators_scale_everything() -> None:
    rng = np.random.default_rng(2)
    units = np.ldexp(1.0, rng.integers(-4, 5, 90))
    matrix = with_spectrum(np.linspace(1, 2, 90))
    operator = GramOperator(matrix.astype(np.float32), shift=0.5, memory=10**5, scaling=units)
    stored = matrix.astype(np.float32).astype(float)
    dense = units[:, None] * (stored + 0.5 * np.eye(90)) * units
    x = rng.standard_normal((90, 3))
    for dtype in (np.float32, np.float64):
        # The scaled entries are exact in float64 and rounded once in float32.
        np.testing.assert_allclose(operator.load(dtype), dense, rtol=1e-7)
        block = operator.block(slice(3, 80), slice(10, 50), dtype)
        np.testing.assert_allclose(block, dense[3:80, 10:50], rtol=1e-7)
    np.testing.assert_allclose(operator.matmat(x), dense @ x, rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(operator.diagonal(), np.diagonal(dense))
    assert operator.frobenius() == pytest.approx(np.linalg.norm(dense))
    even = GramOperator(dense).equilibrated()[0].diagonal()
    assert even.min() >= 0.5
    assert even.max() <= 2.0


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("noise", [0.0, 1e-7, 1e-4])
def test_advice_works_for_duplicates_with_noise(dtype, noise) -> None:
    rng = np.random.default_rng(3)
    root = rng.standard_normal((40, 12))
    root = np.vstack([root, root])
    ripple = rng.standard_normal((80, 80)) * noise
    matrix = (root @ root.T + ripple + ripple.T).astype(dtype)
    for precision in (np.float64, np.float32):
        with pytest.raises(NotPositiveDefinite) as info:
            load_cholesky(as_operator(matrix), precision)
        advice = info.value.advice
        assert f"take {advice.in_python}" in str(info.value)
        assert f"take --diag-reg {advice.diag_reg:g}" in info.value.in_shell
        operator = as_operator(matrix)
        shift = absolute_regulariser(operator, advice.diag_reg, advice.absolute)
        load_cholesky(operator.shifted(shift), precision)
        # The noise alone makes a lowest eigenvalue of 4 sqrt(n) times it; not 1000 times.
        assert shift < 4e4 * max(noise, 1e-6) * np.sqrt(80)


def test_entries_that_are_no_numbers_are_named() -> None:
    for bad in (np.nan, np.inf):
        matrix = with_spectrum(np.linspace(1, 2, N))
        matrix[7, 3] = matrix[3, 7] = bad
        for method in ("cholesky", "cg"):
            with pytest.raises(WidegramError, match=r"\(3, 7\) is|not finite|a number"):
                solve(as_operator(matrix), B, SolveOptions(method), Resources(GB))


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--diag-reg", "1e-3"],
        ["--method", "cholesky-ooc"],
        ["--method", "cg"],
        ["--loo"],
        ["--diag-reg-path", "1e-3,1e-2"],
        ["--factor-dtype", "float32"],
    ],
)
def test_a_zero_matrix_asks_for_an_absolute_regulariser(arguments, tmp_path) -> None:
    gram = write_gram(tmp_path / "k.h5", {"ntk": np.zeros((9, 9))})
    np.save(tmp_path / "y.npy", np.arange(9.0))
    command = ["solve", gram, "--y", tmp_path / "y.npy", "--out", tmp_path / "a.h5", *arguments]
    result = CliRunner().invoke(program, [str(part) for part in command])
    assert result.exit_code == 2
    assert "matrix is zero" in result.stderr
    assert "take --diag-reg 0.001 --absolute" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    if "path" not in "".join(arguments):
        extra = ["--diag-reg", "0.001", "--absolute", *arguments[:0]]
        again = CliRunner().invoke(program, [str(part) for part in command + extra])
        assert again.exit_code == 0, again.stderr
        with h5py.File(tmp_path / "a.h5") as file:
            np.testing.assert_allclose(file["alpha"][:, 0], 1000 * np.arange(9.0))


def test_a_zero_kernel_in_python() -> None:
    zero, y = np.zeros((6, 6)), np.arange(6.0)[:, None]
    for reg in (0.0, 0.1):
        with pytest.raises(ZeroMatrix, match=r"diag_reg=0\.001, diag_reg_absolute_scale=True"):
            gp_inference(zero, y, reg)("ntk", zero)
    np.testing.assert_array_equal(gp_inference(zero, y, 0.1, True)("ntk", zero), 0)


@pytest.mark.parametrize("size", [1e200, 1e-200])
def test_targets_beyond_squares_are_named(size, tmp_path: Path) -> None:
    gram = write_gram(tmp_path / "k.h5", {"ntk": with_spectrum(np.linspace(1, 2, 9))})
    np.save(tmp_path / "y.npy", size * np.r_[np.zeros(5), 1.0, np.zeros(3)])
    for arguments in ([], ["--loo"], ["--method", "cg"]):
        command = ["solve", gram, "--y", tmp_path / "y.npy", "--out", tmp_path / "a.h5", *arguments]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            result = CliRunner().invoke(program, [str(part) for part in command])
        assert result.exit_code == 2
        assert "y.npy: the largest target" in result.stderr
        assert "in row 5" in result.stderr
    assert encode(np.zeros((4, 1))).n == 4


@pytest.mark.parametrize("method", ["cholesky", "cg"])
def test_large_targets_that_are_allowed_are_solved(method) -> None:
    matrix = with_spectrum(np.linspace(1, 2, N))
    for size in (1e100, 1e-100):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            options = SolveOptions(method, tol=1e-12)
            found = solve(as_operator(matrix), size * B, options, Resources(GB))
        assert found.status == "ok"
        expected = np.linalg.solve(matrix, B)
        np.testing.assert_allclose(found.x / size, expected, rtol=1e-9, atol=1e-10)
    tiny = as_operator(1e-300 * matrix)
    with pytest.raises(WidegramError, match="divide the targets by a number"):
        solve(tiny, 1e100 * B, SolveOptions(method), Resources(GB))


def test_the_driver_is_chosen_by_its_workspace() -> None:
    # LAPACK counts the workspace of syevd, 1 + 6 n + 2 n^2 numbers, in 32 bits.
    assert divide_and_conquer_counts(32_766)
    assert not divide_and_conquer_counts(32_767)
    everything = 10**13
    assert choose_driver(32_766, vectors=True, memory=everything) == "evd"
    assert choose_driver(32_767, vectors=True, memory=everything) == "evr"
    assert choose_driver(100_000, vectors=False, memory=everything) == "evr"
    assert choose_driver(1000, vectors=True, memory=18 * 10**6) == "evr"


@pytest.mark.parametrize("arguments", [[], ["--factor-dtype", "float32"], ["--method", "cg"]])
@pytest.mark.parametrize("kind", ["denormal", "mixed", "zero row"])
def test_no_warning_of_numpy_reaches_the_user(kind, arguments, tmp_path) -> None:
    rng = np.random.default_rng(4)
    matrix = with_spectrum(np.linspace(1, 2, 3))
    if kind == "denormal":
        matrix = 1e-315 * matrix
    elif kind == "mixed":
        units = 10.0 ** rng.uniform(-100, 100, 3)
        matrix = units[:, None] * matrix * units
    else:
        matrix[0] = matrix[:, 0] = 0.0
    gram = write_gram(tmp_path / "k.h5", {"ntk": matrix})
    np.save(tmp_path / "y.npy", rng.standard_normal((3, 2)))
    for extra in ([], ["--diag-reg", "1e-3"], ["--diag-reg-path", "1e-6,1e-2"]):
        command = ["solve", gram, "--y", tmp_path / "y.npy", "--out", tmp_path / "a.h5"]
        command += ["--overwrite", "--json", *arguments, *extra]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            result = CliRunner().invoke(program, [str(part) for part in command])
        assert result.exit_code in (0, 2), result.exception
        assert len(result.stderr.splitlines()) <= 1
        if result.exit_code == 0 and json.loads(result.stdout)["status"] == "ok":
            assert json.loads(result.stdout)["residual"] <= ACCEPTED


class _Counting:
    """A matrix that counts the calls that read it."""

    def __init__(self, matrix):
        self.matrix, self.shape, self.dtype, self.reads = matrix, matrix.shape, matrix.dtype, 0

    def __getitem__(self, place):
        return self.matrix[place]

    def read_direct(self, into, place):
        self.reads += 1
        into[...] = self.matrix[place]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_scaled_blocks_are_read_at_once(dtype):
    """A file reads a tile whole for each piece of it: a matrix that is equilibrated on its way into
    a factor in float32 is not read by a few rows at a time."""
    rng = np.random.default_rng(3)
    factors = rng.standard_normal((700, 700))
    kernel = (factors @ factors.T).astype(dtype)
    source = _Counting(kernel)
    operator, scaling = GramOperator(source).equilibrated()
    source.reads = 0
    loaded = operator.load(np.float32)
    assert source.reads == 1
    wanted = (kernel.astype(np.float64) * scaling[:, None] * scaling).astype(np.float32)
    np.testing.assert_array_equal(loaded, wanted)
