"""The campaigns on every command that writes: a few cases of each, and with ``-m slow`` all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

CAMPAIGNS = Path(__file__).parent / "campaigns"
NO_COMPILER = 77


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
    assert found["kinds"] == 13


@pytest.mark.slow
def test_fifteen_hundred_bad_inputs() -> None:
    found = run("badinput", "--count", 1600)
    assert found["cases"] >= 1500
    assert found["refused"] >= 1000
