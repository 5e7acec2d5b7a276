"""The examples of Markdown pages: taken out of a page, run in their order or parsed.

A fence's first word is its language, the second says what a test makes of it: nothing, it runs;
``slow``, it runs with the slow tests; ``elsewhere``, it needs what is not here (a cluster, a card)
and has to parse. Other languages than ``sh`` and ``python`` are output or data. A comment
``<!-- before the examples: ... -->`` holds Python that makes the files a page speaks of.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import click

from cli_support import run
from widegram_cli.main import program

ROOT = Path(__file__).parents[1]
PAGES = {
    "README.md": ROOT / "README.md",
    "examples/README.md": ROOT / "examples/README.md",
    **{path.name: path for path in sorted((ROOT / "docs").glob("*.md"))},
}
MARKS = ("", "slow", "elsewhere")
_FENCE = re.compile(r"^([ ]*)```([^\n`]+)\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)
_BEFORE = re.compile(r"<!-- before the examples:\n(.*?)-->", re.DOTALL)


class Example(NamedTuple):
    """A block of a page: the line that it begins at, its language, its mark and its text."""

    line: int
    language: str
    mark: str
    text: str


def examples(text: str) -> list[Example]:
    """The shell and Python blocks of a page."""
    found = []
    for fence in _FENCE.finditer(text):
        language, _, mark = fence[2].strip().partition(" ")
        if language in ("sh", "python"):
            indent = len(fence[1])
            lines = "\n".join(line[indent:] for line in fence[3].splitlines())
            found.append(Example(text.count("\n", 0, fence.start()) + 1, language, mark, lines))
    return found


def commands(block: str) -> list[list[str]]:
    """The commands of a shell block as words; comments and empty lines are none."""
    lines = block.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def run_page(page: Path, marks: Iterable[str] = ("",)) -> None:
    """Run what the page wants to be run, in the present folder; examples of other marks parse."""
    text = page.read_text()
    names: dict[str, Any] = {"__name__": page.stem}
    for setup in _BEFORE.findall(text):
        exec(compile(setup, f"{page.name}, before the examples", "exec"), names)
    for example in examples(text):
        if example.mark not in marks:
            check(page, example)
        elif example.language == "python":
            code = "\n" * example.line + example.text
            exec(compile(code, str(page), "exec"), names)
        else:
            for words in commands(example.text):
                assert words[0] == "widegram", (page.name, example.line, words)
                found = run(*words[1:])
                assert found.exit_code == 0, (page.name, example.line, words, found.stderr)


def check(page: Path, example: Example) -> None:
    """Raise where an example that is not run could not run as it stands."""
    if example.language == "python":
        compile(example.text, page.name, "exec")
        return
    for words in commands(example.text):
        if words[0] == "widegram":
            parse(words[1:])


def parse(words: list[str]) -> None:
    """Raise for an unknown command or option, or a bad value."""
    context = click.Context(program, info_name="widegram")
    command: click.Command = program
    left = list(words)
    while isinstance(command, click.Group) and not left[0].startswith("-"):
        inner = command.get_command(context, left.pop(0))
        assert inner is not None, words
        command = inner
    try:
        command.make_context("widegram", left)
    except click.exceptions.Exit:  # --help, --version
        return
