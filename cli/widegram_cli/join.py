"""``widegram join``: one Gram file of the shards that ``gram --shard`` wrote."""

from __future__ import annotations

import click

from widegram_cli.files import FileCommand, OutputFile
from widegram_cli.options import json_option, memory_option, overwrite_option
from widegram_cli.output import emit_json, human_time


@click.command("join", cls=FileCommand)
@click.argument("out", type=OutputFile(), metavar="OUT.h5")
@click.option(
    "--virtual",
    is_flag=True,
    help="Copy nothing: OUT.h5 is a view of the shards, which stay where they are.",
)
@memory_option
@overwrite_option
@json_option
def command(out: str, virtual: bool, memory: int | None, overwrite: bool, as_json: bool) -> None:
    """Make OUT.h5 of OUT.h5.shard-1-of-N to OUT.h5.shard-N-of-N.

    Shards that are missing, of another run, unfinished or damaged are named. OUT.h5 has the bits
    that one run would have given it. Run again, the same command goes on with an unfinished copy.
    """
    from widegram import join
    from widegram_cli.reporting import reporter

    with reporter() as progress:
        result = join(out, virtual=virtual, memory=memory, overwrite=overwrite, progress=progress)
    if as_json:
        emit_json({**result._asdict(), "file": out})
    elif result.resumed_tiles == result.tiles:
        click.echo(f"{out}: was complete already")
    else:
        made = "a view of" if virtual else "complete; joined from"
        took = "" if virtual else f" in {human_time(result.seconds)}"
        click.echo(f"{out}: {made} {result.shards} shards, {result.tiles:,} tiles{took}")
