"""``widegram gram``: kernel matrices of a network, streamed to an HDF5 file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from widegram.validation.choices import DTYPES
from widegram_cli import options as shared
from widegram_cli.files import FileCommand, InputFile
from widegram_cli.output import emit_json, human_rate, human_time
from widegram_cli.serving import Serving
from widegram_cli.value_types import Duration, ShardNumber

if TYPE_CHECKING:
    from widegram.computing.gram import GramResult
    from widegram.sharding import Shard


@dataclass(frozen=True)
class How:
    """Arguments of :func:`widegram.gram` beside the network and its inputs."""

    get: tuple[str, ...]
    dtype: str
    device: str
    depths: tuple[int, ...] | None
    tile: int | None
    threads: int | None
    memory: int | None
    overwrite: bool
    check: bool
    accept_series_error: float | None
    dask: str | None
    mixed_workers: bool
    shard: Shard | None
    append: bool
    profile: bool


@dataclass(frozen=True)
class RowLimits:
    """How many rows are taken."""

    limit: int | None
    limit2: int | None


@dataclass(frozen=True)
class Forecast:
    """Whether nothing but a forecast is asked for, and until when."""

    plan: bool
    deadline: float | None


@click.command("gram", cls=FileCommand)
@click.option(
    "--net",
    type=InputFile(),
    required=True,
    help="Network: a .json or .toml file, JSON text, a preset.",
)
@shared.data_option(
    "--x", "Inputs: .npy, .npz:key or .h5:path; one --x for each input of a list.", required=True
)
@shared.data_option("--x2", "Inputs of the columns [default: those of --x].")
@click.option(
    "--pattern", type=InputFile(), metavar="DATA",
    help="Edges of each graph of --x, for Aggregate layers: weights (n, nodes, nodes).",
)  # fmt: skip
@click.option(
    "--pattern2", cls=Serving, serves=("--x2",), type=InputFile(), metavar="DATA",
    help="The same of --x2.",
)  # fmt: skip
@shared.out_option("K.h5", "The file to write or to resume.")
@shared.get_option
@click.option(
    "--dtype",
    type=click.Choice(DTYPES),
    default="float32",
    show_default=True,
    help="Precision of computation and file.",
)
@shared.device_option
@click.option(
    "--shard",
    type=ShardNumber(),
    metavar="K/N",
    help="Only the K-th of N shares, into K.h5.shard-K-of-N; `widegram join K.h5` joins them.",
)
@click.option(
    "--append",
    is_flag=True,
    help="K.h5 is finished, of the first rows of --x (and --x2): add the others.",
)
@click.option(
    "--plan", is_flag=True, help="Say what the run would take, from a trial; make no file."
)
@click.option(
    "--deadline",
    cls=Serving,
    serves=("--plan",),
    type=Duration(),
    help="With --plan: how many shards or workers end in time.",
)
@shared.depths_option
@click.option("--tile", type=click.IntRange(min=1), help="Side of a tile [default: chosen].")
@shared.threads_option
@click.option("--limit", type=click.IntRange(min=1), help="Only the first N rows of --x.")
@click.option(
    "--limit2", cls=Serving, serves=("--x2",), type=click.IntRange(min=1),
    help="Only the first N rows of --x2.",
)  # fmt: skip
@shared.check_option
@shared.series_option
@shared.dask_option("--append", "--plan")
@shared.mixed_option
@shared.memory_option
@shared.overwrite_option
@shared.profile_option
@shared.json_option
@shared.grouped(RowLimits, "limits")
@shared.grouped(Forecast, "forecast")
@shared.grouped(How, "how")
def command(
    net: str,
    x: str | tuple[str, ...],
    x2: str | tuple[str, ...] | None,
    pattern: str | None,
    pattern2: str | None,
    out: str,
    how: How,
    limits: RowLimits,
    forecast: Forecast,
    as_json: bool,
) -> None:
    """Compute NNGP and NTK matrices of --x with itself, or with --x2.

    Run again, the same command resumes an unfinished file, and computes again what has lost its
    checksum. Ctrl-C finishes the batch in flight and leaves a file that can be resumed.
    """
    from widegram import gram
    from widegram.data.several import open_inputs
    from widegram_cli.reporting import reporter

    rows = open_inputs(x, limits.limit)
    columns = None if x2 is None else open_inputs(x2, limits.limit2)
    if pattern2 is not None and pattern is None:
        raise click.UsageError("--pattern2 is of --x2, and goes with --pattern")
    edges = pattern if pattern2 is None else (pattern, pattern2)
    if forecast.plan and how.append:
        raise click.UsageError("--plan is of whole runs, not of --append")
    if forecast.plan and how.check:
        raise click.UsageError("--check is of a file with tiles, and --plan opens none")
    if forecast.plan and how.profile:
        raise click.UsageError("--profile is of runs, and --plan begins none")
    if forecast.plan:
        from widegram_cli.forecast import print_forecast

        print_forecast(net, rows, out, columns, how, edges, forecast.deadline, as_json)
        return
    with reporter() as progress:
        result = gram(
            net,
            rows,
            out,
            columns,
            progress=progress,
            pattern=edges,
            **vars(how),
        )
    file = out if how.shard is None else str(how.shard.file(Path(out)))
    show_result(result, file, as_json)


def show_result(result: GramResult, out: str, as_json: bool) -> None:
    """Say what a run has added to the file ``out``; its profile only where it has one."""
    parts = result.profile or ()
    if as_json:
        values = {**result._asdict(), "file": out, "profile": [p._asdict() for p in parts]}
        emit_json({key: value for key, value in values.items() if key != "profile" or parts})
        return
    _print_result(result, out)
    if parts:
        from widegram_cli.profile import print_profile

        print_profile(parts)


def _print_result(result: GramResult, out: str) -> None:
    if result.entries == 0:
        click.echo(f"{out}: was complete already")
        return
    resumed = f", {result.resumed_tiles} tiles resumed" if result.resumed_tiles else ""
    if result.copied_entries:
        resumed += f", {result.copied_entries:,} entries kept from before"
    if result.damaged_tiles:
        resumed += f", {result.damaged_tiles} damaged tiles computed again"
    click.echo(
        f"{out}: complete; {result.entries:,} entries in {human_time(result.seconds)}, "
        f"{human_rate(result.entries_per_second)} entries/s{resumed}"
    )
    if result.series_error is not None:
        error = f"{result.series_error:.0e}"
        click.echo(f"activations without a closed form: relative error at most {error}")
