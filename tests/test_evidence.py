"""`solve --evidence`: log marginal likelihoods against SciPy's multivariate normal."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from scipy.stats import multivariate_normal

from cli_support import refused, run, run_json
from linalg_support import with_spectrum, write_gram
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
