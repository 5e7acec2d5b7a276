"""Every failure a user can cause, as one line on stderr and an exit code."""

from __future__ import annotations

import click

from widegram.errors import WidegramError

INTERRUPTED = 130


def exit_code_of(error: BaseException) -> int | None:
    """Print the line that belongs to ``error`` and return the exit code.

    None, and nothing printed, for what is no user error: the traceback is then of use.
    """
    if isinstance(error, WidegramError):
        _say(getattr(error, "in_shell", str(error)))  # advice in the program's own options
        return error.exit_code
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        click.echo(error.format_message(), err=True)
        return 2
    if isinstance(error, click.ClickException):
        _say(_usage_message(error))
        return 2
    if isinstance(error, (KeyboardInterrupt, click.Abort)):
        _say("interrupted")
        return INTERRUPTED
    if isinstance(error, BrokenPipeError):
        return 1
    if isinstance(error, OSError):
        _say(_file_message(error))
        return 2
    if isinstance(error, MemoryError):
        _say("out of memory: give a smaller --memory, for example --memory 500MB")
        return 2
    return None


def _say(message: str) -> None:
    line = " ".join(part.strip() for part in message.splitlines() if part.strip())
    click.echo(f"widegram: error: {line}", err=True)


def _usage_message(error: click.ClickException) -> str:
    message = error.format_message().rstrip(".")
    context = getattr(error, "ctx", None)
    if context is None:
        return message
    return f"{message} (see '{context.command_path} --help')"


def _file_message(error: OSError) -> str:
    if error.filename is None or error.strerror is None:
        return str(error) or type(error).__name__
    return f"{error.filename}: {error.strerror}"
