"""Kernels of the same networks and inputs by widegram and by the peer, in one run."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from widegram.machine.budgets import free_memory
from widegram.machine.cores import usable_cores
from widegram.plan.plan import build
from widegram.validation.choices import DTYPES, KERNELS
from widegram_bench.networks import Benchmark
from widegram_bench.peer import run_own, run_peer

_PEER_SHARE = 0.7
_COMPARED = 4
_LEAST = 1.0
# Shares of the time: the peer needs seconds for one entry of a pooled network.
_WEIGHT = {"pooled": 3, "flat": 1, "dense": 1}
_START = 8.0  # the peer's import

Say = Callable[[str], None]


def compare(
    cases: Sequence[Benchmark],
    seconds: float,
    peer_python: Path | None,
    threads: int | None = None,
    say: Say = lambda line: None,
) -> list[dict[str, Any]]:
    """One row per case within about ``seconds``; ``peer_python`` None measures widegram alone.

    A row has

    * ``name``, ``label``, ``kind``, ``input_shape``, and ``element_layers`` per entry
    * ``own``, by dtype: n, ms_entry, ms_entry_symmetric, import_s, first_call_s (compiled code on
      disk, see :func:`cold_start`), peak_memory

    and with a peer

    * ``peer``, by dtype: ms_entry, best_batch, batches, import_s, first_call_s, peak_memory
    * ``peer_best``: the fastest dtype
    * ``ratios``: how many times faster widegram is
    * ``difference``, by dtype: the largest of values, relative to the largest value
    """
    rows = []
    end = time.perf_counter() + seconds
    with tempfile.TemporaryDirectory() as folder:
        for n, case in enumerate(cases):
            say(f"{case.label} ...")
            part = _WEIGHT[case.kind] / sum(_WEIGHT[later.kind] for later in cases[n:])
            share = max(_LEAST, (end - time.perf_counter()) * part)
            row = _row(case, share, peer_python, threads or usable_cores(), Path(folder))
            rows.append(row)
            say(describe(row))
    return rows


def cold_start(case: Benchmark) -> float:
    """Seconds of widegram's first call in float32 where nothing was ever compiled."""
    with tempfile.TemporaryDirectory() as folder:
        inputs = Path(folder) / "inputs.npz"
        np.savez(inputs, x=np.random.default_rng(0).standard_normal((2, *case.network.input_shape)))
        job: dict[str, Any] = {
            "network": case.network.canonical(),
            "inputs": str(inputs),
            "dtype": "float32",
            "compare": 1,
            "threads": usable_cores(),
            "seconds": 0,
            "values": str(Path(folder) / "values.npz"),
        }
        return float(run_own(job, Path(folder) / "cache")["first_call_s"])


def describe(row: dict[str, Any]) -> str:
    """A row as one line."""
    own = row["own"]["float32"]
    text = f"{row['label']}: {own['ms_entry']:.4g} ms per entry"
    if "ratios" in row:
        best = row["peer_best"]
        text += (
            f", peer {best['ms_entry']:.4g} ms ({best['dtype']}, batch {best['batch']}): "
            f"{row['ratios']['entry']:.3g}x, symmetric {row['ratios']['symmetric']:.3g}x"
        )
    return text


def _row(
    case: Benchmark, seconds: float, peer_python: Path | None, threads: int, folder: Path
) -> dict[str, Any]:
    end = time.perf_counter() + seconds
    own_seconds = seconds * (1 - _PEER_SHARE if peer_python else 1.0) / len(DTYPES)
    shape = case.network.input_shape
    inputs = folder / f"{case.name}.npz"
    rows = 2 * max(*case.batches, _COMPARED)
    np.savez(inputs, x=np.random.default_rng(0).standard_normal((rows, *shape)))
    row: dict[str, Any] = {
        "name": case.name,
        "label": case.label,
        "kind": case.kind,
        "input_shape": list(shape),
        "element_layers": build(case.network).element_layers,
        "own": {},
    }
    compared = min(case.batches)
    for dtype in DTYPES:
        job: dict[str, Any] = {
            "network": case.network.canonical(),
            "inputs": str(inputs),
            "dtype": dtype,
            "compare": compared,
            "threads": threads,
            "seconds": own_seconds,
            "values": str(_values(folder, case, "own", dtype)),
        }
        run_own(job | {"seconds": 0})  # compiles what no earlier run has used
        row["own"][dtype] = run_own(job)
    if peer_python is not None:
        row |= _peer(case, row["own"], end, peer_python, folder, inputs)
    return row


def _peer(
    case: Benchmark,
    own: dict[str, Any],
    end: float,
    python: Path,
    folder: Path,
    inputs: Path,
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for n, dtype in enumerate(DTYPES):
        job = {
            "network": case.network.canonical(),
            "inputs": str(inputs),
            "dtype": dtype,
            "batches": list(case.batches),
            "seconds": max(_LEAST, (end - time.perf_counter()) / (len(DTYPES) - n) - _START),
            "memory": free_memory() // 2,
            "values": str(_values(folder, case, "peer", dtype)),
        }
        result = run_peer(python, job)
        done = {b: r["ms_entry"] for b, r in result["batches"].items() if "ms_entry" in r}
        fastest = min(done, key=lambda b: done[b])
        found[dtype] = result | {"best_batch": int(fastest), "ms_entry": done[fastest]}
    best = min(found, key=lambda dtype: found[dtype]["ms_entry"])
    return {
        "peer": found,
        "peer_best": {
            "dtype": best,
            "batch": found[best]["best_batch"],
            "ms_entry": found[best]["ms_entry"],
        },
        "ratios": _ratios(own, found, found[best]["ms_entry"]),
        "difference": {
            dtype: _difference(
                _values(folder, case, "own", dtype), _values(folder, case, "peer", "float64")
            )
            for dtype in DTYPES
        },
    }


def _ratios(own: dict[str, Any], peer: dict[str, Any], best: float) -> dict[str, float]:
    """How many times faster: widegram in float32 against the peer's fastest setting; ``float32``
    and ``float64`` compare both in one precision; symmetric matrices but for ``entry``."""
    single, double = own["float32"], own["float64"]
    start = {dtype: result["import_s"] + result["first_call_s"] for dtype, result in peer.items()}
    return {
        "entry": best / single["ms_entry"],
        "symmetric": best / single["ms_entry_symmetric"],
        "float32": peer["float32"]["ms_entry"] / single["ms_entry_symmetric"],
        "float64": peer["float64"]["ms_entry"] / double["ms_entry_symmetric"],
        "start": min(start.values()) / (single["import_s"] + single["first_call_s"]),
    }


def _values(folder: Path, case: Benchmark, whose: str, dtype: str) -> Path:
    return folder / f"{case.name}-{whose}-{dtype}.npz"


def _difference(own: Path, peer: Path) -> dict[str, float]:
    """Largest difference relative to the largest value, of each kernel."""
    found = {}
    with np.load(own) as ours, np.load(peer) as theirs:
        for name in KERNELS:
            a, b = ours[name].astype(np.float64), theirs[name].astype(np.float64)
            found[name] = float(np.max(np.abs(a - b)) / np.max(np.abs(b)))
    return found
