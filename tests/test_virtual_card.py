"""The command line on virtual cards: numba-cuda and NVIDIA's bindings as they are, the driver and
what it runs from tests/virtual_card."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import h5py
import numpy as np
import pytest

import widegram
from virtual_card.card import VirtualCard, lacking, virtual_card

pytestmark = pytest.mark.skipif(bool(lacking()), reason=f"no {lacking()}")

NETWORK = {
    "input_shape": [5, 5, 1],
    "layers": [
        {"layer": "Conv", "filter_shape": [3, 3], "padding": "SAME", "W_std": 1.4},
        {"layer": "Relu"},
        {"layer": "GlobalAvgPool"},
        {"layer": "Dense", "b_std": 0.1},
    ],
}
VECTORS = {"input_shape": [6], "layers": [{"layer": "Dense"}, {"layer": "Relu"}]}


@pytest.fixture(scope="module")
def card(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VirtualCard]:
    with virtual_card(tmp_path_factory.mktemp("driver")) as made:
        yield made


class GramRun:
    """A Gram matrix of 20 random inputs in tiles of 5 rows."""

    def __init__(self, folder: Path, network: dict) -> None:
        self.network = network
        self.x = np.random.default_rng(1).standard_normal((20, *network["input_shape"]))
        self.x = self.x.astype(np.float32)
        np.save(folder / "x.npy", self.x)
        self.out = folder / "K.h5"
        self.arguments = [
            "gram", "--net", json.dumps(network), "--x", folder / "x.npy", "--out", self.out,
            "--tile", 5,
        ]  # fmt: skip

    def right(self, device: str) -> None:
        """The file is complete, and right to the contract's tolerance for float32."""
        exact = widegram.kernel(self.network, self.x, dtype="float64", device="cpu")
        with h5py.File(self.out) as file:
            assert file.attrs["device"] == device
            for key, value in zip(("nngp", "ntk"), exact, strict=True):
                atol = 1e-5 * np.abs(value).max()
                np.testing.assert_allclose(file[key][...], value, rtol=0, atol=atol)


@pytest.fixture
def job(tmp_path: Path) -> GramRun:
    return GramRun(tmp_path, NETWORK)


def _said(done: CompletedProcess[str]) -> list[str]:
    """Lines of standard error, without what is said of work that takes long on a slow machine."""
    lines = done.stderr.splitlines()
    return [line for line in lines if "compiling" not in line and " entries/s, " not in line]


def _silent(done: CompletedProcess[str], card: VirtualCard) -> None:
    """A success that says nothing but its result, and no fault on the card."""
    assert done.returncode == 0, done.stderr
    assert _said(done) == []
    assert card.faults == []


@pytest.mark.parametrize(
    "device", ["cuda:1,0", "auto", pytest.param("cuda", marks=pytest.mark.slow)]
)
def test_gram(device: str, card: VirtualCard, job: GramRun) -> None:
    _silent(card.widegram(*job.arguments, "--device", device, count=2), card)
    job.right("cuda")
    with h5py.File(job.out) as file:
        name = {"cuda:1,0": "Virtual card B, Virtual card A"}.get(device, "Virtual card A")
        assert file.attrs["device_name"] == name


def test_all_work_is_queued_on_streams_and_results_come_to_pinned_memory(
    card: VirtualCard, tmp_path: Path
) -> None:
    job = GramRun(tmp_path, VECTORS)
    _silent(card.widegram(*job.arguments, "--device", "cuda"), card)
    job.right("cuda")
    kinds = {tuple(line.split()[:4]) for line in card.log if line.startswith("copy")}
    assert {kind[:3] for kind in kinds} == {("copy", "in", "queued"), ("copy", "out", "queued")}
    assert all(kind[3] == "pinned" for kind in kinds if kind[1] == "out")
    assert not any("default" in line for line in card.log)
    assert sum(line.startswith("launch") for line in card.log) > 4


# Only rows of a large image need more than every block has; here the limit is lower instead.
SHARED = """
import numpy as np
import widegram
from widegram.cuda import strip_elements, strip_fit, strip_windows
for module in (strip_elements, strip_fit, strip_windows):
    module.SHARED_BYTES = 3000
conv = {"layer": "Conv", "filter_shape": [3, 3], "padding": "SAME"}
layers = [conv, {"layer": "Relu"}, {"layer": "GlobalAvgPool"}]
network = {"input_shape": [4, 33, 1], "layers": layers}
x = np.random.default_rng(0).standard_normal((2, 4, 33, 1))
found, exact = (widegram.kernel(network, x, dtype="float64", device=d) for d in ("cuda", "cpu"))
# Rounding through one layer.
np.testing.assert_allclose(found.ntk, exact.ntk, rtol=1e-13)
"""


