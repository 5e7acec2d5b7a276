"""The reference that `make docs` writes has every command, option and public name; the side bar
every page."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from doc_examples import PAGES, ROOT
from widegram_cli.main import program


@pytest.fixture(autouse=True)
def _making(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "docs"))


def walked(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    yield name, command
    if isinstance(command, click.Group):
        for inner in command.list_commands(click.Context(command)):
            found = command.get_command(click.Context(command), inner)
            assert found is not None
            yield from walked(found, f"{name} {inner}")


def test_every_command_and_option() -> None:
    from making.commands import reference

    sections = {}
    for section in reference().split("\n## ")[1:]:
        for part in section.split("\n### "):
            title, _, text = part.partition("\n")
            sections[title] = text
    commands = [(name, one) for name, one in walked(program, "widegram") if name != "widegram"]
    assert [name for name, _ in commands] == list(sections)
    for name, command in commands:
        for option in command.params:
            if isinstance(option, click.Option) and not option.hidden:
                assert f"| `{option.opts[0]}" in sections[name], (name, option.opts)


def test_every_command_has_a_man_page(tmp_path: Path) -> None:
    from making.manual import write

    written = {Path(path).stem: path for path in write(tmp_path, "1.2")}
    commands = list(walked(program, "widegram"))
    assert [name.replace(" ", "-") for name, _ in commands] == list(written)
    for name, command in commands:
        page = Path(written[name.replace(" ", "-")]).read_text()
        for option in command.params:
            if isinstance(option, click.Option) and not option.hidden:
                assert f".B {option.opts[0]}".replace("-", r"\-") in page, (name, option.opts)
    if shutil.which("mandoc"):
        lint = ["mandoc", "-T", "lint", "-W", "warning", *written.values()]
        said = subprocess.run(lint, capture_output=True)
        assert {line.split(b": ", 3)[3] for line in said.stdout.splitlines()} <= {
            b'missing date, using "": TH'
        }


def test_a_man_page_shows_what_help_says() -> None:
    from making.manual import _text

    assert _text(r".5 `a\b` -x") == r"\&.5 \(gaa\eb\(ga \-x"


def test_the_reference_needs_click_alone() -> None:
    """Man pages are made where packages are built, and nothing else is installed there."""
    code = (
        "import sys\n"
        "class Missing:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('numpy', 'numba', 'scipy', 'h5py', 'rich', 'xxhash'):\n"
        "            raise ImportError(name)\n"
        "sys.meta_path.insert(0, Missing())\n"
        "from making.manual import pages\n"
        "print(len(pages('1.2')))\n"
    )
    path = os.pathsep.join(str(ROOT / part) for part in ("docs", "cli", "engine"))
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONPATH": path}
    )
    assert (said.returncode, int(said.stdout or 0) > 20) == (0, True), said.stderr


def test_text_of_a_command_is_no_markup() -> None:
    from making.commands import shown

    assert shown("K_ij / sqrt(K_ii) * 2 <x> [y] `a_b`") == (
        r"K\_ij / sqrt(K\_ii) \* 2 \<x\> \[y\] `a_b`"
    )
    assert shown("one ` alone") == "one ' alone"


def test_every_public_name() -> None:
    from making.api import MODULES, reference

    text = reference()
    for module in MODULES:
        for name in importlib.import_module(module).__all__:
            value = getattr(importlib.import_module(module), name)
            if not name.startswith("__") and type(value).__name__ != "module":
                assert f"{module}.{name}\n" in text or f"widegram.{name}`" in text, name


def test_every_page_is_in_the_side_bar() -> None:
    from making.contents import with_toctrees

    pages = {name.removesuffix(".md") for name in PAGES if "README" not in name}
    pages |= {f"notebooks/{path.stem}" for path in (ROOT / "docs/notebooks").iterdir()}
    lines = with_toctrees(PAGES["index.md"].read_text(), pages | {"new"}).splitlines()
    for page in (pages | {"new"}) - {"index"}:
        assert lines.count(page) == 1, page


def test_docstrings_are_text() -> None:
    from making.api import plain

    lines = ["(n, *shape), |x| and ``*`` of :func:`a|b`", "* an entry * 2"]
    plain(lines)
    assert lines == [r"(n, \*shape), \|x\| and ``*`` of :func:`a|b`", r"* an entry \* 2"]
