"""The solver benchmark: its cases run, rows add up in the JSON file, the table is made of them."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

pytest.importorskip("sklearn")

from widegram import WidegramError
from widegram_bench.linalg import CASES, run_case, write_matrix
from widegram_bench.linalg_report import markdown, save

ROW = {"case": "scipy", "n": 10, "seconds": 1.0, "matrix_bytes": 800, "peak_bytes": 900}


def measured(folder, *arguments: str) -> str:
    command = [sys.executable, "-m", "widegram_bench.linalg", "--folder", str(folder), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "failed" not in done.stdout
    return done.stdout


def test_every_case_runs_and_adds_its_row(tmp_path) -> None:
    """One of them in a process of its own, as the benchmark has each, the others here."""
    path, matrix = tmp_path / "r.json", tmp_path / "700.h5"
    some = ["cholesky-ooc"]
    arguments = ["--n", "700", "--json", str(path), "--repeat", "2"]
    measured(tmp_path, *arguments, "--cases", ",".join(some))
    write_matrix(matrix, 700)
    rest = [run_case(n, matrix, 4 * 700**2, tmp_path) for n in CASES if n not in some]
    save(path, rest)
    matrix.unlink()
    rows = json.loads(path.read_text())["rows"]
    assert {row["case"] for row in rows} == set(CASES)
    assert len(rows) == len(CASES)
    assert all(row["seconds"] > 0 for row in rows)
    # Refined or iterated to 1e-8 of the right-hand sides.
    assert all(row["residual"] < 1e-8 for row in rows if "residual" in row)
    table = path.with_suffix(".md").read_text()
    assert all(f"`{name}`" in table for name in CASES)
    assert table.strip() in measured(tmp_path, "--report", str(path))
    assert sorted(place.name for place in tmp_path.iterdir()) == ["r.json", "r.md"]


def test_rows_replace_their_own_and_stay_on_one_machine(tmp_path) -> None:
    path = tmp_path / "r.json"
    save(path, [{**ROW, "gflops": 5.0}, {**ROW, "case": "cg", "residual": 1e-9, "iterations": 4}])
    record = save(path, [{**ROW, "gflops": 10.0}, {**ROW, "n": 5, "case": "stream"}])
    assert [(row["n"], row["case"]) for row in record["rows"]] == [
        (5, "stream"),
        (10, "scipy"),
        (10, "cg"),
    ]
    assert "| 10.0 | 100 % |" in markdown(record, "r.json")
    assert "1.0e-09 after 4 iterations" in markdown(record, "r.json")
    path.write_text(json.dumps({**record, "cores": -1}))
    with pytest.raises(WidegramError, match="measured on another machine"):
        save(path, [ROW])
