"""The benchmark of the CUDA backend on a stand-in card: its arithmetic, its refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cuda_standin import StandIn
from widegram_bench import gpu, gpu_card, gpu_peer, gpu_profile
from widegram_bench.networks import cnn

CARD = {
    "number": 0, "name": "stand-in", "capability": (9, 0), "multiprocessors": 100,
    "memory": 2**30, "clock_hz": 1e9,
}  # fmt: skip
# Two lines of `ncu --csv`, and one of the program that it ran.
SAID = """compiling
"ID","Kernel Name","Metric Name","Metric Unit","Metric Value"
"0","kernel","gpu__time_duration.sum","ns","1,250"
"0","kernel","dram__bytes.sum","byte","n/a"
"""


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> gpu.Case:
    monkeypatch.setattr(gpu, "_SMALLEST", 4)
    monkeypatch.setattr(gpu, "_LARGEST", 4)
    return gpu.Case("tiny", cnn(2, 2), "float64", 1.0, 2.0, (1,))


def test_a_row_says_time_rate_and_error(tiny: gpu.Case) -> None:
    row = gpu.measure(tiny, StandIn(), 0.1)
    assert row["n"] == 4
    assert row["rate"] == pytest.approx(row["element_layers"] / row["us_entry"] * 1e6)
    # Two backends in float64.
    assert max(row["difference"].values()) < 1e-13


def test_what_is_missing_is_named(tiny: gpu.Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "cases", lambda: [tiny])
    monkeypatch.setattr(gpu, "tool", lambda name: None)
    monkeypatch.setattr(gpu_card, "describe", lambda number: dict(CARD))
    monkeypatch.setattr(gpu_card, "query", lambda number, field: None)
    monkeypatch.setattr(gpu_profile.shutil, "which", lambda name: None)
    monkeypatch.setattr(gpu_peer, "run", lambda *arguments: {"problem": "not installed"})
    found = gpu.run(StandIn(), 0, 1.0, False)
    assert found["missing"] == [
        "issue bound: no ptxas or nvdisasm",
        "neural-tangents: not installed",
        "profiler: ncu is not installed",
    ]
    json.dumps(found)


def test_clock_is_the_highest_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_card, "query", lambda number, field: "1980")
    card: dict[str, Any] = dict(CARD)
    with gpu_card.watched(card):
        gpu_card.threading.Event().wait(0.7)
    assert card["clock_hz"] == 1.98e9


def test_profiler_output_and_picture(tmp_path: Path) -> None:
    assert gpu_profile.parse(SAID) == {"time_ns": 1250.0}
    results: dict[str, Any] = {"card": CARD, "profile": {"time_ns": 1250.0}}
    assert not gpu_profile.picture(results, tmp_path / "r.png")
    numbers = dict.fromkeys(("time_ns", "dram_bytes", "l2_bytes", "ffma", "fadd", "fmul"), 1e6)
    results["profile"] = numbers
    pytest.importorskip("matplotlib")
    assert gpu_profile.picture(results, tmp_path / "r.png")
    assert (tmp_path / "r.png").stat().st_size > 1000


def test_peer_without_its_package_is_a_problem_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(gpu_peer.PATH, str(tmp_path / "nothing"))
    found = gpu_peer.run(cnn(1, 2), "float32", (1,), 1.0, 2**30, tmp_path)
    assert "\n" not in found["problem"]


def test_frozen_dict_is_a_hashable_mapping() -> None:
    frozen = gpu_peer.FrozenDict({"a": 1}, b=2)
    assert dict(frozen) == {"a": 1, "b": 2}
    assert hash(frozen) == hash(gpu_peer.FrozenDict(b=2, a=1))
    assert np.size(list(frozen)) == len(frozen)
