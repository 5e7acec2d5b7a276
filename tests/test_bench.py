"""``widegram bench`` on tiny sizes: what is in the results, not how fast anything was."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cli_support import refused, run, run_json
from widegram.cpu.kernels.variants import LANES
from widegram.errors import WidegramError
from widegram.network import load_network
from widegram_bench import (
    ceilings,
    compare,
    engine,
    networks,
    peer,
    plots,
    reached,
    roof,
    scaling,
    timing,
)
from widegram_bench.work import least_work, operations

SECONDS = 1.0


def interpreter(path: Path) -> Path:
    """A Python for the peer that runs ``fake_peer.py`` whatever it is asked to run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    runner = Path(__file__).with_name("fake_peer.py")
    path.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{runner}" "$@"\n')
    path.chmod(0o755)
    return path


@pytest.fixture
def fake(tmp_path: Path) -> Path:
    return interpreter(tmp_path / "venv" / "bin" / "python")


class TestNetworks:
    def test_suites(self) -> None:
        full = {case.name: case for case in networks.suite("full")}
        assert set(full) == {
            "cnn21-pool", "cnn21-flatten", "wide-resnet28", "myrtle5", "myrtle10", "fcn1", "fcn10",
            "fcn100",
        }  # fmt: skip
        assert {c.name for c in networks.suite("readme")} < set(full)
        # 21 layers of all pairs of 32 x 32 pixels
        assert least_work(full["cnn21-pool"].network, "float32")["element_layers"] == 21 * 32**4
        assert least_work(full["cnn21-flatten"].network, "float32")["element_layers"] == 21 * 32**2

    def test_cases_are_the_readmes_network(self) -> None:
        layers = [
            {"layer": "Conv", "filter_shape": [3, 3], "padding": "SAME"},
            {"layer": "Relu"},
        ] * 21
        for case, readout in zip(
            networks.suite("readme"), ("GlobalAvgPool", "Flatten"), strict=False
        ):
            spec = {"input_shape": [32, 32, 3], "layers": [*layers, {"layer": readout}]}
            assert case.network == load_network(spec)

    def test_unknown_suite(self) -> None:
        with pytest.raises(WidegramError, match="choose readme, full, quick"):
            networks.suite("all")


class TestWork:
    def test_operations_of_relu_and_erf(self) -> None:
        single = operations(roof.formula("Relu", "float32"), "float32", True)
        double = operations(roof.formula("Relu", "float64"), "float64", True)
        assert single["square_root"] == double["square_root"] == 1
        # float64 needs longer polynomials
        assert double["fma"] > single["fma"] > 0
        assert operations(roof.formula("Erf", "float32"), "float32", True)["square_root"] == 1

    def test_series_counts_its_terms(self) -> None:
        formula = roof.formula("Tanh", "float64")
        assert operations(formula, "float64", False)["fma"] >= 2 * (formula.n_factors - 1)

    def test_least_work(self) -> None:
        network = networks.cnn(3, 4)
        work = least_work(network, "float64")
        assert work["element_layers"] == 3 * 4**4
        # one factor per pixel and activation, and the pixels themselves
        assert work["bytes"] == 8 * (3 * 16 + 4 * 4 * 3)
        alone = least_work(network, "float64", ("nngp",))
        assert alone["per_element"]["add"] < work["per_element"]["add"]
        assert alone["l1_bytes"] < work["l1_bytes"]


class TestRoof:
    @pytest.mark.parametrize(("activation", "dtype"), [("Relu", "float32"), ("Erf", "float64")])
    def test_rates_are_positive(self, activation: str, dtype: str) -> None:
        top = roof.measure(activation, dtype, 0.01, threads=2)
        assert top.as_dict()["one"] > 0
        assert top.every > 0
        assert top.threads == 2
        assert (top.kind, top.dtype, top.ntk) == ("box3", dtype, True)

    @pytest.mark.parametrize("activation", ["Relu", "Erf", "Gelu"])
    def test_rows_compute_the_layer(self, activation: str) -> None:
        formula = roof.formula(activation, "float64")
        rows = roof.RoofRows(formula, "box3", True, "float64")
        rows.spin(1)
        k_in, t_in, k_out, t_out = rows.arrays[:4]
        window = [sum(a[n : n + roof.COLUMNS] for n in range(3)) * 3 / 9 for a in (k_in, t_in)]
        one = np.ones(())
        value, slope = formula.moments(one, window[0], one)
        # rounding of the vector code's polynomials
        np.testing.assert_allclose(k_out, value, rtol=1e-12)
        np.testing.assert_allclose(t_out, (window[0] + window[1]) * slope, rtol=1e-12)

    def test_limits(self) -> None:
        top = roof.measure("Relu", "float32", 0.01, kind="tap", threads=1)
        least = ceilings.least_ms(networks.dense(2, (8,)), "float32", top.every, 1e9, 1e9)
        assert least["limit"] == max(least["compute"], least["memory"]) == least[least["bound"]]
        assert timing.once(ceilings.Gemm("float32").run) > 0
        assert timing.once(ceilings.Inner("float64", 1).run) > 0
        assert ceilings.bandwidth(0.0, 1) > 0


