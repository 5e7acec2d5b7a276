"""``widegram eig``: the spectrum of a training matrix."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from widegram.validation.choices import WHICH
from widegram_cli import options as shared
from widegram_cli.files import FileCommand, InputFile, PictureFile
from widegram_cli.output import emit_json, emit_table, human_time
from widegram_cli.serving import Serving, note_unused
from widegram_cli.value_types import Tolerance

if TYPE_CHECKING:
    from widegram.linalg.summary import Spectrum

_LAPACK = ("--full",)  # has nothing to draw, and does not iterate

@click.command("eig", cls=FileCommand)
@click.argument("file", type=InputFile(), metavar="K.h5")
@shared.kernel_option
@shared.depth_option
@shared.head_option
@shared.rows_option("Only these rows and columns")
@click.option("--full", is_flag=True, help="Every eigenvalue, by LAPACK.")
@click.option(
    "--vectors", cls=Serving, serves=("--full",), is_flag=True,
    help="With --full: eigenvectors too; --k gives them by itself.",
)  # fmt: skip
@click.option("--k", type=click.IntRange(min=1), help="This many eigenpairs, streaming the file.")
@click.option(
    "--which",
    cls=Serving,
    serves=("--k",),
    type=click.Choice(WHICH),
    default="LA",
    show_default=True,
    help="With --k: the largest, the smallest, or half from both ends.",
)
@click.option("--density", is_flag=True, help="Numbers of eigenvalues by decade, streaming.")
@click.option(
    "--probes", cls=Serving, idle=_LAPACK, type=click.IntRange(min=2), default=16, show_default=True
)
@click.option(
    "--steps", cls=Serving, idle=_LAPACK, type=click.IntRange(min=4), default=80, show_default=True
)
@click.option(
    "--tol", cls=Serving, idle=_LAPACK, type=Tolerance, default=1e-8, show_default=True,
    help="Residual over norm.",
)  # fmt: skip
@click.option(
    "--max-passes", cls=Serving, idle=_LAPACK, type=click.IntRange(min=1), default=300,
    show_default=True,
)  # fmt: skip
@click.option(
    "--seed", cls=Serving, idle=_LAPACK, type=click.IntRange(min=0), default=0, show_default=True
)
@click.option("--plot", type=PictureFile(), metavar="P.png", help="Draw the spectrum.")
@shared.out_option("E.h5", "Write /eigenvalues, /eigenvectors, /density.", required=False)
@shared.memory_option
@shared.overwrite_of("--out", "--plot")
@shared.json_option
def command(
    file: str,
    kernel: str,
    depth: int | None,
    head: str | None,
    rows: str | None,
    out: str | None,
    plot: str | None,
    memory: int | None,
    overwrite: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Eigenvalues, condition number, effective rank and density of the training matrix in K.h5, or
    in an array K.npy.

    Without --full, --k or --density: every eigenvalue where that fits, else the ends and the
    density. The smallest eigenvalues of a matrix larger than memory come from a factor on the
    disk, beside --out or K.h5 (.factor): after a kill the same command continues it.
    """
    shared.refuse_kernel_of(file)
    from widegram.linalg.from_files import eig
    from widegram_cli.reporting import reporter

    if plot is not None:
        from widegram.durable.outputs import check_target
        from widegram.durable.pictures import require_matplotlib

        check_target(Path(plot), overwrite)
        require_matplotlib()
    with reporter(parts=True) as progress:
        found = eig(
            file, kernel, depth=depth, head=head, rows=rows, out=out, memory=memory,
            overwrite=overwrite, progress=progress, **options,
        )  # fmt: skip
    if plot is not None:
        from widegram.linalg.spectrumplot import plot_spectrum

        plot_spectrum(Path(plot), found, f"{file}, {kernel}", overwrite=overwrite)
    if found.density is None and options["k"] is None:
        context = click.get_current_context()
        note_unused(context, f"every eigenvalue was computed, {found.why}", full=True)
    if as_json:
        emit_json({**found.as_dict(), "file": out, "plot": plot})
    else:
        _print(found)


def _lambda_min(found: Spectrum, floor: str) -> str:
    """The value with its error where it means something, else why it does not."""
    bar = found.bottom
    if found.indefinite:
        known = f"{bar.value:.8g}" if math.isfinite(bar.low) else f"at most {bar.value:.8g}"
        return f"{known} (negative: no kernel matrix; `widegram verify` the file)"
    if bar.value <= found.resolution:
        return floor
    if not found.lambda_min_resolved:
        return f"at most {bar.high:.3g} (no bound from below: take --which SA, or more memory)"
    residual = found.lambda_min_residual
    more = "" if residual is None else f", residual {residual:.1e}"
    return f"{bar.value:.8g} +- {bar.error:.1g}{more}"


def _kappa(found: Spectrum) -> str:
    """The condition number with its range, else the bound that is known."""
    bar = found.condition
    if not found.lambda_min_resolved:
        return f"at least {bar.low:.6g}"
    most = f"{bar.high:.6g}" if math.isfinite(bar.high) else "more"
    return f"{bar.value:.6g} ({bar.low:.6g} to {most})"


def _bulk(found: Spectrum, floor: str) -> str:
    bar = found.median
    if bar.high <= found.resolution or (bar.value <= found.resolution and found.density is None):
        return floor
    if found.density is None and bar.error == found.resolution:
        return f"{bar.value:.8g} +- {bar.error:.1g}"
    low = f"{bar.low:.4g}" if bar.low > found.resolution else "below the resolution"
    return f"{bar.value:.4g} ({low} to {bar.high:.4g})"


def _print(found: Spectrum) -> None:
    floor = f"below the resolution {found.resolution:.2g} of {found.dtype}"
    emit_table(
        [
            ("method", f"{found.method}: {found.why}"),
            ("n", found.n),
            ("lambda_max", f"{found.lambda_max:.8g} +- {found.lambda_max_error:.1g}"),
            ("lambda_min", _lambda_min(found, floor)),
            ("bulk (median)", _bulk(found, floor)),
            ("condition number", _kappa(found)),
            ("trace", f"{found.trace:.8g} +- {found.total.error:.1g}"),
            ("effective rank", f"{found.effective_rank:.4g}"),
            ("unresolved eigenvalues", f"{found.unresolved} of {found.computed} computed"),
            ("time", human_time(found.seconds)),
        ]
    )
    for low, high, least, most in found.bins.rows() if found.density is not None else []:
        place = f"{low:.3g} to {high:.3g}" if low > 0 else f"below {high:.3g}"
        click.echo(
            f"eigenvalues {place}: {least} to {most}"
            if most > least
            else f"eigenvalues {place}: {most}"
        )
    if found.pairs.residuals is None or not found.requested:
        return
    for value, residual in zip(found.pairs.values[::-1], found.pairs.residuals[::-1], strict=True):
        shown = f"{value:.10g}" if abs(value) > found.resolution else f"unresolved ({floor})"
        click.echo(f"eigenvalue {shown}  residual {residual:.1e}")
    unsettled = found.pairs.values.size - found.pairs.converged - found.unresolved
    if unsettled > 0:
        click.echo(
            f"only {found.pairs.converged} of {found.pairs.values.size} converged: raise "
            "--max-passes or --memory, or loosen --tol"
        )
