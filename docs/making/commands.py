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
    return "\n".join(line for context in list(contexts())[1:] for line in _of(context))


def contexts() -> Iterator[click.Context]:
    """Of the program and of every command, a group before its own."""
    return _below(click.Context(program, info_name="widegram", color=False))


def _below(context: click.Context) -> Iterator[click.Context]:
    yield context
    group = context.command
    if isinstance(group, click.Group):
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            assert command is not None
            yield from _below(click.Context(command, info_name=name, parent=context))


def usage(context: click.Context) -> str:
    """``gram [OPTIONS]``, with the names of the commands before it."""
    return f"{context.command_path} {' '.join(context.command.collect_usage_pieces(context))}"


def options(context: click.Context) -> list[tuple[str, str]]:
    """Names and help of the options of a command; without those that the help hides."""
    records = [
        option.get_help_record(context)
        for option in context.command.params
        if isinstance(option, click.Option)
    ]
    return [
        (" ".join(names.split()), " ".join(text.split()))
        for names, text in (record for record in records if record is not None)
    ]


def paragraphs(context: click.Context) -> list[str]:
    """The help of a command, a line for each paragraph."""
    text = inspect.cleandoc(context.command.help or "").replace("\b", "").strip()
    return [" ".join(paragraph.split()) for paragraph in re.split(r"\n\s*\n", text)]


def _of(context: click.Context) -> Iterator[str]:
    level = "#" * len(context.command_path.split())
    yield f"\n{level} {context.command_path}\n"
    yield from (f"{shown(paragraph)}\n" for paragraph in paragraphs(context))
    yield f"\n```text\n{usage(context)}\n```\n"
    rows = [
        f"| `{names.replace('|', chr(92) + '|')}` | {shown(text)} |"
        for names, text in options(context)
    ]
    if rows:
        yield from ("| option | |", "|---|---|", *rows)


def shown(text: str) -> str:
    """``text`` with what Markdown would take for marks escaped, outside of `code`."""
    parts = text.split("`")
    if len(parts) % 2 == 0:
        return _SPECIAL.sub(r"\\\1", text.replace("`", "'"))
    parts[::2] = [_SPECIAL.sub(r"\\\1", part) for part in parts[::2]]
    return "`".join(parts)
