"""What a process may use, read from made-up trees of control groups, Slurm and ulimit."""

from __future__ import annotations

import math
import os
import resource
from pathlib import Path

import pytest

from widegram.machine import budgets, cores, limits

V2 = "31 23 0:28 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = (
    "31 23 0:28 / /sys/fs/cgroup ro - tmpfs tmpfs ro,mode=755\n"
    "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
    "35 31 0:32 / /sys/fs/cgroup/memory rw shared:9 - cgroup cgroup rw,memory\n"
)
MEGABYTE = 1 << 20


@pytest.fixture(autouse=True)
def no_ulimit(monkeypatch: pytest.MonkeyPatch) -> None:
    endless = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    monkeypatch.setattr(resource, "getrlimit", lambda _: endless)


def tree(root: Path, files: dict[str, object]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n" if not str(text).endswith("\n") else str(text))
    return root


def v2(root: Path, group: str, files: dict[str, object], mounts: str = V2) -> Path:
    return tree(
        root,
        {"proc/self/cgroup": f"0::{group}", "proc/self/mountinfo": mounts}
        | {f"sys/fs/cgroup/{name}": text for name, text in files.items()},
    )


def left(root: Path, environment: dict[str, str] | None = None) -> list[int]:
    return sorted(limit.left for limit in limits.memory_limits(root, environment or {}))


def test_the_least_of_all_levels_counts(tmp_path: Path) -> None:
    root = v2(
        tmp_path,
        "/system.slice/job.scope/step",
        {
            "system.slice/job.scope/step/memory.max": "max",
            "system.slice/job.scope/step/memory.high": 900 * MEGABYTE,
            "system.slice/job.scope/step/memory.current": 100 * MEGABYTE,
            "system.slice/job.scope/memory.max": 200 * MEGABYTE,
            "system.slice/job.scope/memory.current": 120 * MEGABYTE,
            "system.slice/memory.max": 4000 * MEGABYTE,
            "system.slice/memory.current": 3000 * MEGABYTE,
            "system.slice/other/memory.max": 7,
        },
    )
    assert left(root) == [80 * MEGABYTE, 800 * MEGABYTE, 1000 * MEGABYTE]
    tree(root, {"proc/meminfo": "MemTotal: 64000000 kB\nMemAvailable: 23000000 kB"})
    assert budgets.tightest(root, {}).left == 80 * MEGABYTE
    assert "job.scope/memory.max" in budgets.tightest(root, {}).name


def test_file_cache_that_can_be_dropped_is_free(tmp_path: Path) -> None:
    root = v2(
        tmp_path,
        "/job",
        {
            "job/memory.max": 200 * MEGABYTE,
            "job/memory.current": 190 * MEGABYTE,
            "job/memory.stat": f"anon 5\ninactive_file {150 * MEGABYTE}\nactive_file 9",
        },
    )
    assert left(root) == [160 * MEGABYTE]


def test_usage_beyond_a_limit_leaves_nothing_and_not_less(tmp_path: Path) -> None:
    root = v2(tmp_path, "/job", {"job/memory.max": 5, "job/memory.current": 9})
    assert left(root) == [0]


def test_version_1(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        {
            "proc/self/cgroup": "9:memory:/slurm/job_7/step_0\n3:cpu,cpuacct:/slurm/job_7\n0::/",
            "proc/self/mountinfo": V1,
            "sys/fs/cgroup/memory/slurm/job_7/step_0/memory.limit_in_bytes": 9223372036854771712,
            "sys/fs/cgroup/memory/slurm/job_7/memory.limit_in_bytes": 300 * MEGABYTE,
            "sys/fs/cgroup/memory/slurm/job_7/memory.usage_in_bytes": 100 * MEGABYTE,
            "sys/fs/cgroup/cpu,cpuacct/slurm/job_7/cpu.cfs_quota_us": "-1",
            "sys/fs/cgroup/cpu,cpuacct/slurm/job_7/cpu.cfs_period_us": 100000,
            "sys/fs/cgroup/cpu,cpuacct/slurm/cpu.cfs_quota_us": 150000,
            "sys/fs/cgroup/cpu,cpuacct/slurm/cpu.cfs_period_us": 100000,
        },
    )
    assert left(root) == [200 * MEGABYTE]
    assert limits.core_quota(root) == 1.5


def test_a_container_sees_its_own_group_as_the_mounted_one(tmp_path: Path) -> None:
    mounts = "40 30 0:35 /docker/abc /sys/fs/cgroup ro - cgroup2 cgroup ro\n"
    files = {"memory.max": 60 * MEGABYTE, "inner/memory.max": 50 * MEGABYTE}
    root = v2(tmp_path, "/docker/abc/inner", files, mounts)
    assert left(root) == [50 * MEGABYTE, 60 * MEGABYTE]


@pytest.mark.parametrize("group", ["/../../elsewhere", "/other"])
def test_a_group_outside_of_the_mounted_one_takes_the_mounted_one(
    group: str, tmp_path: Path
) -> None:
    mounts = "40 30 0:35 /docker/abc /sys/fs/cgroup ro - cgroup2 cgroup ro\n"
    assert left(v2(tmp_path, group, {"memory.max": 60 * MEGABYTE}, mounts)) == [60 * MEGABYTE]


def test_mount_points_with_spaces(tmp_path: Path) -> None:
    mounts = r"40 30 0:35 / /sys/my\040groups rw - cgroup2 cgroup rw" + "\n"
    root = v2(tmp_path, "/job", {}, mounts)
    tree(root, {"sys/my groups/job/memory.max": 60 * MEGABYTE})
    assert left(root) == [60 * MEGABYTE]


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({"SLURM_MEM_PER_NODE": "200"}, 150),
        ({"SLURM_MEM_PER_NODE": "2G"}, 1998),
        ({"SLURM_MEM_PER_CPU": "100", "SLURM_CPUS_ON_NODE": "4"}, 350),
        ({"SLURM_MEM_PER_CPU": "100", "SLURM_CPUS_PER_TASK": "2"}, 150),
        ({"SLURM_MEM_PER_CPU": "100"}, 50),
        ({"SLURM_MEM_PER_GPU": "1000", "SLURM_GPUS_ON_NODE": "2"}, 1950),
        ({"SLURM_MEM_PER_NODE": "0"}, None),
        ({"SLURM_MEM_PER_NODE": "lots"}, None),
        ({}, None),
    ],
)
def test_slurm(environment: dict[str, str], wanted: int | None, tmp_path: Path) -> None:
    root = tree(tmp_path, {"proc/self/status": "Name: x\nVmRSS:\t   51200 kB"})  # 50 MB in use
    assert left(root, environment) == ([] if wanted is None else [wanted * MEGABYTE])


