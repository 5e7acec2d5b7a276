"""``widegram net``: a network, its shapes, and what an entry of its kernel costs."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from widegram.errors import WidegramError
from widegram.machine.budgets import format_size
from widegram.validation.choices import DEVICES, DTYPES
from widegram_cli.files import FileCommand, InputFile
from widegram_cli.options import Depths, KernelNames, Shape, inputs, json_option
from widegram_cli.output import emit_json, emit_table

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
@click.option("--get", type=KernelNames(), default="nngp,ntk", show_default=True, help="Kernels.")
@click.option("--depths", type=Depths(), help="Repeats to read out at, such as 1,2,5-10.")
@click.option("--source", is_flag=True, help="Print the kernels written for --device cuda.")
@click.option("--device", type=click.Choice(DEVICES[1:]), default="cpu", help="With --source.")
@click.option(
    "--dtype",
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
    from widegram.plan.flips import pairs_per_entry

    if source and device != "cuda":
        raise click.UsageError("--source prints the kernels of --device cuda; the CPU runs tables")

    is_preset = net.split(":")[0].strip() in PRESETS
    if is_preset and input_shape is None and "input=" not in net:
        input_shape = _DEFAULT_INPUT
        click.echo(
            f"widegram: note: a preset takes its input shape from the data; shown for "
            f"{_shape(_DEFAULT_INPUT)} (choose with --input-shape)",
            err=True,
        )
    network = load_network(net, input_shape, given_by="--input-shape")
    plain = replace(network, augment=())
    if source:
        _emit_source(plain, get, depths, dtype, as_json)
        return
    planned = plan.build(plain, get=get, depths=depths)
    canonical = network.canonical()
    shapes = [
        {
            "layer": path,
            "parameters": _parameters(canonical, path),
            "in": list(before),
            "out": list(after),
        }
        for path, before, after in network.shapes()
    ]
    if network.inputs:
        shapes[0]["in"] = [list(shape[:-1]) for shape in network.inputs]
    description = {
        "network": canonical,
        "fingerprint": network.fingerprint(),
        "shapes": shapes,
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
    click.echo(f"input {_shape(description['network']['input_shape'])}")
    emit_table(
        (row["layer"], f"{_shape(row['in'])} -> {_shape(row['out'])}{_listed(row['parameters'])}")
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


def _parameters(canonical: dict[str, Any], path: str) -> dict[str, Any]:
    """Parameters of the layer at ``layers[0] Residual.branch[1] Conv``, at
    ``layers[2] FanInSum.branches[0][1] Relu``, or at ``layers[3] Readouts.heads.gap[0] Dense``,
    without nested layers."""
    layer: Any = canonical
    for head, field, numbers in re.findall(r"(?:heads\.([\w.=-]+)|(\w+))((?:\[\d+\])+)", path):
        layer = layer["heads"][head] if head else layer[field]
        for n in re.findall(r"\d+", numbers):
            layer = layer[int(n)]
    nested = ("layer", "branch", "shortcut", "branches", "body", "heads")
    return {name: value for name, value in layer.items() if name not in nested}


def _listed(parameters: dict[str, Any]) -> str:
    """``  filter_shape 3x3, W_std 1.5``; empty where a layer has none."""
    parts = []
    for name, value in parameters.items():
        if value in ("", []):  # Custom takes one of two
            continue
        shown = "none" if value is None else value
        if isinstance(value, list):
            whole = all(isinstance(one, int) for one in value)
            shown = _shape(value) if whole else f"of {len(value)} numbers or rows"
        parts.append(f"{name} {shown:.6g}" if isinstance(shown, float) else f"{name} {shown}")
    return "  " + ", ".join(parts) if parts else ""


def _steps(steps: list[str]) -> str:
    """Steps in order; a run of equal ones once, with its length."""
    runs = [(step, len(list(run))) for step, run in itertools.groupby(steps)]
    return ", ".join(step if count == 1 else f"{count} x ({step})" for step, count in runs)


def _shape(sizes: Sequence[Any]) -> str:
    """A shape, or those of a list of inputs."""
    if sizes and not isinstance(sizes[0], int):
        return " and ".join(map(_shape, sizes))
    return "x".join(str(size) for size in sizes) or "vector"
