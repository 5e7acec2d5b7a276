"""The tables of contents: sections of ``index.md`` become those of the side bar."""

from __future__ import annotations

import re
from collections.abc import Iterator, Set

_LINK = re.compile(r"^[*-] \[[^\]]*\]\(([\w/-]+)\.(?:md|py)\)", re.MULTILINE)
_HEADING = re.compile(r"^## (.+)$", re.MULTILINE)
REST = "More"


def with_toctrees(index: str, pages: Set[str]) -> str:
    """``index`` with a hidden toctree for each of its sections, and one for pages that none names.

    A page belongs to the section that lists it as ``* [Title](page.md)``, of a notebook
    ``.py``.
    """
    parts = _HEADING.split(index)
    sections = dict(zip(parts[1::2], parts[2::2], strict=True))
    trees = {heading: _LINK.findall(text) for heading, text in sections.items()}
    named = {page for tree in trees.values() for page in tree}
    trees[REST] = sorted(pages - named - {"index"})
    return "\n".join([index, *(_toctree(*tree) for tree in trees.items() if tree[1])])


def without_links_out(page: str) -> str:
    """``page`` with the names of Markdown files outside of docs/ in the place of links to them.

    Links to Python files are made links to files: of scripts, notebooks alone are pages.
    """
    page = re.sub(r"\]\((?!notebooks/)([^):]+\.py)\)", r"](path:\1)", page)
    return re.sub(r"\[([^\]]*)\]\(\.\./([^)#]+\.md)(?:#[^)]*)?\)", r"\1 (`\2`)", page)


def _toctree(caption: str, pages: list[str]) -> str:
    def lines() -> Iterator[str]:
        yield f"```{{toctree}}\n:hidden:\n:maxdepth: 1\n:caption: {caption}\n"
        yield from pages
        yield "```\n"

    return "\n".join(lines())
