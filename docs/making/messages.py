"""Every error message, from the places in the program that raise them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import widegram
import widegram_cli
from widegram import errors

GAP = "…"
# Of Click: usage errors, and what a type of options says of a value.
_CLICK = {"UsageError", "BadParameter", "fail"}
_RAISED = _CLICK | {name for name, kind in vars(errors).items() if isinstance(kind, type)}
_PACKAGES = (widegram, widegram_cli)
_LETTERS = 6  # what has fewer says nothing without its values


def template(node: ast.expr) -> str:
    """A text of the program with a gap for each value in it."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(template(value) for value in node.values)
    if isinstance(node, ast.BinOp):
        return template(node.left) + template(node.right)
    return GAP


@cache
def messages() -> dict[str, list[str]]:
    """Messages in alphabetical order, by the part of the program that raises them."""
    found: dict[str, set[str]] = {}
    for package in _PACKAGES:
        root = Path(next(iter(package.__path__)))
        for path in sorted(root.rglob("*.py")):
            inner = path.relative_to(root).parts
            part = inner[0] if len(inner) > 1 else root.name
            found.setdefault(part, set()).update(_of(ast.parse(path.read_text())))
    return {part: sorted(texts, key=_order) for part, texts in sorted(found.items()) if texts}


def reference() -> str:
    """Markdown: a table for each part of the program, what is wrong beside what to do."""
    return "\n".join(line for part, texts in messages().items() for line in _table(part, texts))


def _of(tree: ast.Module) -> Iterator[str]:
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and call.args and _name(call.func) in _RAISED:
            text = re.sub(f"{GAP}[{GAP} ]*{GAP}", GAP, " ".join(template(call.args[0]).split()))
            if sum(letter.isalpha() for letter in text) >= _LETTERS:
                yield text


def _name(function: ast.expr) -> str:
    return str(getattr(function, "id", getattr(function, "attr", "")))


def _order(text: str) -> str:
    return text.lstrip(GAP + ":., ").casefold()


def _table(part: str, texts: list[str]) -> Iterator[str]:
    yield from (f"\n## {part}\n", "| message | what to do |", "|---|---|")
    for text in texts:
        what, _, remedy = text.rpartition("; ")
        yield f"| {_shown(what or text)} | {_shown(remedy) if what else ''} |"


def _shown(text: str) -> str:
    """As code, which a backtick in it or a bar must not end."""
    return "`` " + text.replace("|", "\\|") + " ``"
