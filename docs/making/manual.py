"""Man pages: ``widegram.1`` and one for each command, from what ``--help`` says."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

import click

from making.commands import contexts, options, paragraphs, usage

_WIDTH = 76  # of lines of source, whose length mandoc minds
_EXIT = (
    ("0", "Done."),
    ("2", "Bad input, or what the system refused: one line says what, and what to do."),
    ("3", "Damage was found in a file."),
    ("130", "Interrupted; the same command goes on."),
)


def write(folder: str | Path, version: str) -> list[str]:
    """Write all pages into a folder; their paths."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    found = []
    for name, text in pages(version).items():
        path = Path(folder) / name
        path.write_text(text)
        found.append(str(path))
    return found


def pages(version: str) -> dict[str, str]:
    """File names and texts, in roff with the macros of man(7)."""
    every = list(contexts())
    names = [_name(context) for context in every]
    return {
        f"{name}.1": "\n".join(_page(context, names, version)) + "\n"
        for name, context in zip(names, every, strict=True)
    }


def _page(context: click.Context, names: list[str], version: str) -> Iterator[str]:
    name, command = _name(context), context.command
    first, *others = paragraphs(context)
    yield f'.TH "{name.upper()}" 1 "" "widegram {version}" "User Commands"'
    yield from (".SH NAME", f"{_text(name)} \\- {_text(first.rstrip('.:'))}")
    yield from (".SH SYNOPSIS", f".B {_text(context.command_path)}")
    yield _text(usage(context).removeprefix(context.command_path).strip())
    yield ".SH DESCRIPTION"
    yield _text(first)
    for paragraph in others:
        yield from (".PP", _text(paragraph))
    yield ".SH OPTIONS"
    for option, text in options(context):
        yield from (".TP", f".B {_text(option)}", _text(text))
    if isinstance(command, click.Group):
        yield ".SH COMMANDS"
        for inner in command.list_commands(context):
            found = command.get_command(context, inner)
            assert found is not None
            yield from (".TP", f".B {_text(inner)}", _text(found.get_short_help_str(1000)))
    yield ".SH EXIT STATUS"
    for code, text in _EXIT:
        yield from (".TP", f".B {code}", _text(text))
    others = [other for other in names if other != name and _near(name, other)]
    yield ".SH SEE ALSO"
    yield " ,\n".join(f".BR {_text(other)} (1)" for other in sorted(others))


def _name(context: click.Context) -> str:
    return context.command_path.replace(" ", "-")


def _near(name: str, other: str) -> bool:
    """Whether a page names another: the one above it, and those right below."""
    return name.rpartition("-")[0] == other or other.rpartition("-")[0] == name


def _text(text: str) -> str:
    """Text that roff shows as it is."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("`", "\\(ga")
    lines = textwrap.wrap(text, _WIDTH, break_long_words=False, break_on_hyphens=False)
    return "\n".join(re.sub(r"^(?=[.'])", r"\\&", line) for line in lines)
