"""Results of the solver benchmark: rows added to a JSON file, and the Markdown table made of it."""

from __future__ import annotations

import datetime
import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import widegram
from widegram.durable import write_bytes
from widegram.errors import WidegramError
from widegram.machine.budgets import format_size
from widegram.machine.cores import usable_cores

Row = dict[str, Any]
_MACHINE = ("machine", "cpu", "cores", "blas_threads")
_HEAD = (
    "n",
    "case",
    "seconds",
    "GFLOP/s of the factorisation",
    "of SciPy's",
    "GB/s",
    "peak memory",
    "budget",
    "residual",
)


def machine() -> Row:
    """What the figures depend on."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": platform.platform(),
        "cpu": _cpu(),
        "cores": usable_cores(),
        "blas_threads": os.environ.get("OPENBLAS_NUM_THREADS", "all cores"),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "widegram": widegram.__version__,
    }


def save(path: Path, rows: Sequence[Row]) -> Row:
    """Add ``rows`` to those in ``path``, in place of those of the same case and n.

    Also writes the table, as ``path`` with the ending .md. Returns what was written. Raises
    WidegramError where the file's rows are from another machine.
    """
    here = machine()
    old = json.loads(path.read_text()) if path.exists() else {"rows": []}
    for name in _MACHINE:
        if name in old and old[name] != here[name]:
            raise WidegramError(
                f"{path}: was measured on another machine ({name} {old[name]}, here {here[name]}); "
                "give another --json"
            )
    merged = {_key(row): row for row in (*old["rows"], *rows)}
    record = {**here, "rows": sorted(merged.values(), key=lambda row: row["n"])}
    write_bytes(path, (json.dumps(record, indent=1) + "\n").encode(), overwrite=True)
    table = markdown(record, path.name).encode()
    write_bytes(path.with_suffix(".md"), table, overwrite=True)
    return record


def markdown(record: Row, source: str) -> str:
    """The table of all rows, with where and how it was measured."""
    lines = [
        "# Solvers beside SciPy and scikit-learn",
        "",
        f"{record['cpu']}, {record['cores']} cores, BLAS threads: {record['blas_threads']}, "
        f"NumPy {record['numpy']}, {record['date'][:10]}. float64 NNGP matrix of one ReLU layer, "
        "ten right-hand sides, regulariser 1e-3.",
        "Each row ran in a process of its own; seconds include reading the matrix from the file. "
        "GFLOP/s counts n^3 / 3 over the",
        "time of the factorisation, out of core with all reading and writing. Budgets count "
        "arrays, peaks what the process grew by.",
        "",
        "| " + " | ".join(_HEAD) + " |",
        "|" + "---|" * len(_HEAD),
    ]
    rates = {row["n"]: row["gflops"] for row in record["rows"] if row["case"] == "scipy"}
    table = (_cells(row, rates.get(row["n"])) for row in record["rows"])
    lines += ["| " + " | ".join(cells) + " |" for cells in table]
    lines += ["", f"    python -m widegram_bench.linalg --json {source}", ""]
    return "\n".join(lines)


def _cells(row: Row, scipy_rate: float | None) -> list[str]:
    rate = row.get("gflops")
    share = f"{100 * rate / scipy_rate:.0f} %" if rate and scipy_rate else ""
    residual = f"{row['residual']:.1e}" if "residual" in row else ""
    if "iterations" in row and row["case"] == "cg":
        residual += f" after {row['iterations']} iterations"
    return [
        f"{row['n']:,} ({format_size(row['matrix_bytes'])})",
        f"`{row['case']}`",
        f"{row['seconds']:.3g}",
        f"{rate:.1f}" if rate else "",
        share,
        f"{row['gb_per_s']:.1f}" if "gb_per_s" in row else "",
        format_size(row["peak_bytes"]),
        format_size(row["budget"]) if "budget" in row else "",
        residual,
    ]


def _key(row: Row) -> tuple[int, str]:
    return row["n"], row["case"]


def _cpu() -> str:
    """The processor's name, as the system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())
