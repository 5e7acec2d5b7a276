"""The benchmark of the CUDA backend on a stand-in card: its arithmetic, its refusals."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cli_support import run
from virtual_card.devices import Emulated
from widegram_bench.gpu import agenda, card, measure, part, peer_on_card, profiler
from widegram_bench.gpu import run as runs
from widegram_bench.gpu.cases import Case, cases
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
def tiny(monkeypatch: pytest.MonkeyPatch) -> Case:
    monkeypatch.setattr(measure, "_SMALLEST", 4)
    monkeypatch.setattr(measure, "_LARGEST", 4)
    return Case("tiny", cnn(2, 2), "float64", 1.0, 2.0, (1,))


def test_a_row_is_known_before_it_is_compared_and_bounded(tiny: Case) -> None:
    timed, row = measure.own(tiny, Emulated(), dict(CARD), 0.1)
    assert timed == {key: value for key, value in row.items() if key != "difference"}
    assert row["n"] == 4
    assert row["rate"] == pytest.approx(row["element_layers"] / row["us_entry"] * 1e6)
    # Two backends in float64.
    assert max(row["difference"].values()) < 1e-13
    found = measure.bound({"instructions_per_element_layer": 30.0}, row)
    # 100 multiprocessors of 4 schedulers for 32 lanes each, at 1 GHz.
    assert found["us_entry"] == pytest.approx(row["element_layers"] * 30 / 12.8e6)
    assert found["reached"] == found["us_entry"] / row["us_entry"]


def _answers(**found: Any) -> runs.Start:
    """A stand-in for processes: what each kind of part prints, or the problem that ends it."""

    def start(command: list[str], seconds: float) -> tuple[str, str]:
        assert seconds > 0
        kind = "tests" if "pytest" in command else command[3]
        answer = ({"compiled": KERNELS} | found)[kind]
        if isinstance(answer, str):
            return "", answer
        if kind == "own":
            answer = answer | dict(zip(("name", "dtype"), command[6:], strict=True))
        return "a warning\n" + json.dumps(answer), ""

    return start


ROW = {
    "name": "cnn21-pool", "dtype": "float32", "us_entry": 50.0, "target_us": 40.0,
    "clock_hz": 1e9, "multiprocessors": 100, "element_layers": 22e6, "difference": {"ntk": 1e-6},
}  # fmt: skip
LOOP = {"instructions_per_element_layer": 20.0}
KERNEL = {"case": ["cnn21-pool", "float32"], "kernel": "stage 0", "local": 24}
KERNELS = {"kernels": [KERNEL], "failed": [["fcn1", "float32", "no libNVVM"]], "seconds": 2.0}


@pytest.fixture(autouse=True)
def _all_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "lacking", dict)


def test_a_part_that_fails_costs_no_other(capsys: pytest.CaptureFixture[str]) -> None:
    saved: list[str] = []
    start = _answers(
        card=CARD, own=ROW, profile={"problem": "ncu is not installed"}, bound=LOOP,
        peer="an illegal address was met", tests="stopped after 120 s",
    )  # fmt: skip
    found = runs.run(0, 1000.0, False, True, lambda r: saved.append(json.dumps(r)), start)
    assert json.loads(saved[-1]) == json.loads(json.dumps(found))
    assert len(found["rows"]) == len(cases())
    assert found["missing"][:4] == [
        "smoke: stopped after 120 s; 0 tests ended",
        "peer cnn21-pool float32: an illegal address was met",
        "peer cnn21-flatten float32: an illegal address was met",
        "profile: ncu is not installed",
    ]
    assert found["rows"][0]["bound"]["reached"] == pytest.approx(22 * 20 / 12.8 / 50)
    runs.table(found)
    said = capsys.readouterr().out
    assert "50 us per entry (goal 40), 69 % of the issue" in said
    assert "cnn21-pool float32, stage 0: spills 24 bytes" in said
    assert "not compiled: fcn1 float32 no libNVVM" in said


def test_what_was_printed_before_a_part_was_stopped_counts() -> None:
    known = {key: value for key, value in ROW.items() if key != "difference"}

    def start(command: list[str], seconds: float) -> tuple[str, str]:
        if command[3] == "own":
            return json.dumps(known) + '\n{"name": "cnn2', "stopped after 60 s"
        return _answers(card=CARD, bound=LOOP, profile={"time_ns": 1.0})(command, seconds)

    found = runs.run(0, 100.0, True, False, lambda results: None, start)
    assert found["rows"][0]["us_entry"] == 50
    assert found["missing"] == ["own cnn21-pool float32, in part: stopped after 60 s"]
    assert "off by" not in runs.line(found["rows"][0])


def _titles(parts: list[agenda.AgendaPart]) -> list[str]:
    return [part.title for part in parts]


def test_what_matters_most_comes_first() -> None:
    parts = agenda.plan(cases(), tests=True, peers=True)
    titles = _titles(parts)
    assert titles[:12] == [
        "card", "compiled", "smoke", "own cnn21-pool float32", "peer cnn21-pool float32",
        "own cnn21-flatten float32", "peer cnn21-flatten float32", "own myrtle10 float32",
        "own cnn21-pool float64", "profile", "golden values", "properties",
    ]  # fmt: skip
    assert len({part.title for part in parts}) == len(parts)
    kinds = [part.kind for part in parts]
    assert (kinds.count("own"), kinds.count("bound")) == (len(cases()), 4)
    assert kinds.count("peer") == sum(bool(case.batches) for case in cases())
    assert not {"smoke", "peer", "golden values"} & set(
        _titles(agenda.plan(cases(), tests=False, peers=False))
    )


def test_parts_that_hang_leave_time_for_the_others() -> None:
    parts, left = agenda.plan(cases(), tests=True, peers=True), 440.0
    while parts:
        part, *parts = parts
        seconds = agenda.limit(part, parts, left)
        assert seconds >= part.least
        left -= seconds
    assert left >= 0


def test_too_little_time_is_shared() -> None:
    parts = agenda.plan(cases()[:1], tests=False, peers=False)
    assert _titles(parts)[:3] == ["card", "own cnn21-pool float32", "profile"]
    assert agenda.limit(parts[0], parts[1:], 20.0) == 10
    assert agenda.limit(parts[1], parts[2:], 16.0) == 10
    assert agenda.limit(parts[2], parts[3:], 6.0) == 6
    assert agenda.limit(parts[3], parts[4:], -1.0) == 0


def test_packages_that_are_missing_are_named_once(monkeypatch: pytest.MonkeyPatch) -> None:
    start = _answers(card=CARD, own=ROW, bound=LOOP, profile={"time_ns": 1.0})
    for lacks, wanted in (
        ({"pytest", "jax"}, ["tests: this Python lacks pytest", "peer: this Python lacks jax"]),
        ({"numba_cuda", "xxhash"}, ["everything: this Python lacks numba-cuda, xxhash"]),
    ):
        monkeypatch.setattr(agenda, "find_spec", lambda name, _=lacks: None if name in _ else 1)
        monkeypatch.setattr(runs, "lacking", agenda.lacking)
        found = runs.run(0, 1000.0, False, True, lambda results: None, start)
        assert found["missing"] == wanted
        assert bool(found["rows"]) == ("everything" not in wanted[0])


BARE = """
import importlib.util, sys
import pytest
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("hypothesis", "scipy", "click", "rich", "mpmath", "sklearn"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
found = importlib.util.find_spec
def without(name, package=None):
    return None if name == "hypothesis" else found(name, package)
importlib.util.find_spec = without
sys.exit(pytest.main(sys.argv[1:]))
"""


def test_the_tests_for_a_card_need_little() -> None:
    arguments = ["-p", "no:cacheprovider", "-m", "gpu", "--collect-only", "-q"]
    done = subprocess.run(
        [sys.executable, "-c", BARE, *arguments, "tests/test_cuda_gpu.py"],
        capture_output=True, text=True, check=False, cwd=Path(__file__).parents[1],
        env=os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "test_forms_agree" in done.stdout


def test_bounds_say_what_they_lack(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "tool", lambda name: None if name == "nvdisasm" else Path(name))
    flat = next(case for case in cases() if case.name == "fcn10")
    assert measure.layer_loop(flat, (9, 0)) == {"problem": "nvdisasm is not installed"}
    monkeypatch.setattr(measure, "tool", Path)
    assert measure.layer_loop(flat, (9, 0)) == {"problem": "no planes in registers"}


def test_a_part_that_is_not_known_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, said in (
        (["own", "0", "1", "cnn99", "float32"], "own takes no cnn99 float32, but: "),
        (["own", "0", "1"], "own takes no empty key, but: cnn21-pool float32; "),
        (["card", "0", "1", "x"], "card takes no x, but: nothing"),
    ):
        with pytest.raises(SystemExit) as ended:
            part.main(arguments)
        assert str(ended.value).startswith(said)
        assert "\n" not in str(ended.value)


def test_ratios_and_outcomes_of_tests() -> None:
    listed = [
        "tests/test_cuda_gpu.py::test_golden[fcn 1-float32] PASSED  [ 1%]",
        "2 workers [3 items]",
        "[gw1] [ 5%] FAILED tests/test_cuda_gpu.py::test_forms_agree[float32] ",
        "FAILED tests/test_cuda_gpu.py::test_forms_agree[float32] - AssertionError",
    ]

    def start(command: list[str], seconds: float) -> tuple[str, str]:
        if "pytest" in command:
            return "\n".join(listed), "1 failed, 1 passed"
        return _answers(card=CARD, own=ROW, profile={}, peer={"ms_entry": 2.5}, bound=LOOP)(
            command, seconds
        )

    found = runs.run(0, 1000.0, False, True, lambda results: None, start)
    ratios = {row["name"]: row.get("ratio") for row in found["rows"]}
    assert (ratios["cnn21-pool"], ratios["cnn21-pool-erf"]) == (50.0, None)
    assert found["rows"][0]["target_ratio"] == 20
    wanted = {"passed": 1, "failed": ["tests/test_cuda_gpu.py::test_forms_agree[float32]"]}
    assert found["tests"]["smoke"] == wanted
    assert "smoke: 1 failed, 1 passed; 2 of 3 tests ended" in found["missing"]


def test_without_time_nothing_is_started() -> None:
    found = runs.run(0, 0.0, False, True, lambda results: None, _answers())
    assert found["missing"][:2] == ["card: no time left", "compiled: no time left"]
    assert found["rows"] == []


def test_a_process_is_stopped_with_what_it_started() -> None:
    assert runs.start(["sh", "-c", "echo 1; echo 2 >&2"], 60) == ("1\n", "")
    assert runs.start(["sh", "-c", "echo 1; echo why >&2; exit 3"], 60) == ("1\n", "why")
    assert runs.start(["sh", "-c", "echo 1; sleep 600"], 0.6) == ("1\n", "stopped after 1 s")
    # One that left the group holds its output open.
    begun = time.monotonic()
    assert runs.start(["sh", "-c", "echo 1; setsid sleep 9; true"], 0.6)[0] == "1\n"
    assert runs.start(["sh", "-c", "setsid sleep 9 & echo 1"], 60) == ("1\n", "")
    assert time.monotonic() - begun < 8


def test_a_part_without_a_card_is_a_problem(tmp_path: Path) -> None:
    out = tmp_path / "results" / "R.json"
    assert runs.main(["--quick", "--out", str(out)]) == 1
    found = json.loads(out.read_text())
    assert found["rows"] == []
    assert [text.split(":")[0] for text in found["missing"]] == [
        "card", "own cnn21-pool float32", "profile", "bound cnn21-pool float32",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--suite", "full", "--threads", "2"], "--suite full, --threads"),
        (["--peer-python", "python3"], "--peer-python"),
        (["--suite", "quick", "--peer", "neural-tangents"], "--peer with --suite quick"),
    ],
)
def test_options_that_a_card_has_not_are_refused(options: list[str], named: str) -> None:
    result = run("bench", "kernels", "--device", "cuda", *options)
    assert result.exit_code == 2
    assert f"on a card there is no {named}" in result.stderr
    assert result.stderr.count("\n") == 1


def test_without_any_row_the_command_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from widegram.computing import devices

    missing = ["peer: this Python lacks jax", "card: no time left", "own: no time left"]
    monkeypatch.setattr(devices, "resolve_device", lambda device: device)
    monkeypatch.setattr(runs, "run", lambda *_: {"rows": [], "missing": missing})
    result = run("bench", "kernels", "--device", "cuda", "--out", tmp_path / "r.json")
    assert result.exit_code == 2
    wanted = "widegram: error: device cuda: nothing was measured: card: no time left\n"
    assert result.stderr == wanted


def test_a_card_says_its_bandwidth_and_its_capability_its_lanes() -> None:
    pytest.importorskip("numba_cuda")
    h100 = SimpleNamespace(MEMORY_CLOCK_RATE=2619000, GLOBAL_MEMORY_BUS_WIDTH=5120)
    assert card.bandwidth(h100) == pytest.approx(3.352e12, rel=1e-3)
    silent = SimpleNamespace(MEMORY_CLOCK_RATE=0, GLOBAL_MEMORY_BUS_WIDTH=5120)
    assert card.bandwidth(silent) is None
    assert card.bandwidth(SimpleNamespace()) is None
    known = {(5, 2): 128, (7, 5): 64, (8, 0): 64, (8, 6): 128, (9, 0): 128, (12, 0): 128}
    assert {c: card.lanes(c) for c in known} == known
    assert card.lanes((99, 0)) is None


def test_clock_is_the_highest_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(card, "query", lambda number, field: "1980")
    described: dict[str, Any] = dict(CARD)
    with card.watched(described):
        threading.Event().wait(0.7)
    assert described["clock_hz"] == 1.98e9


def test_profiler_output_and_picture(tmp_path: Path) -> None:
    assert profiler.parse(SAID) == {"time_ns": 1250.0}
    results: dict[str, Any] = {"card": CARD, "profile": {"time_ns": 1250.0}}
    assert not profiler.picture(results, tmp_path / "r.png")
    numbers = dict.fromkeys(("time_ns", "dram_bytes", "l2_bytes", "ffma", "fadd", "fmul"), 1e6)
    results["profile"] = numbers
    pytest.importorskip("matplotlib")
    assert profiler.picture(results, tmp_path / "r.png")
    assert (tmp_path / "r.png").stat().st_size > 1000
    roofs = profiler.roofs(CARD | {"float32_lanes": 64, "memory_bandwidth": None}, np.ones(2))
    assert {name: values.tolist() for name, values in roofs.items()} == {
        "arithmetic": [100 * 64 * 2 * 1e9] * 2
    }
    assert profiler.roofs(CARD, np.ones(2)) == {}


def test_the_version_of_the_peer_is_that_of_its_wheel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = tmp_path / "neural_tangents-0.6.4-py2.py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as file:
        file.writestr("neural_tangents/__init__.py", "")
        said = "Metadata-Version: 2.1\nName: neural-tangents\nVersion: 0.6.4\n"
        file.writestr("neural_tangents-0.6.4.dist-info/METADATA", said)
    monkeypatch.setenv(peer_on_card.PATH, str(wheel))
    assert peer_on_card.version(peer_on_card.package(tmp_path)) == "0.6.4"
    (tmp_path / "other" / "neural_tangents").mkdir(parents=True)
    monkeypatch.setenv(peer_on_card.PATH, str(tmp_path / "other"))
    assert peer_on_card.version(peer_on_card.package(tmp_path)) is None


def test_peer_without_its_package_is_a_problem_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(peer_on_card.PATH, str(tmp_path / "nothing"))
    found = peer_on_card.run(cnn(1, 2), "float32", (1,), 1.0, 2**30, tmp_path)
    assert "\n" not in found["problem"]


def test_batches_that_the_peer_finished_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    printed = json.dumps({"batches": {"8": {"ms_entry": 3.0}, "16": {"skipped": "memory"}}})

    def slow(command: list[str], given: str, env: Any, timeout: float) -> None:
        raise subprocess.TimeoutExpired(command, timeout, output=printed)

    monkeypatch.setattr(peer_on_card, "finished", slow)
    found = peer_on_card.run(cnn(1, 2), "float32", (8, 16), 10.0, 2**30, tmp_path)
    assert (found["ms_entry"], found["best_batch"]) == (3.0, 8)
    printed = ""
    found = peer_on_card.run(cnn(1, 2), "float32", (8, 16), 10.0, 2**30, tmp_path)
    assert found == {"problem": "stopped after 17 s"}


def test_frozen_dict_is_a_hashable_mapping() -> None:
    frozen = peer_on_card.FrozenDict({"a": 1}, b=2)
    assert dict(frozen) == {"a": 1, "b": 2}
    assert hash(frozen) == hash(peer_on_card.FrozenDict(b=2, a=1))
    assert np.size(list(frozen)) == len(frozen)
