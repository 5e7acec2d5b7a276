"""What the system lets this process use: control groups, the batch system, resource limits.

Control groups nest, and each level may limit: what counts is the least of all levels, from the
process's own group to the root of what is mounted here. Everything is read below a folder ``root``
(``/`` outside of tests), and what cannot be read is no limit.
"""

from __future__ import annotations

import math
import os
import re
import resource
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path("/")
_UNLIMITED = 1 << 60  # Version 1 of control groups writes a number near 2^63 for "no limit".


class Limit(NamedTuple):
    """What a limit leaves, in bytes, and the limit in words."""

    left: int
    name: str


def memory_limits(root: Path = ROOT, environment: Mapping[str, str] = os.environ) -> list[Limit]:
    """What every limit on memory leaves to this process; empty where there is none.

    Control groups of both versions (what the kernel can take back from file caches counts as
    left), ``SLURM_MEM_PER_NODE``, ``_PER_CPU`` and ``_PER_GPU``, and ``ulimit -v``, ``-d``, ``-m``.
    """
    found = [*_group_memory(root), *_slurm_memory(root, environment), *_resources(root)]
    return [Limit(max(limit.left, 0), limit.name) for limit in found]


def core_quota(root: Path = ROOT) -> float:
    """Cores that the quotas of this process's control groups amount to; infinite without one."""
    quotas = [math.inf]
    for folder in group_folders("cpu", root):
        version_2 = _text(folder / "cpu.max").split()
        version_1 = [_text(folder / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")]
        allowed, period = version_2 if len(version_2) == 2 else version_1
        if allowed.isdecimal() and period.isdecimal() and int(allowed) and int(period):
            quotas.append(int(allowed) / int(period))
    return min(quotas)


def group_folders(controller: str, root: Path = ROOT) -> tuple[Path, ...]:
    """The folders of this process's control groups for ``controller``, version 1 and 2, each
    followed by those of its parents."""
    process = root / "proc/self"
    return _folders(controller, root, _text(process / "cgroup"), _text(process / "mountinfo"))


@lru_cache(maxsize=8)  # every computation asks, and hardly ever is the answer another one
def _folders(controller: str, root: Path, own: str, mounts: str) -> tuple[Path, ...]:
    """The folders of :func:`group_folders`, from what the system says of this process's groups and
    of what is mounted."""
    groups = _own_groups(own)
    folders: list[Path] = []
    for kind, options, mounted, place in _group_mounts(mounts):
        if kind == "cgroup2":
            group = groups.get("")
        else:
            group = groups.get(controller) if controller in options else None
        if group is None:
            continue
        top = root / place.lstrip("/")
        folder = top / _below(group, mounted)
        folders += [folder, *(parent for parent in folder.parents if parent.is_relative_to(top))]
    return tuple(folders)


def _own_groups(text: str) -> dict[str, str]:
    """The group of each controller; that of version 2 under the empty name."""
    groups = {}
    for line in text.splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers or number == "0":
            groups.update(dict.fromkeys(controllers.split(","), path))
    return groups


def _group_mounts(text: str) -> Iterator[tuple[str, list[str], str, str]]:
    """(cgroup or cgroup2, options, mounted group, mount point) of each mounted hierarchy."""
    for line in text.splitlines():
        fields, _, kind = line.partition(" - ")
        columns, types = fields.split(), kind.split()
        if len(columns) >= 5 and len(types) >= 3 and types[0] in ("cgroup", "cgroup2"):
            mounted, place = (_unescaped(column) for column in columns[3:5])
            yield types[0], types[2].split(","), mounted, place


def _below(group: str, mounted: str) -> str:
    """Path of ``group`` below the mounted one; that itself where the group is not visible here."""
    if mounted != "/":
        inside = group == mounted or group.startswith(mounted.rstrip("/") + "/")
        group = group[len(mounted) :] if inside else ""
    return "" if ".." in group.split("/") else group.strip("/")


def _unescaped(field: str) -> str:
    """Spaces and the like are written in octal."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), field)


def _group_memory(root: Path) -> Iterator[Limit]:
    for folder in group_folders("memory", root):
        for limit, usage in (
            ("memory.max", "memory.current"),
            ("memory.high", "memory.current"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes"),
        ):
            allowed = _number(folder / limit)
            if allowed is not None and allowed < _UNLIMITED:
                used = _number(folder / usage) or 0
                cache = _field(folder / "memory.stat", "inactive_file")
                yield Limit(allowed - max(used - cache, 0), f"control group, {folder / limit}")


def _slurm_memory(root: Path, environment: Mapping[str, str]) -> Iterator[Limit]:
    for name, counts in (
        ("SLURM_MEM_PER_NODE", ()),
        ("SLURM_MEM_PER_CPU", ("SLURM_CPUS_ON_NODE", "SLURM_CPUS_PER_TASK")),
        ("SLURM_MEM_PER_GPU", ("SLURM_GPUS_ON_NODE",)),
    ):
        share = _slurm_bytes(environment.get(name, ""))
        if not share:  # 0 stands for all of the node's memory
            continue
        times = next((int(n) for key in counts if (n := environment.get(key, "")).isdecimal()), 1)
        used = _field(root / "proc/self/status", "VmRSS:") * 1024
        yield Limit(share * max(times, 1) - used, name)


def _slurm_bytes(text: str) -> int:
    """Slurm counts megabytes of 2^20 unless a letter says otherwise."""
    match = re.fullmatch(r"(\d{1,15})([KMGT]?)", text.strip().upper())
    return int(match[1]) << {"K": 10, "M": 20, "": 20, "G": 30, "T": 40}[match[2]] if match else 0


def _resources(root: Path) -> Iterator[Limit]:
    status = root / "proc/self/status"
    for kind, used, name in (
        (resource.RLIMIT_AS, "VmSize:", "address space, ulimit -v"),
        (resource.RLIMIT_DATA, "VmData:", "data segment, ulimit -d"),
        (resource.RLIMIT_RSS, "VmRSS:", "resident memory, ulimit -m"),
    ):
        allowed = resource.getrlimit(kind)[0]
        if allowed != resource.RLIM_INFINITY:
            yield Limit(allowed - _field(status, used) * 1024, name)


def _field(path: Path, name: str) -> int:
    """The number after ``name`` in a file of such lines, 0 where there is none."""
    for line in _text(path).splitlines():
        words = line.split()
        if len(words) > 1 and words[0] == name and words[1].isdecimal():
            return int(words[1])
    return 0


def _number(path: Path) -> int | None:
    text = _text(path).strip()
    return int(text) if text.isdecimal() else None


def _text(path: Path) -> str:
    try:
        with open(path, errors="replace") as file:
            return file.read()
    except (OSError, ValueError):
        return ""
