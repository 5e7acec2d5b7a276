"""Workers: what a tile costs beside its computation, how many of them a scheduler serves, and two
processes of one thread beside one process of two.

    python -m widegram_bench.workers overhead
    python -m widegram_bench.workers crowd --workers 1000
    python -m widegram_bench.workers pair --network fcn

Each prints one JSON object, in less than four minutes on two cores that have nothing else to do.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

import widegram
from widegram.workers.address import Address
from widegram.workers.pool import Workers
from widegram.workers.session import Session
from widegram_bench.worker_stub import KIND

_PROCESSES = 4
_PATIENCE = 100.0  # seconds in which a crowd has to come
_ROUNDS = 4  # tiles of each of its workers
NETWORKS = {
    "cnn-p": ("cnn-p:depth=5", (16, 16, 3)),
    "cnn-f": ("cnn-f:depth=5", (16, 16, 3)),
    "fcn": ("fcn:depth=5", (784,)),
}
SIZES = {"cnn-p": 500, "cnn-f": 6000, "fcn": 20000}


def tile_overhead(tasks: int = 400, size: int = 0) -> dict[str, float]:
    """Milliseconds that an empty item with ``size`` bytes costs from end to end, one in a group,
    through a scheduler and a worker of this machine."""
    with _workers(Address("local:1", local=1), 0.0, size) as workers:
        _drain(workers, 50, 1 << 30)
        seconds = _drain(workers, tasks, 1 << 30)  # So large that groups have one item.
    return {"tasks": tasks, "bytes": size, "ms": 1e3 * seconds / tasks}


def many_workers(count: int, seconds: float) -> dict[str, float]:
    """Tiles a second that a scheduler passes with ``count`` workers whose tiles take ``seconds``,
    or with as many as have come in time; they are threads of a few processes of this machine,
    which share its cores with it."""
    with _scheduler() as address:
        each = -(-count // _PROCESSES)
        running = [_stubs(address, each) for _ in range(_PROCESSES)]
        try:
            with _workers(Address(address, address), seconds, 1024) as workers:
                end = time.monotonic() + _PATIENCE
                while workers.count < each * _PROCESSES and time.monotonic() < end:
                    time.sleep(0.2)
                there = workers.count
                spent = _drain(workers, _ROUNDS * there, 1024)
        finally:
            for process in running:
                process.kill()
                process.wait()
    tiles = _ROUNDS * there
    return {
        "workers": there,
        "seconds_per_tile": seconds,
        "tiles_per_second": tiles / spent,
        "wanted_per_second": there / seconds,
    }


def side_by_side(name: str, n: int, turns: int, folder: Path) -> dict[str, Any]:
    """Entries a second of one process with two threads and of two processes with one each, by
    turns: of the best turns, their ratio, and the median of the ratios of all turns."""
    network, shape = NETWORKS[name]
    x = folder / f"{name}.npy"
    np.save(x, np.random.default_rng(0).normal(size=(n, *shape)).astype(np.float32))
    found: dict[str, list[float]] = {"one": [], "two": []}
    for _ in range(turns):
        for kind, options in (("one", {"threads": 2}), ("two", {"threads": 1, "dask": "local:2"})):
            out = folder / f"{name}-{kind}.h5"
            run = widegram.gram(network, x, out, overwrite=True, **options)
            found[kind].append(run.entries_per_second)
            size = out.stat().st_size
    best = {kind: max(rates) for kind, rates in found.items()}
    ratios = [two / one for one, two in zip(found["one"], found["two"], strict=True)]
    return {
        "network": network, "n": n, **best, "ratio": best["two"] / best["one"],
        "median_ratio": median(ratios), "ratios": ratios, "tile": run.tile,
        "bytes_per_tile": 2 * 4 * run.tile**2, "file_bytes": size,
    }  # fmt: skip


def writing_speed(folder: Path, n: int = 8000) -> float:
    """Bytes a second that reach a file, of a network that costs little."""
    x = np.random.default_rng(0).normal(size=(n, 8)).astype(np.float32)
    found = widegram.gram("fcn:depth=1", x, folder / "written.h5", overwrite=True)
    return found.entries_per_second * 2 * 4


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
        sizes = {"cnn-p": 200, "cnn-f": 1000, "fcn": 2000} if quick else SIZES
        turns = 1 if quick else 3
        cases = {name: side_by_side(name, n, turns, Path(folder)) for name, n in sizes.items()}
        written = writing_speed(Path(folder), 2000 if quick else 8000)
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


def main() -> None:
    """One part, as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=("overhead", "crowd", "pair"))
    parser.add_argument("--workers", type=int, default=1000, help="crowd: that sleep")
    parser.add_argument("--seconds", type=float, default=2.0, help="crowd: of a tile")
    parser.add_argument("--network", choices=tuple(SIZES), default="fcn", help="pair")
    parser.add_argument("--n", type=int, help="pair: inputs [default: by the network]")
    parser.add_argument("--turns", type=int, default=3, help="pair")
    given = parser.parse_args()
    found: dict[str, Any] = {"load": os.getloadavg()[0], "cores": os.cpu_count()}
    if given.part == "overhead":
        found["overhead"] = [tile_overhead(size=size) for size in (0, 1 << 20, 4 << 20)]
    elif given.part == "crowd":
        found["crowd"] = many_workers(given.workers, given.seconds)
    else:
        with tempfile.TemporaryDirectory() as folder:
            n = given.n or SIZES[given.network]
            pair = side_by_side(given.network, n, given.turns, Path(folder))
            written = writing_speed(Path(folder))
        task = tile_overhead(200)["ms"]
        found |= {"pair": pair, "task_ms": task, "written_per_second": written}
        found["busy"] = busy_workers(pair, task, written)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