def test_shared_memory_is_asked_for_before_a_launch_has_it(card: VirtualCard) -> None:
    done = card.run("-c", SHARED)
    assert (done.returncode, card.faults) == (0, []), done.stderr
    asked = [n for n, line in enumerate(card.log) if line.startswith("shared memory 2112")]
    launched = [n for n, line in enumerate(card.log) if line.endswith("2112 bytes")]
    assert len(launched) == 1
    assert asked[0] < launched[0]


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        ("launch:12:700", "CUDA_ERROR_ILLEGAL_ADDRESS"),
        pytest.param("wait:6:719", "CUDA_ERROR_LAUNCH_FAILED", marks=pytest.mark.slow),
        pytest.param("copy:30:214", "CUDA_ERROR_ECC_UNCORRECTABLE", marks=pytest.mark.slow),
    ],
)
def test_an_error_half_way_is_one_line_and_the_cpu_goes_on(
    failure: str, reason: str, card: VirtualCard, job: GramRun
) -> None:
    done = card.widegram(*job.arguments, "--device", "cuda", fail=failure)
    assert done.returncode == 2
    lines = _said(done)
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("widegram: error: device cuda:0 (Virtual card A): ")
    assert reason in lines[0]
    assert "finished tiles are kept" in lines[0]
    assert done.stdout == ""
    report = widegram.gram(NETWORK, job.x, job.out, tile=5, device="cpu")
    assert report.complete
    job.right("cuda,cpu")


@pytest.mark.slow
def test_memory_that_runs_out_is_freed_and_asked_for_again(card: VirtualCard, job: GramRun) -> None:
    _silent(card.widegram(*job.arguments, "--device", "cuda", fail="allocate:25:2"), card)
    job.right("cuda")


@pytest.mark.parametrize(
    ("memory", "code"), [pytest.param(1000, 2, marks=pytest.mark.slow), (30_000, 0)]
)
def test_cards_with_little_memory(memory: int, code: int, card: VirtualCard, job: GramRun) -> None:
    done = card.widegram(*job.arguments, "--device", "cuda", bytes=memory)
    assert done.returncode == code
    if code:
        assert len(_said(done)) == 1
        assert "OUT_OF_MEMORY" in done.stderr
    else:
        job.right("cuda")


@pytest.mark.parametrize(
    "function",
    ["cuLibraryLoadData", pytest.param("cuDevicePrimaryCtxRetain", marks=pytest.mark.slow)],
)
def test_a_driver_that_lacks_a_function(function: str, card: VirtualCard, job: GramRun) -> None:
    done = card.widegram(*job.arguments, "--device", "cuda", lacks=function)
    assert done.returncode == 2
    assert len(_said(done)) == 1
    assert f"{function} is not found" in done.stderr
    done = card.widegram(*job.arguments, "--device", "auto", lacks=function)
    assert done.returncode == 0
    assert "device auto means the CPU: device cuda:0 (Virtual card A): function" in done.stderr
    job.right("cpu")


def test_doctor_and_machines_without_a_card(card: VirtualCard, job: GramRun) -> None:
    done = card.widegram("doctor", "--json", count=2)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["cuda"]
    assert [c["name"] for c in found["cards"]] == ["Virtual card A", "Virtual card B"]
    assert found["cards"][1]["compute_capability"] == "9.0"
    done = card.widegram(*job.arguments, "--device", "cuda:2", count=2)
    assert done.stderr == "widegram: error: device cuda:2: this machine has 2 cards\n"
    done = card.widegram(*job.arguments, "--device", "cuda", count=0)
    assert done.returncode == 2
    assert "no CUDA driver or card was found" in done.stderr


