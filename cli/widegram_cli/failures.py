"""Every failure a user can cause, as one line on stderr and an exit code."""

from __future__ import annotations

import errno

import click

from widegram.errors import WidegramError, one_line
from widegram.machine import interrupts
from widegram_cli.running import INTERRUPTED


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
        _say(str(error) or interrupts.report())
        return INTERRUPTED
    line = _system_message(error)
    if line is not None:
        _say(line)
        return 2
    return None


def _system_message(error: BaseException) -> str | None:
    """What the system refused, and the way out; None where it is no such failure."""
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        return f"{_file_message(error)}: raise the limit on open files (ulimit -n)"
    if isinstance(error, OSError):
        return _file_message(error)
    if isinstance(error, MemoryError) or any(
        sign in str(error) for sign in ("failed to map segment", "cannot allocate memory")
    ):
        return "out of memory: give a smaller --memory, for example --memory 500MB"
    if isinstance(error, RuntimeError) and "can't start new thread" in str(error):
        return (
            "the system allows no more threads: give fewer --threads, or raise the limit on "
            "processes (ulimit -u)"
        )
    return None


def _say(message: str) -> None:
    line = " ".join(part.strip() for part in message.splitlines() if part.strip())
    click.echo(f"widegram: error: {one_line(line)}", err=True)


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
