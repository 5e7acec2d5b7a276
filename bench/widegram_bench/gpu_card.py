"""A card's own numbers: multiprocessors, clocks, memory; the clock while a benchmark runs."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def describe(number: int) -> dict[str, Any]:
    """Name, compute capability, multiprocessors, memory in bytes, highest clock in Hz."""
    from numba import cuda

    gpu = cuda.gpus[number]
    with gpu:
        free, total = cuda.current_context().get_memory_info()
        device = cuda.get_current_device()
        name = device.name.decode() if isinstance(device.name, bytes) else str(device.name)
        return {
            "number": number,
            "name": name,
            "capability": tuple(device.compute_capability),
            "multiprocessors": int(device.MULTIPROCESSOR_COUNT),
            "memory": int(total),
            "memory_free": int(free),
            "clock_hz": 1e3 * int(device.CLOCK_RATE),
            "driver": query(number, "driver_version"),
        }


def query(number: int, field: str) -> str | None:
    """One field of nvidia-smi; None where that is missing."""
    command = [
        "nvidia-smi",
        f"--id={number}",
        f"--query-gpu={field}",
        "--format=csv,noheader,nounits",
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


@contextmanager
def watched(card: dict[str, Any]) -> Iterator[None]:
    """Sets ``clock_hz`` to the highest multiprocessor clock seen inside the block."""
    seen: list[float] = []
    stop = threading.Event()

    def look() -> None:
        while not stop.wait(0.5):
            value = query(card["number"], "clocks.sm")
            if value is None:
                return
            seen.append(1e6 * float(value))

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        if seen:
            card["clock_hz"] = max(seen)
