"""``widegram meanfield table``: every entry of the paper's table, predicted and measured."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import click

from widegram.validation.choices import FAMILIES
from widegram_cli.files import FileCommand, InputFile
from widegram_cli.meanfield_options import act_option, b_var_option, one_blas_thread
from widegram_cli.options import grouped, json_option, memory_option
from widegram_cli.output import emit_json
from widegram_cli.value_types import Depths, Floats

if TYPE_CHECKING:
    from widegram.meanfield.experiments.asymptotics import Entry


@dataclass(frozen=True)
class PhaseDepths:
    """Depths of each phase; None takes those of the plan."""

    ordered: tuple[int, ...] | None
    critical: tuple[int, ...] | None
    chaotic: tuple[int, ...] | None


@click.command("table", cls=FileCommand)
@click.option("--x", type=InputFile(), metavar="DATA",
              help="File of `data prepare` with images [default: digits].")
@act_option
@b_var_option
@click.option("--w-var", type=Floats(positive=True), metavar="ORDERED,CHAOTIC",
              default="1.25,2.5", show_default=True, help="The critical one is solved for.")
@click.option("--nets", default="fcn,cnn-f,cnn-p", show_default=True, help="Rows to measure.")
@click.option("--ordered", type=Depths(), help="Depths in the ordered phase.")
@click.option("--critical", type=Depths(), help="Depths at criticality.")
@click.option("--chaotic", type=Depths(), help="Depths in the chaotic phase [default: from chi_1].")
@click.option("--images", type=click.IntRange(min=2), default=10, show_default=True)
@memory_option
@json_option
@grouped(PhaseDepths, "phases")
def table_command(
    x: str | None, act: str, b_var: float, w_var: tuple[float, ...], nets: str,
    phases: PhaseDepths, images: int, memory: int | None, as_json: bool,
) -> None:
    """The paper's table of asymptotics, measured: predicted, measured, ratio.

    Constants show the ratio at the first, a middle and the last depth and its limit, extrapolated
    where the approach is slow; rates the exponent fitted over the second half of the depths, and
    its ratio to the prediction. Images are scaled to V(q*), with which q is q* from layer 1 on.
    """
    one_blas_thread()
    from widegram.meanfield.experiments.asymptotics import TablePlan, table
    from widegram.meanfield.experiments.problem import digits_problem, load_problem
    from widegram_cli.reporting import reporter

    chosen = tuple(part.strip() for part in nets.split(","))
    if set(chosen) - set(FAMILIES):
        raise click.UsageError(f"--nets: {nets!r}; choose from {', '.join(FAMILIES)}")
    if len(w_var) != 2:
        raise click.UsageError("--w-var: give two numbers, the ordered and the chaotic w_var")
    given = {phase: depths for phase, depths in asdict(phases).items() if depths is not None}
    plan = TablePlan(images=images, **given)
    problem = digits_problem() if x is None else load_problem(x, images, plan.test_images)
    found: list[Entry] = []
    with reporter(parts=True) as progress:
        found += table(problem, act, b_var, w_var, chosen, plan, memory, progress)
    if as_json:
        emit_json({"entries": [asdict(entry) for entry in found],
                   "good": sum(entry.good for entry in found), "total": len(found)})
        return
    _print_table(found)


def _print_table(found: list[Entry]) -> None:
    heading: tuple[str, str] | None = None
    for entry in found:
        if (entry.net, entry.phase) != heading:
            heading = (entry.net, entry.phase)
            click.echo(f"\n{entry.net}, {entry.phase}")
        click.echo(f"  {entry.quantity:<18}{entry.formula:<34}{_result(entry)}")
    good = sum(entry.good for entry in found)
    click.echo(f"\n{good} of {len(found)} entries agree")
    for note in _notes(found):
        click.echo(f"* {note}")


def _result(entry: Entry) -> str:
    verdict = "" if entry.good else "  DISAGREES"
    if entry.kind == "constant":
        picks = sorted({0, len(entry.depths) // 2, len(entry.depths) - 1})
        shown = [f"{entry.ratios[i]:.6f} at {entry.depths[i]}" for i in picks]
        measured = 10 ** entry.log10_measured[-1]
        return (f"predicted {entry.predicted:<11.6g} measured {measured:<11.6g} "
                f"ratio {', '.join(shown)}, limit {entry.limit:.6f}{verdict}")
    window = f"at {entry.fitted_from} to {entry.depths[-1]}{verdict}"
    if not entry.predicted:
        return f"exponent predicted 0           fitted {entry.exponent:.2g} {window}"
    return (f"exponent predicted {entry.predicted:<11.6g} fitted {entry.exponent:<11.6g} "
            f"ratio {entry.exponent / entry.predicted:.6f} {window}")


def _notes(found: list[Entry]) -> list[str]:
    """What differs from the paper's table, with the numbers of the first network it shows in."""
    notes = []
    excess = [entry for entry in found if entry.quantity == "kappa_minus_1"]
    if excess:
        one = excess[0]
        paper = next(entry.predicted for entry in found if entry.quantity == "predictor"
                     and (entry.net, entry.phase) == (one.net, one.phase))
        notes.append(
            f"kappa_minus_1: the paper has d l (chi_c/chi_1)^l, exponent {paper:.6g}, which is "
            f"what P(Theta) Y follows; {one.net} gives {one.exponent:.6g} = -log chi_1, because "
            "lambda_max keeps (m - 1) p*_ab beside the diagonal"
        )
    formulas = {entry.formula for entry in found}
    if "b l^2/2" in " ".join(formulas):
        notes.append(
            "b l^2/2: a scale-free activation has no q* at criticality; with a bias q grows as "
            "b l, Theta as b l^2/2, off the diagonal as 4/7 of that (1/4 with --b-var 0), and "
            "P(Theta) Y falls as l^(-1/2)"
        )
    if any(entry.phase == "growing" for entry in found):
        notes.append(
            "growing: q has no fixed point at this w_var, so that there is no chaotic phase with "
            "c* < 1; Theta is compared with l q_l, q_l the variance in layer l"
        )
    return notes
