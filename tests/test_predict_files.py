"""`widegram predict`: means, variances and finite times from files."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from click.testing import CliRunner

import widegram
from linalg_support import peak_memory_below, write_gram
from widegram.errors import WidegramError
from widegram.linalg.gramsource import Columns, open_cross, open_train
from widegram.linalg.operator import GramOperator, as_operator
from widegram.linalg.outofcore import OutOfCoreCholesky
from widegram.linalg.settings import Resources, SolveOptions
from widegram.linalg.solving import chosen
from widegram.predict import gp_inference, gradient_descent_mse, max_learning_rate
from widegram.predict.flow import chebyshev_coefficients, filter_value, flow_coefficients
from widegram.predict.merit import negative_log_likelihood, time_name
from widegram.predict.variance import block_rows, variances
from widegram.tiling import WHOLE
from widegram_cli.main import program

N, M = 90, 31
NETWORK = "fcn:depth=2,act=erf,w_var=1.5,b_var=0.05"


def run(*arguments: object) -> dict:
    result = CliRunner().invoke(program, [*map(str, arguments), "--json"])
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files written by the command line: training, cross and test matrices, labels, solutions."""
    place = tmp_path_factory.mktemp("predict")
    rng = np.random.default_rng(4)
    x = rng.standard_normal((N + M, 5))
    y = (x[:, 0] * x[:, 1] + 0.3 * x[:, 2] > 0).astype(int) + (x[:, 3] > 1)
    np.savez(place / "d.npz", x=x[:N], t=x[N:], y=y[:N], u=y[N:], r=x[:N, :2], s=x[N:, :2])
    gram = ["gram", "--net", NETWORK, "--dtype", "float64"]
    run(*gram, "--x", f"{place}/d.npz:x", "--out", place / "k.h5")
    run(*gram, "--x", f"{place}/d.npz:t", "--x2", f"{place}/d.npz:x", "--out", place / "c.h5")
    run(*gram, "--x", f"{place}/d.npz:t", "--out", place / "t.h5")
    for kernel in ("nngp", "ntk"):
        run(
            "solve",
            place / "k.h5",
            "--kernel",
            kernel,
            "--y",
            f"{place}/d.npz:y",
            "--diag-reg",
            1e-2,
            "--out",
            place / f"{kernel}.h5",
        )
    return place


def arrays(place: Path) -> tuple[widegram.Kernels, widegram.Kernels, widegram.Kernels, np.ndarray]:
    kernels = []
    for name in ("k.h5", "c.h5", "t.h5"):
        with widegram.GramFile(place / name) as file:
            kernels.append(widegram.Kernels(file.dataset("nngp")[:], file.dataset("ntk")[:]))
    with h5py.File(place / "ntk.h5") as file:
        return (*kernels, file["targets"][:])


def predicted(folder: Path, kernel: str, out: Path, *more: object) -> dict:
    """What the command says of the test points, whose labels it is given."""
    solution, cross, labels = folder / f"{kernel}.h5", folder / "c.h5", f"{folder}/d.npz:u"
    return run("predict", solution, "--cross", cross, "--y", labels, "--out", out, *more)


@pytest.mark.parametrize("kernel", ["nngp", "ntk"])
@pytest.mark.parametrize("extra", [[], ["--memory", "16MB", "--method", "cholesky-ooc"]])
def test_mean_and_variance(folder, kernel, extra, tmp_path) -> None:
    out = tmp_path / "p.h5"
    found = predicted(folder, kernel, out, "--variance", *extra)
    dd, td, tt, y = arrays(folder)
    expected = gp_inference(dd, y, 1e-2)(kernel, td, tt)
    with h5py.File(out) as file:
        mean, variance = file["mean"][:], file["variance"][:]
        latent = file["variance_latent"][:]
        assert file.attrs["x1_fingerprint"] == h5py.File(folder / "k.h5").attrs["x1_fingerprint"]
        assert set(file["predicted"][:]) <= {0, 1, 2}
    # Two solves of condition number 1e3; the test kernel's diagonal is computed twice.
    np.testing.assert_allclose(mean, expected.mean, atol=1e-10)
    np.testing.assert_allclose(latent, np.diagonal(expected.covariance), atol=1e-9)
    labels = np.load(folder / "d.npz")["u"]
    target = (labels[:, None] == np.arange(3)) - 1 / 3
    assert found["accuracy"] == np.mean(expected.mean.argmax(1) == labels)
    assert found["mse"] == pytest.approx(np.mean((expected.mean - target) ** 2), rel=1e-9)
    with h5py.File(folder / f"{kernel}.h5") as file:
        noise = file.attrs["shift"]
    np.testing.assert_allclose(variance, latent + noise, rtol=1e-12)
    assert found["mean_variance"] == pytest.approx(found["mean_variance_latent"] + noise)
    assert found["variance_of"].startswith("posterior" if kernel == "nngp" else "ensemble")
    spread = (np.diagonal(expected.covariance) + noise)[:, None]
    nll = 0.5 * np.mean(np.log(2 * np.pi * spread) + (expected.mean - target) ** 2 / spread)
    assert found["nll"] == pytest.approx(nll, rel=1e-7)
    assert not list(folder.glob("*.factor")) + list(tmp_path.glob("*.factor"))


