"""``widegram verify``: checksums, symmetry, and a sample of tiles computed again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from widegram_cli import options as shared
from widegram_cli.files import FileCommand, InputFile
from widegram_cli.output import emit_json
from widegram_cli.serving import Serving, is_given

if TYPE_CHECKING:
    from widegram import gramfile
    from widegram.verifying.file_kinds import SealReport

_COMPUTING = ("sample", "seed", "repair", "threads", "dask", "mixed_workers")
# Of options that count only where something is computed again.
_IDLE, _UNLESS = ("--sample 0",), ("--repair",)

@dataclass(frozen=True)
class MovedInputs:
    """Where the inputs are, if they have moved, and their patterns, of graphs."""

    x: str | tuple[str, ...] | None
    x2: str | tuple[str, ...] | None
    pattern: str | None
    pattern2: str | None

    def opened(self) -> list[Any]:
        """The inputs, None for those that have not moved."""
        from widegram.data.patterns import patterned
        from widegram.data.several import open_inputs

        return [
            of if of is None else patterned(open_inputs(of), None, edges)[0]
            for of, edges in ((self.x, self.pattern), (self.x2, self.pattern2))
        ]


@click.command("verify", cls=FileCommand)
@click.argument("file", type=InputFile(), metavar="FILE")
@shared.data_option(
    "--x", "The inputs, where they have moved; one --x for each input of a list.",
    idle=_IDLE, unless=_UNLESS,
)  # fmt: skip
@shared.data_option(
    "--x2", "The inputs of the columns, where they have moved.", idle=_IDLE, unless=_UNLESS
)
@click.option(
    "--pattern", cls=Serving, serves=("--x",), type=InputFile(), metavar="DATA",
    help="The patterns of --x, of graphs.",
)  # fmt: skip
@click.option(
    "--pattern2", cls=Serving, serves=("--x2",), type=InputFile(), metavar="DATA",
    help="Those of --x2.",
)  # fmt: skip
@click.option(
    "--sample",
    type=click.IntRange(min=0),
    default=4,
    show_default=True,
    help="Tiles of which a block is computed again; 0 compares checksums alone.",
)
@click.option(
    "--seed", cls=Serving, idle=("--sample 0",), type=click.IntRange(min=0), default=0,
    show_default=True, help="Of these.",
)  # fmt: skip
@click.option("--repair", is_flag=True, help="Compute damaged tiles again, from the same inputs.")
@shared.depth_option
@shared.head_option
@shared.threads_option
@shared.dask_option(*_IDLE, unless=_UNLESS)
@shared.mixed_option
@shared.memory_option
@shared.json_option
@shared.grouped(MovedInputs, "moved")
def command(
    file: str,
    moved: MovedInputs,
    as_json: bool,
    depth: int | None,
    head: str | None,
    **options: Any,
) -> None:
    """Check FILE for damage; ends with exit code 3 and one line where there is any.

    FILE is any that this program wrote: a gram file, solution, prediction, spectrum, map, prepared
    or exported data, unfinished factor, restart. Checksums are compared; of a gram file more: a
    sample is computed again, and a few entries by another method, dense, where images are small
    enough for that.

    A file that is not complete is checked as far as it goes. With --depth or --head the datasets
    that are read out there are checked, and no others.
    """
    from widegram.gramfile import VerifyReport
    from widegram.tiling import End
    from widegram.verifying.verify import verify
    from widegram_cli.reporting import reporter

    inputs = moved.opened()
    with reporter() as progress:
        report = verify(file, *inputs, end=End(depth, head), **options, progress=progress)
    if as_json:
        kind = {"kind": "gram"} if isinstance(report, VerifyReport) else {}
        emit_json(kind | report.as_dict())
    if not isinstance(report, VerifyReport):
        _note_unused(report)
    report.raise_if_damaged()
    if as_json:
        return
    if isinstance(report, VerifyReport):
        _tell(file, report)
        return
    state = "" if report.complete else ", unfinished"
    counted = f"{report.checked} datasets have their checksums"
    click.echo(f"{file}: no damage; {report.kind}{state}, {counted}")


def _note_unused(report: SealReport) -> None:
    """Say which options did not count for what is no gram file."""
    context = click.get_current_context()
    given = [one for one in context.command.params if is_given(context, one.name)]
    unused = [one.opts[0] for one in given if one.name in _COMPUTING]
    if unused:
        click.echo(
            f"widegram: note: {report.file}: {report.kind}, of which nothing is computed again; "
            f"unused: {', '.join(unused)}",
            err=True,
        )


def _tell(file: str, report: gramfile.VerifyReport) -> None:
    """What was looked at in a gram file without damage."""
    for line in report.repaired:
        click.echo(f"{file}: repaired: {line}")
    if not report.metadata_intact:
        click.echo(
            f"{file}: its metadata is not what was written, another program or damage has changed "
            "it; --repair writes it anew"
        )
    part = "" if report.complete else f" of {report.tiles} (the file is not complete)"
    click.echo(f"{file}: no damage; {report.tiles_checked}{part} tiles have their checksums")
    click.echo(
        report.note
        or f"{report.entries_recomputed:,} entries computed again, largest relative difference "
        f"{report.max_difference:.1e}"
    )
    if report.dense_entries:
        click.echo(
            f"{report.dense_entries} entries computed by the dense reference too, largest "
            f"relative difference {report.dense_difference:.1e}"
        )
    elif report.dense_note != report.note:
        click.echo(f"no entry computed by the dense reference too: {report.dense_note}")
