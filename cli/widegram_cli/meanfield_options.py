"""What the commands of ``widegram meanfield`` share: groups of options, and their checks."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import click

from widegram_cli.options import Command


@dataclass(frozen=True)
class Written:
    """Where results go: the file, the picture (None: none), whether over others, JSON on stdout."""

    out: str
    plot: str | None
    overwrite: bool
    as_json: bool

    def check(self) -> None:
        """Refuse what cannot be written before anything is computed."""
        from widegram.durable.outputs import check_target

        check_target(Path(self.out), self.overwrite)
        self.check_plot()

    def check_plot(self) -> None:
        """Refuse a picture that cannot be written before anything is computed."""
        if self.plot is None:
            return
        from widegram.durable.outputs import check_target
        from widegram.meanfield.experiments.plots import pyplot

        pyplot()
        check_target(Path(self.plot), self.overwrite)


@dataclass(frozen=True)
class Computing:
    """What a computation may use, and the error of a series that it may accept."""

    threads: int | None
    memory: int | None
    accept_series_error: float | None


def act_option(command: Command) -> Command:
    """``--act``: the activation of a family of networks."""
    return click.option("--act", default="erf", show_default=True, help="Activation.")(command)


def b_var_option(command: Command) -> Command:
    """``--b-var``: the bias variance of a family of networks."""
    return click.option(
        "--b-var", type=float, default=0.18, show_default=True, help="Bias variance."
    )(command)


def one_blas_thread() -> None:
    """Keep the linear algebra library to one thread, unless the user has decided otherwise.

    Rows run on threads of their own; the library's would compete with them, many times slower.
    Has an effect only before NumPy is first imported.
    """
    for variable in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, "1")
