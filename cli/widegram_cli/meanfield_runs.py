"""The longer commands of ``widegram meanfield``: spectrum and trainability."""

from __future__ import annotations

import math
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from widegram.validation.choices import FAMILIES, SWEEP_METHODS
from widegram_cli.files import FileCommand, InputFile, OutputFile, PictureFile
from widegram_cli.options import Depths, json_option, memory_option, overwrite_option, series_option
from widegram_cli.output import emit_json, human_time

if TYPE_CHECKING:
    from widegram.meanfield.experiments.sweeps import SpectrumSweep
    from widegram.network import Network


def one_blas_thread() -> None:
    """Keep the linear algebra library to one thread, unless the user has decided otherwise.

    Rows run on threads of their own; the library's would compete with them, many times slower.
    Has an effect only before NumPy is first imported.
    """
    for variable in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, "1")


_RAW = "Use the inputs as they are, not scaled to mean square 1."


@click.command("spectrum", cls=FileCommand)
@click.option(
    "--net",
    type=InputFile(),
    default="fcn",
    show_default=True,
    help="Preset, file or JSON with a Repeat.",
)
@click.option(
    "--x",
    type=InputFile(),
    required=True,
    metavar="DATA",
    help="File of `data prepare`, or any inputs.",
)
@click.option("--depths", type=Depths(), required=True, help="Repeats to read out at: 1,2,5-10.")
@click.option("--act", help="Activation of a preset.")
@click.option("--w-var", type=float, help="Weight variance of a preset.")
@click.option("--b-var", type=float, help="Bias variance of a preset.")
@click.option("--train", type=click.IntRange(min=2), default=64, show_default=True, help="Inputs.")
@click.option(
    "--test",
    type=click.IntRange(min=0),
    default=256,
    show_default=True,
    help="Test inputs, where --x has them.",
)
@click.option(
    "--method",
    type=click.Choice(SWEEP_METHODS),
    default="auto",
    show_default=True,
    help="Deviations keep the bulk beyond float64's rounding.",
)
@click.option(
    "--against-float64",
    is_flag=True,
    help="With --plot: draw what kernels stored in float64 give, too.",
)
@click.option("--raw", is_flag=True, help=_RAW)
@click.option(
    "--unit-pixels",
    is_flag=True,
    help="Give every pixel its neighbourhood as channels, scaled to mean square 1.",
)
@click.option("--threads", type=click.IntRange(min=1), help="Threads [default: all usable].")
@click.option("--out", type=OutputFile(), required=True, metavar="S.h5", help="The file to write.")
@click.option(
    "--plot",
    type=PictureFile(),
    metavar="S.png",
    help="Draw six quantities with their predictions.",
)
@series_option
@memory_option
@overwrite_option
@json_option
def spectrum_command(
    net: str,
    x: str,
    depths: tuple[int, ...],
    act: str | None,
    w_var: float | None,
    b_var: float | None,
    train: int,
    test: int,
    method: str,
    against_float64: bool,
    raw: bool,
    unit_pixels: bool,
    threads: int | None,
    out: str,
    plot: str | None,
    memory: int | None,
    overwrite: bool,
    as_json: bool,
    accept_series_error: float | None,
) -> None:
    """Theta's spectrum and mean predictor against depth, from one sweep.

    Rows without --act, --w-var and --b-var take the network as it is given. Labels and test
    inputs come from /train and /test of --x where it is a file of `widegram data prepare`.
    """
    one_blas_thread()
    from widegram.machine.progress import Progress
    from widegram.meanfield.experiments.problem import load_inputs, with_unit_pixels
    from widegram.meanfield.experiments.sweepfile import new_sweep_file
    from widegram.meanfield.experiments.sweeps import spectrum
    from widegram_cli.meanfield import check_outputs
    from widegram_cli.reporting import reporter

    check_outputs(out, plot, overwrite)
    problem = load_inputs(x, train, test, normalize=not raw)
    if unit_pixels:
        problem = with_unit_pixels(problem)
    network = _network(net, problem.input_shape, act, w_var, b_var, max(depths))
    start = time.perf_counter()
    with new_sweep_file(out, overwrite, depths) as file, reporter(parts=True) as report:
        result = spectrum(
            network,
            problem,
            depths,
            method=method,
            threads=threads,
            memory=memory,
            keep=file.keep,
            progress=lambda done: report(Progress(done, len(depths), what="depths")),
            accept_series_error=accept_series_error,
        )
        file.finish(result)
    if plot is not None:
        from widegram.meanfield.experiments.plots import plot_spectrum

        plain = None
        if against_float64:
            plain = spectrum(
                network,
                problem,
                depths,
                method="engine",
                threads=threads,
                memory=memory,
                accept_series_error=accept_series_error,
            )
        plot_spectrum(result, plot, overwrite, plain)
    _print_spectrum(result, out, time.perf_counter() - start, as_json)


def _network(
    net: str,
    shape: tuple[int, ...],
    act: str | None,
    w_var: float | None,
    b_var: float | None,
    depth: int,
) -> Network:
    """``net`` with the options added where it is a preset."""
    from widegram.network import PRESETS, load_network

    name, _, tail = net.partition(":")
    given = {"w_var": w_var, "b_var": b_var}
    options = [f"{key}={value!r}" for key, value in given.items() if value is not None]
    if act is not None:
        kind, _, parameters = act.partition(":")
        options += [f"act={kind}", *filter(None, parameters.split(","))]
    if name not in PRESETS:
        if options:
            raise click.UsageError("--act, --w-var and --b-var belong to presets; edit the network")
        return load_network(net, shape)
    if name in FAMILIES and "depth=" not in tail:
        options.append(f"depth={depth}")
    text = ",".join(filter(None, [tail, *options]))
    return load_network(f"{name}:{text}" if text else name, shape)


