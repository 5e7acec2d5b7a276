"""A card's own numbers: multiprocessors, clocks, memory; the clock while a benchmark runs."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from widegram.cuda.compiling import prepare_import

# float32 results a clock and multiprocessor (CUDA C++ Programming Guide, throughput of native
# arithmetic instructions) by compute capability or its first number; None where not known here.
_LANES = {5: 128, 7: 64, 10: 128, 12: 128, (6, 0): 64, (8, 0): 64} | dict.fromkeys(
    [(6, 1), (6, 2), (8, 6), (8, 7), (8, 9), (9, 0)], 128
)


def describe(number: int) -> dict[str, Any]:
    """Name, compute capability, multiprocessors with their float32 lanes, memory in bytes and bytes
    a second, highest clock in Hz."""
    prepare_import()
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
            "float32_lanes": lanes(tuple(device.compute_capability)),
            "memory": int(total),
            "memory_free": int(free),
            "memory_bandwidth": bandwidth(device),
            "clock_hz": 1e3 * int(device.CLOCK_RATE),
            "driver": query(number, "driver_version"),
        }


def lanes(capability: tuple[int, int]) -> int | None:
    """float32 additions or products that a multiprocessor ends each clock; None if not known."""
    return _LANES.get(capability) or _LANES.get(capability[0])


def bandwidth(device: Any) -> float | None:
    """Bytes a second of a card's memory: two transfers of its bus's width each clock. None where
    the driver does not say."""
    from numba.cuda.cudadrv.driver import CudaAPIError

    try:
        kilohertz, bits = int(device.MEMORY_CLOCK_RATE), int(device.GLOBAL_MEMORY_BUS_WIDTH)
    except (AttributeError, CudaAPIError):
        return None
    return 2 * 1e3 * kilohertz * bits / 8 or None


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
