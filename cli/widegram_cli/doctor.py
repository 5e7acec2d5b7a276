"""``widegram doctor``: what this machine offers, what is missing, how to get it."""

from __future__ import annotations

from typing import Any

import click

from widegram.machine.budgets import format_size
from widegram_cli.files import FileCommand
from widegram_cli.options import json_option
from widegram_cli.output import emit_json, emit_table


@click.command("doctor", cls=FileCommand)
@json_option
def command(as_json: bool) -> None:
    """Report CPU features, threads, BLAS, HDF5, the CUDA driver and what is missing."""
    from widegram.machine import codecache
    from widegram_cli import machine

    cpu, libraries = machine.cpu(), machine.libraries()
    cuda = machine.cuda()
    missing = machine.missing(libraries, cuda, machine.has_card())
    code = codecache.describe()
    if as_json:
        facts = {"cpu": cpu, "libraries": libraries, "cuda": cuda, "missing": missing}
        emit_json({**facts, "code_cache": code})
        return
    emit_table(
        [
            ("cpu", cpu["model"]),
            ("vector features", " ".join(cpu["features"]) or "none known"),
            ("threads", f"{cpu['threads']} usable of {cpu['threads_installed']}"),
            ("memory", f"{format_size(cpu['memory_free'])} free of {format_size(cpu['memory'])}"),
            ("memory limited by", cpu["memory_limit"]),
            *((name, version or "not installed") for name, version in libraries.items()),
            ("cuda driver", cuda["driver"] or cuda["problem"]),
            ("compiled code", _code_line(code)),
            *((f"card {card['index']}", _card_line(card)) for card in cuda["cards"]),
        ]
    )
    for gap in missing:
        click.echo(f"missing: {gap['what']} ({gap['why']}); install: {gap['install']}")


def _code_line(code: dict[str, Any]) -> str:
    if code["problem"] is not None:
        return f"not kept, made anew in every run: {code['problem']}; set WIDEGRAM_CACHE_DIR"
    return f"{code['folder']} ({code['files']} functions, {format_size(code['bytes'])})"


def _card_line(card: dict) -> str:
    memory = format_size(card["memory"])
    return f"{card['name']}, compute capability {card['compute_capability']}, {memory}"
