"""Arguments that name files: which are read, which are written, and that none is both."""

from __future__ import annotations

from typing import Any

import click

from widegram_cli.narrow import FittingContext
from widegram_cli.serving import check_serving


class _Named(click.ParamType):
    """A text that is not empty: an empty path would be the working directory."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The text as it is; the command looks into it, or checks that it can be written."""
        if not str(value).strip():
            self.fail("nothing is named; give a name", param, ctx)
        return value


class InputFile(_Named):
    """Something to read: a path, ``file:key``, a directory, or a network given as text."""

    name = "input"


class OutputFile(_Named):
    """A file to write."""

    name = "output"


class PictureFile(OutputFile):
    """A picture to write, in the format that its ending names."""

    name = "picture"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The text as it is, once its ending names a format."""
        from widegram.durable.pictures import check_ending
        from widegram.errors import WidegramError

        super().convert(value, param, ctx)
        try:
            check_ending(value)
        except WidegramError as error:
            self.fail(str(error), param, ctx)
        return value


class FileCommand(click.Command):
    """A command that refuses, before it runs, an option that has nothing to serve, and an output
    that is one of its inputs."""

    context_class = FittingContext

    def invoke(self, ctx: click.Context) -> Any:
        """Check options and the files that the parameters name, then run."""
        from widegram.data.distinct import check_distinct

        check_serving(ctx)
        named = [(param.type, ctx.params.get(param.name or "")) for param in self.params]
        outputs = [value for kind, value in named if isinstance(kind, OutputFile)]
        if any(value is not None for value in outputs):
            inputs = [value for kind, value in named if isinstance(kind, InputFile)]
            check_distinct(outputs, inputs)
        return super().invoke(ctx)


class FileGroup(click.Group):
    """A group whose commands are :class:`FileCommand`."""

    command_class = FileCommand
    context_class = FittingContext