RATE = 3 * 10**7  # element-layers a second of one thread that is no real one


class Clock:
    """In the place of the machine's: it goes on when it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(timing, "time", type("time", (), {"perf_counter": self._read}))

    def _read(self) -> float:
        return self.now

    def turn(self, *_: Any) -> None:
        """Something short happens."""
        self.now += 0.05


class TestEngine:
    def test_size_is_found_or_given(self) -> None:
        speed = engine.measure(networks.cnn(1, 3), "float32", 0.2, threads=1)
        assert speed.entries > 0
        assert speed.element_layers == 81
        fixed = engine.measure(networks.cnn(1, 3), "float64", 0.0, threads=2, entries=(3, 5))
        assert fixed.entries == 15
        assert fixed.rate == pytest.approx(81 * 15 / fixed.seconds)
        assert fixed.as_dict()["ms_entry"] == pytest.approx(1e3 * fixed.seconds / 15)

    def test_reached_tables(self) -> None:
        lines: list[str] = []
        found = reached.measure(SECONDS, reached.QUICK, 1, lines.append)
        assert len(found["roof"]) == 4
        assert len(found["pooled"]) == 8
        for row in found["pooled"]:
            assert row["fraction"] == pytest.approx(row["rate"] / row["roof"])
        assert {row["bound"] for row in found["flat"] + found["dense"]} <= {"compute", "memory"}
        assert len(found["dense"]) == 4
        assert any("of the limit" in line for line in lines)

    def test_the_time_is_kept(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """On a clock of its own: compiling takes a minute a piece, a turn what its work does."""
        clock = Clock(monkeypatch)

        class Spinner(roof.Spinner):
            def __init__(self, activation: str, dtype: str, **options: Any) -> None:
                clock.now += 60
                self.code, self.what = "relu", (activation, "box3", dtype, True)
                self.rows, self.work = [None] * options["threads"], RATE / 20

            def one(self) -> None:
                clock.now += self.work / RATE

            every = one

        class Tile(engine.Tile):
            def __init__(
                self, network: Any, dtype: str, seconds: float, threads: int, rate: float = RATE
            ) -> None:
                cost = least_work(network, dtype)["element_layers"]
                self.evaluator = SimpleNamespace(  # type: ignore[assignment]
                    cost=SimpleNamespace(entry=cost), threads=threads, close=lambda: None
                )
                sides = engine._sides(seconds * rate / cost, threads, LANES[dtype])
                self.rows, self.cols, self.dtype = *map(range, sides), dtype

            def compile(self) -> None:
                clock.now += 60

            def run(self) -> None:
                entries = len(self.rows) * len(self.cols)
                clock.now += entries * self.evaluator.cost.entry / (2 * RATE)

        reads = type("Reads", (), {"work": 1, "__init__": lambda self, *_: None, "run": clock.turn})
        for name in ("MemoryReads", "Gemm", "Inner"):
            monkeypatch.setattr(ceilings, name, reads)
        monkeypatch.setattr(ceilings, "bandwidth", lambda seconds, threads: clock.turn() or 1.0)
        monkeypatch.setattr(roof, "Spinner", Spinner)
        monkeypatch.setattr(engine, "Tile", Tile)
        lines: list[str] = []
        sizes = reached.RoofSizes((4, 8, 32), flat_sides=(8,), presets=())
        found = reached.measure(20.0, sizes, 2, lines.append)
        # 32 x 32 pixels take seconds a turn, less than one is their part; a turn too many
        # may be taken by each row.
        assert {row["size"] for row in found["pooled"]} == {4, 8}
        assert [row["row"] for row in found["left_out"]] == [
            f"32 x 32 {a} {dtype}" for a in reached.ACTIVATIONS for dtype in reached.DTYPES
        ]
        assert sum("left out, a turn takes" in line for line in lines) == 4
        assert found["prepared_seconds"] >= 60 * 2 * 6
        assert clock.now - found["prepared_seconds"] <= 1.2 * 20.0

    def test_networks_beside_the_plain_cost(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(reached, "preset", lambda name: networks.cnn(1, int(name)))
        sizes = reached.RoofSizes((4,), 1, (), (), 4, ("3", "5"))
        found = reached.measure(0.1, sizes, 1)
        assert [row["network"] for row in found["networks"]] == ["3", "5"] * 2
        for row in found["networks"]:
            assert row["over"] == pytest.approx(row["plain"] / row["rate"])

    def test_scaling(self) -> None:
        found = scaling.measure(SECONDS, scaling.QUICK, 2)
        assert found["pixels"]["x"] == [4**4, 6**4]
        assert len(found["threads"]["rows"]) == 2
        assert found["threads"]["efficiency"] > 0

    def test_exponent(self) -> None:
        x = [1, 10, 100, 1000]
        assert scaling.exponent(x, [3 * v**1.5 for v in x]) == pytest.approx(1.5)


class TestTiming:
    def test_best_runs_at_least_so_often(self) -> None:
        calls: list[int] = []
        assert timing.best(lambda: calls.append(1), 0.0, 3) >= 0
        assert len(calls) == 3

    def test_together_runs_all_and_reports_failures(self) -> None:
        seen: list[int] = []
        timing.together([lambda n=n: seen.append(n) for n in range(3)])
        assert sorted(seen) == [0, 1, 2]
        with pytest.raises(ZeroDivisionError):
            timing.together([lambda: None, lambda: 1 / 0])

    def test_share_divides_what_is_left(self) -> None:
        share = timing.Share(100.0, 4)
        assert share.next() == pytest.approx(25, abs=1)
        assert share.next() == pytest.approx(100 / 3, abs=1)
        with share.apart():
            share.end -= 50  # what is taken off while it is prepared stays off
        assert share.next() == pytest.approx(25, abs=1)
        late = timing.Share(-1.0, 1)
        assert [late.next(), late.next()] == [0.05, 0.05]


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    script = interpreter(tmp_path_factory.mktemp("peer") / "python")
    return compare.compare(networks.suite("quick")[:1], SECONDS, script, threads=1)


class TestCompare:
    def test_row(self, rows: list[dict[str, Any]]) -> None:
        (row,) = rows
        assert row["name"] == "cnn2-pool"
        own = row["own"]["float32"]
        assert {"n", "ms_entry", "ms_entry_symmetric", "import_s", "first_call_s"} < set(own)
        assert own["peak_memory"] > 10**7
        # batch 2 was skipped by the peer
        assert row["peer_best"] == {"dtype": "float64", "batch": 1, "ms_entry": 3.0}
        assert row["ratios"]["entry"] == pytest.approx(3.0 / own["ms_entry"])
        assert row["ratios"]["symmetric"] == pytest.approx(3.0 / own["ms_entry_symmetric"])
        assert row["ratios"]["float32"] == pytest.approx(8.0 / own["ms_entry_symmetric"])
        assert row["ratios"]["start"] == pytest.approx(7 / (own["import_s"] + own["first_call_s"]))

    def test_values_are_compared(self, rows: list[dict[str, Any]]) -> None:
        difference = rows[0]["difference"]
        # the fake multiplies nngp by 1 + 1e-3
        assert difference["float64"]["nngp"] == pytest.approx(1e-3, rel=1e-2)
        assert difference["float64"]["ntk"] == 0
        # rounding of float32 inputs and arithmetic
        assert 0 < difference["float32"]["ntk"] < 1e-5

    def test_a_failing_peer_is_named(self, fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FAKE_PEER", "crash")
        with pytest.raises(WidegramError, match=r"neural-tangents failed .* out of registers"):
            peer.run_peer(fake, {})
        monkeypatch.setenv("FAKE_PEER", "babble")
        with pytest.raises(WidegramError, match="printed no result: 'hello"):
            peer.run_peer(fake, {})

    def test_where_the_peer_is_looked_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("WIDEGRAM_PEER_PYTHON", "/somewhere/python")
        assert peer.default_python() == Path("/somewhere/python")
        monkeypatch.delenv("WIDEGRAM_PEER_PYTHON")
        monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
        expected = Path("/cache/widegram/peers/neural-tangents/bin/python")
        assert peer.default_python() == expected


class TestCommand:
    def test_kernels_with_a_peer(
        self, fake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        case = networks.suite("quick")[2]
        monkeypatch.setattr(networks, "suite", lambda name: [case])
        monkeypatch.setattr(compare, "cold_start", lambda case: 12.0)
        out = tmp_path / "r.json"
        found = run_json(
            "bench", "kernels", "--suite", "quick", "--peer", "neural-tangents", "--peer-python",
            fake, "--seconds", SECONDS, "--out", out,
        )  # fmt: skip
        assert found == json.loads(out.read_text())
        assert [row["kind"] for row in found["rows"]] == ["dense"]
        assert found["peer"] == "neural-tangents"
        assert found["machine"]["threads"] >= 1
        assert found["versions"]["widegram"]
        assert found["cold_first_call_s"] == 12.0

    def test_missing_peer(
        self, fake: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        arguments = ("bench", "kernels", "--peer", "neural-tangents", "--peer-python")
        line = refused("does not exist; install it with", *arguments, tmp_path / "none/bin/python")
        assert f"bench/peers/install.sh {tmp_path / 'none'}" in line
        monkeypatch.setenv("FAKE_PEER", "absent")
        refused("has no neural_tangents; install it with", *arguments, fake)

    def test_roof(self, tmp_path: Path) -> None:
        out = tmp_path / "roof.json"
        result = run("bench", "roof", "--quick", "--seconds", SECONDS, "--out", out)
        assert result.exit_code == 0, result.stderr
        assert "of the roof" in result.stdout
        assert "element-layers/s on one thread" in result.stderr
        assert json.loads(out.read_text())["benchmark"] == "roof"

    def test_scaling(self) -> None:
        result = run("bench", "scaling", "--quick", "--seconds", SECONDS)
        assert result.exit_code == 0, result.stderr
        assert "exponent" in result.stdout

    def test_kernels_alone_as_a_table(self, monkeypatch: pytest.MonkeyPatch) -> None:
        case = networks.suite("quick")[2]
        monkeypatch.setattr(networks, "suite", lambda name: [case])
        monkeypatch.setattr(compare, "cold_start", lambda case: 12.0)
        result = run("bench", "kernels", "--suite", "quick", "--seconds", SECONDS)
        assert result.exit_code == 0, result.stderr
        assert "ms/entry" in result.stdout
        assert "neural-tangents" not in result.stdout

    def test_outputs_are_checked_first(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def measured(*args: Any, **kwargs: Any) -> None:
            raise AssertionError("measured before the outputs were checked")

        for module in (reached, scaling):
            monkeypatch.setattr(module, "measure", measured)
        existing = tmp_path / "r.json"
        existing.write_text("{}")
        refused("exists; choose another name", "bench", "roof", "--out", existing)
        refused("does not exist", "bench", "scaling", "--plot", tmp_path / "no/p.png")
        assert existing.read_text() == "{}"


class TestPlots:
    def test_scaling(self, tmp_path: Path) -> None:
        pytest.importorskip("matplotlib")
        plot = tmp_path / "s.png"
        result = run("bench", "scaling", "--quick", "--seconds", SECONDS, "--plot", plot)
        assert result.exit_code == 0, result.stderr
        assert plot.read_bytes().startswith(b"\x89PNG")

    def test_kernels(self, rows: list[dict[str, Any]], tmp_path: Path) -> None:
        pytest.importorskip("matplotlib")
        alone = {k: v for k, v in rows[0].items() if k not in ("peer", "peer_best", "ratios")}
        plots.kernels([rows[0], alone], tmp_path / "p.png", "title")
        assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")

    def test_missing_matplotlib(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
        plot = tmp_path / "s.png"
        refused(r"pip install 'widegram\[plot\]'", "bench", "scaling", "--plot", plot)


@pytest.mark.slow
def test_cold_start_compiles_everything() -> None:
    assert compare.cold_start(networks.suite("quick")[2]) > 0


@pytest.mark.peer
def test_the_peer_itself(tmp_path: Path) -> None:
    python = os.environ.get("WIDEGRAM_PEER_PYTHON")
    if python is None:
        pytest.skip("set WIDEGRAM_PEER_PYTHON to the Python of neural-tangents' environment")
    rows = compare.compare(networks.suite("quick"), 60.0, Path(python))
    for row in rows:
        # rounding of both programs
        assert max(row["difference"]["float64"].values()) < 1e-12
        assert max(row["difference"]["float32"].values()) < 1e-5


def test_the_installer_is_valid_shell() -> None:
    script = Path(__file__).parents[1] / "bench" / "peers" / "install.sh"
    subprocess.run(["sh", "-n", script], check=True)
