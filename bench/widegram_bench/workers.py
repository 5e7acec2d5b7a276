"""Workers: what a tile costs beside its computation, how many of them a scheduler serves, and two
processes of one thread beside one process of two."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

import widegram
from widegram.workers.address import Address
from widegram.workers.pool import Workers
from widegram.workers.session import Session
from widegram_bench.worker_stub import KIND

_PROCESSES = 4
NETWORKS = {
    "cnn-p": ("cnn-p:depth=5", (16, 16, 3)),
    "cnn-f": ("cnn-f:depth=5", (16, 16, 3)),
    "fcn": ("fcn:depth=5", (784,)),
}


def tile_overhead(tasks: int = 400, size: int = 0) -> dict[str, float]:
    """Milliseconds that an empty item with ``size`` bytes costs from end to end, one in a group,
    through a scheduler and a worker of this machine."""
    with _workers(Address("local:1", local=1), 0.0, size) as workers:
        _drain(workers, 50, 1 << 30)
        seconds = _drain(workers, tasks, 1 << 30)  # So large that groups have one item.
    return {"tasks": tasks, "bytes": size, "ms": 1e3 * seconds / tasks}


def many_workers(count: int, seconds: float, rounds: int = 4) -> dict[str, float]:
    """Tiles a second that a scheduler passes with ``count`` workers whose tiles take ``seconds``;
    the workers are threads of a few processes of this machine, which share its cores with it."""
    with _scheduler() as address:
        each = -(-count // _PROCESSES)
        running = [_stubs(address, each) for _ in range(_PROCESSES)]
        try:
            with _workers(Address(address, address), seconds, 1024) as workers:
                end = time.monotonic() + 300
                while workers.count < each * _PROCESSES and time.monotonic() < end:
                    time.sleep(0.2)
                there = workers.count
                spent = _drain(workers, rounds * there, 1024)
        finally:
            for process in running:
                process.kill()
                process.wait()
    tiles = rounds * there
    return {
        "workers": there,
        "seconds_per_tile": seconds,
        "tiles_per_second": tiles / spent,
        "wanted_per_second": there / seconds,
    }


def side_by_side(name: str, n: int, turns: int, folder: Path) -> dict[str, Any]:
    """Entries a second of two processes with a thread each, of one process with two threads, and
    the ratio of the best turns."""
    network, shape = NETWORKS[name]
    x = folder / f"{name}.npy"
    np.save(x, np.random.default_rng(0).normal(size=(n, *shape)).astype(np.float32))
    best = {"one": 0.0, "two": 0.0}
    for _ in range(turns):
        for kind, options in (("one", {"threads": 2}), ("two", {"threads": 1, "dask": "local:2"})):
            out = folder / f"{name}-{kind}.h5"
            found = widegram.gram(network, x, out, overwrite=True, **options)
            best[kind] = max(best[kind], found.entries_per_second)
            size = out.stat().st_size
    return {
        "network": network, "n": n, **best, "ratio": best["two"] / best["one"],
        "tile": found.tile, "bytes_per_tile": 2 * 4 * found.tile**2, "file_bytes": size,
    }  # fmt: skip


def busy_workers(case: dict[str, Any], task_ms: float, bytes_per_second: float) -> dict[str, Any]:
    """How many workers of one thread keep busy: what the scheduler's time for a group, and the
    bytes that one writer takes, allow. A group takes half a second, or one tile."""
    entries = case["one"] / 2  # of a thread
    seconds = case["tile"] ** 2 * (2 if case["n"] > case["tile"] else 1) / entries
    group = max(seconds, 0.5)
    return {
        "network": case["network"],
        "seconds_per_tile": seconds,
        "by_scheduler": group / (task_ms / 1e3),
        "by_writer": bytes_per_second / (2 * case["bytes_per_tile"] / seconds),
    }


def run(suite: str) -> dict[str, Any]:
    """All of it; ``suite`` 'quick' takes about a minute."""
    quick = suite == "quick"
    with tempfile.TemporaryDirectory() as folder:
        overhead = [tile_overhead(size=size) for size in (0, 2 << 20)]
        crowd = many_workers(20 if quick else 1000, 0.5 if quick else 2.0)
        sizes = {"cnn-p": 200, "cnn-f": 1000, "fcn": 2000} if quick else {
            "cnn-p": 700, "cnn-f": 6000, "fcn": 20000,
        }  # fmt: skip
        turns = 1 if quick else 3
        cases = {name: side_by_side(name, n, turns, Path(folder)) for name, n in sizes.items()}
    written = cases["fcn"]["two"] * 2 * 4  # bytes a second that reached a file
    busy = [busy_workers(case, overhead[0]["ms"], written) for case in cases.values()]
    return {
        "load": os.getloadavg()[0], "cores": os.cpu_count(), "overhead": overhead,
        "many": crowd, "side_by_side": cases, "busy": busy,
    }  # fmt: skip


def _workers(address: Address, seconds: float, size: int) -> Workers:
    session = Session(KIND, {"seconds": seconds, "bytes": size})
    return Workers(address, session, memory=1 << 28, threads=1)


def _drain(workers: Workers, count: int, size: int) -> float:
    """Seconds until ``count`` items have come back."""
    start, left = time.perf_counter(), count
    workers.begin(list(range(count)), size)
    while left:
        done = workers.next()
        if done is not None:
            left -= len(done.items)
            workers.written(done)
    return time.perf_counter() - start


def _stubs(address: str, count: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "widegram_bench.worker_stub", address, str(count)]
    return subprocess.Popen(
        [*command, tempfile.mkdtemp(prefix="widegram-bench-")],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


@contextmanager
def _scheduler() -> Iterator[str]:
    """A scheduler in a process of its own, as on a cluster."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "scheduler.json"
        process = subprocess.Popen(
            [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1",
             "--port", "0", "--no-dashboard", "--scheduler-file", str(file)],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            while not file.exists() or not file.read_text():
                time.sleep(0.1)
            yield f"tcp://127.0.0.1:{file.read_text().split('127.0.0.1:')[1].split(chr(34))[0]}"
        finally:
            process.kill()
            process.wait()
