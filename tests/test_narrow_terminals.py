"""Every command on narrow terminals, and what goes to stdout and to stderr."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from campaigns.hostile_words import commands
from cli_support import refused, run
from widegram.machine.progress import Progress
from widegram_cli.main import program
from widegram_cli.reporting import describe, described_within

NAMES = [name for name, _ in commands(program)]


def every() -> Iterator[tuple[str, click.Command]]:
    """The program, its groups, and all commands."""
    yield from (("", program), *commands(program))
    for name in {name.split()[0] for name in NAMES if " " in name}:
        group = program.get_command(click.Context(program), name)
        assert group is not None
        yield name, group


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_help_fits(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    for name, command in every():
        context = command.context_class(command, info_name=f"widegram {name}")
        for line in command.get_help(context).splitlines():
            assert len(line) <= width, (name, line)


@pytest.mark.parametrize("name", NAMES)
def test_messages_go_to_stderr(name: str) -> None:
    """Also with -v and -q before the command; results alone go to stdout."""
    for word in ([], ["-v"], ["-q"]):
        found = run(*word, *name.split(), "--no-such-option")
        assert (found.exit_code, found.stdout) == (2, "")
        assert found.stderr.splitlines()[-1].startswith("widegram: error: No such option")


def test_no_colour_where_none_is_wanted(tmp_path: Path) -> None:
    """On a terminal of 40 columns: lines that fit, and with NO_COLOR no colour."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "widegram_cli", "net", "fcn:depth=2", "--input-shape", "4"],
        stdout=theirs, stderr=theirs, env={**os.environ, "NO_COLOR": "1", "COLUMNS": "40"},
    )  # fmt: skip
    os.close(theirs)
    said = b""
    try:
        while part := os.read(ours, 4096):
            said += part
    except OSError:  # The other end is closed.
        pass
    assert process.wait() == 0
    assert b"\x1b[3" not in said
    table = said.decode().split("stage 0")[0]
    assert all(len(line) <= 40 for line in table.splitlines())


def test_progress_fits() -> None:
    progress = Progress(24_000, 3_600_000, rate=1234.5, workers=3)
    assert described_within(progress, 34) == "0 %, 48 min 17 s left"
    assert described_within(progress, 90) == describe(progress)


def test_quiet_and_verbose_exclude_each_other() -> None:
    refused("exclude each other", "-v", "-q", "doctor")
    assert isinstance(program, click.Group)