def test_variance_from_a_test_matrix(folder, tmp_path) -> None:
    common = ["predict", folder / "nngp.h5", "--cross", folder / "c.h5", "--variance", "--out"]
    run(*common, tmp_path / "a.h5", "--test-gram", folder / "t.h5")
    run(*common, tmp_path / "b.h5", "--x-test", f"{folder}/d.npz:t")
    with h5py.File(tmp_path / "a.h5") as a, h5py.File(tmp_path / "b.h5") as b:
        np.testing.assert_allclose(a["variance"][:], b["variance"][:], atol=1e-12)


TIMES = [0.0, 0.5, 8.0, 512.0]


def test_infinite_time_is_the_solution(folder, tmp_path) -> None:
    out = tmp_path / "p.h5"
    command = ["predict", folder / "ntk.h5", "--cross", folder / "c.h5", "--out", out]
    found = run(*command, "--time", "inf,1")
    assert [row["t"] for row in found["times"]] == ["inf", 1.0]
    assert found["times"][0]["train_mse"] == found["train_mse"]
    with h5py.File(out) as file:
        assert np.array_equal(file["time/inf/mean"], file["mean"])
        assert not np.array_equal(file["time/1/mean"], file["mean"])
    text = CliRunner().invoke(program, [*map(str, command), "--overwrite", "--time", "inf"]).output
    assert "t = inf: " in text


@pytest.mark.parametrize("kernel", ["nngp", "ntk"])
def test_finite_times(folder, kernel, tmp_path) -> None:
    out = tmp_path / "p.h5"
    found = predicted(folder, kernel, out, "--time", ",".join(map(str, TIMES)))
    dd, td, _, y = arrays(folder)
    square, across = getattr(dd, kernel), getattr(td, kernel)
    rate = max_learning_rate(square, y.size)
    flow = gradient_descent_mse(square, y, rate, 1e-2)
    _, test = flow(np.array(TIMES), 0.0, 0.0, across)
    # The regularised prediction on training points, as neural-tangents says: pass K for k_td.
    _, train = flow(np.array(TIMES), 0.0, 0.0, square)
    with h5py.File(out) as file:
        for index, t in enumerate(TIMES):
            group = file[f"time/{time_name(t)}"]
            np.testing.assert_allclose(group["mean"][:], test[index], atol=1e-9)
            np.testing.assert_allclose(group["train/mean"][:], train[index], atol=1e-9)
    assert [row["t"] for row in found["times"]] == TIMES
    errors = [row["train_mse"] for row in found["times"]]
    assert errors == sorted(errors, reverse=True)
    assert found["times"][0]["train_mse"] == pytest.approx(np.mean(y**2))


@pytest.mark.parametrize("shift", [0.0, 0.05])
def test_chebyshev_flow_is_the_eigen_flow(shift) -> None:
    rng = np.random.default_rng(0)
    root = rng.standard_normal((N, 40))
    matrix, y = root @ root.T, rng.standard_normal((N, 2))
    top = np.linalg.eigvalsh(matrix)[-1]
    times = [0.0, 1.0, 64.0, 4096.0]
    operator = as_operator(matrix).shifted(shift)
    dense = flow_coefficients(operator, y, times, top, memory=10**9)
    streamed = flow_coefficients(operator, y, times, top, memory=10**5)
    for a, b, t in zip(dense, streamed, times, strict=True):
        scale = max(t / top, 1e-9)  # the filter's largest value is 2 t / top
        np.testing.assert_allclose(a, b, atol=1e-10 * scale)
        np.testing.assert_allclose(matrix @ a, matrix @ b, atol=1e-9)


