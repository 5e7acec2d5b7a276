"""How many cores this process may use."""

from __future__ import annotations

import math
import os
from pathlib import Path

_QUOTA = "/sys/fs/cgroup/cpu.max"


def usable_cores() -> int:
    """Cores that the scheduler gives this process: what Slurm or taskset pins it to, and no more
    than its control group's quota; at least 1."""
    pinned = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if pinned else os.cpu_count() or 1
    return max(1, min(cores, _quota()))


def _quota() -> int:
    """Cores that a container's quota amounts to, rounded up; many without one."""
    many = 1 << 30
    try:
        allowed, period = Path(_QUOTA).read_text().split()
        return many if allowed == "max" else math.ceil(int(allowed) / int(period))
    except (OSError, ValueError):
        return many
