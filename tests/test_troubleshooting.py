"""docs/troubleshooting.md: each message that it explains is one of the program's; and the list of
all messages."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

import widegram
from doc_examples import PAGES, ROOT
from widegram.errors import WidegramError

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


@pytest.fixture(autouse=True)
def _making(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "docs"))


@lru_cache
def texts() -> str:
    """All texts of the program, one a line, with gaps for values."""
    from making.messages import template

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


@lru_cache
def listed() -> list[str]:
    """Texts of the list of all messages."""
    from making.messages import messages

    return [text for texts in messages().values() for text in texts]


@pytest.mark.parametrize("refused", [
    lambda folder: widegram.kernel("fcn:depth=0", np.ones((2, 3))),
    lambda folder: widegram.kernel("fcn:depth=1", np.full((2, 3), np.nan)),
    lambda folder: widegram.kernel("fcn:depth=1", np.ones((2, 3)), dtype="float16"),
    lambda folder: widegram.kernel("cnn-f:depth=1", np.ones((2, 3))),
    lambda folder: widegram.tune([], np.ones((2, 3)), np.ones(2), folder / "T.h5"),
])  # fmt: skip
def test_a_refusal_is_in_the_list(refused: Callable[[Path], object], tmp_path: Path) -> None:
    with pytest.raises(WidegramError) as error:
        refused(tmp_path)
    patterns = [".*".join(map(re.escape, text.split(GAP))) for text in listed()]
    assert any(re.fullmatch(pattern, str(error.value)) for pattern in patterns), error.value


def test_the_list_has_every_message_once_and_what_to_do_beside_it() -> None:
    from making.messages import reference

    rows = [row for row in reference().splitlines() if row.startswith("| ``")]
    assert len(rows) == len(listed()) > 500
    assert all(row.count(" | ") == 1 for row in rows)
    assert "| `` … networks, at most … are tried `` | `` draw some with --samples `` |" in rows
