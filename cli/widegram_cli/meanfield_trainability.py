"""``widegram meanfield trainability``."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from widegram.validation.choices import FAMILIES
from widegram_cli import options as shared
from widegram_cli.files import FileCommand, InputFile, PictureFile
from widegram_cli.meanfield_options import (
    Computing,
    Written,
    act_option,
    b_var_option,
    one_blas_thread,
)
from widegram_cli.output import emit_json, human_time
from widegram_cli.serving import Serving
from widegram_cli.value_types import Depths, Floats

if TYPE_CHECKING:
    from widegram.meanfield.experiments.training import Grid


@dataclass(frozen=True)
class Images:
    """The data: a prepared file, and how many of its images."""

    data: str
    train: int
    test: int | None


@dataclass(frozen=True)
class Where:
    """Who computes: this process, or the workers of a scheduler."""

    dask: str | None
    mixed_workers: bool


@dataclass(frozen=True)
class Axes:
    """The map's family of networks and its axes, as options give them."""

    net: str
    act: str
    w_var: str
    b_var: float
    depths: tuple[int, ...]
    times: tuple[float, ...]

    def grid(self) -> Grid:
        """The points of the map."""
        from widegram.meanfield.experiments.ranges import parse_range
        from widegram.meanfield.experiments.training import Grid

        w_var = parse_range(self.w_var, "w_var")
        return Grid(self.net, self.act, w_var, self.b_var, self.depths, self.times)


@click.command("trainability", cls=FileCommand)
@click.option(
    "--data",
    type=InputFile(),
    required=True,
    metavar="data.h5",
    help="File of `widegram data prepare`.",
)
@click.option(
    "--net",
    type=click.Choice(FAMILIES),
    default="fcn",
    show_default=True,
    help="Family of networks.",
)
@act_option
@click.option(
    "--w-var",
    default="0.5:3:0.0641025641025641",
    show_default=True,
    help="START:STOP:STEP or A,B,C.",
)
@b_var_option
@click.option("--depths", type=Depths(), required=True, help="Hidden layers: 1,2,5-10.")
@click.option(
    "--times",
    type=Floats(positive=True),
    default="1,8,64,512,4096",
    show_default=True,
    help="In units of the learning rate 2/lambda_max.",
)
@click.option("--train", type=click.IntRange(min=2), default=256, show_default=True)
@click.option("--test", type=click.IntRange(min=1), help="Test images [default: all].")
@click.option(
    "--scale",
    cls=Serving,
    serves=("--plot",),
    type=Floats(positive=True),
    default="8",
    show_default=True,
    help="c of the c xi lines: 6 or 6,8.",
)
@shared.threads_option
@shared.out_option("T.h5", "The file to write or to resume.")
@click.option("--plot", type=PictureFile(), metavar="T.png", help="Draw the maps.")
@shared.series_option
@shared.dask_option()
@shared.mixed_option
@shared.memory_option
@shared.overwrite_option
@shared.json_option
@shared.grouped(Images, "images")
@shared.grouped(Axes, "axes")
@shared.grouped(Where, "workers")
@shared.grouped(Computing, "computing")
@shared.grouped(Written, "written")
def trainability_command(
    images: Images,
    axes: Axes,
    scale: tuple[float, ...],
    workers: Where,
    computing: Computing,
    written: Written,
) -> None:
    """Accuracy of gradient flow over (w_var, depth). Run again to resume.

    Images are scaled to mean square 1, as the theory assumes.
    """
    one_blas_thread()
    from widegram.meanfield.experiments.problem import load_problem
    from widegram.meanfield.experiments.trainfile import is_complete
    from widegram.meanfield.experiments.training import trainability
    from widegram_cli.reporting import reporter

    grid = axes.grid()
    out, plot, overwrite = written.out, written.plot, written.overwrite
    drawn = False
    if plot is not None:
        from widegram.meanfield.experiments.plots import plot_trainability, pyplot

        pyplot()
        # Of a complete map run again, the picture is there as well: both stay as they are.
        drawn = not overwrite and Path(plot).exists() and is_complete(out)
        if not drawn:
            written.check_plot()
    problem = load_problem(images.data, images.train, images.test)
    start = time.perf_counter()
    with reporter() as progress:
        resumed = trainability(
            problem,
            grid,
            out,
            overwrite=overwrite,
            progress=progress,
            **asdict(computing),
            **asdict(workers),
        )
    seconds = time.perf_counter() - start
    if plot is not None and not drawn:
        plot_trainability(out, plot, overwrite, scale)
    _say(out, grid, resumed, seconds, written.as_json)


def _say(out: str, grid: Grid, resumed: int, seconds: float, as_json: bool) -> None:
    """Print what was done: a line, or one JSON object."""
    rows = len(grid.w_var)
    if as_json:
        emit_json(
            {
                "file": out,
                "points": rows * len(grid.depths),
                "rows": rows,
                "resumed_rows": resumed,
                "seconds": seconds,
                "complete": True,
            }
        )
    elif resumed == rows:
        click.echo(f"{out}: was complete already")
    else:
        click.echo(
            f"{out}: complete; {rows} x {len(grid.depths)} points in {human_time(seconds)}"
            + (f", {resumed} rows resumed" if resumed else "")
        )
