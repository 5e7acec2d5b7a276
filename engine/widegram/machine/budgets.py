"""Byte budgets: parsing, printing, and how much memory is free; the seconds of a trial."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from widegram.errors import WidegramError, shown
from widegram.machine.limits import ROOT, Limit, memory_limits

_UNITS = {
    "": 1, "b": 1,
    "k": 10**3, "kb": 10**3, "kib": 2**10,
    "m": 10**6, "mb": 10**6, "mib": 2**20,
    "g": 10**9, "gb": 10**9, "gib": 2**30,
    "t": 10**12, "tb": 10**12, "tib": 2**40,
}  # fmt: skip
_FALLBACK_FREE = 4 * 2**30
_SMALLEST = 16 * 10**6
# What the CPU's engine keeps at most from one matrix to the next: tables of plans, charts.
KEPT_TABLES, KEPT_CHARTS = 2**23, 2**22
# With what Python, NumPy, HDF5 and LLVM with its machine code hold beside all arrays, measured.
PROGRAM = 135 * 10**6 + KEPT_TABLES + KEPT_CHARTS
_LARGEST = 2.0**63
TRIAL_SECONDS = 5.0
"""What a forecast may compute for."""


def parse_size(size: str | int) -> int:
    """Bytes of ``"500MB"``, ``"2 GiB"``, ``"1.5g"`` or a plain number (MB = 10^6, MiB = 2^20).

    Raises :class:`WidegramError` for anything else and for budgets below 16 MB, in which no
    tile can be computed.
    """
    text = size.strip() if isinstance(size, str) else shown(size)
    match = re.fullmatch(r"([0-9]*\.?[0-9]+)\s*([A-Za-z]*)", text)
    if match is None or match[2].lower() not in _UNITS:
        raise WidegramError(f"memory size {text!r} is not understood; write 500MB, 2GiB or bytes")
    asked = float(match[1]) * _UNITS[match[2].lower()]
    if asked > _LARGEST:
        raise WidegramError(f"memory budget {text!r} is too large; give at most 8 EiB")
    bytes_ = int(asked)
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
    """Bytes that can be used without swapping: the least of what the machine has and what every
    limit on this process leaves (:func:`widegram.machine.limits.memory_limits`)."""
    return tightest().left


def tightest(root: Path = ROOT, environment: Mapping[str, str] = os.environ) -> Limit:
    """The limit that leaves least, and how much; the machine's own memory counts as one."""
    limits = memory_limits(root, environment)
    return min([Limit(_machine_free(root), "this machine"), *limits])


def _machine_free(root: Path) -> int:
    try:
        meminfo = (root / "proc/meminfo").read_text()
    except OSError:
        return _FALLBACK_FREE
    found = re.search(r"^MemAvailable:\s*(\d+) kB", meminfo, re.MULTILINE)
    return int(found[1]) * 1024 if found else _FALLBACK_FREE


def kernel_budget(memory: str | int | None) -> int:
    """Bytes for what computes kernels, given what the whole process may use.

    None is a quarter of what is free. The interpreter, its libraries and what stays between
    matrices are taken off, down to 16 MB: a limit under what they need cannot be kept by anything
    done here.
    """
    return max(budget(memory) - PROGRAM, _SMALLEST)


def budget(memory: str | int | None) -> int:
    """The byte budget of a command: ``memory``, or a quarter of what is free."""
    return max(free_memory() // 4, _SMALLEST) if memory is None else parse_size(memory)


def require_memory(needed: int, memory: str | int | None, what: str, remedy: str) -> int:
    """The byte budget, refused where ``what`` needs more of it.

    Raises WidegramError naming both sizes and ``remedy``.
    """
    allowed = budget(memory)
    if needed > allowed:
        raise WidegramError(
            f"{what} needs {format_size(needed)} of memory, {format_size(allowed)} are allowed; "
            f"{remedy} or give a larger --memory"
        )
    return allowed
