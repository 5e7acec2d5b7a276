"""Every example, run on files that the command line wrote; most solve the same problem."""

from __future__ import annotations

import ast
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import widegram
from cli_support import run_json

EXAMPLES = Path(__file__).parents[1] / "examples"
# script, package that it needs, whether it solves exactly what `widegram solve` does
SCRIPTS = [
    ("svc.py", "sklearn", False),
    ("kernel_ridge.py", "sklearn", True),
    ("scipy_cg.py", "scipy", True),
    ("dask_solve.py", "dask.array", True),
    ("memmap.py", "numpy", False),
    ("torch_solve.py", "torch", True),
    ("cntk_gap.py", "numpy", False),
]


def accuracy_of(script: str, *arguments: object) -> float:
    command = [sys.executable, str(EXAMPLES / script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return float(done.stdout.split("accuracy")[1])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that prepare.sh makes, with the console script of this interpreter."""
    place = tmp_path_factory.mktemp("examples")
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    command = ["sh", str(EXAMPLES / "prepare.sh"), str(place)]
    subprocess.run(command, check=True, capture_output=True, env={"PATH": path})
    return place


@pytest.fixture(scope="module")
def ours(folder: Path) -> dict[str, float]:
    found = {}
    for kernel in ("nngp", "ntk"):
        run_json(
            "solve",
            folder / "K.h5",
            "--kernel",
            kernel,
            "--y",
            f"{folder}/digits.h5:train/y",
            "--diag-reg",
            1e-3,
            "--out",
            folder / f"{kernel}.h5",
        )
        found[kernel] = run_json(
            "predict",
            folder / f"{kernel}.h5",
            "--cross",
            folder / "Kc.h5",
            "--y",
            f"{folder}/digits.h5:test/y",
        )["accuracy"]
    return found


@pytest.mark.parametrize(("script", "needs", "same"), SCRIPTS)
def test_example(script, needs, same, folder, ours) -> None:
    pytest.importorskip(needs)
    found = accuracy_of(script, folder)
    if same:
        assert found == pytest.approx(ours["ntk"], abs=1e-4)  # printed with four digits
    else:
        assert found > 0.93


@pytest.mark.slow
def test_gpytorch(folder, ours) -> None:
    pytest.importorskip("gpytorch")
    found = accuracy_of("gpytorch_posterior.py", folder)
    assert found == pytest.approx(ours["nngp"], abs=1e-4)


def test_estimator() -> None:
    pytest.importorskip("sklearn")
    assert accuracy_of("estimator.py") > 0.93


def test_uncertainty(tmp_path: Path) -> None:
    """On a table that is drawn from a prior with noise, whose error bars cover by evidence."""
    pytest.importorskip("sklearn")
    rng = np.random.default_rng(0)
    x = rng.standard_normal((360, 8))
    x[:, 7] = np.sin(x[:, 0]) + x[:, 1] + 0.5 * rng.standard_normal(360)
    np.savez(tmp_path / "t.npz", **{"abalone/x": x, "abalone/y": np.zeros(360)})
    command = [sys.executable, EXAMPLES / "uncertainty.py", tmp_path / "t.npz"]
    done = subprocess.run(
        [*map(str, command), "--train", "120", "--test", "240"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    # After the table's and the prior's names: coverage of 50, 80 and 95 %, and nll.
    plain, best = (line[34:].split() for line in done.stdout.splitlines()[1:])
    # Three binomial errors of 240 rows.
    assert float(best[2]) == pytest.approx(0.95, abs=0.043)
    assert float(plain[2]) < 0.8
    assert float(best[3]) < float(plain[3])


@pytest.fixture(scope="module")
def by_gpytorch() -> dict[str, Any]:
    """The names of examples/gpytorch_kernel.py after it has run."""
    pytest.importorskip("gpytorch")
    return runpy.run_path(str(EXAMPLES / "gpytorch_kernel.py"))


@pytest.mark.slow
def test_gpytorch_kernel(by_gpytorch) -> None:
    """Its posterior is that of a direct solution, its evidence that of our own regressor."""
    from widegram.sklearn import GaussianProcessRegressor

    x, y = by_gpytorch["x"].numpy(), by_gpytorch["y"].numpy()
    model, found = by_gpytorch["model"], by_gpytorch["found"]
    scale, mean = model.covar_module.outputscale.item(), model.mean_module.constant.item()
    noise = by_gpytorch["likelihood"].noise.item()
    k, cross = (scale * widegram.kernel("fcn:depth=2", rows, x[:300], "nngp")
                for rows in (x[:300], x[300:600]))  # fmt: skip
    solved = np.linalg.solve(k + noise * np.eye(300), np.c_[y[:300] - mean, cross.T])
    own = scale * np.diag(widegram.kernel("fcn:depth=2", x[300:600], get="nngp")) + noise
    variance = own - np.einsum("ij,ji->i", cross, solved[:, 1:])
    # Rounding of float64 times the condition of the matrix, 9e4: some 1e-11.
    np.testing.assert_allclose(found.mean.numpy(), mean + cross @ solved[:, 0], rtol=0, atol=1e-10)
    np.testing.assert_allclose(found.variance.numpy(), variance, rtol=0, atol=1e-10)
    ours = GaussianProcessRegressor("fcn:depth=2", alpha=1e-4).fit(x[:300], y[:300] - mean)
    # Where the search stops: its gradient is below 1e-7.
    assert ours.log_marginal_likelihood() / 300 == pytest.approx(by_gpytorch["best"], abs=1e-5)
    assert ((found.mean.numpy() > 0) == (y[300:600] > 0)).mean() > 0.95


@pytest.mark.slow
def test_gpytorch_kernel_of_batches(by_gpytorch) -> None:
    """Batches broadcast, the diagonal is the matrix's; derivatives by inputs are refused."""
    kernel, x = by_gpytorch["NetworkKernel"]("fcn:depth=2"), by_gpytorch["x"]
    rows, cols = x[:140].reshape(2, 70, 64), x[140:210]
    found = kernel(rows, cols).to_dense().numpy()
    for batch in (0, 1):
        wanted = widegram.kernel("fcn:depth=2", rows[batch].numpy(), cols.numpy(), "nngp")
        np.testing.assert_array_equal(found[batch], wanted)
    np.testing.assert_array_equal(
        kernel(rows, cols, diag=True).numpy(), np.diagonal(found, axis1=1, axis2=2)
    )
    with pytest.raises(NotImplementedError, match="no derivative by the inputs"):
        kernel(cols.clone().requires_grad_()).to_dense()


def test_every_script_is_listed_and_tested() -> None:
    listed = (EXAMPLES / "README.md").read_text()
    scripts = {path.name for path in EXAMPLES.glob("*.py")}
    assert all(f"`{name}" in listed for name in scripts)
    # the last three have a file of tests of their own
    others = {"gpytorch_posterior.py", "estimator.py", "graphs.py", "million_rows.py"}
    others |= {"finite_width.py", "uncertainty.py", "gpytorch_kernel.py"}
    assert scripts == {name for name, _, _ in SCRIPTS} | others


def test_scripts_for_slurm_can_be_read() -> None:
    """Without Slurm: as far as their languages go."""
    folder = EXAMPLES / "slurm"
    scripts = sorted(folder.glob("*.sbatch"))
    assert scripts
    for script in scripts:
        subprocess.run(["bash", "-n", str(script)], check=True)
        assert "\n#SBATCH " in script.read_text()
    for program_of in folder.glob("*.py"):
        ast.parse(program_of.read_text())
