"""The notebooks of docs/ run, cell by cell, and show what their text speaks of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from doc_examples import ROOT

NOTEBOOKS = sorted((ROOT / "docs/notebooks").glob("*.py"))


@pytest.fixture(autouse=True)
def _making(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "docs"))


def test_there_are_three() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["first_kernel", "model_selection", "phase_diagram"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_cells_run(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The assertions in the cells hold; each notebook prints and draws; no file is left behind."""
    pytest.importorskip("matplotlib")
    pytest.importorskip("sklearn")
    from making.notebooks import cells, run

    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": path.stem}
    every = cells(path.read_text())
    shown = [run(cell, path, names) for cell in every if not cell.markdown]
    assert any(printed for printed, _ in shown)
    assert any(picture.startswith(b"<?xml") for _, drawn in shown for picture in drawn)
    assert every[0].text.startswith("# Notebook: ")
    assert list(tmp_path.iterdir()) == []


def test_cells_are_told_apart(tmp_path: Path) -> None:
    from making.notebooks import cells, markdown

    script = "# %% [markdown]\n# # A\n#\n# b\n\n# %%\nx = 1\n\n# %% more\nprint(x)\n1 / 0\n"
    assert [(cell.markdown, cell.text) for cell in cells(script)] == [
        (True, "# A\n\nb"), (False, "x = 1"), (False, "print(x)\n1 / 0"),
    ]  # fmt: skip
    path = tmp_path / "n.py"
    path.write_text(script.replace("\n1 / 0", ""))
    assert markdown(path) == (
        "# A\n\nb\n\n```python\nx = 1\n```\n\n```python\nprint(x)\n```\n\n```text\n1\n```"
    )
    path.write_text(script)
    with pytest.raises(ZeroDivisionError) as failed:
        markdown(path)
    assert failed.traceback[-1].lineno == 10  # from zero: the line of the script
