"""``widegram demo``: its commands are right as they stand; that they run is seen with the wheel."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli_support import refused, run
from doc_examples import parse
from widegram_cli import demo

LINES = [line for _, lines in demo._STEPS for line in lines]


@pytest.mark.parametrize("line", LINES)
def test_every_line_is_a_command(line: str) -> None:
    parse(line.split())


def test_a_folder_that_is_there_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    refused("exists; name another folder", "demo", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    refused("no/such: cannot be written", "demo", "no/such")
    refused("cannot be written: File name too long", "demo", "x" * 300)


def test_it_ends_with_the_first_command_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo, "_STEPS", (("One", ("net fcn --input-shape 4", "info no.h5")),))
    found = run("demo", "here")
    assert found.exit_code == 2
    assert found.stdout.splitlines()[1:3] == ["=== 1. One", "$ widegram net fcn --input-shape 4"]
    assert "no.h5" in found.stderr
    assert Path.cwd() == tmp_path
    assert (tmp_path / "here").is_dir()
