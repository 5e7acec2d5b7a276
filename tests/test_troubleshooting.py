"""docs/troubleshooting.md: each message that it explains is one of the program's."""

from __future__ import annotations

import ast
import re
from functools import lru_cache

import pytest

from doc_examples import PAGES, ROOT

PAGE = PAGES["troubleshooting.md"].read_text()
GAP = "…"
# The first cell of a row; backticks inside of a message stand in pairs.
CELLS = [row.split(" | ")[0].lstrip("| ") for row in re.findall(r"^\| .+$", PAGE, re.MULTILINE)]
MESSAGES = [
    message
    for cell in CELLS
    if cell.startswith("`")
    for message in (cell.split("`, `") if "`, `" in cell else [cell])
]


def template(node: ast.expr) -> str:
    """A text of the program with a gap for each value in it."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(template(value) for value in node.values)
    return GAP


@lru_cache
def texts() -> str:
    """All texts of the program, one a line, with gaps for values."""
    found = set()
    for package in ("engine/widegram", "cli/widegram_cli"):
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.JoinedStr | ast.Constant):
                    found.add(re.sub(r"%[.\w]+|\{\}", GAP, template(node)).replace("\n", " "))
    return "\n".join(sorted(found))


def test_there_are_messages() -> None:
    assert len(MESSAGES) > 50


@pytest.mark.parametrize("message", MESSAGES)
def test_the_program_says_so(message: str) -> None:
    """Its pieces between gaps stand in one text of the program, in this order."""
    pieces = [piece.strip() for piece in message.strip("` ").split(GAP)]
    pieces = [re.escape(piece) for piece in pieces if len(piece) > 2]
    assert pieces
    assert re.search(".*".join(pieces), texts()), message