def test_times_that_no_series_reaches_take_eigenvectors_or_are_refused() -> None:
    """2^16 terms reach a time of some 1e8; cut there, what came out was off by half."""
    rng = np.random.default_rng(4)
    basis = np.linalg.qr(rng.standard_normal((40, 40)))[0]
    values = np.geomspace(1.0, 1e-8, 40)
    operator, y = as_operator((basis * values) @ basis.T), rng.standard_normal((40, 2))
    (found,) = flow_coefficients(operator, y, [1e12], 1.0, memory=10**9)
    wanted = basis @ ((-np.expm1(-2e12 * values) / values)[:, None] * (basis.T @ y))
    # Its condition, 1e8, of roundings.
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-6 * np.abs(wanted).max())
    with pytest.raises(WidegramError, match=r"time 1e\+12: .*more --memory"):
        flow_coefficients(operator, y, [1.0, 1e12], 1.0, memory=6000)


def test_eigenvalues_below_zero_do_not_blow_up_unseen() -> None:
    rng = np.random.default_rng(5)
    basis = np.linalg.qr(rng.standard_normal((40, 40)))[0]
    values = np.append(np.linspace(0.1, 1.0, 39), -1e-2)
    operator, y = as_operator((basis * values) @ basis.T), rng.standard_normal((40, 2))
    with pytest.raises(WidegramError, match="eigenvalues below 0"):
        flow_coefficients(operator, y, [1e4], 1.0, memory=6000)


@pytest.mark.parametrize("rate", [0.0, 1e-3, 1.0, 300.0, 1e5])
def test_chebyshev_coefficients(rate) -> None:
    found = chebyshev_coefficients(lambda x: filter_value(x, rate), 2.0)
    assert found is not None
    x = np.linspace(0, 2, 57)
    series = np.polynomial.chebyshev.chebval(x - 1, found)
    np.testing.assert_allclose(series, filter_value(x, rate), atol=1e-11 * max(rate, 1e-9))
    assert found.size < 30 + 12 * np.sqrt(rate + 1)  # the degree grows like the square root


def test_filter_at_zero() -> None:
    np.testing.assert_allclose(filter_value(np.array([0.0, 1e-14, 1e-6]), 5.0), 5.0, rtol=1e-5)


def test_regression(folder, tmp_path) -> None:
    run(
        "solve",
        folder / "k.h5",
        "--y",
        f"{folder}/d.npz:r",
        "--diag-reg",
        1e-3,
        "--out",
        tmp_path / "a.h5",
    )
    found = run(
        "predict", tmp_path / "a.h5", "--cross", folder / "c.h5", "--y", f"{folder}/d.npz:s"
    )
    assert found["mse"] < 0.05
    result = CliRunner().invoke(
        program,
        [
            "predict",
            str(tmp_path / "a.h5"),
            "--cross",
            str(folder / "c.h5"),
            "--y",
            f"{folder}/d.npz:u",
        ],
    )
    assert result.exit_code == 2
    assert "has 1 outputs, the solution, a regression, 2" in result.stderr


def test_integer_regression_and_normalized_targets(folder, tmp_path) -> None:
    rng = np.random.default_rng(1)
    with np.load(folder / "d.npz") as file:
        train, test = file["x"][:, 0], file["t"][:, 0]
    number = np.rint(300.0 + 40.0 * np.r_[train, test]).astype(int) + rng.integers(0, 2, N + M)
    np.savez(tmp_path / "y.npz", y=number[:N], u=number[N:], f=number[N:].astype(float))
    solve = ["solve", folder / "k.h5", "--kernel", "nngp", "--y", f"{tmp_path}/y.npz:y"]
    solve += ["--task", "regression", "--normalize-y", "--diag-reg", 1e-3]
    assert run(*solve, "--out", tmp_path / "a.h5")["task"] == "regression"
    predict = ["predict", tmp_path / "a.h5", "--cross", folder / "c.h5", "--variance"]
    predict += ["--time", "100", "--out", tmp_path / "p.h5", "--overwrite", "--y"]
    found = run(*predict, f"{tmp_path}/y.npz:u")
    assert found["task"] == "regression"
    assert found["mse"] < 0.1 * np.var(number)
    assert found["train_mse"] < 0.1 * np.var(number)
    assert found["times"][0]["mse"] < np.var(number)
    assert run(*predict, f"{tmp_path}/y.npz:f")["mse"] == found["mse"]
    with h5py.File(tmp_path / "p.h5") as file:
        spread = np.sqrt(file["variance"][:])
        inside = np.abs(file["mean"][:, 0] - number[N:]) < 1.959964 * spread
    # 31 points of 95 %: three binomial standard errors.
    assert inside.mean() > 0.95 - 3 * np.sqrt(0.95 * 0.05 / M)


