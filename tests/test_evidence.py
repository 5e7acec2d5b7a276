"""`solve --evidence`: log marginal likelihoods against SciPy's multivariate normal."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from scipy.stats import multivariate_normal

from cli_support import refused, run, run_json
from linalg_support import with_spectrum, write_gram
from widegram.errors import WidegramError
from widegram.linalg.evidence import Rounding, moved, resolved_evidence, spread_of
from widegram.linalg.loo import PathPoint, regulariser_path
from widegram.linalg.operator import as_operator
from widegram.linalg.settings import Resources, SolveOptions
from widegram.predict.calibration import class_probabilities

N = 90
MATRIX = with_spectrum(np.geomspace(1e-3, 10, N)) + 0.3
TARGETS = np.random.default_rng(2).standard_normal((N, 2)) + 1.0
PATH = [1e-3, 1e-2, 0.1, 1.0]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_gram(tmp_path / "k.h5", {"nngp": MATRIX})
    np.save(tmp_path / "y.npy", TARGETS)
    return tmp_path


def solved(folder: Path, *extra: object) -> dict:
    files = [folder / "k.h5", "--y", folder / "y.npy", "--kernel", "nngp"]
    return run_json("solve", *files, "--out", folder / "a.h5", "--overwrite", *extra)


def expected(shift: float, targets: np.ndarray = TARGETS, scale: np.ndarray | None = None) -> float:
    """The sum over columns of log N(y | 0, s^2 (K + shift I))."""
    covariance = MATRIX + shift * np.eye(N)
    scale = np.ones(targets.shape[1]) if scale is None else scale
    columns = zip(targets.T, scale, strict=True)
    return sum(multivariate_normal(cov=s**2 * covariance).logpdf(y) for y, s in columns)


# Condition 1e4 at most, sums of some hundred terms: 1e-12 relative, with room.
CLOSE = 1e-10


def test_one_regulariser(folder) -> None:
    found = solved(folder, "--diag-reg", 0.05, "--absolute", "--evidence")
    assert found["log_evidence"] == pytest.approx(expected(0.05), rel=CLOSE)
    assert found["loo_mse"] is None
    text = run("solve", folder / "k.h5", "--y", folder / "y.npy", "--kernel", "nngp", "--evidence",
               "--loo", "--diag-reg", 0.1, "--out", folder / "b.h5").stdout  # fmt: skip
    assert "leave-one-out mse" in text
    assert "log evidence" in text
    plain = solved(folder, "--diag-reg", 0.05)
    assert plain["log_evidence"] is None


@pytest.mark.parametrize(
    ("count", "memory", "method"),
    [(4, "1GB", "cholesky"), (12, "1GB", "tridiagonal"), (2, "1GB", "cholesky-ooc")],
)
def test_a_path_takes_the_highest_evidence(folder, count, memory, method) -> None:
    regs = np.geomspace(1e-3, 1.0, count)
    asked = ["--method", method] if method == "cholesky-ooc" else []
    path = ",".join(map(repr, regs.tolist()))
    found = solved(folder, "--diag-reg-path", path, "--evidence", "--absolute", *asked)
    assert found["method"] == method
    wanted = [expected(reg) for reg in regs]
    assert [row["log_evidence"] for row in found["path"]] == pytest.approx(wanted, rel=CLOSE)
    assert all(row["mse"] is None for row in found["path"])
    assert found["diag_reg"] == pytest.approx(regs[int(np.argmax(wanted))])
    assert found["log_evidence"] == pytest.approx(max(wanted), rel=CLOSE)
    assert [row["best"] for row in found["path"]].count(True) == 1
    with h5py.File(folder / "a.h5") as file:
        assert sorted(file["path"]) == ["diag_reg", "log_evidence"]


def test_evidence_and_leave_one_out_side_by_side(folder) -> None:
    path = ("--diag-reg-path", "0.01,0.1", "--absolute")
    both = solved(folder, *path, "--evidence", "--loo")
    loo = solved(folder, *path)
    assert [row["mse"] for row in both["path"]] == [row["mse"] for row in loo["path"]]
    assert all(row["log_evidence"] is None for row in loo["path"])


def test_normalised_targets_have_the_evidence_of_the_scaled_prior(folder) -> None:
    found = solved(folder, "--diag-reg", 0.05, "--absolute", "--evidence", "--normalize-y")
    with h5py.File(folder / "a.h5") as file:
        scale = file["target_scale"][:]
    wanted = expected(0.05, TARGETS - TARGETS.mean(axis=0), scale)
    assert found["log_evidence"] == pytest.approx(wanted, rel=CLOSE)


def test_classes_share_the_scale_of_highest_evidence(folder) -> None:
    labels = np.arange(N) % 3
    np.save(folder / "y.npy", labels)
    shift = 0.05
    found = solved(folder, "--diag-reg", shift, "--absolute", "--evidence", "--scale-prior")
    targets = np.eye(3)[labels] - 1 / 3
    scales = found["prior_scale"]
    assert scales == [scales[0]] * 3
    assert found["log_evidence"] == pytest.approx(
        expected(shift, targets, np.array(scales)), rel=CLOSE
    )
    for factor in (0.99, 1.01):  # a maximum: the evidence falls to both sides
        moved = expected(shift, targets, factor * np.array(scales))
        assert moved < found["log_evidence"] - 1e-3
    # With centers that are all rows the approximate prior is the prior.
    write_gram(folder / "c.h5", {"nngp": MATRIX}, symmetric=False, x1="train", x2="train")
    centers = run_json(
        "solve", folder / "c.h5", "--centers", folder / "k.h5", "--method", "nystrom", "--kernel",
        "nngp", "--y", folder / "y.npy", "--absolute", "--diag-reg", shift, "--scale-prior",
        "--out", folder / "b.h5",
    )  # fmt: skip
    # The centers' own kernel is raised by a jitter of some 1e-11 of its trace.
    assert centers["prior_scale"] == pytest.approx(scales, rel=1e-6)


def test_variances_and_probabilities_have_the_scale(folder) -> None:
    np.save(folder / "y.npy", np.arange(N) % 3)
    across = MATRIX[:7] + 0.01
    write_gram(folder / "c.h5", {"nngp": across}, symmetric=False, x1="test", x2="train")
    write_gram(folder / "t.h5", {"nngp": MATRIX[:7, :7] + 0.3}, x1="test")
    variances = []
    for extra in ((), ("--scale-prior",)):
        scale = solved(folder, "--diag-reg", 0.1, *extra)["prior_scale"]
        files = folder / "a.h5", "--cross", folder / "c.h5", "--test-gram", folder / "t.h5"
        run_json("predict", *files, "--variance", "--out", folder / "p.h5", "--overwrite")
        with h5py.File(folder / "p.h5") as file:
            variances.append(file["variance"][:])
            expected_shares = class_probabilities(file["mean"][:], file["variance"][:])
            assert np.array_equal(file["probability"][:], expected_shares)
    assert abs(scale[0] - 1) > 0.05
    np.testing.assert_allclose(variances[1], scale[0] ** 2 * variances[0], rtol=1e-12)
    refused("for classes --scale-prior", "solve", folder / "k.h5", "--y", folder / "y.npy",
            "--kernel", "nngp", "--normalize-y", "--out", folder / "d.h5")  # fmt: skip


def test_it_needs_a_factorisation(folder) -> None:
    files = [folder / "k.h5", "--y", folder / "y.npy", "--kernel", "nngp", "--out", folder / "a.h5"]
    refused("need a factorisation", "solve", *files, "--evidence", "--method", "cg")
    refused("in float64", "solve", *files, "--evidence", "--factor-dtype", "float32")


def factor_of(matrix: np.ndarray) -> np.ndarray:
    """L of L L^T = matrix in long double, column by column."""
    found = np.zeros(matrix.shape, dtype=np.longdouble)
    exact = matrix.astype(np.longdouble)
    for j in range(len(matrix)):
        found[j:, j] = exact[j:, j] - found[j:, :j] @ found[j, :j]
        found[j:, j] /= np.sqrt(found[j, j])
    return found


def half_of(factor: np.ndarray, b: np.ndarray) -> np.ndarray:
    """L^-1 b in long double."""
    x = b.astype(np.longdouble)
    for i in range(len(factor)):
        x[i] = (x[i] - factor[i, :i] @ x[:i]) / factor[i, i]
    return x


def exact_evidence(matrix: np.ndarray, targets: np.ndarray) -> float:
    factor = factor_of(matrix)
    squares = float((half_of(factor, targets) ** 2).sum())
    logdet = 2.0 * float(np.log(np.diagonal(factor)).sum())
    return -0.5 * (squares + targets.shape[1] * (logdet + len(matrix) * np.log(2 * np.pi)))


def path(matrix: np.ndarray, targets: np.ndarray, count: int, loo: bool) -> PathPoint:
    """The point of no regulariser, of which there are so many."""
    resources = Resources(10**9)
    return regulariser_path(
        as_operator(matrix), targets, [0.0] * count, SolveOptions(), resources, loo=loo,
        evidence=True,
    )[0]  # fmt: skip


def near_singular(condition: float, kind: str, n: int = 30) -> tuple[np.ndarray, np.ndarray]:
    """A covariance (n, n), and two draws from it (n, 2)."""
    x = np.linspace(0, 4, n)
    unit = np.ones(n)
    if kind == "even":
        matrix = with_spectrum(np.geomspace(1 / condition, 1, n))
    elif kind == "one":
        matrix = with_spectrum(np.r_[1 / condition, np.geomspace(0.1, 1, n - 1)])
    else:
        matrix = np.exp(-((x[:, None] - x) ** 2) / 2) + np.eye(n) / condition
    if kind == "sizes":  # of inputs, which differ
        unit = np.geomspace(1e-3, 1e3, n)[::-1]
    values, vectors = np.linalg.eigh(matrix)
    normal = np.random.default_rng(3).standard_normal((n, 2))
    drawn = vectors @ (np.sqrt(np.maximum(values, 0))[:, None] * normal)
    return unit[:, None] * matrix * unit, unit[:, None] * drawn


@pytest.mark.parametrize("kind", ["even", "one", "smooth", "sizes"])
@pytest.mark.parametrize(("count", "loo"), [(1, False), (1, True), (9, False)])
def test_what_rounding_may_move_is_not_told(kind: str, count: int, loo: bool) -> None:
    """Against long double; each kind is told at a condition of 1e6 and no more at some larger."""
    told = []
    for condition in 10.0 ** np.arange(6, 18):
        matrix, targets = near_singular(condition, kind)
        try:
            point = path(matrix, targets, count, loo)
        except WidegramError:
            break
        squares = np.einsum("ij,ij->j", targets, point.alpha)
        found = None
        if point.resolved:
            assert point.rounding is not None
            found = resolved_evidence(squares, point.logdet, 30, point.rounding)
        told.append(found is not None)
        if found is not None:
            # A thousandth, and of the estimate, which is no bound, a factor of four.
            wanted = exact_evidence(matrix, targets)
            assert abs(found - wanted) < 4e-3 * max(60.0, abs(wanted)), (condition, found)
    assert told[0] or (kind, count) == ("sizes", 9)
    assert not all(told)
    assert sorted(told, reverse=True) == told


def test_the_spread_is_that_of_the_inverse() -> None:
    inverse = np.linalg.inv(MATRIX)
    factor = np.linalg.cholesky(MATRIX)
    wanted = float(np.diagonal(MATRIX) @ np.diagonal(inverse))
    found = [
        spread_of(lambda b: np.linalg.solve(factor, b), np.diagonal(MATRIX), columns)
        for columns in (16, 16, 5)
    ]
    # Sixteen random vectors.
    assert found[0] == pytest.approx(wanted, rel=0.5)
    assert found[1] == found[0]
    assert found[2] == pytest.approx(found[0], rel=1e-9)  # the same ones


def test_a_share_of_large_evidences_and_of_small_ones() -> None:
    squares, none = np.full(2, 10.0), np.zeros(2)
    assert resolved_evidence(squares, 1.0, 9, Rounding(0.017, none)) is not None
    assert resolved_evidence(squares, 1.0, 9, Rounding(0.1, none)) is None
    assert resolved_evidence(squares, 1.0, 9, Rounding(0.0, np.full(2, 0.1))) is None
    assert resolved_evidence(1e6 * squares, 1.0, 9, Rounding(0.1, none)) is not None
    scale = np.full(2, 10.0)
    assert resolved_evidence(squares, 1.0, 9, Rounding(0.0, np.full(2, 0.1)), scale) is not None
    assert resolved_evidence(squares, 1.0, 9, Rounding(np.inf, none)) is None
    assert resolved_evidence(squares, 1.0, 9, moved(np.ones(3), np.nan, np.ones((3, 2)))) is None


def test_solve_refuses_and_marks_what_rounding_decides(folder) -> None:
    matrix, targets = near_singular(1e16, "one", 90)
    write_gram(folder / "s.h5", {"nngp": matrix})
    np.save(folder / "y.npy", targets)
    files = [folder / "s.h5", "--y", folder / "y.npy", "--kernel", "nngp", "--out", folder / "a.h5"]
    refused("give larger ones", "solve", *files, "--evidence")
    found = run_json("solve", *files, "--evidence", "--absolute", "--diag-reg-path", "1e-17,1e-3")
    assert [row["resolved"] for row in found["path"]] == [False, True]
    assert found["path"][0]["log_evidence"] is None
    assert found["diag_reg"] == 1e-3
    text = run("solve", *files, "--evidence", "--absolute", "--diag-reg-path", "1e-17,1e-3",
               "--overwrite").stdout  # fmt: skip
    assert "no figure  (too ill-conditioned to mean anything)" in text


def test_sizes_that_differ_are_too_much_for_one_reduction() -> None:
    """A tridiagonalisation rounds all rows as the largest: leave-one-out errors say so too."""
    matrix, sizes = near_singular(1e8, "sizes")[0], np.geomspace(1e-3, 1e3, 30)[::-1]
    targets = (sizes * np.sin(np.arange(30)))[:, None]
    inverse = np.linalg.inv(matrix / np.outer(sizes, sizes)) / np.outer(sizes, sizes)
    wanted = float(np.mean((inverse @ targets / np.diagonal(inverse)[:, None]) ** 2))
    one, many = path(matrix, targets, 1, True), path(matrix, targets, 9, True)
    assert one.resolved
    assert one.mse == pytest.approx(wanted, rel=1e-5)  # condition 1e9 of the scaled matrix
    assert not many.resolved


def test_a_path_without_a_definite_matrix(folder) -> None:
    write_gram(folder / "s.h5", {"nngp": -MATRIX})
    regs = ",".join(["0.01"] * 9)
    refused("give larger ones", "solve", folder / "s.h5", "--y", folder / "y.npy", "--kernel",
            "nngp", "--absolute", "--diag-reg-path", regs, "--out", folder / "a.h5")  # fmt: skip
