"""The command reference, from the commands themselves: every command, argument and option."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

import click

from widegram_cli.main import program

# Markdown means something else by these; text of a command is shown as it is.
_SPECIAL = re.compile(r"([\\*_\[\]<>#|$~^{}])")


def reference() -> str:
    """Markdown: a section for each command, in the order of ``widegram --help``."""
    context = click.Context(program, info_name="widegram", color=False)
    return "\n".join(line for name in program.list_commands(context) for line in _of(name, context))


def _of(name: str, parent: click.Context) -> Iterator[str]:
    group = parent.command
    assert isinstance(group, click.Group)
    command = group.get_command(parent, name)
    assert command is not None
    context = click.Context(command, info_name=name, parent=parent)
    level = "#" * (2 + len(context.command_path.split()) - 2)
    yield f"\n{level} {context.command_path}\n"
    yield from _paragraphs(command.help or "")
    usage = " ".join(command.collect_usage_pieces(context))
    yield f"\n```text\n{context.command_path} {usage}\n```\n"
    options = [one for one in command.params if isinstance(one, click.Option)]
    rows = [row for option in options if (row := _row(option, context)) is not None]
    if rows:
        yield from ("| option | |", "|---|---|", *rows)
    if isinstance(command, click.Group):
        for inner in command.list_commands(context):
            yield from _of(inner, context)


def _row(option: click.Option, context: click.Context) -> str | None:
    """A row of the table of options; None for what the help hides."""
    record = option.get_help_record(context)
    if record is None:
        return None
    names, text = (" ".join(part.split()) for part in record)
    return f"| `{names.replace('|', chr(92) + '|')}` | {shown(text)} |"


def _paragraphs(text: str) -> Iterator[str]:
    for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(text).replace("\b", "").strip()):
        yield shown(" ".join(paragraph.split())) + "\n"


def shown(text: str) -> str:
    """``text`` with what Markdown would take for marks escaped, outside of `code`."""
    parts = text.split("`")
    if len(parts) % 2 == 0:
        return _SPECIAL.sub(r"\\\1", text.replace("`", "'"))
    parts[::2] = [_SPECIAL.sub(r"\\\1", part) for part in parts[::2]]
    return "`".join(parts)
