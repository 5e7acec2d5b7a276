"""``widegram tune``: networks tried one after the other on training data."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from widegram.validation.choices import CRITERIA, DTYPES, TARGETS, TASKS
from widegram_cli.files import FileCommand, InputFile, PictureFile
from widegram_cli.options import (
    dask_option,
    device_option,
    json_option,
    kernel_option,
    memory_option,
    out_option,
    overwrite_option,
    series_option,
    threads_option,
)
from widegram_cli.output import emit_json, human_time
from widegram_cli.serving import Serving
from widegram_cli.value_types import Floats

if TYPE_CHECKING:
    from widegram.tuning.search import TuneResult

_WIDE = 400
_COLUMNS = {
    "diag_reg": ("diag_reg", "g"),
    "loo_mse": ("loo mse", ".5g"),
    "loo_accuracy": ("loo accuracy", ".4f"),
    "log_density": ("log density", ".5g"),
    "log_evidence": ("log evidence", ".6g"),
    "holdout_mse": ("held-out mse", ".5g"),
    "holdout_accuracy": ("held-out accuracy", ".4f"),
}


@click.command("tune", cls=FileCommand)
@click.option(
    "--net",
    "nets",
    type=InputFile(),
    multiple=True,
    required=True,
    metavar="NET",
    help="Networks: cnn-f:depth={3,5},w_var={1.5,2}; may be given again.",
)
@click.option("--x", type=InputFile(), required=True, metavar="DATA", help="Training inputs.")
@click.option(
    "--y", type=InputFile(), required=True, metavar="DATA",
    help="Their labels: integer classes (n,) or float targets (n, k).",
)  # fmt: skip
@out_option("TABLE.h5", "The table to write or to go on with; the best network lies beside it.")
@kernel_option
@click.option(
    "--criterion",
    type=click.Choice(CRITERIA),
    default="loo",
    show_default=True,
    help="What decides.",
)
@click.option(
    "--diag-reg-path", "diag_regs", type=Floats(),
    help="Regularisers to try with each network [default: 1e-6 to 0.1].",
)  # fmt: skip
@click.option("--absolute", is_flag=True, help="Regularisers are added as they are.")
@click.option(
    "--samples", type=click.IntRange(min=1),
    help="Draw so many networks; {0.5..2} is an interval to draw from.",
)  # fmt: skip
@click.option(
    "--seed", cls=Serving, serves=("--samples", "--criterion holdout"),
    type=click.IntRange(min=0), default=0, show_default=True, help="Of what is drawn or held out.",
)  # fmt: skip
@click.option(
    "--holdout", cls=Serving, serves=("--criterion holdout",),
    type=click.FloatRange(0, 1, min_open=True, max_open=True), default=0.2, show_default=True,
    help="Criterion holdout: share of rows kept from training.",
)  # fmt: skip
@click.option("--task", type=click.Choice(TASKS), default="auto", show_default=True)
@click.option("--targets", type=click.Choice(TARGETS), help="Classes: as for solve.")
@click.option("--target-shift", type=float, help="Classes: as for solve.")
@click.option("--limit", type=click.IntRange(min=1), help="Only the first N rows.")
@click.option("--dtype", type=click.Choice(DTYPES), default="float32", show_default=True)
@device_option
@threads_option
@click.option("--plot", type=PictureFile(), metavar="FILE", help="Draw the criterion over depth.")
@dask_option()
@series_option
@memory_option
@overwrite_option
@json_option
def command(
    nets: tuple[str, ...],
    x: str,
    y: str,
    out: str,
    diag_regs: tuple[float, ...] | None,
    plot: str | None,
    overwrite: bool,
    as_json: bool,
    **given: Any,
) -> None:
    """Try every network of --net on training data, and print a table of its figures.

    Leave-one-out errors, log predictive densities and the evidence need no test set, and none is
    looked at. Networks that differ in depth alone are computed in one sweep. Run again, the same
    command resumes; with further networks it adds them to the table. With --dask workers compute
    the kernels, and a network that they refuse ends the search.
    """
    from widegram import tune
    from widegram.durable.outputs import check_target
    from widegram.durable.pictures import require_matplotlib
    from widegram.tuning.drawing import draw_search
    from widegram.tuning.search import DIAG_REGS, Search
    from widegram_cli.reporting import reporter

    if plot is not None:
        require_matplotlib()
        check_target(Path(plot), overwrite)
    search = Search(diag_regs=diag_regs or DIAG_REGS, **given)
    with reporter(parts=True) as progress:
        result = tune(nets, x, y, out, search, overwrite=overwrite, progress=progress)
    if plot is not None:
        draw_search(plot, result.rows, search.criterion, overwrite=overwrite)
    if as_json:
        emit_json(result.as_dict())
    else:
        _print(result)


def _print(result: TuneResult) -> None:
    from rich.console import Console
    from rich.table import Table

    told = [row for row in result.rows if "error" not in row]
    shown = [name for name in _COLUMNS if any(row[name] is not None for row in told)]
    table = Table(box=None, pad_edge=False)
    table.add_column("network", no_wrap=True)
    for name in shown:
        table.add_column(_COLUMNS[name][0], justify="right")
    for row in told:
        cells = ("" if row[k] is None else format(row[k], _COLUMNS[k][1]) for k in shown)
        table.add_row(f"{row['net']} {row['head'] or ''}".strip(), *cells)
    # A file or a pipe has no width: a row stays one line there.
    width = None if sys.stdout.isatty() else _WIDE
    Console(markup=False, highlight=False, width=width).print(table)
    for row in result.rows:
        if "error" in row:
            click.echo(f"not tried: {row['net']}: {row['error']}")
    best = result.best
    click.echo(
        f"best by {result.criterion}: {best['net']} with diag_reg {best['diag_reg']:g}; written to "
        f"{result.best_network}; {result.tried} tried in {human_time(result.seconds)}"
    )
