"""Solvers beside SciPy in memory and scikit-learn's KernelRidge: seconds, GFLOP/s, GB/s, memory.

    python -m widegram_bench.linalg --n 2000,4000 --folder /scratch --json results.json

The matrix is the NNGP of one ReLU layer on random inputs, float64, written as a Gram file is.
Each row runs in a process of its own, so that its peak memory is its own. Rows are added to those
that results.json has, and results.md gets the table.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from widegram.durable import new_hdf5, reserve
from widegram.linalg.eigen import full_eigen
from widegram.linalg.loo import regulariser_path
from widegram.linalg.operator import GramOperator, as_operator
from widegram.linalg.outofcore import OutOfCoreCholesky
from widegram.linalg.settings import Resources, SolveOptions
from widegram.linalg.solving import solve
from widegram.machine.budgets import format_size
from widegram_bench.child import finished
from widegram_bench.linalg_report import markdown, save

Array = NDArray[Any]
_OUTPUTS = 10
_INPUTS = 100
_PANEL = 512
_REGULARISER = 1e-3


def write_matrix(path: Path, n: int) -> None:
    """Dataset /k (n, n): q (sin t + (pi - t) cos t) / pi of random unit vectors at angles t."""
    x = np.random.default_rng(0).standard_normal((n, _INPUTS))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    chunk = (min(n, _PANEL), min(n, _PANEL))
    with new_hdf5(path, lambda file: reserve(file, "k", (n, n), "<f8", chunk)) as new:
        for lo in range(0, n, _PANEL):
            c = np.clip(x[lo : lo + _PANEL] @ x.T, -1.0, 1.0)
            new.write("k", (np.sqrt(1.0 - c * c) + (np.pi - np.arccos(c)) * c) / np.pi, lo)


def targets(n: int) -> Array:
    """Random right-hand sides (n, 10)."""
    return np.random.default_rng(1).standard_normal((n, _OUTPUTS))


def scipy_memory(source: Any, budget: int, folder: Path) -> dict[str, Any]:
    """cho_factor and cho_solve in place; reading is timed apart."""
    from scipy.linalg import cho_factor, cho_solve

    started = time.perf_counter()
    matrix = source[:].T
    matrix[np.diag_indices_from(matrix)] += _REGULARISER
    read = time.perf_counter() - started
    factor = cho_factor(matrix, lower=True, overwrite_a=True, check_finite=False)
    factored = time.perf_counter() - started - read
    cho_solve(factor, targets(len(matrix)), check_finite=False)
    return {"seconds": time.perf_counter() - started, "read": read, "factor": factored}


def kernel_ridge(source: Any, budget: int, folder: Path) -> dict[str, Any]:
    """scikit-learn's KernelRidge with a precomputed kernel."""
    from sklearn.kernel_ridge import KernelRidge

    started = time.perf_counter()
    matrix = source[:]
    read = time.perf_counter() - started
    KernelRidge(alpha=_REGULARISER, kernel="precomputed").fit(matrix, targets(len(matrix)))
    return {"seconds": time.perf_counter() - started, "read": read}


def in_memory(dtype: str) -> Callable[[Any, int, Path], dict[str, Any]]:
    """widegram's Cholesky in place, with refinement."""

    def measure(source: Any, budget: int, folder: Path) -> dict[str, Any]:
        operator = GramOperator(source, shift=_REGULARISER, memory=1 << 28)
        clock: dict[tuple[str, float], float] = {}
        resources = Resources(
            10**15, progress=lambda p: clock.update({(p.what, p.done): time.perf_counter()})
        )
        options = SolveOptions("cholesky", dtype)
        found = solve(operator, targets(source.shape[0]), options, resources)
        factored = clock["factoring", 1] - clock["factoring", 0]
        return {
            "factor": factored,
            "residual": found.residual,
            "iterations": found.iterations,
        }

    return measure


