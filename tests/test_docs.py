"""The shell examples of pages of docs/ run, each page's in their order."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from cli_support import run
from widegram.validation.choices import COMBINATIONS, CRITERIA, TARGETS

DOCS = Path(__file__).parents[1] / "docs"
PAGES = ("choosing.md",)


@pytest.mark.parametrize("page", PAGES)
def test_examples_run(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```sh\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    assert lines
    for line in lines:
        found = run(*shlex.split(line)[1:])
        assert found.exit_code == 0, (line, found.stderr)


def test_choosing_names_every_choice() -> None:
    text = (DOCS / "choosing.md").read_text()
    for name in CRITERIA:
        assert f"| `{name}` |" in text
    assert all(name in text for name in (*COMBINATIONS, *TARGETS))
