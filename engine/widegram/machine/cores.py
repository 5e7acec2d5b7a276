"""How many cores this process may use."""

from __future__ import annotations

import math
import os

from widegram.machine.limits import core_quota


def usable_cores() -> int:
    """Cores that the scheduler gives this process: what Slurm or taskset pins it to, and no more
    than the quotas of its control groups, rounded up; at least 1."""
    cores, quota = schedulable_cores(), core_quota()
    return max(1, min(cores, math.ceil(quota) if math.isfinite(quota) else cores))


def schedulable_cores() -> int:
    """Cores that threads of this process may run on, quotas aside: as many as libraries see."""
    pinned = hasattr(os, "sched_getaffinity")
    return len(os.sched_getaffinity(0)) if pinned else os.cpu_count() or 1