_PRODUCT = """
import threading
import numpy as np
from widegram.cuda.device import gpus
from widegram.cuda.point import product_kernel

def multiply(rows=1, wait=True, meet=lambda: None):
    with card.entered():
        stream = card.stream()
        two, out = card.put(np.array([2.0]), stream), card.empty(1, np.float64, stream)
        meet()
        arguments = rows, 1, 1, two, two, out
        card.launch(compiled, (1, 1), kernel.threads, stream, arguments)
        found = card.pinned(1, np.float64)
        found[:] = 5
        card.get(out, found, stream)
        if wait:
            card.wait(stream)
        print(f"{found[0]}\\n", end="")  # at once: threads share the line

card, kernel = gpus(())[0], product_kernel("float64")
with card.entered():
    compiled = card.compiled(kernel, "float64")
"""
_TOGETHER = """
meet = threading.Barrier(2).wait
threads = [threading.Thread(target=multiply, args=(1, True, meet)) for _ in range(2)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""
_DROPPED = """
with card.entered():
    stream = card.stream()
    held = [card.empty(100, np.float64, stream) for _ in range(50)]
before = card.free_memory()
del held
multiply()
print(card.free_memory() - before)
"""


def _printed(script: str, card: VirtualCard, **options: Any) -> list[str]:
    done = card.run("-c", _PRODUCT + script, **options)
    assert done.stderr == ""
    return done.stdout.split()


def test_a_wait_that_is_forgotten_shows(card: VirtualCard) -> None:
    assert _printed("multiply()\nmultiply(wait=False)", card) == ["4.0", "5.0"]


def test_a_kernel_on_disk_is_loaded_before_threads_share_it(
    card: VirtualCard, tmp_path: Path
) -> None:
    env = {"WIDEGRAM_CACHE_DIR": str(tmp_path)}
    assert _printed(_TOGETHER, card, env=env) == ["4.0", "4.0"]
    compiled = [path.stat().st_mtime_ns for path in tmp_path.rglob("*.nbc")]
    assert len(compiled) == 1
    assert _printed(_TOGETHER, card, env=env) == ["4.0", "4.0"]
    assert [path.stat().st_mtime_ns for path in tmp_path.rglob("*.nbc")] == compiled


def test_memory_dropped_outside_of_the_context_is_freed(card: VirtualCard) -> None:
    assert _printed(_DROPPED, card) == ["4.0", str(50 * 800)]


def test_an_access_outside_of_memory_is_an_error_of_the_driver(card: VirtualCard) -> None:
    done = card.run("-c", _PRODUCT + "multiply(rows=9)")
    assert "WidegramError: device cuda:0 (Virtual card A): " in done.stderr
    assert "CUDA_ERROR_ILLEGAL_ADDRESS" in done.stderr
    assert len(card.faults) == 1
    assert "ld.global.f64" in card.faults[0]


@pytest.mark.slow
def test_the_tests_for_a_card(card: VirtualCard) -> None:
    small = "forms_agree or zero_and_repeated or avgpool or fc-relu-d1"
    done = card.run(
        *["-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", "tests/test_cuda_gpu.py"],
        *["-k", small], seconds=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:]
    assert " passed" in done.stdout
    assert card.faults == []


_ROW = """
from widegram_bench.gpu import cases, measure, part
from widegram_bench.networks import cnn
measure._SMALLEST = measure._LARGEST = 4
part.cases = lambda: [cases.Case("tiny", cnn(2, 8), "float64", 1.0)]
part.main(["own", "0", "1", "tiny", "float64"])
"""


@pytest.mark.slow
def test_a_row_of_the_benchmark(card: VirtualCard) -> None:
    done = card.run("-c", _ROW, seconds=300)
    row = json.loads(done.stdout.splitlines()[-1])
    assert row["forms"] == ["strip", "point"]
    # Two backends in float64.
    assert max(row["difference"].values()) < 1e-12
    assert card.faults == []


@pytest.mark.slow
def test_the_benchmark_names_what_it_cannot_measure(card: VirtualCard, tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    arguments = ["-m", "widegram_bench.gpu.run", "--quick", "--seconds", 20, "--out", out]
    done = card.run(*arguments, seconds=300)
    assert done.returncode == 1, done.stderr
    found = json.loads(out.read_text())
    assert found["card"]["name"] == "Virtual card A"
    assert found["card"]["driver"] is None
    # Those of an H100.
    assert found["card"]["float32_lanes"] == 128
    assert round(found["card"]["memory_bandwidth"] / 1e9) == 3352
    # The network is far too large for a card made of software.
    assert found["rows"] == []
    assert [text.partition(":")[0] for text in found["missing"]] == [
        "own cnn21-pool float32", "profile", "bound cnn21-pool float32",
    ]  # fmt: skip
