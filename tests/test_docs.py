"""The pages of docs/ and the README are true: their examples run, their links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from doc_examples import MARKS, PAGES, examples, run_page
from widegram.machine import budgets
from widegram.validation.choices import COMBINATIONS, CRITERIA, TARGETS
from widegram_cli.main import COMMANDS

# Their examples are tested apart (test_data_docs.py, test_readme.py).
APART = {"README.md", "data.md"}


@pytest.mark.parametrize("page", [page for page in PAGES if page not in APART])
def test_examples_run(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    # A plan is as right as its trial is long, which is nothing to a page.
    monkeypatch.setattr(budgets, "TRIAL_SECONDS", 0.2)
    run_page(PAGES[page])


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [p for p in PAGES if any(e.mark == "slow" for e in examples(PAGES[p].read_text()))]
)
def test_slow_examples_run(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run_page(PAGES[page], marks=("", "slow"))


@pytest.mark.parametrize("page", PAGES)
def test_every_block_says_what_it_is(page: str) -> None:
    """A block of commands without a language would be run by nobody."""
    text = PAGES[page].read_text()
    fences = re.findall(r"^ *```(.*)$", text, re.MULTILINE)
    assert len(fences) % 2 == 0, page
    assert all(fences[::2]), f"{page}: a block without a language; text, if it is output"
    assert {example.mark for example in examples(text)} <= set(MARKS), page


def anchors(path: Path) -> set[str]:
    """What a link may name behind #: the headings of a page, as GitHub and MyST write them."""
    text = re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    path = PAGES[page]
    text = re.sub(r"```.*?```|`[^`]*`", "", path.read_text(), flags=re.DOTALL)
    for link, anchor in re.findall(r"\]\(([^)#]*)(?:#([^)]*))?\)", text):
        if not link.startswith(("http://", "https://")):
            target = path.parent / link if link else path
            assert target.exists(), f"{page}: {link}"
            assert not anchor or anchor in anchors(target), f"{page}: {link}#{anchor}"


def test_every_command_is_in_the_table() -> None:
    shown = re.findall(r"`widegram ([a-z]+)", PAGES["commands.md"].read_text().split("|---|")[1])
    assert set(COMMANDS) <= set(shown)


def test_choosing_names_every_choice() -> None:
    text = PAGES["choosing.md"].read_text()
    for name in CRITERIA:
        assert f"| `{name}` |" in text
    assert all(name in text for name in (*COMBINATIONS, *TARGETS))
