"""``widegram net``: a network, its shapes, and what an entry of its kernel costs."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from widegram.errors import WidegramError
from widegram.machine.budgets import format_size
from widegram.validation.choices import DEVICES, DTYPES
from widegram_cli.files import FileCommand, InputFile
from widegram_cli.options import depths_option, get_option, inputs, json_option
from widegram_cli.output import emit_json, emit_table
from widegram_cli.serving import Serving
from widegram_cli.value_types import Shape

if TYPE_CHECKING:
    from widegram.network import Network
    from widegram.network.inputs import Shapes

_DEFAULT_INPUT = (32, 32, 3)


@click.command("net", cls=FileCommand)
@click.argument("net", type=InputFile())
@click.option(
    "--input-shape",
    type=Shape(),
    multiple=True,
    callback=inputs,
    help="Shape of one input: 32,32,3 or 784; once for each input of a list.",
)
@get_option
@depths_option
@click.option("--source", is_flag=True, help="Print the kernels written for --device cuda.")
@click.option(
    "--device", cls=Serving, serves=("--source",), type=click.Choice(DEVICES[1:]), default="cpu",
    help="With --source.",
)  # fmt: skip
@click.option(
    "--dtype",
    cls=Serving,
    serves=("--source",),
    type=click.Choice(DTYPES),
    default="float32",
    show_default=True,
    help="With --source.",
)
@json_option
def command(
    net: str,
    input_shape: Shapes | None,
    get: tuple[str, ...],
    depths: tuple[int, ...] | None,
    source: bool,
    device: str,
    dtype: str,
    as_json: bool,
) -> None:
    """Print the layers of NET, their shapes, its planes and its cost per entry.

    NET is a .json or .toml file, JSON text, or a preset such as fcn:depth=3,act=erf.
    """
    from widegram import plan
    from widegram.network import PRESETS, load_network
    from widegram.network.listing import layers_of, shapes_text
    from widegram.plan.flips import pairs_per_entry

    if source and device != "cuda":
        raise click.UsageError("--source prints the kernels of --device cuda; the CPU runs tables")

    is_preset = net.split(":")[0].strip() in PRESETS
    if is_preset and input_shape is None and "input=" not in net:
        input_shape = _DEFAULT_INPUT
        click.echo(
            f"widegram: note: a preset takes its input shape from the data; shown for "
            f"{shapes_text(_DEFAULT_INPUT)} (choose with --input-shape)",
            err=True,
        )
    network = load_network(net, input_shape, given_by="--input-shape")
    plain = replace(network, augment=())
    if source:
        _emit_source(plain, get, depths, dtype, as_json)
        return
    planned = plan.build(plain, get=get, depths=depths)
    description = {
        "network": network.canonical(),
        "fingerprint": network.fingerprint(),
        "shapes": layers_of(network),
        **planned.describe(),
        **({"pairs_per_entry": pairs_per_entry(network)} if network.augment else {}),
    }
    if as_json:
        emit_json(description)
    else:
        _print(description)


def _emit_source(
    network: Network,
    get: tuple[str, ...],
    depths: tuple[int, ...] | None,
    dtype: str,
    as_json: bool,
) -> None:
    """Print the kernels for the first card, or else for one of the least shared memory."""
    from widegram.cuda.device import gpus
    from widegram.cuda.generated import SHARED_BYTES
    from widegram.cuda.source import source_of

    try:
        card = gpus(())[0]
        name, shared = card.name, card.shared_memory()
    except WidegramError:
        name, shared = None, SHARED_BYTES
    source = source_of(network, get, depths, dtype, shared=shared)
    if as_json:
        every = (*([source.product] if source.product else []), *source.kernels)
        kernels = [
            {
                "name": kernel.name,
                "form": kernel.form,
                "threads": list(kernel.threads),
                "dynamic_shared_bytes": kernel.dynamic,
                "registers": kernel.registers,
                "source": kernel.text,
            }
            for kernel in every
        ]
        emit_json({"card": name, "shared_bytes": shared, "kernels": kernels})
        return
    which = f"of {name}" if name else "assumed, no usable card is here"
    click.echo(
        f"# Shared memory of a block: {shared} bytes ({which}); "
        f"mean squares of input pixels: at most 1 (assumed).\n\n{source.text()}"
    )


def _print(description: dict[str, Any]) -> None:
    from widegram.network.listing import shapes_text

    click.echo(f"input {shapes_text(description['network']['input_shape'])}")
    emit_table(
        (row["layer"], f"{shapes_text(row['in'])} -> {shapes_text(row['out'])}{_after(row)}")
        for row in description["shapes"]
    )
    click.echo()
    for index, stage in enumerate(description["stages"]):
        click.echo(
            f"stage {index}: {stage['displacements']:,} displacements, "
            f"{stage['element_layers']:,} element-layers per entry"
        )
        click.echo(f"  {_steps(stage['steps'])}")
    click.echo()
    sizes = description["bytes_per_pair"].items()
    turned = ", ".join(description["network"].get("augment", ()))
    mask = description["network"].get("mask")
    if isinstance(mask, list):
        mask = ", ".join("none" if one is None else str(one) for one in mask) + ", by inputs"
    times = f"{turned}: {description['pairs_per_entry']} times all this per entry" if turned else ""
    emit_table(
        [
            *([("augment", times)] if turned else []),
            *([("mask", f"numbers that equal {mask}")] if mask is not None else []),
            ("element-layers per entry", f"{description['element_layers']:,}"),
            ("bytes per pair", ", ".join(f"{format_size(b)} in {t}" for t, b in sizes)),
            ("fingerprint", description["fingerprint"]),
        ]
    )


def _after(row: dict[str, Any]) -> str:
    """The parameters of a layer, behind its shapes; empty where it has none."""
    from widegram.network.listing import parameters_text

    text = parameters_text(row["parameters"])
    return f"  {text}" if text else ""


def _steps(steps: list[str]) -> str:
    """Steps in order; a run of equal ones once, with its length."""
    runs = [(step, len(list(run))) for step, run in itertools.groupby(steps)]
    return ", ".join(step if count == 1 else f"{count} x ({step})" for step, count in runs)
