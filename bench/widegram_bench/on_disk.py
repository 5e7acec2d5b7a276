"""A Gram matrix on the disk, end to end, beside what the disk and the processor do alone.

    python -m widegram_bench.on_disk --n 20000 --folder /scratch --memory 2GB --json results.json

Before and after the run the disk is measured as `dd bs=1M conv=fsync` does, with random bytes; the
processor by the trial of `gram --plan`. The run is the command line's, in a process of its own. Its
files are removed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import widegram
from widegram.errors import WidegramError
from widegram.machine.budgets import format_size
from widegram_bench.linalg_report import machine

_BLOCK = 1 << 20
_BLOCKS = 64
_FEATURES = 784
_NETWORK = "fcn:depth=5"
_MATRICES = 2 * 4  # bytes of an entry of both, in float32


def disk_rate(folder: Path, size: int) -> float:
    """Bytes per second of writing one file of ``size`` bytes, a megabyte a call, and fsync."""
    data = np.random.default_rng(0).bytes(_BLOCKS * _BLOCK)
    blocks = [memoryview(data)[n * _BLOCK : (n + 1) * _BLOCK] for n in range(_BLOCKS)]
    path = folder / "raw"
    begun = time.perf_counter()
    with open(path, "xb", buffering=0) as file:
        for n in range(size // _BLOCK):
            file.write(blocks[n % _BLOCKS])
        os.fsync(file.fileno())
    seconds = time.perf_counter() - begun
    path.unlink()
    return size // _BLOCK * _BLOCK / seconds


def measured(x: Path, n: int, folder: Path, memory: str, raw: int) -> dict[str, Any]:
    """One row: rates in bytes of matrices per second, before and after the run; the command's own
    JSON, its peak memory."""
    out = folder / "K.h5"
    disk, computing = [disk_rate(folder, raw)], [_computing(x, n, out, memory)]
    command = [
        sys.executable, "-m", "widegram_cli", "gram", "--net", _NETWORK, "--x", str(x),
        "--limit", str(n), "--out", str(out), "--memory", memory, "--profile", "--json",
    ]  # fmt: skip
    begun = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    printed = process.stdout.read() if process.stdout else ""
    _, status, used = os.wait4(process.pid, 0)
    wall = time.perf_counter() - begun
    if status:
        raise WidegramError(f"gram ended with {os.waitstatus_to_exitcode(status)}")
    out.unlink()
    computing.append(_computing(x, n, out, memory))
    disk.append(disk_rate(folder, raw))
    rate = _MATRICES * n * n / wall
    return {
        "n": n,
        "network": _NETWORK,
        "memory": memory,
        "bytes": _MATRICES * n * n,
        "wall_seconds": wall,
        "bytes_per_second": rate,
        "disk": disk,
        "computing": computing,
        "share": rate / min(statistics.mean(disk), statistics.mean(computing)),
        "peak_memory": used.ru_maxrss * 1024,
        "processor_seconds": used.ru_utime + used.ru_stime,
        "gram": json.loads(printed),
    }


def _computing(x: Path, n: int, out: Path, memory: str) -> float:
    """Bytes per second that the processor fills, from a trial."""
    plan = widegram.gram_forecast(_NETWORK, np.load(x, mmap_mode="r")[:n], out, memory=memory)
    return plan.entries_per_second * _MATRICES


def main() -> None:
    """Measure each size, and print and keep the rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", default="8000", help="numbers of inputs, such as 8000,20000")
    parser.add_argument("--x", type=Path, help="inputs, .npy [default: random, 784 numbers each]")
    parser.add_argument("--folder", type=Path, default=Path())
    parser.add_argument("--memory", default="2GB")
    parser.add_argument("--raw", type=int, default=4, help="GB written to measure the disk")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    sizes = [int(n) for n in given.n.split(",")]
    folder = Path(tempfile.mkdtemp(dir=given.folder, prefix="on-disk-"))
    rows = []
    try:
        x = given.x or folder / "x.npy"
        if given.x is None:
            draw = np.random.default_rng(0).standard_normal((max(sizes), _FEATURES))
            np.save(x, draw.astype(np.float32))
        for n in sizes:
            rows.append(measured(x, n, folder, given.memory, given.raw * 10**9))
            _print(rows[-1])
    finally:
        shutil.rmtree(folder)
    if given.json is not None:
        given.json.write_text(json.dumps(machine() | {"rows": rows}, indent=1) + "\n")


def _print(row: dict[str, Any]) -> None:
    rates = ("disk", "computing")
    shown = ", ".join(f"{k} {' and '.join(format_size(r) for r in row[k])}/s" for k in rates)
    rate = f"{format_size(row['bytes_per_second'])}/s, {row['share']:.0%} of the lower"
    print(f"n = {row['n']}: {row['wall_seconds']:.1f} s, {rate}; {shown}", flush=True)
    for part in row["gram"]["profile"]:
        print(f"  {part['thread']} {part['part']}: {part['seconds']:.2f} s, {part['share']:.0%}")


if __name__ == "__main__":
    main()