@pytest.mark.parametrize("kernel", ["nngp", "ntk"])
def test_variances_out_of_core_read_the_factor_once_for_many_points(
    folder, kernel, tmp_path, monkeypatch
) -> None:
    passes: list[str] = []
    for name in ("half", "_stream"):
        original = getattr(OutOfCoreCholesky, name)

        def counted(self, *arguments, name=name, original=original):
            passes.append(name)
            return original(self, *arguments)

        monkeypatch.setattr(OutOfCoreCholesky, name, counted)
    memory = ["--memory", "16MB", "--method", "cholesky-ooc"]
    common = ["predict", folder / f"{kernel}.h5", "--cross", folder / "c.h5"]
    run(*common, "--variance", "--test-gram", folder / "t.h5", *memory)
    assert passes.count("half") == 1  # for all 31 points


def test_without_labels(folder) -> None:
    found = run("predict", folder / "ntk.h5", "--cross", folder / "c.h5")
    assert found["accuracy"] is None
    assert found["mse"] is None
    assert found["train_accuracy"] > 0.9


def test_refusals(folder, tmp_path) -> None:
    cross = {"symmetric": False}
    with widegram.GramFile(folder / "c.h5") as file:
        prints = file.fingerprints
        block = {"nngp": file.dataset("nngp")[:], "ntk": file.dataset("ntk")[:]}
    net, x1, x2 = (prints[name] for name in ("network", "x1", "x2"))
    flipped = {name: value.T for name, value in block.items()}
    write_gram(tmp_path / "net.h5", block, network="other", x1=x1, x2=x2, **cross)
    write_gram(tmp_path / "data.h5", block, network=net, x1=x1, x2="other", **cross)
    write_gram(tmp_path / "flip.h5", flipped, network=net, x1=x2, x2=x1, **cross)
    write_gram(tmp_path / "part.h5", block, network=net, x1=x1, x2=x2, complete=False, **cross)
    write_gram(tmp_path / "ntk.h5", {"ntk": block["ntk"]}, network=net, x1=x1, x2=x2, **cross)
    (tmp_path / "there.h5").write_text("precious")
    good, labels = str(folder / "c.h5"), f"{folder}/d.npz:u"
    for matrix, arguments, message in (
        (tmp_path / "net.h5", [], "another network"),
        (tmp_path / "data.h5", [], "not the training data"),
        (tmp_path / "flip.h5", [], "swap --x and --x2"),
        (tmp_path / "part.h5", [], "not complete"),
        (good, ["--y", f"{folder}/d.npz:y"], "90 labels, the matrix has 31 test points"),
        (good, ["--time", "-1"], "not negative"),
        (good, ["--out", str(tmp_path / "there.h5")], "pass --overwrite"),
        (good, ["--time", "1", "--gram", good], "without --x2"),
        (good, ["--time", "1", "--gram", str(folder / "t.h5")], "not the training matrix"),
        (good, ["--time", "1", "--gram", str(tmp_path / "no.h5")], "pass --gram"),
        (good, ["--variance", "--test-gram", str(folder / "k.h5")], "not of the network and test"),
        (good, ["--variance", "--x-test", f"{folder}/d.npz:x"], "not the test data"),
        (tmp_path / "ntk.h5", ["--variance", "--test-gram", str(folder / "t.h5")], "has no /nngp"),
    ):
        command = ["predict", str(folder / "ntk.h5"), "--cross", str(matrix), *arguments]
        result = CliRunner().invoke(program, command)
        assert result.exit_code == 2, (command, result.output)
        assert message in result.stderr
        assert len(result.stderr.strip().splitlines()) == 1
    assert (tmp_path / "there.h5").read_text() == "precious"
    result = CliRunner().invoke(program, ["predict", good, "--cross", good, "--y", labels])
    assert "is not a solution" in result.stderr


