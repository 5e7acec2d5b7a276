"""The rooms of widegram.meanfield: experiments import recursion, recursion imports theory."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest

from widegram import meanfield

ROOT = Path(meanfield.__file__).parent
ROOMS = ("theory", "recursion", "experiments")  # each may import itself and those before it


def modules(room):
    return sorted((ROOT / room).glob("*.py"))


def rooms_imported(path):
    """Rooms that any import of a module names, also inside of functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            parts = name.split(".")
            if parts[:2] == ["widegram", "meanfield"] and len(parts) > 2:
                yield parts[2]


@pytest.mark.parametrize("room", ROOMS)
def test_imports_go_one_way(room):
    allowed = ROOMS[: ROOMS.index(room) + 1]
    assert len(modules(room)) > 5
    for path in modules(room):
        assert set(rooms_imported(path)) <= set(allowed), path


def test_the_search_sees_imports_inside_of_functions(tmp_path):
    path = tmp_path / "a.py"
    path.write_text("def f():\n    from widegram.meanfield import recursion\n")
    assert list(rooms_imported(path)) == ["recursion"]


def test_public_names_have_homes_in_the_rooms():
    for name in meanfield.__all__:
        home = inspect.getmodule(getattr(meanfield, name)).__name__
        assert home.split(".")[2] in ROOMS
