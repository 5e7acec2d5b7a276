"""``widegram meanfield``: phase diagrams, spectra against depth, trainability maps."""

from __future__ import annotations

import time
from typing import Any

import click

from widegram_cli.files import FileGroup, PictureFile
from widegram_cli.meanfield_options import Written, act_option
from widegram_cli.meanfield_spectrum import spectrum_command
from widegram_cli.meanfield_table import table_command
from widegram_cli.meanfield_trainability import trainability_command
from widegram_cli.options import grouped, json_option, memory_option, out_option, overwrite_option
from widegram_cli.output import emit_json, emit_table, human_time


@click.group("meanfield", cls=FileGroup)
def command() -> None:
    """Mean field theory of wide networks (arXiv:1912.13053): fixed points, phases, spectra."""


command.add_command(spectrum_command)
command.add_command(trainability_command)
command.add_command(table_command)


@command.command("point")
@click.option("--act", default="erf", show_default=True, help="erf, tanh, leakyrelu:alpha=0.1 ...")
@click.option("--w-var", type=float, required=True, help="Weight variance W_std^2.")
@click.option("--b-var", type=float, required=True, help="Bias variance b_std^2.")
@json_option
def point_command(act: str, w_var: float, b_var: float, as_json: bool) -> None:
    """Phase, fixed points, slopes and depth scales of one setting."""
    from widegram.meanfield.theory.points import point

    values = point(act, w_var, b_var)
    if as_json:
        emit_json({"act": act, "w_var": w_var, "b_var": b_var, **values})
        return
    statements = values.pop("statements")
    emit_table((name, _shown(value)) for name, value in values.items())
    for statement in statements:
        click.echo(f"* {statement}")


@command.command("phase")
@act_option
@click.option("--w-var", default="0:3:0.01", show_default=True, help="START:STOP:STEP or A,B,C.")
@click.option("--b-var", default="0.01:0.25:0.001", show_default=True, help="The same for biases.")
@out_option("phase.h5", "The file to write.")
@click.option(
    "--plot",
    type=PictureFile(),
    metavar="phase.png",
    help="Draw q*, c*, chi_1 and the depth scale.",
)
@memory_option
@overwrite_option
@json_option
@grouped(Written, "written")
def phase_command(
    act: str,
    w_var: str,
    b_var: str,
    memory: int | None,
    written: Written,
) -> None:
    """Maps of every quantity over (w_var, b_var), with the line chi_1 = 1."""
    from widegram.meanfield.experiments.phase import phase_map, write_phase
    from widegram.meanfield.experiments.ranges import parse_range

    written.check()
    out = written.out
    start = time.perf_counter()
    result = phase_map(act, parse_range(w_var, "w_var"), parse_range(b_var, "b_var"), memory)
    seconds = time.perf_counter() - start
    write_phase(result, out, written.overwrite)
    if written.plot is not None:
        from widegram.meanfield.experiments.plots import plot_phase

        plot_phase(result, written.plot, written.overwrite)
    solved = result.solved
    kinds = solved.phase()
    summary: dict[str, Any] = {
        "file": out,
        "points": solved.q_star.size,
        "shape": list(solved.q_star.shape),
        "seconds": seconds,
        "unconverged": int((~solved.converged & (kinds != "")).sum()),
        "unbounded": int((kinds == "").sum()),
        **{name: int((kinds == name).sum()) for name in ("ordered", "critical", "chaotic")},
    }
    if written.as_json:
        emit_json(summary)
        return
    click.echo(
        f"{out}: {summary['points']:,} points in {human_time(seconds)}; ordered "
        f"{summary['ordered']:,}, critical {summary['critical']:,}, chaotic {summary['chaotic']:,}"
        + (f", q without bound {summary['unbounded']:,}" if summary["unbounded"] else "")
        + (f", not converged {summary['unconverged']:,}" if summary["unconverged"] else "")
    )


def _shown(value: Any) -> str:
    if value is None:
        return "undefined"
    return f"{value:.12g}" if isinstance(value, float) else str(value)
