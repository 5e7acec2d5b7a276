"""The campaigns on every command that writes: a few cases of each, and with ``-m slow`` all."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from campaigns import bitflips, commands, hostile_words
from widegram.verifying.file_kinds import KINDS
from widegram_cli.files import OutputFile
from widegram_cli.main import program

CAMPAIGNS = Path(__file__).parent / "campaigns"
ENGINE = CAMPAIGNS.parent.parent / "engine"
NO_COMPILER = 77
# What measures for a minute and more, and what runs other commands in a folder of its own.
NOT_DAMAGED = {"bench", "demo"}


def run(name: str, *words: object) -> dict:
    """The counts of a campaign, which must have found nothing wrong."""
    environment = {k: v for k, v in os.environ.items() if k != "WIDEGRAM_CAMPAIGN_FOLDER"}
    ended = subprocess.run(
        [sys.executable, CAMPAIGNS / f"{name}.py", "--json", *map(str, words)],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    if ended.returncode == NO_COMPILER:
        pytest.skip("no C compiler")
    assert ended.stdout.count("\n") == 1, ended.stderr
    found = json.loads(ended.stdout)
    assert found["bad"] == []
    assert ended.returncode == 0
    return found


def test_bits_are_flipped_in_every_kind_of_file() -> None:
    """Those that `verify` knows, and those that any module names."""
    named = {
        found
        for path in ENGINE.rglob("*.py")
        for found in re.findall(r'FORMAT = "widegram-(\w+)"', path.read_text())
    }
    known = {name.removeprefix("widegram-") for name in KINDS} | {"gram", "shard"}
    assert bitflips.FORMATS == known == named


def test_faults_and_kills_meet_every_command_that_writes() -> None:
    met = {" ".join(word for word in c.words[:2] if word.isalpha()) for c in commands.COMMANDS}
    writing = {
        name
        for name, command in hostile_words.commands(program)
        if any(isinstance(parameter.type, OutputFile) for parameter in command.params)
    }
    assert len(writing) > 10
    missed = {name for name in writing if not any(f"{m} ".startswith(f"{name} ") for m in met)}
    assert missed == {name for name in writing if name.split()[0] in NOT_DAMAGED}


def test_hostile_values_have_a_good_call_around_them() -> None:
    names = {name for name, _ in hostile_words.commands(program)}
    assert {name for name in names if name.split()[0] not in NOT_DAMAGED} == {*hostile_words.LINES}


def test_a_few_failed_writes() -> None:
    found = run("faults", "--count", 3, "--only", "solve-ooc")
    assert found["refused in one line"] + found.get("not met or harmless", 0) == 3


def test_a_few_kills() -> None:
    assert run("kills", "--count", 2, "--only", "export-h5")["kills"] >= 2


def test_a_few_flipped_bits() -> None:
    found = run("bitflips", "--count", 3, "--only", "solution")
    assert found["flips"] == 3


def test_a_few_bad_inputs() -> None:
    found = run("badinput", "--count", 20)
    assert found["cases"] >= 18
    assert found["refused"] >= 8


@pytest.mark.slow
def test_a_thousand_failed_writes() -> None:
    found = run("faults", "--count", 1000)
    assert found["refused in one line"] > 700


@pytest.mark.slow
def test_three_hundred_kills() -> None:
    assert run("kills", "--count", 300)["kills"] >= 300


@pytest.mark.slow
def test_five_hundred_flipped_bits() -> None:
    found = run("bitflips", "--count", 500)
    assert found["kinds"] == len({row.kind for row in (*bitflips.WHOLE, *bitflips.UNFINISHED)}) + 3


@pytest.mark.slow
def test_fifteen_hundred_bad_inputs() -> None:
    found = run("badinput", "--count", 1600)
    assert found["cases"] >= 1500
    assert found["refused"] >= 1000


@pytest.mark.slow
def test_every_option_with_every_kind_of_bad_value() -> None:
    found = run("walk")
    assert found["values"] + found["files"] >= 5000
    assert found["alone"] >= 450
