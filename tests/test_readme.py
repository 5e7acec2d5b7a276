"""The README is short, and what it shows works."""

from __future__ import annotations

from pathlib import Path

import pytest

from doc_examples import PAGES, run_page

README = PAGES["README.md"]


def test_it_is_short() -> None:
    assert len(README.read_text().splitlines()) <= 120


def test_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run_page(README)