def test_ulimits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_to = {resource.RLIMIT_AS: 900, resource.RLIMIT_DATA: 700, resource.RLIMIT_RSS: 500}
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (set_to[kind] * MEGABYTE, 0))
    status = "VmSize: 307200 kB\nVmData: 204800 kB\nVmRSS: 102400 kB"  # 300, 200, 100 MB
    assert left(tree(tmp_path, {"proc/self/status": status})) == [
        400 * MEGABYTE, 500 * MEGABYTE, 600 * MEGABYTE,
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text", ["", "nonsense", "0::", "::", "a:b:c:d\n\n:", "0::/job\nx", "0::/\x00"]
)
def test_odd_files_are_no_limit(text: str, tmp_path: Path) -> None:
    files = {"proc/self/cgroup": text, "proc/self/mountinfo": "31\n a b c - cgroup2\n" + V2}
    root = tree(tmp_path, {**files, "sys/fs/cgroup/memory.max": "many"})
    assert left(root) == []
    assert limits.core_quota(root) == math.inf
    assert budgets.tightest(root, {}).name == "this machine"


def test_the_default_budget_is_a_quarter_of_what_the_tightest_limit_leaves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    few = [limits.Limit(800 * MEGABYTE, "Slurm"), limits.Limit(1 << 50, "ulimit")]
    monkeypatch.setattr(budgets, "memory_limits", lambda *_: few)
    assert budgets.budget(None) == 200 * MEGABYTE


@pytest.mark.parametrize(
    ("quotas", "wanted"),
    [
        ({}, 8),
        ({"job/cpu.max": "max 100000"}, 8),
        ({"job/cpu.max": "250000 100000"}, 3),
        ({"job/cpu.max": "max 100000", "cpu.max": "50000 100000"}, 1),
        ({"job/cpu.max": "1600000 100000"}, 8),
        ({"job/cpu.max": "nonsense"}, 8),
    ],
)
def test_usable_cores(
    quotas: dict[str, object], wanted: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    root = v2(tmp_path, "/job", quotas)
    monkeypatch.setattr(cores, "core_quota", lambda: limits.core_quota(root))
    assert cores.usable_cores() == wanted
