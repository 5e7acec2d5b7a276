"""``widegram info``: what a Gram file, or one of prepared data, holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from widegram.machine.budgets import format_size
from widegram_cli import options as shared
from widegram_cli.datafile import is_prepared, print_contents
from widegram_cli.files import FileCommand, InputFile
from widegram_cli.output import emit_json, emit_table

if TYPE_CHECKING:
    from widegram.gramfile import GramFile


@click.command("info", cls=FileCommand)
@click.argument("file", type=InputFile(), metavar="K.h5")
@shared.depth_option
@shared.head_option
@shared.json_option
def command(file: str, depth: int | None, head: str | None, as_json: bool) -> None:
    """Say what K.h5 holds, where it came from, and how much of it is done.

    While a writer runs the answer is a snapshot, and says so. With --depth or --head the datasets
    are those that are read out there. Of prepared data it says what `data info` does, among that
    what was done to inputs.
    """
    from widegram.gramfile import GramFile

    if is_prepared(file):
        if depth is not None or head is not None:
            raise click.UsageError("--depth and --head are of gram files, this is prepared data")
        print_contents(file, as_json)
        return

    with GramFile(file, snapshot=True, shard=True) as gram:
        facts = _facts(gram, gram.keys(depth, head))
    if as_json:
        emit_json(facts)
        return
    tiles, attributes = facts["tiles"], facts["attributes"]
    kind = "symmetric" if facts["symmetric"] else "x1 by x2"
    depths = ", ".join(map(str, facts["depths"])) or "none (no depth sweep)"
    own = " ".join(f"/{name}" for name in facts["diagonals"])
    state = "complete" if facts["complete"] else "not complete: run the same command to resume"
    if facts["writer"]:
        state = "so far: a writer is at work"
    emit_table(
        [
            ("matrices", f"{facts['n1']} x {facts['n2']}, {kind}, {facts['dtype']}"),
            *([("shard", facts["shard"])] if facts["shard"] else []),
            ("datasets", " ".join(f"/{name}" for name in facts["datasets"])),
            ("depths", depths),
            ("diagonals", own or "none (older file)"),
            *([("heads", ", ".join(facts["heads"]))] if facts["heads"] else []),
            ("tiles", f"{tiles['done']} of {tiles['total']}, {state}"),
            ("size", format_size(facts["bytes"])),
            *((name, attributes[name]) for name in _SHOWN if attributes.get(name)),
        ]
    )


_SHOWN = (
    "network",
    "network_fingerprint",
    "x1_location",
    "x1_fingerprint",
    "x2_location",
    "x2_fingerprint",
    "device",
    "device_name",
    "device_note",
    "program_version",
    "tile",
)


def _facts(gram: GramFile, datasets: tuple[str, ...]) -> dict[str, Any]:
    from widegram.gramfile.diagonals import values_path

    sides = gram.header.places.sides
    done, total = gram.tiles()
    return {
        "file": str(gram.path),
        "snapshot": gram.writer,
        "writer": gram.writer,
        "complete": gram.complete,
        "n1": gram.n1,
        "n2": gram.n2,
        "symmetric": gram.symmetric,
        "shard": None if gram.header.shard is None else str(gram.header.shard),
        "dtype": str(gram.dtype),
        "kernels": gram.kernels,
        "depths": gram.depths,
        "heads": gram.heads,
        "datasets": datasets,
        "diagonals": [values_path(side, key) for side in sides for key in datasets],
        "tiles": {"done": done, "total": total},
        "bytes": gram.path.stat().st_size,
        "network": gram.network,
        "fingerprints": gram.fingerprints,
        "attributes": gram.attributes,
    }