def test_predictions_stream_the_cross_file(tmp_path) -> None:
    rows, cols, budget = 4000, 1500, 6 * 10**6  # the cross matrix has 48 MB
    with h5py.File(tmp_path / "c.h5", "w") as file:
        dataset = file.create_dataset("k", (rows, cols), "f8", chunks=(100, 100))
        for lo in range(0, rows, 100):
            dataset[lo : lo + 100] = 1.0
        operator = GramOperator(dataset, symmetric=False, memory=budget)
        alpha = np.ones((cols, 5))
        operator.matmat(alpha)
        with peak_memory_below(budget + 3 * 10**6):  # and HDF5's cache
            assert (operator.matmat(alpha) == cols).all()


def test_likelihood_and_sizes() -> None:
    mean, y = np.zeros((2, 1)), np.array([[0.0], [1.0]])
    expected = 0.5 * np.log(2 * np.pi * 0.5) + 0.5 * 0.5 * 1.0 / 0.5
    assert negative_log_likelihood(mean, np.full(2, 0.5), y) == pytest.approx(expected)
    assert negative_log_likelihood(mean, np.full((2, 1), 0.5), y) == pytest.approx(expected)
    assert block_rows(1000, 10_000, 48 * 1000 * 7) == 7
    assert block_rows(1000, 5, 10**9) == 5
    assert block_rows(10**6, 5, 1) == 1
    assert [time_name(t) for t in (512.0, 0.5, np.inf)] == ["512", "0.5", "inf"]


def test_a_zero_matrix_and_no_noise_are_predicted_or_refused(tmp_path) -> None:
    zero = np.zeros((4, 4))
    write_gram(tmp_path / "k.h5", {"nngp": zero, "ntk": zero})
    cross = {"symmetric": False, "x1": "test", "x2": "train"}
    write_gram(tmp_path / "c.h5", {"nngp": zero[:2], "ntk": zero[:2]}, **cross)
    write_gram(tmp_path / "t.h5", {"nngp": zero[:2, :2], "ntk": zero[:2, :2]}, x1="test")
    np.savez(tmp_path / "y.npz", y=np.arange(4.0), u=np.ones(2))
    solve = ["solve", tmp_path / "k.h5", "--y", f"{tmp_path}/y.npz:y", "--out", tmp_path / "a.h5"]
    run(*solve, "--diag-reg", 0.5, "--absolute")
    predict = ["predict", tmp_path / "a.h5", "--cross", tmp_path / "c.h5"]
    predict += ["--y", f"{tmp_path}/y.npz:u", "--variance", "--test-gram", tmp_path / "t.h5"]
    found = run(*predict)
    assert (found["mse"], found["mean_variance"], found["mean_variance_latent"]) == (1.0, 0.5, 0.0)
    result = CliRunner().invoke(program, [*map(str, predict), "--time", "1"])
    assert result.exit_code == 2
    assert "no positive eigenvalue" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    with np.errstate(all="raise"):
        assert negative_log_likelihood(np.zeros((1, 1)), np.zeros(1), np.ones((1, 1))) == np.inf


def test_variances_come_from_a_factor_in_float64_where_only_one_in_float32_fits(
    tmp_path: Path,
) -> None:
    rng = np.random.default_rng(0)
    x, t = np.sort(rng.uniform(0, 42, 700)), rng.uniform(0, 42, 5)
    k, across = (np.exp(-0.5 * (a[:, None] - x) ** 2) for a in (x, t))
    np.save(tmp_path / "k.npy", k)
    np.save(tmp_path / "c.npy", across)
    noise, memory = 1e-5, 4_400_000
    single = chosen(as_operator(k), 5, SolveOptions(), Resources(memory))
    assert single.dtype == np.float32
    with open_train(tmp_path / "k.npy", "nngp", memory=10**6) as train:
        columns = Columns(train.fingerprints["network"], train.fingerprints["x1"])
        with open_cross(
            tmp_path / "c.npy", "nngp", WHOLE, memory=10**6, columns=columns
        ) as cross:
            resources = Resources(memory, work=tmp_path / "p.h5")
            found = variances(train, cross, noise, np.ones(5), SolveOptions(), resources)
    exact = 1 - np.einsum("ij,ji->i", across, np.linalg.solve(k + noise * np.eye(700), across.T))
    # Rounding of float64 times the condition number, 20 / 1e-5; in float32 they are 2e-7 off.
    np.testing.assert_allclose(found.values, exact, rtol=0, atol=1e-9)
    assert not found.undecided.any()
