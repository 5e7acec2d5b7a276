"""`bench published`: its table, runner and errors; nothing here computes a published number."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from cli_support import refused, run, run_json
from doc_examples import parse
from widegram.errors import WidegramError
from widegram_bench.published import errorbars, lines, runner, sources
from widegram_bench.published.rowtable import PublishedRow, rows

FULL = rows("full")
PLACES = dict.fromkeys(sources.NAMES, "data")


def row(name: str = "a", **more: Any) -> PublishedRow:
    own = {"group": "g", "source": "a paper", "published": 0.5, "needs": (), "mean_of": ""}
    own |= {"commands": ("widegram one", "widegram two"), "disk": 0.0, "why": "fewer images"}
    return PublishedRow(name=name, **(own | more))


class TestTable:
    def test_suites(self) -> None:
        names = [row.name for row in FULL]
        assert len(names) == len(set(names))
        quick = [row.name for row in rows("quick")]
        assert set(quick) < set(names)
        mnist = [name for name in quick if name.startswith("mnist-")]
        assert len(mnist) == 10
        assert [n for n in quick if n.startswith("cntk-v")] == [
            f"cntk-v-2k-depth-{depth}" for depth in (3, 4, 6, 11, 21)
        ]
        assert sum(name.startswith("uci-") for name in quick) == 10
        assert sum(name.startswith("uci-") for name in names) == 90

    def test_every_row_has_a_number_or_is_part_of_a_mean(self) -> None:
        for row in FULL:
            assert row.source
            if row.published is None:
                assert row.name.startswith("uci-")
            else:
                assert 0.4 < row.published < 1.0
            assert bool(row.commands) != bool(row.mean_of)
            assert set(row.needs) <= {*sources.NAMES, *sources.PACKAGES}

    def test_every_command_parses_and_needs_what_it_names(self) -> None:
        for line, needs in {(line, row.needs) for row in FULL for line in row.commands}:
            words = shlex.split(line.format(**{n: p for n, p in PLACES.items() if n in needs}))
            if words[0] == "python":
                assert words[1:3] == ["-m", "widegram_bench.published.uci"]
                continue
            parse(words[1:])

    def test_depth_counts_the_last_layer(self) -> None:
        for row in rows("full", "cntk-*"):
            depth = int(row.name.rsplit("-", 1)[1])
            assert f"{depth - 1}" in row.commands[-1]

    def test_no_such_row(self) -> None:
        with pytest.raises(WidegramError, match="--rows 'x': no row of suite quick"):
            rows("quick", "x")


class TestErrors:
    @pytest.mark.parametrize(("share", "n"), [(0.5, 10), (0.908, 1000), (1.0, 7)])
    def test_binomial(self, share: float, n: int) -> None:
        # rounding
        assert errorbars.binomial(share, n) == pytest.approx(stats.binom(n, share).std() / n)

    def test_a_difference_beyond_three_errors_is_explained(self) -> None:
        assert errorbars.judged(row(), 0.52, 0.01)["within"] is True
        assert errorbars.judged(row(), 0.52, 0.01)["why"] is None
        assert errorbars.judged(row(), 0.54, 0.01)["why"] == "fewer images"
        assert errorbars.judged(row(why=""), 0.46, 0.01)["why"] == "not explained"
        assert errorbars.judged(row(), 0.46, 0.01)["difference"] == pytest.approx(-0.04)
        assert errorbars.judged(row(published=None), 0.4, 0.01)["difference"] is None

    def test_mean(self) -> None:
        rng = np.random.default_rng(0)
        shares, sizes = rng.uniform(0.6, 0.9, 5), rng.integers(20, 50, 5)
        found = [
            {"ours": p, "error": errorbars.binomial(p, n)}
            for p, n in zip(shares, sizes, strict=True)
        ]
        ours, error = errorbars.mean(found)
        assert ours == pytest.approx(shares.mean())
        drawn = rng.binomial(sizes, shares, (200_000, 5)) / sizes
        # 200,000 draws tell a standard deviation to 1 / sqrt(400,000) = 0.16 %; six times that
        assert error == pytest.approx(drawn.mean(axis=1).std(), rel=0.01)


class Shell:
    """Runs nothing: counts lines, and fails or is stopped at some."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.at: dict[str, BaseException] = {}

    def __call__(self, line: str, folder: Path) -> dict[str, Any]:
        if line in self.at:
            raise self.at.pop(line)
        self.ran.append(line)
        return {"accuracy": 0.54, "n_test": 100}


