"""How many cores this process may use."""

from __future__ import annotations

import math
import os

from widegram.machine.limits import core_quota


def usable_cores() -> int:
    """Cores that the scheduler gives this process: what Slurm or taskset pins it to, and no more
    than the quotas of its control groups, rounded up; at least 1."""
    pinned = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if pinned else os.cpu_count() or 1
    quota = core_quota()
    return max(1, min(cores, math.ceil(quota) if math.isfinite(quota) else cores))
