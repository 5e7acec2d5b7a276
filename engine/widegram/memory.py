"""Byte budgets: parsing, printing, and how much memory is free."""

from __future__ import annotations

import re
from pathlib import Path

from widegram.errors import WidegramError

_UNITS = {
    "": 1, "b": 1,
    "k": 10**3, "kb": 10**3, "kib": 2**10,
    "m": 10**6, "mb": 10**6, "mib": 2**20,
    "g": 10**9, "gb": 10**9, "gib": 2**30,
    "t": 10**12, "tb": 10**12, "tib": 2**40,
}  # fmt: skip
_FALLBACK_FREE = 4 * 2**30
_SMALLEST = 16 * 10**6


def parse_size(size: str | int) -> int:
    """Bytes of ``"500MB"``, ``"2 GiB"``, ``"1.5g"`` or a plain number (MB = 10^6, MiB = 2^20).

    Raises :class:`WidegramError` for anything else and for budgets below 16 MB, in which no
    tile can be computed.
    """
    text = str(size).strip()
    match = re.fullmatch(r"([0-9]*\.?[0-9]+)\s*([A-Za-z]*)", text)
    if match is None or match[2].lower() not in _UNITS:
        raise WidegramError(f"memory size {text!r} is not understood; write 500MB, 2GiB or bytes")
    bytes_ = int(float(match[1]) * _UNITS[match[2].lower()])
    if bytes_ < _SMALLEST:
        raise WidegramError(f"memory budget {text!r} is too small; give at least 16MB")
    return bytes_


def format_size(bytes_: float) -> str:
    """``1234567`` as ``"1.2 MB"``."""
    for unit in ("B", "kB", "MB", "GB"):
        if bytes_ < 1000:
            return f"{bytes_:.0f} B" if unit == "B" else f"{bytes_:.1f} {unit}"
        bytes_ /= 1000
    return f"{bytes_:.1f} TB"


def free_memory() -> int:
    """Bytes that can be used without swapping: the smaller of the machine's and the cgroup's."""
    free = _FALLBACK_FREE
    try:
        meminfo = Path("/proc/meminfo").read_text()
        if found := re.search(r"^MemAvailable:\s*(\d+) kB", meminfo, re.MULTILINE):
            free = int(found[1]) * 1024
    except OSError:
        pass
    return min([free, *_cgroup_free()])


def _cgroup_free() -> list[int]:
    """What the control group of a container leaves, where there is such a limit."""
    for limit, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        (
            "/sys/fs/cgroup/memory/memory.limit_in_bytes",
            "/sys/fs/cgroup/memory/memory.usage_in_bytes",
        ),
    ):
        try:
            left = int(Path(limit).read_text()) - int(Path(used).read_text())
        except (OSError, ValueError):
            continue
        return [max(left, _SMALLEST)]
    return []


def budget(memory: str | int | None) -> int:
    """The byte budget of a command: ``memory``, or a quarter of what is free."""
    return max(free_memory() // 4, _SMALLEST) if memory is None else parse_size(memory)
