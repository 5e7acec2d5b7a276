"""`solve --method nystrom` and what `predict` makes of it, beside dense float64 algebra."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pytest
from scipy.linalg import cholesky, lstsq
from scipy.stats import multivariate_normal

from cli_support import refused, run, run_json
from linalg_support import orthogonal, write_gram
from widegram.errors import WidegramError
from widegram.linalg import SolveJob, SolveOptions, solve_file
from widegram.linalg.subset import heights
from widegram.machine import interrupts
from widegram.machine.progress import Progress

N, M, TEST = 150, 24, 20
LABELS = np.random.default_rng(5).integers(0, 3, N)
ONE_HOT = np.eye(3)[LABELS] - 1 / 3


@dataclass(frozen=True)
class Problem:
    """Files of one kernel of train, centers and test rows, and their matrices."""

    folder: Path
    centers: np.ndarray
    cross: np.ndarray
    test: np.ndarray
    own: np.ndarray  # kernel(test, test)

    def solve(self, *extra: object) -> dict:
        files = ["--centers", self.folder / "c.h5", "--method", "nystrom", "--kernel", "nngp"]
        place = ["--out", self.folder / "a.h5", "--overwrite"]
        return run_json("solve", self.folder / "k.h5", *files, *place, *extra)

    def by_labels(self, shift: float, *extra: object) -> dict:
        return self.solve("--y", self.folder / "y.npy", "--diag-reg", shift, "--absolute", *extra)

    def stored(self, name: str = "alpha") -> np.ndarray:
        with h5py.File(self.folder / "a.h5") as file:
            return file[name][:]

    def covariance(self, shift: float) -> np.ndarray:
        """Q + shift I of the training rows."""
        q = self.cross @ np.linalg.solve(self.centers, self.cross.T)
        return (q + q.T) / 2 + shift * np.eye(N)


def problem(
    folder: Path, condition: float = 1e3, spread: float = 1.0, dtype: type = np.float64
) -> Problem:
    """A kernel of random features: that of the centers has this condition, the rows beside it have
    normal equations of the condition ``spread``."""
    rng = np.random.default_rng(0)
    root = (orthogonal(M, rng) * np.geomspace(1, condition**-0.5, M)) @ orthogonal(M, rng)
    scale = np.geomspace(1, spread**-0.5, M)
    rows, test = (orthogonal(count, rng)[:, :M] * scale * np.sqrt(count) for count in (N, TEST + M))
    found = Problem(
        folder=folder,
        centers=(root @ root.T).astype(dtype),
        cross=(rows @ root.T).astype(dtype),
        test=(test @ root.T).astype(dtype)[:TEST],
        own=(test @ test.T + 0.1 * np.eye(TEST + M)).astype(dtype)[:TEST, :TEST],
    )
    files = {"c": found.centers, "k": found.cross, "t": found.test, "tt": found.own}
    sides = {"c": ("centers", ""), "k": ("train", "centers"), "t": ("test", "centers")}
    for name, matrix in files.items():
        x1, x2 = sides.get(name, ("test", ""))
        both = {"nngp": matrix, "ntk": 2 * matrix}
        write_gram(folder / f"{name}.h5", both, symmetric=not x2, x1=x1, x2=x2)
    np.save(folder / "y.npy", LABELS)
    return found


@pytest.fixture
def easy(tmp_path: Path) -> Problem:
    return problem(tmp_path)


def dense(p: Problem, shift: float, targets: np.ndarray = ONE_HOT) -> np.ndarray:
    """Subset of regressors as one least-squares problem: |Y - K_nC a|^2 + shift a^T K_CC a."""
    stacked = np.vstack([p.cross, np.sqrt(shift) * cholesky(p.centers)])
    return lstsq(stacked, np.vstack([targets, np.zeros((M, targets.shape[1]))]))[0]


def gap(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.max(np.linalg.norm(found - wanted, axis=0) / np.linalg.norm(wanted, axis=0)))


@pytest.mark.parametrize(
    ("condition", "spread"),
    [(1e2, 1.0), (1e6, 1.0), (1e10, 1.0), (1e10, 1e5), (1e6, 1e10), (1e2, 1e10)],
)
def test_accuracy_at_conditions_up_to_1e10(tmp_path, condition, spread) -> None:
    p = problem(tmp_path, condition, spread)
    found = p.by_labels(N / spread)
    wanted = dense(p, N / spread)
    assert (found["status"], found["details"]["jitter"]) == ("ok", 0)
    # What is promised: 1e-8 of predictions, at a condition of the centers' kernel, or of the normal
    # equations, up to 1e10.
    assert gap(p.cross @ p.stored(), p.cross @ wanted) < 1e-8
    assert gap(p.test @ p.stored(), p.test @ wanted) < 1e-8
    assert gap(p.stored("fitted"), p.cross @ wanted) < 1e-8


def test_beyond_that_the_status_is_honest(tmp_path) -> None:
    p = problem(tmp_path, 1e12, 1e11)
    found = p.by_labels(N / 1e11)
    assert found["status"] == "stagnated"
    assert "larger --diag-reg" in found["message"]
    error = found["details"]["error"]
    assert error > 1e-8
    # Dense algebra in float64 is as far off: both within some times what is said.
    assert gap(p.cross @ p.stored(), p.cross @ dense(p, N / 1e11)) < 30 * error


PATH = [1e-2, 0.3, 10.0]


def test_a_path_with_leave_one_out_errors(easy) -> None:
    path = ",".join(map(str, PATH))
    found = easy.solve("--y", easy.folder / "y.npy", "--diag-reg-path", path, "--absolute")
    for shift, row in zip(PATH, found["path"], strict=True):
        left = np.empty_like(ONE_HOT)
        for i in range(N):
            rest = np.arange(N) != i
            gram = easy.cross[rest].T @ easy.cross[rest] + shift * easy.centers
            alpha = np.linalg.solve(gram, easy.cross[rest].T @ ONE_HOT[rest])
            left[i] = easy.cross[i] @ alpha
        # Condition 1e5 of the oracle's own normal equations.
        assert row["mse"] == pytest.approx(np.mean((ONE_HOT - left) ** 2), rel=1e-8)
        assert row["accuracy"] == np.mean(left.argmax(1) == ONE_HOT.argmax(1))
        assert row["resolved"]
    best = int(np.argmin([row["mse"] for row in found["path"]]))
    assert found["diag_reg"] == PATH[best]
    assert found["loo_mse"] == found["path"][best]["mse"]
    assert gap(easy.stored(), dense(easy, PATH[best])) < 1e-8
    single = easy.by_labels(PATH[0], "--loo")
    assert single["loo_mse"] == pytest.approx(found["path"][0]["mse"], rel=1e-9)


def test_evidence_is_that_of_the_approximate_prior(easy) -> None:
    np.save(easy.folder / "f.npy", ONE_HOT[:, :2] + 1.0)
    path = ",".join(map(str, PATH))
    asked = ["--y", easy.folder / "f.npy", "--absolute", "--evidence"]
    found = easy.solve(*asked, "--diag-reg-path", path)
    wanted = [
        sum(multivariate_normal(cov=easy.covariance(s)).logpdf(y) for y in ONE_HOT[:, :2].T + 1.0)
        for s in PATH
    ]
    # Sums of 150 terms; condition 1e5 at most.
    assert [row["log_evidence"] for row in found["path"]] == pytest.approx(wanted, rel=1e-9)
    assert found["log_evidence"] == pytest.approx(max(wanted), rel=1e-9)
    assert found["loo_mse"] is None
    scaled = easy.solve(*asked, "--diag-reg", PATH[1], "--normalize-y")
    centred = ONE_HOT[:, :2] - ONE_HOT[:, :2].mean(axis=0)
    pairs = zip(centred.T, easy.stored("target_scale"), strict=True)
    wanted = [
        multivariate_normal(cov=s**2 * easy.covariance(PATH[1])).logpdf(y) for y, s in pairs
    ]
    assert scaled["log_evidence"] == pytest.approx(sum(wanted), rel=1e-9)


def test_predictions_and_variances(easy) -> None:
    shift = 0.1
    easy.by_labels(shift)
    np.save(easy.folder / "ty.npy", np.arange(TEST) % 3)
    cross = ["--cross", easy.folder / "t.h5"]
    asked = [*cross, "--y", easy.folder / "ty.npy", "--out", easy.folder / "p.h5"]
    own = ["--variance", "--test-gram", easy.folder / "tt.h5"]
    found = run_json("predict", easy.folder / "a.h5", *asked, *own)
    with h5py.File(easy.folder / "p.h5") as file:
        mean, train = file["mean"][:], file["train/mean"][:]
        latent, variance = file["variance_latent"][:], file["variance"][:]
        assert file.attrs["centers_fingerprint"] == "centers"
    q = easy.test @ np.linalg.solve(easy.centers, easy.cross.T)
    covariance = easy.covariance(shift)
    # Condition 1e3 of the centers times 1e5 of the covariance.
    np.testing.assert_allclose(mean, q @ np.linalg.solve(covariance, ONE_HOT), atol=1e-8)
    np.testing.assert_allclose(train, easy.stored("fitted"))
    taken = np.einsum("ij,ji->i", q, np.linalg.solve(covariance, q.T))
    np.testing.assert_allclose(latent, np.diagonal(easy.own) - taken, atol=1e-8)
    np.testing.assert_allclose(variance, latent + shift)
    assert found["train_accuracy"] == np.mean(train.argmax(1) == ONE_HOT.argmax(1))
    assert np.isfinite(found["nll"])
    assert run("verify", easy.folder / "a.h5").exit_code == 0
    assert run("verify", easy.folder / "p.h5").exit_code == 0
    a = easy.folder / "a.h5"
    refused("has no training matrix", "predict", a, *cross, "--time", 1)
    refused("its x2 is not the centers", "predict", a, "--cross", easy.folder / "tt.h5")


def test_centers_that_are_all_rows_solve_exactly(tmp_path) -> None:
    p = problem(tmp_path)
    (tmp_path / "k.h5").unlink()
    write_gram(tmp_path / "k.h5", {"nngp": p.centers}, symmetric=False, x2="centers")
    np.save(tmp_path / "y.npy", LABELS[:M])
    p.by_labels(0.1)
    exact = np.linalg.solve(p.centers + 0.1 * np.eye(M), ONE_HOT[:M])
    assert gap(p.stored(), exact) < 1e-9  # condition 1e3


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equal_centers_get_a_jitter_that_is_reported(tmp_path, dtype) -> None:
    p = problem(tmp_path)
    index = [*range(M - 2), 0, 1]
    centers = p.centers[np.ix_(index, index)].astype(dtype)
    cross = p.cross[:, index].astype(dtype)
    for name in ("c.h5", "k.h5"):
        (tmp_path / name).unlink()
    write_gram(tmp_path / "c.h5", {"nngp": centers}, x1="centers")
    write_gram(tmp_path / "k.h5", {"nngp": cross}, symmetric=False, x2="centers")
    found = p.by_labels(1e-2)
    jitter = found["details"]["jitter"]
    assert 0 < jitter < 1e3 * np.finfo(dtype).eps
    root = cholesky(centers.astype(float) + jitter * np.eye(M))
    stacked = np.vstack([cross.astype(float), 0.1 * root])
    wanted = cross @ lstsq(stacked, np.vstack([ONE_HOT, np.zeros((M, 3))]))[0]
    # The smallest pivots are some rounding errors large: in float64 they have one digit, which the
    # regulariser 1e-2 keeps out of predictions but for its size beside the rows' 10.
    assert gap(p.stored("fitted"), wanted) < 1e-3
    with h5py.File(tmp_path / "a.h5") as file:
        assert file.attrs["jitter"] == jitter


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heights, "_ROWS", 32)
    monkeypatch.setattr(heights, "_LEAST_ROWS", 8)


def interrupted(p: Problem, what: str, *extra: object) -> tuple[str, Path]:
    """Ask for a stop in the pass of that name; what the command says, and its work files."""

    def stop(told: Progress) -> None:
        if told.what == what and told.done >= 64:
            interrupts.request()
            if what == "residuals":  # as the command line does where nothing is to be finished
                interrupts.halt()

    options = SolveOptions(method="nystrom")
    job = SolveJob(
        gram=p.folder / "k.h5", centers=p.folder / "c.h5", y=str(p.folder / "y.npy"),
        out=p.folder / "a.h5", kernel="nngp", path=(1e-2, 1.0), absolute=True, options=options,
        overwrite=True,
    )  # fmt: skip
    try:
        with pytest.raises(interrupts.Stopped) as stopped:
            solve_file(job, stop)
    finally:
        interrupts.resume()
    return str(stopped.value), p.folder


@pytest.mark.parametrize(
    ("what", "left"),
    [
        ("normal equations", [".normal"]),
        ("leave-one-out errors", [".basis", ".leverage"]),
        ("residuals", [".basis", ".leverage"]),
    ],
)
def test_a_stopped_run_goes_on_to_the_same_bits(easy, small_blocks, what, left) -> None:
    path = ["--y", easy.folder / "y.npy", "--diag-reg-path", "0.01,1.0", "--absolute"]
    whole = easy.solve(*path)
    alpha = easy.stored()
    (easy.folder / "a.h5").unlink()
    said, folder = interrupted(easy, what)
    assert "saved; run the same command again to go on" in said
    found = [file.name.removeprefix("a.h5") for file in sorted(folder.glob("a.h5*"))]
    assert found == left
    for ending in left:
        assert run("verify", f"{folder}/a.h5{ending}").exit_code == 0
    again = run_json(
        "solve", folder / "k.h5", "--centers", folder / "c.h5", "--method", "nystrom", "--kernel",
        "nngp", "--out", folder / "a.h5", *path,
    )  # fmt: skip
    assert again["details"]["resumed_rows"] == (64 if what == "normal equations" else N)
    np.testing.assert_array_equal(easy.stored(), alpha)
    assert [row["mse"] for row in again["path"]] == [row["mse"] for row in whole["path"]]
    assert [file.name for file in folder.glob("a.h5*")] == ["a.h5"]


def test_a_work_file_of_another_problem_is_refused(easy, small_blocks) -> None:
    interrupted(easy, "normal equations")
    np.save(easy.folder / "y.npy", LABELS[::-1])
    files = [easy.folder / "k.h5", "--centers", easy.folder / "c.h5", "--method", "nystrom"]
    asked = ["--kernel", "nngp", "--y", easy.folder / "y.npy", "--out", easy.folder / "a.h5"]
    refused("belongs to another problem", "solve", *files, *asked, "--diag-reg", 1, "--absolute")
    easy.by_labels(1.0)


def test_refusals(easy) -> None:
    k, c, y = (easy.folder / name for name in ("k.h5", "c.h5", "y.npy"))

    def check(message: str, cross: Path, centers: Path, *extra: object) -> None:
        place = ["--method", "nystrom", "--y", y, "--out", easy.folder / "a.h5"]
        refused(message, "solve", cross, "--centers", centers, *place, *extra)

    def gram(name: str, matrix: np.ndarray, symmetric: bool, **names: object) -> Path:
        return write_gram(easy.folder / name, {"ntk": matrix}, symmetric=symmetric, **names)

    square, rows = easy.centers, easy.cross
    check("is not symmetric", k, gram("1.h5", square, False, x2="centers"))
    check("is not symmetric", k, k)
    check("the matrix of x with itself", c, c)
    check("another network", k, gram("2.h5", square, True, x1="centers", network="other"))
    check("not the columns of", k, gram("3.h5", square, True, x1="others"))
    check("but its rows are: swap", k, gram("4.h5", square, True, x1="train"))
    check("is float32", k, gram("5.h5", square.astype(np.float32), True, x1="centers"))
    check("no kernel 'nngp'", k, gram("6.h5", square, True, x1="centers"), "--kernel", "nngp")
    check("not complete", k, gram("7.h5", square, True, x1="centers", complete=False))
    check("not complete", gram("8.h5", rows, False, x2="centers", complete=False), c)
    check("24 centers for 20 rows", gram("9.h5", rows[:20], False, x2="centers"), c)
    check("holds 150 labels", gram("10.h5", rows[:90], False, x2="centers"), c)
    check("does not hold K", k, c, "--diag-reg", 1)
    check("zero or positive", k, c, "--diag-reg", -1, "--absolute")
    check("above 0", k, c, "--absolute", "--evidence")
    check("--factor-dtype serves --method auto", k, c, "--factor-dtype", "float32")
    check("not positive definite", k, gram("13.h5", -square, True, x1="centers"), "--absolute")
    for only in (["--method", "nystrom"], ["--centers", c]):
        message = "--method nystrom and --centers go together"
        refused(message, "solve", k, *only, "--y", y, "--out", easy.folder / "a.h5")


@pytest.mark.parametrize("memory", [700 * 10**6, 10**9, 3 * 10**9])
def test_a_block_fits_into_the_memory_there_is(memory) -> None:
    m, columns, itemsize = 5000, 60, 4
    rows = heights.block_height(m, columns, itemsize, 496, memory)
    arrays = 2 * 8 * m * m + rows * m * (itemsize + 3 * 8) + 4 * 8 * columns * (m + rows)
    assert 64 <= rows <= 1024
    assert arrays <= memory
    assert rows % 496 == 0 or rows < 496
    with pytest.raises(WidegramError, match=r"5000 centers need 6.* MB of arrays"):
        heights.block_height(m, columns, itemsize, 496, 500 * 10**6)


def test_from_a_network_to_predictions(tmp_path) -> None:
    """Every command of the chain, regularisers relative to the trace, variances from the files."""
    d = tmp_path / "d.h5"
    run_json("data", "prepare", "digits", "--train", 120, "--test", 30, "--out", d)
    run_json("data", "sample", f"{d}:train/x", "--n", 20, "--out", tmp_path / "c.h5")
    net = ["--net", "fcn:depth=2", "--dtype", "float64"]
    centers = f"{tmp_path}/c.h5:x"
    run_json("gram", *net, "--x", centers, "--out", tmp_path / "kc.h5")
    rows = ["--x", f"{d}:train/x", "--x2", centers]
    run_json("gram", *net, *rows, "--out", tmp_path / "k.h5")
    run_json("gram", *net, "--x", f"{d}:test/x", "--x2", centers, "--out", tmp_path / "t.h5")
    found = run_json(
        "solve", tmp_path / "k.h5", "--centers", tmp_path / "kc.h5", "--method", "nystrom", "--y",
        f"{d}:train/y", "--kernel", "nngp", "--diag-reg-path", "1e-3,1e-1", "--out",
        tmp_path / "a.h5",
    )  # fmt: skip
    with h5py.File(tmp_path / "k.h5") as file:
        mean = file["diagonal/x1/nngp"][:].mean()
    assert found["shift"] == pytest.approx(found["diag_reg"] * mean)
    predicted = run_json(
        "predict", tmp_path / "a.h5", "--cross", tmp_path / "t.h5", "--y", f"{d}:test/y",
        "--variance",
    )  # fmt: skip
    assert predicted["accuracy"] > 0.6  # ten classes, two rows of each as centers
    assert 0 < predicted["mean_variance_latent"] < predicted["mean_variance"]
    text = run(
        "solve", tmp_path / "k.h5", "--centers", tmp_path / "kc.h5", "--method", "nystrom", "--y",
        f"{d}:train/y", "--diag-reg", "1e-2", "--out", tmp_path / "b.h5",
    ).stdout  # fmt: skip
    assert "20, 0 added to their diagonal" in text
    # On the unit diagonal: the same as the dense solution of scaled matrices.
    run_json(
        "solve", tmp_path / "k.h5", "--centers", tmp_path / "kc.h5", "--method", "nystrom", "--y",
        f"{d}:train/y", "--kernel", "nngp", "--diag-reg", "1e-2", "--unit-diagonal", "--out",
        tmp_path / "u.h5",
    )  # fmt: skip
    run_json("predict", tmp_path / "u.h5", "--cross", tmp_path / "t.h5", "--out", tmp_path / "p.h5")
    with h5py.File(tmp_path / "k.h5") as k, h5py.File(tmp_path / "kc.h5") as own:
        down, across = k["diagonal/x1/nngp"][:], k["diagonal/x2/nngp"][:]
        cross = k["nngp"][:] / np.sqrt(np.outer(down, across))
        centers = own["nngp"][:] / np.sqrt(np.outer(across, across))
    with h5py.File(tmp_path / "t.h5") as t, h5py.File(tmp_path / "u.h5") as u:
        test = t["nngp"][:] / np.sqrt(np.outer(t["diagonal/x1/nngp"][:], across))
        alpha = np.linalg.solve(cross.T @ cross + 1e-2 * centers, cross.T @ u["targets"][:])
    with h5py.File(tmp_path / "p.h5") as file:
        assert gap(file["mean"][:], test @ alpha) < 1e-9  # condition 1e6 of the oracle
