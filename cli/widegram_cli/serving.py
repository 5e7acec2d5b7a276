"""Options that count only beside others: given without them they are refused, never ignored.

What settings give (:mod:`widegram_cli.preferences`) is another matter: it is there to be served,
and where it does not count itself it is left out, for nobody asked for it in that command.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

_NONE = {1: "which is not given", 2: "neither of which is given"}


class Serving(click.Option):
    """An option that counts only beside another.

    * ``serves``: what it counts beside, one of them is enough: ``"--y"``, or with a value
      ``"--method cg"``
    * ``idle``: what it does not count beside: ``"--full"``, ``"--sample 0"``
    * ``unless``: with any of these it counts beside those too
    """

    def __init__(
        self,
        *names: Any,
        serves: tuple[str, ...] = (),
        idle: tuple[str, ...] = (),
        unless: tuple[str, ...] = (),
        **more: Any,
    ) -> None:
        super().__init__(*names, **more)
        self.serves, self.idle, self.unless = serves, idle, unless

    def problem(self, context: click.Context, values: Mapping[str, Any]) -> str | None:
        """Why it does not count beside these values of a command's parameters; None if it does."""
        there = [word for word in self.idle if _is_there(word, context, values)]
        if there and not any(_is_there(word, context, values) for word in self.unless):
            return f"{self.opts[0]} has no effect with {there[0]}; leave one of them out"
        if not self.serves or any(_is_there(word, context, values) for word in self.serves):
            return None
        none = _NONE.get(len(self.serves), "none of which is given")
        return f"{self.opts[0]} serves {_listed(self.serves)}, {none}"


def check_serving(context: click.Context) -> None:
    """Refuse options of a command line that do not count beside the others; leave out what settings
    give and does not."""
    for option in _from(context, click.core.ParameterSource.DEFAULT_MAP):
        if option.problem(context, context.params) is not None:
            context.params[option.name or ""] = None  # of settings --dask alone is one
    for option in _given(context):
        problem = option.problem(context, context.params)
        if problem is not None:
            raise click.UsageError(problem)


def note_unused(context: click.Context, why: str, **found: Any) -> None:
    """Say by name which options of a command line did not count, with what the command ``found``
    in place of what it was given, such as ``method="cholesky"``; ``why`` says that in words."""
    values = {**context.params, **found}
    unused = [option.opts[0] for option in _given(context) if option.problem(context, values)]
    if unused:
        click.echo(f"widegram: note: {why}; unused: {', '.join(unused)}", err=True)


def is_given(context: click.Context, name: str | None) -> bool:
    """Whether the command line itself has the parameter of that name, and not a default or a file
    of settings."""
    source = context.get_parameter_source(name or "")
    return source is click.core.ParameterSource.COMMANDLINE


def _given(context: click.Context) -> list[Serving]:
    return _from(context, click.core.ParameterSource.COMMANDLINE)


def _from(context: click.Context, source: click.core.ParameterSource) -> list[Serving]:
    options = [one for one in context.command.params if isinstance(one, Serving)]
    return [one for one in options if context.get_parameter_source(one.name or "") is source]


def _is_there(word: str, context: click.Context, values: Mapping[str, Any]) -> bool:
    """Whether a command has an option, or with a value that one."""
    name, _, wanted = word.partition(" ")
    parameter = next(one for one in context.command.params if name in one.opts)
    value = values[parameter.name or ""]
    if wanted:
        return str(value) == wanted
    return is_given(context, parameter.name) or value not in (None, False, ())


def _listed(words: tuple[str, ...]) -> str:
    return " or ".join(filter(None, (", ".join(words[:-1]), words[-1])))