@pytest.fixture
def shell() -> Shell:
    return Shell()


def compute(shell: Shell, out: Path | None, *of: PublishedRow, data: Path | None = None) -> Any:
    said: list[str] = []
    folders = [] if data is None else [data]
    task = runner.Task(of, folders, out, {"benchmark": "published"})
    return runner.run(task, said.append, shell)


class TestRunner:
    def test_rows_share_lines_and_leave_no_folder(self, shell: Shell, tmp_path: Path) -> None:
        other = row("b", commands=("widegram one", "widegram three"), published=0.2)
        found = compute(shell, tmp_path / "r.json", row(), other)
        assert shell.ran == ["widegram one", "widegram two", "widegram three"]
        first, second = found["rows"]
        assert (first["name"], first["ours"], first["within"]) == ("a", 0.54, True)
        assert first["error"] == pytest.approx(0.05)  # sqrt(0.5 * 0.5 / 100)
        assert (second["within"], second["why"]) == (False, "fewer images")
        assert [path.name for path in tmp_path.iterdir()] == ["r.json"]

    @pytest.mark.parametrize("at", ["widegram one", "widegram two"])
    def test_a_stop_leaves_what_is_done(self, shell: Shell, tmp_path: Path, at: str) -> None:
        out, last = tmp_path / "r.json", row("b", group="h", commands=("widegram last",))
        shell.at[at] = KeyboardInterrupt()
        with pytest.raises(KeyboardInterrupt):
            compute(shell, out, last, row())
        assert len(compute(shell, out, last, row())["rows"]) == 2
        assert sorted(shell.ran) == ["widegram last", "widegram one", "widegram two"]
        before = out.read_bytes()
        compute(shell, out, last, row())
        assert len(shell.ran) == 3
        assert out.read_bytes() == before

    def test_other_commands_are_run_again_and_other_rows_kept(
        self, shell: Shell, tmp_path: Path
    ) -> None:
        out = tmp_path / "r.json"
        compute(shell, out, row(), row("b"))
        compute(shell, out, row(commands=("widegram four",)))
        assert shell.ran[-1] == "widegram four"
        kept = {row["name"]: row["commands"] for row in json.loads(out.read_text())["rows"]}
        assert kept == {"a": ["widegram four"], "b": ["widegram one", "widegram two"]}

    def test_other_data_are_computed_from_anew(self, shell: Shell, tmp_path: Path) -> None:
        data, out = tmp_path / "data", tmp_path / "r.json"
        data.mkdir()
        (data / "mnist.npz").write_bytes(b"one")
        wanted = row(needs=("mnist",))
        shell.at["widegram two"] = WidegramError("no luck")  # what the first line made stays
        compute(shell, out, wanted, data=data)
        (tmp_path / "r.json.work" / "g" / "K.h5").write_bytes(b"of one")
        (data / "mnist.npz").write_bytes(b"two")
        compute(shell, out, wanted, data=data)
        assert shell.ran == ["widegram one", "widegram one", "widegram two"]
        compute(shell, out, wanted, data=data)
        assert len(shell.ran) == 3
        (data / "mnist.npz").write_bytes(b"six")
        compute(shell, out, wanted, data=data)
        assert len(shell.ran) == 5
        (data / "mnist.npz").unlink()  # what is finished stays
        assert compute(shell, out, wanted, data=data)["skipped"] == []

    def test_a_row_that_fails_keeps_no_others(self, shell: Shell, tmp_path: Path) -> None:
        shell.at["widegram two"] = WidegramError("no luck")
        found = compute(
            shell, tmp_path / "r.json", row(), row("b", group="h", commands=("widegram 5",))
        )
        assert found["skipped"] == [{"name": "a", "reason": "no luck", "failed": True}]
        assert [row["name"] for row in found["rows"]] == ["b"]

    def test_disk_is_looked_at_first(self, shell: Shell) -> None:
        (skipped,) = compute(shell, None, row(disk=1e18))["skipped"]
        assert not skipped["failed"]
        assert "too little disk: 1000000000000000000 bytes" in skipped["reason"]
        assert not shell.ran

    def test_what_lies_there_needs_no_more_disk(
        self, shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Of a row that goes on, or follows another of its group."""
        wanted: list[int] = []
        monkeypatch.setattr(runner, "check_disk", lambda path, needed: wanted.append(needed))
        shell.at["widegram two"] = WidegramError("no luck")
        compute(shell, tmp_path / "r.json", row(disk=1e7))
        before = sum(file.stat().st_blocks for file in (tmp_path / "r.json.work" / "g").iterdir())
        (tmp_path / "r.json.work" / "g" / "K.h5").write_bytes(bytes(10**6))
        compute(shell, tmp_path / "r.json", row(disk=1e7))
        # what a file system adds to a file of 1,000,000 bytes: blocks of 64 KiB at most
        assert wanted == [10**7, pytest.approx(10**7 - 10**6 - 512 * before, abs=2**16)]

    def test_a_mean_waits_for_all_of_its_rows(self, shell: Shell) -> None:
        of = [row(name, group=name, published=None) for name in ("u-1", "u-2")]
        mean = row("mean", mean_of="u-*", commands=(), published=0.5)
        found = compute(shell, None, *of, mean)["rows"][-1]
        assert (found["name"], found["ours"]) == ("mean", pytest.approx(0.54))
        assert found["error"] == pytest.approx(errorbars.binomial(0.54, 100) / 2**0.5)
        lacking = row("u-3", needs=("uci",), published=None)
        skipped = compute(shell, None, *of, lacking, mean)["skipped"]
        assert [entry["reason"] for entry in skipped] == [
            "no uci90.npz in --data",
            "1 of 3 rows are not finished",
        ]

    def test_sources_are_linked_and_named(self, shell: Shell, tmp_path: Path) -> None:
        (tmp_path / "cifar10_jpeg.npz").write_bytes(b"")
        pytest.importorskip("PIL")
        wanted = row(needs=("cifar10",), commands=("widegram data prepare {cifar10}",))
        found = compute(shell, None, wanted, data=tmp_path)["rows"][0]
        assert found["ran"][1] == "widegram data prepare cifar10.npz"
        assert "cifar10_jpeg.npz --train 2000" in found["ran"][0]
        assert found["notes"] == ["CIFAR-10 as JPEG, not the original pixels"]
        (tmp_path / "cifar-10-batches-bin").mkdir()  # the original is taken where it is
        found = compute(shell, None, wanted, data=tmp_path)["rows"][0]
        assert found["ran"] == ["widegram data prepare cifar-10-batches-bin"]
        assert found["notes"] == []


class TestLines:
    def test_a_line_runs_as_it_is_printed(self, tmp_path: Path) -> None:
        (tmp_path / "said.py").write_text("import os; print('{\"n\": %d}' % len(os.getcwd()))")
        found = lines.run_line("python said.py", tmp_path)
        assert found == {"n": len(str(tmp_path))}

    @pytest.mark.parametrize(
        ("text", "message"),
        [("raise SystemExit(3)", "ended with 3"), ("print(5)", "no JSON object")],
    )
    def test_a_line_that_fails(self, tmp_path: Path, text: str, message: str) -> None:
        (tmp_path / "bad.py").write_text(text)
        with pytest.raises(WidegramError, match=message):
            lines.run_line("python bad.py", tmp_path)

    def test_an_output_of_a_line_that_was_killed_goes(self, shell: Shell, tmp_path: Path) -> None:
        """But for Gram files, which are resumed."""
        folder = lines.Folder(tmp_path / "w", run=shell)
        for name in ("a.h5", "k.h5"):
            (tmp_path / "w" / name).write_text("")
        folder.result("widegram solve k.h5 --out a.h5")
        folder.result("widegram gram --out k.h5")
        assert not (tmp_path / "w" / "a.h5").exists()
        assert (tmp_path / "w" / "k.h5").exists()

    @pytest.mark.parametrize("text", ["{", "[]", "\udc80"])
    def test_without_a_list_of_lines_all_are_run(
        self, shell: Shell, tmp_path: Path, text: str
    ) -> None:
        (tmp_path / "done.json").write_bytes(text.encode(errors="surrogateescape"))
        lines.Folder(tmp_path, run=shell).result("widegram info k.h5")
        lines.Folder(tmp_path, run=shell).result("widegram info k.h5")
        assert shell.ran == ["widegram info k.h5"]


class TestCommand:
    def test_bad_input(self, tmp_path: Path) -> None:
        (tmp_path / "data").mkdir()
        command = ("bench", "published", "--data", tmp_path / "data")
        refused("no-such: is no directory", *command, "--data", tmp_path / "no-such")
        refused("no row of suite quick", *command, "--rows", "x")
        refused("Missing option '--data'", "bench", "published")
        refused("is not one of", *command, "--suite", "all")
        other = tmp_path / "o.json"
        for text in (
            "{}",
            "no json",
            '{"benchmark": "published", "rows": [{"name": "a"}]}',
            '{"benchmark": "published", "rows": [{"name": "a", "published": 1, "commands": []}]}',
            "[" * 20_000,
            "\udc80",
        ):
            other.write_bytes(text.encode(errors="surrogateescape"))
            refused("holds no results of `bench published`", *command, "--out", other)
            assert other.read_bytes() == text.encode(errors="surrogateescape")
        refused("is a directory", *command, "--out", tmp_path)
        refused("does not exist", *command, "--out", tmp_path / "x" / "r.json")

    def test_what_is_absent_is_skipped_by_name(self, tmp_path: Path) -> None:
        found = run_json("bench", "published", "--data", tmp_path)
        assert found["rows"] == []
        assert {entry["name"] for entry in found["skipped"]} == {row.name for row in rows("quick")}
        assert {entry["reason"] for entry in found["skipped"] if "mnist" in entry["name"]} == {
            "no mnist.npz or mnist in --data"
        }

    def test_failures_end_with_2(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*_: object) -> None:
            raise WidegramError("no luck")

        (tmp_path / "mnist.npz").write_bytes(b"")
        monkeypatch.setattr(runner, "_computed", fail)
        found = run("bench", "published", "--data", tmp_path, "--rows", "mnist-relu-20")
        assert found.exit_code == 2
        assert "mnist-relu-20: failed: no luck" in found.stdout
        assert "error: failed: mnist-relu-20: no luck" in found.stderr


def test_kept_results_are_those_of_todays_table_and_of_the_page() -> None:
    root = Path(__file__).parents[1]
    kept = json.loads((root / "bench" / "results" / "published.json").read_text())["rows"]
    page = (root / "docs" / "published.md").read_text()
    table = {row.name: row for row in FULL}
    for found in kept:
        today = table[found["name"]]
        assert found["published"] == today.published
        assert tuple(found["commands"]) == today.commands
        assert found["why"] != "not explained", found["name"]
        name, ours = found["name"].removeprefix("uci-"), f"{found['ours']:.4f}"
        assert re.search(rf"^\| {re.escape(name)} \|.* {ours} \|", page, re.MULTILINE), name
