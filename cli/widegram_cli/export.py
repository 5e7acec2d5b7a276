"""``widegram export``: one kernel of a Gram file in another format."""

from __future__ import annotations

from typing import Any

import click

from widegram.machine.budgets import format_size
from widegram_cli.files import FileCommand, InputFile, OutputFile
from widegram_cli.options import (
    head_option,
    json_option,
    memory_option,
    overwrite_option,
    rows_option,
    unit_option,
)
from widegram_cli.output import emit_json


@click.command("export", cls=FileCommand)
@click.argument("file", type=InputFile(), metavar="K.h5")
@click.option("--kernel", required=True, help="nngp or ntk.")
@click.option(
    "--to", type=OutputFile(), required=True, metavar="TARGET", help="K.npy, K.npz or another .h5."
)
@click.option("--dtype", help="float16, float32 or float64 [default: as stored].")
@click.option("--depth", type=click.IntRange(min=1), help="Which depth of a depth sweep.")
@head_option
@rows_option("Only these rows, of a symmetric matrix these columns too")
@click.option("--columns", type=InputFile(), metavar="FILE|a:b", help="Only these columns.")
@unit_option
@memory_option
@overwrite_option
@json_option
def command(
    file: str, kernel: str, to: str, head: str | None, as_json: bool, **options: Any
) -> None:
    """Copy one kernel of K.h5 to TARGET, panel by panel, in bounded memory."""
    from widegram.gramfile import export
    from widegram_cli.reporting import reporter

    with reporter() as progress:
        size = export(file, kernel, to, head=head, progress=progress, **options)
    if as_json:
        found = {"file": file, "kernel": kernel, "depth": options["depth"], "to": to, "bytes": size}
        emit_json(found | ({} if head is None else {"head": head}))
    else:
        click.echo(f"{to}: {kernel}, {format_size(size)}")
