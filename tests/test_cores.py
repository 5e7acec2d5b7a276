"""How many cores a process takes: what it is pinned to, and a container's quota."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from widegram import cores


@pytest.mark.parametrize(
    ("quota", "wanted"),
    [("max 100000", 8), ("250000 100000", 3), ("50000 100000", 1), ("1600000 100000", 8),
     ("nonsense", 8), (None, 8)],
)  # fmt: skip
def test_usable_cores(
    quota: str | None, wanted: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    file = tmp_path / "cpu.max"
    if quota is not None:
        file.write_text(quota + "\n")
    monkeypatch.setattr(cores, "_QUOTA", str(file))
    assert cores.usable_cores() == wanted
