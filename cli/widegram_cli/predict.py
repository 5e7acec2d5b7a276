"""``widegram predict``: predictions of a solution on test points."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from widegram.validation.choices import FACTORISATIONS
from widegram_cli import options as shared
from widegram_cli.files import FileCommand, InputFile, OutputFile
from widegram_cli.output import emit_json, emit_table, human_time
from widegram_cli.serving import Serving
from widegram_cli.value_types import Floats

if TYPE_CHECKING:
    from widegram.predict.merit import PredictResult


@click.command("predict", cls=FileCommand)
@click.argument("file", type=InputFile(), metavar="A.h5")
@click.option(
    "--cross",
    type=InputFile(),
    metavar="Kc.h5",
    help="kernel(test, train) [default: the matrix that was solved with, with --rows].",
)
@shared.rows_option("Only these rows of Kc.h5, and their labels")
@click.option(
    "--y",
    type=InputFile(),
    metavar="DATA",
    help="Labels of the test points, for accuracy and MSE.",
)
@shared.depth_option
@shared.head_option
@shared.limit_option
@click.option(
    "--time",
    "times",
    type=Floats(),
    help="Gradient flow at these times, in units of the maximal learning rate; inf: the solution.",
)
@click.option("--variance", is_flag=True, help="Variance of new targets, with and without noise.")
@shared.data_option(
    "--x-test",
    "--variance: the test points, where Kc.h5 has no /diagonal [default: as --cross]; one "
    "--x-test for each input of a list.",
    serves=("--variance",),
)
@click.option(
    "--test-gram", cls=Serving, serves=("--variance",), type=InputFile(), metavar="Kt.h5",
    help="--variance: kernel(test, test).",
)  # fmt: skip
@click.option(
    "--diagonal",
    cls=Serving,
    serves=("--variance",),
    type=InputFile(),
    metavar="DATA",
    help="--variance: K(x, x) of the rows of an array Kc.npy.",
)
@click.option(
    "--gram",
    type=InputFile(),
    metavar="K.h5",
    help="The training matrix [default: as A.h5 names it].",
)
@click.option(
    "--method",
    type=click.Choice(FACTORISATIONS),
    default="auto",
    show_default=True,
    cls=Serving,
    serves=("--variance",),
    help="--variance: factorisation.",
)
@shared.out_option(
    "P.h5",
    "Write /mean, /variance, /variance_latent, /probability, /time/<t>/mean; of method svm "
    "/decision, /votes, /pairs.",
    required=False,
)
@click.option(
    "--csv",
    type=OutputFile(),
    metavar="P.csv",
    help="Write a line for each test point: predictions, probabilities, variances, labels.",
)
@click.option(
    "--ids", cls=Serving, serves=("--csv",), type=InputFile(), metavar="DATA",
    help="--csv: numbers or names of the rows of Kc.h5.",
)  # fmt: skip
@shared.memory_option
@shared.overwrite_of("--out", "--csv")
@shared.json_option
def command(
    file: str,
    cross: str | None,
    out: str | None,
    csv: str | None,
    gram: str | None,
    test_gram: str | None,
    times: tuple[float, ...] | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Predict with the solution A.h5: NNGP posterior or NTK ensemble, and gradient flow.

    Without --cross --rows are rows of the matrix that was solved with, such as those that were held
    out.

    The training points are predicted too. --variance: for an NNGP solution that of the Bayesian
    posterior, for an NTK solution that of an ensemble of trained networks; /variance includes the
    noise, as large as what the regulariser added to the diagonal, /variance_latent leaves it out.
    How many of those are so small that rounding decides them is said.
    """
    flows = any(math.isfinite(moment) for moment in times or ())
    if gram is not None and cross is not None and not options["variance"] and not flows:
        raise click.UsageError(
            "--gram beside --cross serves --variance or finite --time, neither of which is given"
        )
    from widegram.predict.predicting import PredictJob, predict_file
    from widegram_cli.reporting import reporter

    job = PredictJob(
        solution=Path(file),
        cross=_path(cross),
        out=_path(out),
        csv=_path(csv),
        gram=_path(gram),
        test_gram=_path(test_gram),
        times=times or (),
        **options,
    )
    with reporter(parts=True) as progress:
        result = predict_file(job, progress)
    if as_json:
        emit_json(result.as_dict())
    else:
        _print(result)


def _path(name: str | None) -> Path | None:
    return None if name is None else Path(name)


def _print(result: PredictResult) -> None:
    rows: list[tuple[str, Any]] = [("test points, outputs", f"{result.n_test}, {result.k}")]
    if result.trained_on:
        rows.append(("  of them trained on", f"{result.trained_on}"))
    for name, value in (
        ("accuracy", result.accuracy),
        ("mse", result.mse),
        ("negative log likelihood", result.nll),
        ("  of the true class", result.log_loss),
        ("expected calibration error", result.ece),
        ("mean variance of new targets", result.mean_variance),
        ("  without the noise", result.mean_variance_latent),
        ("training accuracy", result.train_accuracy),
        ("training mse", result.train_mse),
    ):
        if value is not None:
            rows.append((name, f"{value:.6g}"))
    if result.undecided:
        rows.append(("  decided by rounding", f"{result.undecided} of {result.n_test}"))
    if result.variance_of is not None:
        rows.append(("variance of", result.variance_of))
    if result.solution_status != "ok":
        rows.append(("solution", f"{result.solution_status}: its solver stopped early"))
    rows.append(("time", human_time(result.seconds)))
    rows += [("written", path) for path in (result.out, result.csv) if path is not None]
    emit_table(rows)
    for row in result.times:
        parts = [f"{name} {row[name]:.6g}" for name in row if name != "t" and row[name] is not None]
        click.echo(f"t = {row['t']}: {', '.join(parts)}")
