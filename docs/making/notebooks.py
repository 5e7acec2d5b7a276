"""Notebooks (scripts of ``# %%`` cells, docs/notebooks) as Markdown, with what their cells print
and draw when they are run."""

from __future__ import annotations

import base64
import contextlib
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

_CELL = re.compile(r"^# %%(?P<kind> \[markdown\])?[^\n]*\n", re.MULTILINE)


class Cell(NamedTuple):
    """Markdown, or Python that begins at a line of the script."""

    markdown: bool
    line: int
    text: str


def cells(script: str) -> list[Cell]:
    """The cells of a script, in their order."""
    marks = list(_CELL.finditer(script))
    ends = [mark.start() for mark in marks[1:]] + [len(script)]
    found = []
    for mark, end in zip(marks, ends, strict=True):
        text, markdown = script[mark.end() : end].strip("\n"), mark["kind"] is not None
        if markdown:
            text = re.sub(r"^# ?", "", text, flags=re.MULTILINE)
        found.append(Cell(markdown, script.count("\n", 0, mark.end()), text))
    return found


def markdown(path: Path) -> str:
    """The page of a notebook, which is run for it."""
    names: dict[str, Any] = {"__name__": path.stem}
    every = cells(path.read_text())
    return "\n\n".join(part for cell in every for part in _shown(cell, path, names))


def _shown(cell: Cell, path: Path, names: dict[str, Any]) -> Iterator[str]:
    if cell.markdown:
        yield cell.text
        return
    yield f"```python\n{cell.text}\n```"
    printed, pictures = run(cell, path, names)
    if printed:
        yield f"```text\n{printed.rstrip()}\n```"
    for picture in pictures:
        data = base64.b64encode(picture).decode()
        shown = f'<img alt="what the cell draws" src="data:image/svg+xml;base64,{data}">'
        yield f'<p style="background: white">{shown}</p>'


def run(cell: Cell, path: Path, names: dict[str, Any]) -> tuple[str, list[bytes]]:
    """What a cell prints, and the figures that it draws, as SVG."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    code = compile("\n" * cell.line + cell.text, str(path), "exec")
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(code, names)
    pictures = []
    for number in pyplot.get_fignums():
        kept = io.BytesIO()
        pyplot.figure(number).savefig(kept, format="svg", metadata={"Date": None})
        pictures.append(kept.getvalue())
    pyplot.close("all")
    return printed.getvalue(), pictures
