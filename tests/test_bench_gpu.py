"""The benchmark of the CUDA backend on a stand-in card: its arithmetic, its refusals."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cuda_standin import StandIn
from widegram_bench import gpu, gpu_card, gpu_peer, gpu_profile, gpu_run
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


def _answers(**found: Any) -> gpu_run.Start:
    """A stand-in for processes: what each kind of part prints, or the problem that ends it."""

    def start(command: list[str], seconds: float) -> tuple[str, str]:
        assert seconds > 0
        kind = "tests" if "pytest" in command else command[3]
        answer = found[kind]
        if isinstance(answer, str):
            return "", answer
        return "a warning\n" + json.dumps(answer), ""

    return start


ROW = {
    "name": "cnn21-pool", "dtype": "float32", "form": "tile", "us_entry": 50.0, "target_us": 40.0,
    "difference": {"ntk": 1e-6},
}  # fmt: skip


def test_a_part_that_fails_costs_no_other(capsys: pytest.CaptureFixture[str]) -> None:
    saved: list[str] = []
    start = _answers(
        card=CARD, own=ROW, profile={"problem": "ncu is not installed"},
        peer="an illegal address was met", tests="stopped after 120 s",
    )  # fmt: skip
    found = gpu_run.run(0, 100.0, False, True, lambda r: saved.append(json.dumps(r)), start)
    assert json.loads(saved[-1]) == json.loads(json.dumps(found))
    assert len(found["rows"]) == len(gpu.cases())
    assert found["missing"][:3] == [
        "smoke: stopped after 120 s",
        "issue bound: no ptxas or nvdisasm, or another form",
        "profile strip: ncu is not installed",
    ]
    assert "peer cnn21-pool float32 strip: an illegal address was met" in found["missing"]
    gpu_run.table(found)
    assert "50 us per entry (goal 40)" in capsys.readouterr().out


def test_ratios_and_outcomes_of_tests() -> None:
    listed = [
        "tests/test_cuda_gpu.py::test_golden[fcn 1-float32] PASSED  [ 1%]",
        "[gw1] [ 5%] FAILED tests/test_cuda_gpu.py::test_forms_agree[float32] ",
        "FAILED tests/test_cuda_gpu.py::test_forms_agree[float32] - AssertionError",
    ]

    def start(command: list[str], seconds: float) -> tuple[str, str]:
        if "pytest" in command:
            return "\n".join(listed), "1 failed, 1 passed"
        return _answers(card=CARD, own=ROW, profile={}, peer={"ms_entry": 2.5})(command, seconds)

    found = gpu_run.run(0, 100.0, False, True, lambda results: None, start)
    assert found["rows"][0]["ratio"] == 50.0
    wanted = {"passed": 1, "failed": ["tests/test_cuda_gpu.py::test_forms_agree[float32]"]}
    assert found["tests"]["smoke"] == wanted


def test_without_time_nothing_is_started() -> None:
    found = gpu_run.run(0, 0.0, False, True, lambda results: None, _answers())
    assert found["missing"][:2] == ["card: no time left", "smoke: no time left"]
    assert found["rows"] == []


def test_a_process_is_stopped_with_what_it_started() -> None:
    assert gpu_run.start(["sh", "-c", "echo 1; echo 2 >&2"], 60) == ("1\n", "")
    assert gpu_run.start(["sh", "-c", "echo 1; echo why >&2; exit 3"], 60) == ("1\n", "why")
    assert gpu_run.start(["sh", "-c", "echo 1; sleep 600"], 1) == ("1\n", "stopped after 1 s")


def test_a_part_without_a_card_is_a_problem(tmp_path: Path) -> None:
    out = tmp_path / "results" / "R.json"
    assert gpu_run.main(["--quick", "--out", str(out)]) == 1
    found = json.loads(out.read_text())
    assert found["rows"] == []
    assert [text.split(":")[0] for text in found["missing"]] == [
        "card", "own cnn21-pool float32 strip", "profile strip", "profile tile",
    ]  # fmt: skip


def test_clock_is_the_highest_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_card, "query", lambda number, field: "1980")
    card: dict[str, Any] = dict(CARD)
    with gpu_card.watched(card):
        gpu_card.threading.Event().wait(0.7)
    assert card["clock_hz"] == 1.98e9


def test_profiler_output_and_picture(tmp_path: Path) -> None:
    assert gpu_profile.parse(SAID) == {"time_ns": 1250.0}
    results: dict[str, Any] = {"card": CARD, "profile": {"strip": {"time_ns": 1250.0}}}
    assert not gpu_profile.picture(results, tmp_path / "r.png")
    numbers = dict.fromkeys(("time_ns", "dram_bytes", "l2_bytes", "ffma", "fadd", "fmul"), 1e6)
    results["profile"] |= {"tile": numbers}
    pytest.importorskip("matplotlib")
    assert gpu_profile.picture(results, tmp_path / "r.png")
    assert (tmp_path / "r.png").stat().st_size > 1000


def test_peer_without_its_package_is_a_problem_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(gpu_peer.PATH, str(tmp_path / "nothing"))
    found = gpu_peer.run(cnn(1, 2), "float32", (1,), 1.0, 2**30, tmp_path)
    assert "\n" not in found["problem"]


def test_batches_that_the_peer_finished_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    printed = json.dumps({"batches": {"8": {"ms_entry": 3.0}, "16": {"skipped": "memory"}}})

    def slow(command: list[str], **options: Any) -> None:
        raise subprocess.TimeoutExpired(command, options["timeout"], output=printed.encode())

    monkeypatch.setattr(gpu_peer.subprocess, "run", slow)
    found = gpu_peer.run(cnn(1, 2), "float32", (8, 16), 10.0, 2**30, tmp_path)
    assert (found["ms_entry"], found["best_batch"]) == (3.0, 8)
    printed = ""
    found = gpu_peer.run(cnn(1, 2), "float32", (8, 16), 10.0, 2**30, tmp_path)
    assert found == {"problem": "stopped after 17 s"}


def test_frozen_dict_is_a_hashable_mapping() -> None:
    frozen = gpu_peer.FrozenDict({"a": 1}, b=2)
    assert dict(frozen) == {"a": 1, "b": 2}
    assert hash(frozen) == hash(gpu_peer.FrozenDict(b=2, a=1))
    assert np.size(list(frozen)) == len(frozen)
