"""``widegram meanfield spectrum``."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import click

from widegram.validation.choices import FAMILIES, SWEEP_METHODS
from widegram_cli.files import FileCommand, InputFile, PictureFile
from widegram_cli.meanfield_options import Computing, Written, one_blas_thread
from widegram_cli.options import (
    grouped,
    json_option,
    memory_option,
    out_option,
    overwrite_option,
    series_option,
    threads_option,
)
from widegram_cli.output import emit_json, human_time
from widegram_cli.serving import Serving, is_given
from widegram_cli.value_types import Depths

if TYPE_CHECKING:
    from widegram.meanfield.experiments.problem import Problem
    from widegram.meanfield.experiments.sweeps import SpectrumSweep
    from widegram.network import Network

_RAW = "Use the inputs as they are, not scaled to mean square 1."


@dataclass(frozen=True)
class Preset:
    """A network, and options that are added to a preset."""

    net: str
    act: str | None
    w_var: float | None
    b_var: float | None

    def network(self, shape: tuple[int, ...], depth: int) -> Network:
        """The network for inputs of ``shape``; of a preset without a depth, of that one."""
        from widegram.network import PRESETS, build, load_network

        name, _, tail = self.net.partition(":")
        given = {"w_var": self.w_var, "b_var": self.b_var}
        options = {key: value for key, value in given.items() if value is not None}
        if name not in PRESETS:
            if options or self.act is not None:
                raise click.UsageError(
                    "--act, --w-var and --b-var belong to presets; edit the network"
                )
            return load_network(self.net, shape)
        if name in FAMILIES and "depth=" not in tail:
            options["depth"] = depth
        return build(self.net, shape, self.act, **options)


@dataclass(frozen=True)
class Inputs:
    """The inputs of a sweep, and what is done to them."""

    x: str
    train: int
    test: int
    raw: bool
    unit_pixels: bool

    def load(self) -> Problem:
        """The inputs with their labels."""
        from widegram.meanfield.experiments.problem import load_inputs, with_unit_pixels

        problem = load_inputs(self.x, self.train, self.test, normalize=not self.raw)
        train, test = ("train", self.train, problem.x), ("test", self.test, problem.x_test)
        for name, asked, rows in (train, test):
            found = len(rows)
            if asked > found and is_given(click.get_current_context(), name):
                raise click.UsageError(
                    f"--{name} {asked}: {self.x} has {found} {name} inputs; give fewer, or leave "
                    "that out"
                )
        return with_unit_pixels(problem) if self.unit_pixels else problem


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
    cls=Serving,
    serves=("--plot",),
    is_flag=True,
    help="With --plot: draw what kernels stored in float64 give, too.",
)
@click.option("--raw", is_flag=True, help=_RAW)
@click.option(
    "--unit-pixels",
    is_flag=True,
    help="Give every pixel its neighbourhood as channels, scaled to mean square 1.",
)
@threads_option
@out_option("S.h5", "The file to write.")
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
@grouped(Preset, "preset")
@grouped(Inputs, "inputs")
@grouped(Computing, "computing")
@grouped(Written, "written")
def spectrum_command(
    preset: Preset,
    inputs: Inputs,
    depths: tuple[int, ...],
    method: str,
    against_float64: bool,
    computing: Computing,
    written: Written,
) -> None:
    """Theta's spectrum and mean predictor against depth, from one sweep.

    Rows without --act, --w-var and --b-var take the network as it is given. Labels and test
    inputs come from /train and /test of --x where it is a file of `widegram data prepare`.
    """
    one_blas_thread()
    from widegram.meanfield.experiments.sweepfile import new_sweep_file
    from widegram.meanfield.experiments.sweeps import spectrum
    from widegram_cli.reporting import reporter

    written.check()
    problem = inputs.load()
    network = preset.network(problem.input_shape, max(depths))
    start = time.perf_counter()
    given = asdict(computing)
    with (
        new_sweep_file(written.out, written.overwrite, depths) as file,
        reporter(parts=True) as progress,
    ):
        result = spectrum(
            network, problem, depths, method=method, keep=file.keep, progress=progress, **given
        )
        file.finish(result)
    if written.plot is not None:
        from widegram.meanfield.experiments.plots import plot_spectrum

        plain = None
        if against_float64:
            plain = spectrum(network, problem, depths, method="engine", **given)
        plot_spectrum(result, written.plot, written.overwrite, plain)
    _print_spectrum(result, written.out, time.perf_counter() - start, written.as_json)


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
