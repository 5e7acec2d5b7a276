"""``widegram solve``: (K + reg I) alpha = Y."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from widegram.validation.choices import (
    CG,
    DTYPES,
    FACTORISATIONS,
    NYSTROM,
    PRECONDITIONERS,
    SOLVE_METHODS,
    SVM,
    TARGETS,
    TASKS,
)
from widegram_cli import options as shared
from widegram_cli.files import FileCommand, InputFile
from widegram_cli.output import emit_json, emit_table, human_time
from widegram_cli.serving import Serving, is_given, note_unused
from widegram_cli.value_types import Floats, Tolerance

if TYPE_CHECKING:
    from widegram.linalg.solvejob import SolveResult

# What options count beside; whether they count with `auto` is said when the method is known.
_CG = (f"--method {CG}", "--method auto")
_SVM = (f"--method {SVM}",)
_FACTORS = tuple(f"--method {name}" for name in FACTORISATIONS)

@click.command("solve", cls=FileCommand)
@click.argument("file", type=InputFile(), metavar="K.h5")
@shared.kernel_option
@shared.depth_option
@shared.head_option
@click.option(
    "--y",
    type=InputFile(),
    required=True,
    metavar="DATA",
    help="Integer classes (n,) or float targets (n, k).",
)
@click.option(
    "--task",
    type=click.Choice(TASKS),
    default="auto",
    show_default=True,
    help="auto: integers are classes, floats are numbers.",
)
@click.option(
    "--targets",
    type=click.Choice(TARGETS),
    help="Classes: one-hot less 1 / classes, or as it is [default: centered].",
)
@click.option("--target-shift", type=float, help="Classes: one-hot less this number.")
@shared.unit_option
@click.option(
    "--normalize-y",
    is_flag=True,
    help="Regression: centre the targets, and scale the prior to them (for variances).",
)
@click.option(
    "--scale-prior",
    is_flag=True,
    help="Scale the prior to the targets by evidence, for variances and probabilities.",
)
@shared.rows_option("Only these rows and columns, and their labels")
@shared.limit_option
@click.option(
    "--diag-reg",
    type=float,
    default=0.0,
    show_default=True,
    help="Added to the diagonal, times trace / n.",
)
@click.option(
    "--absolute", cls=Serving, serves=("--diag-reg", "--diag-reg-path", "--centers"), is_flag=True,
    help="--diag-reg is added as it is.",
)  # fmt: skip
@click.option(
    "--diag-reg-path",
    "path",
    type=Floats(),
    help="Choose the best of these by leave-one-out error, or with --evidence by that.",
)
@click.option("--loo", is_flag=True, help="Report leave-one-out error and accuracy.")
@click.option("--evidence", is_flag=True, help="Report the log marginal likelihood.")
@click.option(
    "--method",
    type=click.Choice(SOLVE_METHODS),
    default="auto",
    show_default=True,
    help="Solver.",
)
@click.option(
    "--centers",
    type=InputFile(),
    metavar="CENTERS.h5",
    help="nystrom: kernel(centers, centers); K.h5 is then kernel(train, centers).",
)
@click.option(
    "--factor-dtype",
    "dtype",
    cls=Serving,
    serves=_FACTORS,
    type=click.Choice(DTYPES),
    help="Precision of a factorisation [default: float64 where it fits].",
)
@click.option(
    "--tol", cls=Serving, serves=_CG, type=Tolerance, default=1e-8, show_default=True,
    help="cg: relative residual.",
)  # fmt: skip
@click.option(
    "--max-iter", cls=Serving, serves=_CG, type=click.IntRange(min=1), default=1000,
    show_default=True, help="cg.",
)  # fmt: skip
@click.option(
    "--preconditioner",
    cls=Serving,
    serves=_CG,
    type=click.Choice(PRECONDITIONERS),
    default="nystrom",
    show_default=True,
    help="cg.",
)
@click.option(
    "--c-path",
    cls=Serving,
    serves=_SVM,
    type=Floats(),
    help="svm: C, or several of which cross-validation takes the best [default: 0.01 to 1e4].",
)
@click.option(
    "--folds", cls=Serving, serves=_SVM, type=click.IntRange(min=2),
    help="svm: of cross-validation [default: 5].",
)  # fmt: skip
@click.option(
    "--rank", cls=Serving, serves=_CG, idle=("--preconditioner none",), type=click.IntRange(min=0),
    help="cg: rank of the preconditioner.",
)  # fmt: skip
@click.option(
    "--seed",
    cls=Serving,
    serves=(*_CG, *_SVM),
    idle=tuple(f"--preconditioner {name}" for name in PRECONDITIONERS[1:]),
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="cg: random probes; svm: folds.",
)
@shared.out_option("A.h5", "The solution file.")
@click.option(
    "--plan", is_flag=True, help="Say what solving would take, from a trial; make no file."
)
@shared.dask_option("--plan")
@shared.memory_option
@shared.overwrite_option
@shared.json_option
def command(
    file: str,
    out: str,
    path: tuple[float, ...] | None,
    centers: str | None,
    plan: bool,
    as_json: bool,
    **given: Any,
) -> None:
    """Solve (K + reg I) alpha = Y for the training matrix in K.h5, or in an array K.npy.

    Leave-one-out errors come from a factorisation for each regulariser, in memory or on the disk,
    or from one tridiagonalisation for more than eight; the solution is that of the best.

    Work that does not fit in memory keeps its state beside --out (.factor, .restart): after a
    kill the same command continues.

    svm tells classes apart by support vector machines, one for each pair (scikit-learn's SVC on the
    matrix as it is); C by cross-validation on the rows of K.h5.

    With --dask workers keep the rows of the matrix, and each iteration of cg sends them vectors.

    nystrom solves for weights of M centers alone, from kernel(train, centers), read a few times
    whatever the regularisers: the kernel is then k(x, C) K(C, C)^-1 k(C, x'). `predict` takes
    kernel(test, centers).
    """
    context = click.get_current_context()
    if path and is_given(context, "diag_reg"):
        raise click.UsageError(
            "--diag-reg and --diag-reg-path both name regularisers; give one of them"
        )
    if (given["method"] == NYSTROM) != (centers is not None):
        raise click.UsageError("--method nystrom and --centers go together")
    given["c_path"] = given["c_path"] or ()
    if len(given["c_path"]) == 1 and is_given(context, "seed"):
        raise click.UsageError("--seed draws folds, and one C in --c-path needs none")
    shared.refuse_kernel_of(file)
    from widegram.linalg.jobs import solve_file
    from widegram.linalg.settings import SolveOptions
    from widegram.linalg.solvejob import SolveJob
    from widegram_cli.reporting import reporter

    options = shared.taken(SolveOptions, given)
    job = SolveJob(
        gram=Path(file),
        out=Path(out),
        centers=None if centers is None else Path(centers),
        path=path or (),
        options=options,
        **given,
    )
    if plan:
        from widegram_cli.forecast import print_solve_forecast

        print_solve_forecast(job, as_json)
        return
    with reporter(parts=True) as progress:
        result = solve_file(job, progress)
    note_unused(context, f"solved by {result.method}", method=result.method)
    if as_json:
        emit_json(result.as_dict())
    else:
        _print(result)


def _print(result: SolveResult) -> None:
    machines = result.method == SVM
    sizes = "n, pairs of classes" if machines else "n, right-hand sides"
    emit_table(
        [
            ("method", f"{result.method}: {result.why}"),
            ("status", f"{result.status}: {result.message}"),
            ("task", f"{result.task}: {result.task_reason}"),
            (sizes, f"{result.n}, {result.k}"),
            *(_about_machines(result) if machines else _about_solution(result)),
            ("time", human_time(result.seconds)),
            ("written", result.out),
        ]
    )
    for point in result.path:
        if machines:
            mark = "  <- best" if point["best"] else ""
            click.echo(f"at C {point['c']:g}: accuracy {point['accuracy']:.4f}{mark}")
            continue
        mark = "  <- best" if len(result.path) > 1 and point["best"] else ""
        note = "" if point["resolved"] else "  (too ill-conditioned to mean anything)"
        click.echo(f"at diag_reg {point['diag_reg']:g}: {_judged(point)}{note}{mark}")


def _about_machines(result: SolveResult) -> list[tuple[str, Any]]:
    return [
        ("support vectors", result.details["support"]),
        ("iterations", result.iterations),
    ]


def _about_solution(result: SolveResult) -> list[tuple[str, Any]]:
    return [
        ("diag_reg", f"{result.diag_reg:g} ({result.shift:.6g} added to the diagonal)"),
        *_about_centers(result),
        *_about_prior(result),
        ("iterations", result.iterations),
        ("residual", f"{result.residual:.2e}"),
    ]


def _about_centers(result: SolveResult) -> list[tuple[str, str]]:
    """What a solution by centers adds."""
    found = result.details
    if "centers" not in found:
        return []
    return [
        ("centers", f"{found['centers']}, {found['jitter']:.3g} added to their diagonal"),
        ("condition", f"{found['condition']:.2e}, error of predictions {found['error']:.1e}"),
    ]


def _about_prior(result: SolveResult) -> list[tuple[str, str]]:
    """What the prior's standard deviations are multiplied by, where the targets decide."""
    found = sorted(set(result.prior_scale))
    if not found:
        return []
    text = f"{found[0]:.4g}" if len(found) == 1 else f"{found[0]:.4g} to {found[-1]:.4g}"
    return [("prior's scale", text)]


def _judged(point: dict[str, Any]) -> str:
    """What is known of a regulariser: its leave-one-out error and accuracy, its evidence."""
    parts = []
    if point["mse"] is not None:
        share = "" if point["accuracy"] is None else f", accuracy {point['accuracy']:.4f}"
        parts.append(f"leave-one-out mse {point['mse']:.6g}{share}")
    if point["log_evidence"] is not None:
        parts.append(f"log evidence {point['log_evidence']:.10g}")
    return ", ".join(parts) or "no figure"
