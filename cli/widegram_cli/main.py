"""The program: the table of commands, each imported only when it runs."""

from __future__ import annotations

import importlib
import logging
import sys
import traceback
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from widegram.errors import WidegramError
from widegram_cli.failures import exit_code_of
from widegram_cli.narrow import FittingContext

# Where the group's context says that --version is to print JSON.
_AS_JSON = "widegram_cli.as_json"

# name -> (module that holds it as `command`, line shown by `widegram --help`)
COMMANDS: dict[str, tuple[str, str]] = {
    "gram": ("widegram_cli.gram", "Compute NNGP and NTK matrices into an HDF5 file; resumes."),
    "join": ("widegram_cli.join", "Join the shards of a Gram file that `gram --shard` wrote."),
    "info": ("widegram_cli.info", "Say what a Gram file holds and how much of it is done."),
    "verify": ("widegram_cli.verify", "Check any file of this program; compute samples again."),
    "export": ("widegram_cli.export", "Copy one kernel of a Gram file to .npy, .npz or .h5."),
    "combine": ("widegram_cli.combine", "Add or multiply kernels of Gram files, entry by entry."),
    "eig": ("widegram_cli.eig", "Eigenvalues, condition number and spectral density."),
    "solve": ("widegram_cli.solve", "Solve (K + reg I) alpha = Y, in memory or out of core."),
    "predict": ("widegram_cli.predict", "Predict with a solution: mean, variance, accuracy."),
    "report": ("widegram_cli.report", "Write an HTML page on a run: cost, spectrum, accuracy."),
    "tune": ("widegram_cli.tune", "Choose a network by figures of the training data alone."),
    "meanfield": ("widegram_cli.meanfield", "Mean field theory: phases, spectra, trainability."),
    "net": ("widegram_cli.net", "Print a network: layers, shapes, planes, cost per entry."),
    "data": ("widegram_cli.data", "Prepare images and tables; draw rows; look into files."),
    "bench": ("widegram_cli.bench", "Measure speed; compute published accuracies again."),
    "demo": ("widegram_cli.demo", "The main job on the embedded digits, start to finish."),
    "doctor": ("widegram_cli.doctor", "Report CPU, threads, libraries, CUDA; what is missing."),
}


class CommandTable(click.Group):
    """A group that imports a command's module when it runs, and ends in one line on failure."""

    context_class = FittingContext

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of ``cmd_name``; None where the table has no such name."""
        if cmd_name not in COMMANDS:
            return None
        # Help on all commands needs none of these.
        from widegram_cli import preferences
        from widegram_cli.value_types import bounded

        module = importlib.import_module(COMMANDS[cmd_name][0])
        command: click.Command = bounded(module.command)
        ctx.default_map = {cmd_name: preferences.defaults(command, cmd_name)}
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take ``--version --json`` in either order."""
        if sorted(args) == ["--json", "--version"]:
            ctx.meta[_AS_JSON] = True
            args = ["--version"]
        return super().parse_args(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands from the table, so that help imports none of them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])

    def main(  # type: ignore[override]  # Click's has more parameters
        self, args: Sequence[str] | None = None, standalone_mode: bool = True, **options: Any
    ) -> Any:
        """Run and exit: 0 done, 2 bad input, 3 damage found, 130 interrupted.

        Every failure the user can cause is one line on stderr. With ``standalone_mode=False``
        exceptions pass to the caller, as with any Click command.
        """
        if not standalone_mode:
            return super().main(args, standalone_mode=False, **options)
        try:
            result = super().main(args, standalone_mode=False, **options)
        except BaseException as error:  # What has no exit code is passed on.
            code = exit_code_of(error)
            if code is None:
                raise
            sys.exit(code)
        sys.exit(result if isinstance(result, int) else 0)


def _versions(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    """Print the versions of the program and of the packages it uses, and end."""
    if not value or ctx.resilient_parsing:
        return
    from widegram_cli.machine import packages
    from widegram_cli.output import emit_json, emit_table

    versions = packages()
    if ctx.meta.get(_AS_JSON):
        emit_json(versions)
    else:
        emit_table((name, version or "not installed") for name, version in versions.items())
    ctx.exit()


@click.group(cls=CommandTable, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_versions,
    help="Print versions, with --json as one JSON object, and exit.",
)
@click.option("-v", "--verbose", is_flag=True, help="Say more, such as where settings come from.")
@click.option("-q", "--quiet", is_flag=True, help="No progress, no notes: warnings and errors.")
def program(verbose: bool, quiet: bool) -> None:
    """NNGP and NTK Gram matrices of infinitely wide networks, tile by tile to HDF5."""
    if verbose and quiet:
        raise WidegramError("--verbose and --quiet exclude each other")
    level = logging.DEBUG if verbose else logging.WARNING if quiet else logging.INFO
    logger = logging.getLogger("widegram")
    logger.setLevel(level)
    if verbose:
        from widegram_cli import preferences

        for name, setting in preferences.preferences().items():
            logger.debug("%s %s, from %s", name, setting.value, setting.source)


class _Lines(logging.Formatter):
    """A message as one line of the program's, with the time where nobody watches a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        from widegram_cli import output

        return output.line(record.getMessage())


def listen_to_the_library() -> None:
    """Show the messages of widegram and nothing of the libraries below it.

    What they have to say (where Matplotlib keeps its fonts, how a card's driver failed, that a
    quotient was not finite) is either no concern of the user or comes again in our own words.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(_Lines())
    ours = logging.getLogger("widegram")
    ours.addHandler(handler)
    ours.setLevel(logging.INFO)
    ours.propagate = False
    logging.captureWarnings(True)
    logging.getLogger().addHandler(logging.NullHandler())


def main() -> NoReturn:
    """Run the command line inside a program that has started already; raises SystemExit."""
    sys.exit(run())


def run() -> int:
    """Run the command line and return the exit code; the library's messages go to stderr."""
    listen_to_the_library()
    try:
        program()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    except BaseException:  # A bug: said in full, for a report.
        traceback.print_exc()
    return 1
