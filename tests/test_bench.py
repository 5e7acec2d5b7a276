"""``widegram bench`` on tiny sizes: what is in the results, not how fast anything was."""

from __future__ import annotations

import json
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cli_support import refused, run
from widegram.cpu.kernels.variants import LANES
from widegram.errors import WidegramError
from widegram.network import load_network
from widegram_bench import ceilings, engine, networks, reached, roof, scaling, timing
from widegram_bench.work import least_work, operations

SECONDS = 1.0


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
                self.evaluator = SimpleNamespace(
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
        share = timing.TimeBudget(100.0, 4)
        assert share.next() == pytest.approx(25, abs=1)
        assert share.next() == pytest.approx(100 / 3, abs=1)
        with share.apart():
            share.end -= 50  # what is taken off while it is prepared stays off
        assert share.next() == pytest.approx(25, abs=1)
        late = timing.TimeBudget(-1.0, 1)
        assert [late.next(), late.next()] == [0.05, 0.05]


class TestCommand:
    def test_roof(self, tmp_path: Path) -> None:
        out = tmp_path / "roof.json"
        measured = ("bench", "roof", "--quick", "--threads", 1, "--seconds", SECONDS)
        result = run(*measured, "--out", out)
        assert result.exit_code == 0, result.stderr
        assert "of the roof" in result.stdout
        assert "element-layers/s on one thread" in result.stderr
        assert "of the limit" in result.stderr
        found = json.loads(out.read_text())
        assert found["benchmark"] == "roof"
        assert len(found["roof"]) == 4
        assert len(found["pooled"]) == 8
        for row in found["pooled"]:
            assert row["fraction"] == pytest.approx(row["rate"] / row["roof"])
        assert {row["bound"] for row in found["flat"] + found["dense"]} <= {"compute", "memory"}
        assert len(found["dense"]) == 4

    def test_forms_of_the_roof(self, tmp_path: Path) -> None:
        out = tmp_path / "forms.json"
        result = run("bench", "roof", "--forms", "--quick", "--seconds", SECONDS, "--out", out)
        assert result.exit_code == 0, result.stderr
        assert "in use" in result.stdout
        rows = json.loads(out.read_text())["forms"]
        here = [row for row in rows if not row["off"]]
        assert len(here) == 2
        assert all(row["rate"] > 0 for row in rows)
        for off in {row["off"] for row in rows}:
            beside = [row for row in rows if row["off"] == off]
            assert sum(row["chosen"] for row in beside) == 1
            (best,) = (row for row in beside if row["best"])
            assert best["rate"] == max(row["rate"] for row in beside)
        refused("one thread: leave out", "bench", "roof", "--forms", "--threads", 2)

    def test_scaling(self, tmp_path: Path) -> None:
        out, plot = tmp_path / "s.json", tmp_path / "s.png"
        drawn = ("--plot", plot) if find_spec("matplotlib") else ()
        measured = ("bench", "scaling", "--quick", "--threads", 2, "--seconds", SECONDS)
        result = run(*measured, "--out", out, *drawn)
        assert result.exit_code == 0, result.stderr
        assert "exponent" in result.stdout
        assert "exponent" in result.stderr
        found = json.loads(out.read_text())
        assert found["pixels"]["x"] == [4**4, 6**4]
        assert len(found["threads"]["rows"]) == 2
        assert found["threads"]["efficiency"] > 0
        assert not drawn or plot.read_bytes().startswith(b"\x89PNG")

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

    def test_missing_matplotlib(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
        plot = tmp_path / "s.png"
        refused(r"pip install 'widegram\[plot\]'", "bench", "scaling", "--plot", plot)
