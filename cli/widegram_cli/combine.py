"""``widegram combine``: sums and products of kernels of the same inputs."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import click

from widegram.validation.choices import COMBINATIONS, DTYPES
from widegram_cli.files import FileCommand, InputFile
from widegram_cli.gram import show_result
from widegram_cli.options import (
    check_option,
    depth_option,
    grouped,
    head_option,
    json_option,
    memory_option,
    out_option,
    overwrite_option,
    profile_option,
)
from widegram_cli.value_types import Floats, KernelNames


@dataclass(frozen=True)
class Combining:
    """Arguments of :func:`widegram.combine` beside its files and where they are read out."""

    weights: tuple[float, ...] | None
    op: str
    get: tuple[str, ...] | None
    dtype: str | None
    tile: int | None
    memory: int | None
    overwrite: bool
    check: bool
    profile: bool


@click.command("combine", cls=FileCommand)
@click.argument("files", type=InputFile(), nargs=-1, required=True, metavar="A.h5 B.h5 ...")
@click.option("--weights", type=Floats(), help="A weight for each file of a sum [default: 1].")
@click.option(
    "--op",
    type=click.Choice(COMBINATIONS),
    default="sum",
    show_default=True,
    help="What is done with entries.",
)
@out_option("C.h5", "The file to write or to resume.")
@click.option("--get", type=KernelNames(), help="Kernels [default: those that all files have].")
@click.option("--dtype", type=click.Choice(DTYPES), help="[default: the widest of the files]")
@click.option("--tile", type=click.IntRange(min=1), help="Side of a tile [default: the first's].")
@check_option
@depth_option
@head_option
@memory_option
@overwrite_option
@profile_option
@json_option
@grouped(Combining, "how")
def command(
    files: tuple[str, ...],
    out: str,
    how: Combining,
    depth: int | None,
    head: str | None,
    as_json: bool,
) -> None:
    """Add or multiply kernels of two or more Gram files of the same inputs.

    C.h5 is a Gram file as the others: solve, eig and predict take it. With --depth or --head the
    kernels of those files that have some are read out there. Run again, the same command resumes an
    unfinished file.
    """
    from widegram import combine
    from widegram.tiling import End
    from widegram_cli.reporting import reporter

    with reporter() as progress:
        result = combine(files, out, end=End(depth, head), progress=progress, **asdict(how))
    show_result(result, out, as_json)
