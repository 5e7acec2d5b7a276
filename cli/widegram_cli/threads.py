"""Libraries that start threads when they are imported, where the system allows few."""

from __future__ import annotations

import os
import resource
import threading
from pathlib import Path

from widegram.machine.cores import usable_cores
from widegram.machine.limits import ROOT, group_folders

_FEW = 4096
# OpenBLAS and the like; where it cannot start its threads OpenBLAS raises SIGINT.
_VARIABLES = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


def prepare() -> None:
    """Let linear algebra do without threads where a limit does not leave enough of them."""
    if _limit() < _FEW and not _can_start(usable_cores() + 1):
        for name in _VARIABLES:
            os.environ[name] = "1"


def _limit() -> float:
    """Processes and threads that this user and control group may have."""
    soft = resource.getrlimit(resource.RLIMIT_NPROC)[0]
    limits = [] if soft == resource.RLIM_INFINITY else [soft]
    for folder in group_folders("pids", ROOT):
        limits += _number(folder / "pids.max")
    return min(limits, default=float("inf"))


def _number(path: Path) -> list[int]:
    try:
        return [int(path.read_text())]
    except (OSError, ValueError):
        return []


def _can_start(count: int) -> bool:
    """Whether that many threads run beside one another."""
    stop = threading.Event()
    started = []
    try:
        for _ in range(count):
            thread = threading.Thread(target=stop.wait, daemon=True)
            thread.start()
            started.append(thread)
    except RuntimeError:
        return False
    finally:
        stop.set()
        for thread in started:
            thread.join()
    return True