def _print_spectrum(result: SpectrumSweep, out: str, seconds: float, as_json: bool) -> None:
    if as_json:
        phase = result.setting.point["phase"] if result.setting else None
        emit_json(
            {
                "file": out,
                "method": result.method,
                "phase": phase,
                "m": result.m,
                "seconds": seconds,
                "depths": result.depths.tolist(),
                **{name: values.tolist() for name, values in result.values.items()},
                "predicted": {
                    name: {
                        "formula": law.text,
                        "constant": law.constant,
                        "values": law.values(result.layers).tolist(),
                    }
                    for name, law in result.predicted.items()
                },
            }
        )
        return
    click.echo("  depth  lambda_max  log10 bulk  log10 kappa  |P(Theta)Y|  accuracy")
    columns = ("lambda_max", "log10_bulk", "log10_kappa", "predictor", "accuracy")
    for i, depth in enumerate(result.depths):
        lambda_max, bulk, kappa, predictor, accuracy = (result.values[c][i] for c in columns)
        click.echo(
            f"{depth:7d} {lambda_max:11.6g} {bulk:11.6f} {kappa:12.6f} {predictor:12.4g} "
            f"{accuracy:9.3f}"
        )
    click.echo(f"{out}: {len(result.depths)} depths by {result.method} in {human_time(seconds)}")


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
@click.option("--act", default="erf", show_default=True, help="Activation.")
@click.option(
    "--w-var",
    default="0.5:3:0.0641025641025641",
    show_default=True,
    help="START:STOP:STEP or A,B,C.",
)
@click.option("--b-var", type=float, default=0.18, show_default=True, help="Bias variance.")
@click.option("--depths", type=Depths(), required=True, help="Hidden layers: 1,2,5-10.")
@click.option(
    "--times",
    default="1,8,64,512,4096",
    show_default=True,
    help="In units of the learning rate 2/lambda_max.",
)
@click.option("--train", type=click.IntRange(min=2), default=256, show_default=True)
@click.option("--test", type=click.IntRange(min=1), help="Test images [default: all].")
@click.option("--scale", default="8", show_default=True, help="c of the c xi lines: 6 or 6,8.")
@click.option("--threads", type=click.IntRange(min=1), help="Threads [default: all usable].")
@click.option(
    "--out",
    type=OutputFile(),
    required=True,
    metavar="T.h5",
    help="The file to write or to resume.",
)
@click.option("--plot", type=PictureFile(), metavar="T.png", help="Draw the maps.")
@series_option
@memory_option
@overwrite_option
@json_option
def trainability_command(
    data: str,
    net: str,
    act: str,
    w_var: str,
    b_var: float,
    depths: tuple[int, ...],
    times: str,
    train: int,
    test: int | None,
    scale: str,
    threads: int | None,
    out: str,
    plot: str | None,
    memory: int | None,
    overwrite: bool,
    as_json: bool,
    accept_series_error: float | None,
) -> None:
    """Accuracy of gradient flow over (w_var, depth). Run again to resume.

    Images are scaled to mean square 1, as the theory assumes.
    """
    one_blas_thread()
    from widegram.meanfield.experiments.problem import load_problem
    from widegram.meanfield.experiments.ranges import parse_range
    from widegram.meanfield.experiments.trainfile import is_complete
    from widegram.meanfield.experiments.training import Grid, trainability
    from widegram_cli.reporting import reporter

    multiples, moments = numbers(scale, "--scale"), numbers(times, "--times")
    if plot is not None:
        from widegram.meanfield.experiments.plots import plot_trainability, pyplot

        pyplot()
        # Of a complete map run again, the picture is there as well: both stay as they are.
        drawn = not overwrite and Path(plot).exists() and is_complete(out)
        if not drawn:
            _check_plot(plot, overwrite)
    grid = Grid(net, act, parse_range(w_var, "w_var"), b_var, depths, moments)
    problem = load_problem(data, train, test)
    start = time.perf_counter()
    with reporter() as progress:
        resumed = trainability(
            problem,
            grid,
            out,
            overwrite=overwrite,
            threads=threads,
            memory=memory,
            progress=progress,
            accept_series_error=accept_series_error,
        )
    seconds = time.perf_counter() - start
    if plot is not None and not drawn:
        plot_trainability(out, plot, overwrite, multiples)
    if as_json:
        emit_json(
            {
                "file": out,
                "points": len(grid.w_var) * len(depths),
                "rows": len(grid.w_var),
                "resumed_rows": resumed,
                "seconds": seconds,
                "complete": True,
            }
        )
    elif resumed == len(grid.w_var):
        click.echo(f"{out}: was complete already")
    else:
        click.echo(
            f"{out}: complete; {len(grid.w_var)} x {len(depths)} points in "
            f"{human_time(seconds)}" + (f", {resumed} rows resumed" if resumed else "")
        )


def _check_plot(plot: str, overwrite: bool) -> None:
    from widegram.durable.outputs import check_target

    check_target(Path(plot), overwrite)


def numbers(text: str, option: str) -> tuple[float, ...]:
    """Positive numbers separated by commas; a usage error naming ``option`` otherwise."""
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise click.UsageError(f"{option}: {text!r} is not a list of numbers") from None
    if not all(0 < value < math.inf for value in values):
        raise click.UsageError(f"{option}: every number must be positive and finite")
    return values