def out_of_core(source: Any, budget: int, folder: Path) -> dict[str, Any]:
    """Factor within ``budget`` bytes of arrays; the solve is timed apart."""
    operator = GramOperator(source, shift=_REGULARISER, memory=budget // 8)
    started = time.perf_counter()
    factor = OutOfCoreCholesky(operator, folder / "work.factor", memory=budget)
    factored = time.perf_counter() - started
    residual = factor.solve(targets(source.shape[0])).residual
    seconds = time.perf_counter() - started
    factor.close(delete=True)
    return {"seconds": seconds, "factor": factored, "residual": residual}


def gradients(source: Any, budget: int, folder: Path) -> dict[str, Any]:
    """Block conjugate gradients streaming the file, to 1e-8."""
    operator = GramOperator(source, shift=_REGULARISER, memory=budget // 4)
    options = SolveOptions("cg", tol=1e-8)
    found = solve(operator, targets(source.shape[0]), options, Resources(budget))
    return {"residual": found.residual, "iterations": found.iterations, "status": found.status}


def streaming(source: Any, budget: int, folder: Path) -> dict[str, Any]:
    """One product of the streamed operator; GB/s counts the entries used, each once."""
    operator = GramOperator(source, memory=budget // 4)
    x = targets(source.shape[0])
    started = time.perf_counter()
    operator.matmat(x)
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "gb_per_s": 8e-9 * source.shape[0] ** 2 / seconds}


def leave_one_out(source: Any, budget: int, folder: Path) -> dict[str, Any]:
    """Leave-one-out errors for four regularisers, in memory."""
    operator, y = GramOperator(source, memory=1 << 28), targets(source.shape[0])
    shifts = [_REGULARISER * 10.0**power for power in range(4)]
    points = regulariser_path(operator, y, shifts, SolveOptions(), Resources(10**15))
    return {"residual": max(point.residual for point in points)}


def eigenvalues(source: Any, budget: int, folder: Path) -> dict[str, Any]:
    """All eigenvalues by LAPACK in place."""
    found = full_eigen(replace(as_operator(source), memory=1 << 28), vectors=False, memory=10**15)
    return {"lambda_max": float(found.values[-1]), "lambda_min": float(found.values[0])}


CASES: dict[str, Callable[[Any, int, Path], dict[str, Any]]] = {
    "scipy": scipy_memory,
    "sklearn-kernel-ridge": kernel_ridge,
    "cholesky": in_memory("float64"),
    "cholesky-float32": in_memory("float32"),
    "cholesky-ooc": out_of_core,
    "cg": gradients,
    "stream": streaming,
    "loo-4": leave_one_out,
    "eig-full": eigenvalues,
}
_FACTORISATIONS = {"scipy", "sklearn-kernel-ridge", "cholesky", "cholesky-float32", "cholesky-ooc"}


def run_case(name: str, path: Path, budget: int, folder: Path) -> dict[str, Any]:
    """One measurement in this process; ``gflops`` counts n^3 / 3 over the factorisation's time."""
    with h5py.File(path, "r") as file:
        n = int(file["k"].shape[0])
        before = _reset_peak()
        started = time.perf_counter()
        found = CASES[name](file["k"], budget, folder)
        found.setdefault("seconds", time.perf_counter() - started)
    found |= {"case": name, "n": n, "matrix_bytes": 8 * n * n}
    found["peak_bytes"] = _status("VmHWM") - before
    if name in _FACTORISATIONS:
        found["gflops"] = n**3 / 3e9 / found.get("factor", found["seconds"])
    if name in ("cholesky-ooc", "cg", "stream"):
        found["budget"] = budget
    return found


def _reset_peak() -> int:
    """Resident bytes at present; the high-water mark starts from here."""
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def main() -> None:
    """Measure every case at every n, print a table, add the rows to the JSON file."""
    options = _options()
    if options.one:
        name, path, budget = options.one
        print(json.dumps(run_case(name, Path(path), int(budget), Path(path).parent)))
        return
    if options.report:
        print(markdown(json.loads(options.report.read_text()), options.report.name))
        return
    folder = Path(tempfile.mkdtemp(prefix="widegram-bench-", dir=options.folder))
    try:
        for n in map(int, options.n.split(",")):
            rows = _measure(n, options.cases.split(","), options.share, options.repeat, folder)
            if options.json and rows:
                save(options.json, rows)
    finally:
        shutil.rmtree(folder)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--n", default="1000,2000", help="sizes")
    parser.add_argument("--cases", default=",".join(CASES), help="which of them")
    parser.add_argument("--share", type=float, default=0.5, help="out-of-core budget / matrix")
    parser.add_argument("--repeat", type=int, default=1, help="runs of each, the fastest counts")
    parser.add_argument("--folder", type=Path, help="where matrices and work files go")
    parser.add_argument("--json", type=Path, help="add the rows here, and write the table beside")
    parser.add_argument("--report", type=Path, help="print the table of this JSON file, no runs")
    parser.add_argument(
        "--one", nargs=3, metavar=("CASE", "FILE", "BUDGET"), help=argparse.SUPPRESS
    )
    options = parser.parse_args()
    unknown = [name for name in options.cases.split(",") if name not in CASES]
    if unknown:
        parser.error(f"no case {', '.join(unknown)}; choose from {', '.join(CASES)}")
    return options


def _measure(
    n: int, names: list[str], share: float, repeat: int, folder: Path
) -> list[dict[str, Any]]:
    """The rows of the cases that did not fail, the fastest run of each."""
    path, budget = folder / f"{n}.h5", int(share * 8 * n * n)
    _say(f"n {n}: writing a matrix of {format_size(8 * n * n)}")
    write_matrix(path, n)
    rows = []
    for name in names:
        _say(f"n {n}: {name} ...")
        runs = [_in_subprocess(name, path, budget) for _ in range(repeat)]
        best = min(runs, key=lambda row: row.get("seconds", float("inf")))
        _show(best)
        rows += [best] if "failed" not in best else []
    path.unlink()
    return rows


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def _in_subprocess(name: str, path: Path, budget: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "widegram_bench.linalg", "--one", name, str(path), str(budget)]
    done = finished(command)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return {"case": name, "failed": last}
    row: dict[str, Any] = json.loads(done.stdout)
    return row


def _show(row: dict[str, Any]) -> None:
    if "failed" in row:
        print(f"{row['case']:<22} failed: {row['failed']}", flush=True)
        return
    rate = f"{row['gflops']:7.1f} GFLOP/s" if "gflops" in row else ""
    rate = f"{row['gb_per_s']:7.2f} GB/s" if "gb_per_s" in row else rate
    print(
        f"{row['case']:<22} n {row['n']:>6}  {row['seconds']:9.3f} s  {rate:<17} "
        f"peak {format_size(row['peak_bytes'])}, matrix {format_size(row['matrix_bytes'])}",
        flush=True,
    )


if __name__ == "__main__":
    main()
