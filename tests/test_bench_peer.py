"""``widegram bench kernels`` beside a peer, in whose place a stand-in is: a run, its results."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cli_support import refused, run, run_json
from widegram.errors import WidegramError
from widegram_bench import compare, networks, peer, plots

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


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the command prints and writes of one network."""
    folder = tmp_path_factory.mktemp("peer")
    cases, out = networks.suite("quick")[:1], folder / "r.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(networks, "suite", lambda name: cases)
        patch.setattr(compare, "cold_start", lambda case: 12.0)
        found = run_json(
            "bench", "kernels", "--suite", "quick", "--peer", "neural-tangents", "--peer-python",
            interpreter(folder / "python"), "--seconds", SECONDS, "--threads", 1, "--out", out,
        )  # fmt: skip
    assert found == json.loads(out.read_text())
    return found


@pytest.fixture(scope="module")
def rows(results: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = results["rows"]
    return found


def test_the_command_tells_machine_and_versions(results: dict[str, Any]) -> None:
    assert [row["kind"] for row in results["rows"]] == ["pooled"]
    assert results["peer"] == "neural-tangents"
    assert results["machine"]["threads"] >= 1
    assert results["versions"]["widegram"]
    assert results["cold_first_call_s"] == 12.0


def test_a_table_without_a_peer(
    rows: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of numbers that were measured before."""
    case = networks.suite("quick")[2]
    monkeypatch.setattr(networks, "suite", lambda name: [case])
    monkeypatch.setattr(compare, "cold_start", lambda case: 12.0)
    monkeypatch.setattr(compare, "run_own", lambda job: rows[0]["own"][job["dtype"]])
    result = run("bench", "kernels", "--suite", "quick", "--seconds", SECONDS)
    assert result.exit_code == 0, result.stderr
    assert "ms/entry" in result.stdout
    assert "neural-tangents" not in result.stdout


def test_the_row_of_a_network(rows: list[dict[str, Any]]) -> None:
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


def test_values_are_compared(rows: list[dict[str, Any]]) -> None:
    difference = rows[0]["difference"]
    # the fake multiplies nngp by 1 + 1e-3
    assert difference["float64"]["nngp"] == pytest.approx(1e-3, rel=1e-2)
    assert difference["float64"]["ntk"] == 0
    # rounding of float32 inputs and arithmetic
    assert 0 < difference["float32"]["ntk"] < 1e-5


def test_a_failing_peer_is_named(fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_PEER", "crash")
    with pytest.raises(WidegramError, match=r"neural-tangents failed .* out of registers"):
        peer.run_peer(fake, {})
    monkeypatch.setenv("FAKE_PEER", "babble")
    with pytest.raises(WidegramError, match="printed no result: 'hello"):
        peer.run_peer(fake, {})


def test_where_the_peer_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WIDEGRAM_PEER_PYTHON", "/somewhere/python")
    assert peer.default_python() == Path("/somewhere/python")
    monkeypatch.delenv("WIDEGRAM_PEER_PYTHON")
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    expected = Path("/cache/widegram/peers/neural-tangents/bin/python")
    assert peer.default_python() == expected


def test_missing_peer(fake: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    arguments = ("bench", "kernels", "--peer", "neural-tangents", "--peer-python")
    line = refused("does not exist; install it with", *arguments, tmp_path / "none/bin/python")
    assert f"bench/peers/install.sh {tmp_path / 'none'}" in line
    monkeypatch.setenv("FAKE_PEER", "absent")
    refused("has no neural_tangents; install it with", *arguments, fake)


def test_a_picture(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    alone = {k: v for k, v in rows[0].items() if k not in ("peer", "peer_best", "ratios")}
    plots.kernels([rows[0], alone], tmp_path / "p.png", "title")
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")


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
