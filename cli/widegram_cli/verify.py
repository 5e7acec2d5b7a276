"""``widegram verify``: checksums, symmetry, and a sample of tiles computed again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from widegram_cli import options as shared
from widegram_cli.files import FileCommand, InputFile
from widegram_cli.output import emit_json

if TYPE_CHECKING:
    from widegram import gramfile


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

        pairs = (self.pattern, self.x), (self.pattern2, self.x2)
        if any(edges is not None and of is None for edges, of in pairs):
            raise click.UsageError("--pattern and --pattern2 go with --x and --x2")
        return [
            of if of is None else patterned(open_inputs(of), None, edges)[0]
            for of, edges in ((self.x, self.pattern), (self.x2, self.pattern2))
        ]


@click.command("verify", cls=FileCommand)
@click.argument("file", type=InputFile(), metavar="FILE")
@shared.data_option(
    "--x", "The inputs, where they have moved; one --x for each input of a list."
)
@shared.data_option("--x2", "The inputs of the columns, where they have moved.")
@click.option(
    "--pattern", type=InputFile(), metavar="DATA", help="The patterns of --x, of graphs."
)
@click.option("--pattern2", type=InputFile(), metavar="DATA", help="Those of --x2.")
@click.option(
    "--sample",
    type=click.IntRange(min=0),
    default=4,
    show_default=True,
    help="Tiles of which a block is computed again; 0 compares checksums alone.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of these.")
@click.option("--repair", is_flag=True, help="Compute damaged tiles again, from the same inputs.")
@shared.depth_option
@shared.head_option
@shared.threads_option
@shared.dask_option
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
    report.raise_if_damaged()
    if as_json:
        return
    if isinstance(report, VerifyReport):
        _tell(file, report)
        return
    state = "" if report.complete else ", unfinished"
    counted = f"{report.checked} datasets have their checksums"
    click.echo(f"{file}: no damage; {report.kind}{state}, {counted}")


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
