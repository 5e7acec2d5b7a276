"""``widegram bench``: speed against the machine's limits and neural-tangents; published tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from widegram.errors import WidegramError
from widegram.validation.choices import DTYPES
from widegram_cli.bench_output import about, finish, print_table, say, title
from widegram_cli.bench_published import published
from widegram_cli.files import FileGroup, InputFile, OutputFile, PictureFile
from widegram_cli.options import json_option, overwrite_of, threads_option
from widegram_cli.output import human_time

Command = TypeVar("Command", bound=Callable[..., Any])


@click.group("bench", cls=FileGroup)
def command() -> None:
    """Measure speed on this machine: run it while nothing else does; compute published tables."""


command.add_command(published)


def _common(seconds: float, *outputs: str) -> Callable[[Command], Command]:
    """Options of every benchmark; ``seconds`` is the default budget, ``outputs`` what it may write
    beside --out."""

    def add(function: Command) -> Command:
        options = (
            click.option(
                "--seconds",
                type=click.FloatRange(min=1.0),
                default=seconds,
                show_default=True,
                help="Time for the whole benchmark, roughly.",
            ),
            threads_option,
            click.option(
                "--out",
                type=OutputFile(),
                metavar="R.json",
                help="Write the raw results to this file.",
            ),
            overwrite_of("--out", *outputs),
            json_option,
        )
        for option in reversed(options):
            function = option(function)
        return function

    return add


_quick_option = click.option("--quick", is_flag=True, help="Tiny sizes, to try it out.")
_plot_option = click.option(
    "--plot", type=PictureFile(), metavar="P.png", help="Draw the results (needs matplotlib)."
)


@command.command("kernels")
@click.option("--peer", type=click.Choice(["neural-tangents"]), help="Measure it as well.")
@click.option(
    "--peer-python",
    type=InputFile(),
    metavar="PATH",
    help="Python of the peer's own environment.",
)
@click.option(
    "--suite",
    type=click.Choice(["readme", "full", "quick"]),
    default="readme",
    show_default=True,
    help="Networks: those of neural-tangents' README; all; tiny ones.",
)
@click.option("--device", default="cpu", metavar="cpu|cuda|cuda:1", help="Where to compute.")
@_plot_option
@_common(900.0, "--plot")
def kernels(
    peer: str | None,
    peer_python: str | None,
    suite: str,
    device: str,
    plot: str | None,
    **options: Any,
) -> None:
    """Milliseconds per kernel entry, beside neural-tangents' with --peer.

    On a card: the networks of its goals, or one of them with --suite quick; neural-tangents by this
    Python's own JAX, the bound by instructions issued, and Nsight Compute's numbers, where they are
    installed.
    """
    if device != "cpu":
        given = {
            "--suite full": suite == "full",
            "--peer with --suite quick": peer and suite == "quick",
            "--peer-python": peer_python,
            "--threads": options["threads"],
        }
        _only_cpu([name for name, value in given.items() if value])
        _card_kernels(device, suite, plot, options)
        return
    from widegram_bench import compare, networks, plots
    from widegram_bench import peer as peers

    _check(options, plot)
    python = None
    if peer is not None or peer_python is not None:
        python = peers.require(Path(peer_python) if peer_python else peers.default_python())
    cases = networks.suite(suite)
    cold = compare.cold_start(cases[0])
    rows = compare.compare(cases, options["seconds"], python, options["threads"], say)
    results = about("kernels", seconds=options["seconds"]) | {
        "suite": suite,
        "peer": "neural-tangents" if python else None,
        "cold_first_call_s": cold,
        "rows": rows,
    }
    if plot:
        plots.kernels(rows, Path(plot), title(results))
    finish(results, options, lambda: _kernel_table(rows, cold))


def _only_cpu(given: Sequence[str]) -> None:
    if given:
        raise click.UsageError(f"on a card there is no {', '.join(given)}")


def _card_kernels(device: str, suite: str, plot: str | None, options: dict[str, Any]) -> None:
    """The benchmark of :mod:`widegram_bench.gpu.run`, without tests."""
    from widegram.computing.devices import cuda_numbers, resolve_device

    numbers = cuda_numbers(resolve_device(device))
    if numbers is None or len(numbers) > 1:
        raise click.UsageError("--device takes cpu or one card here")
    from widegram_bench.gpu import profiler, run

    _check(options, plot)
    number = (numbers or (0,))[0]
    found = run.run(number, options["seconds"], suite == "quick", False, lambda results: None)
    if not found["rows"]:
        why = [text for text in found["missing"] if text.startswith(("everything", "card", "own"))]
        raise WidegramError(f"device {device}: nothing was measured: {why[0]}")
    if plot and found["card"] and found["profile"]:
        profiler.picture(found, Path(plot))
    finish(about("kernels", seconds=options["seconds"]) | found, options, lambda: run.table(found))


@command.command("roof")
@click.option(
    "--forms",
    is_flag=True,
    help="All forms of the kernels in place of it: the fastest here, and the one in use.",
)
@_quick_option
@_common(300.0)
def roof(forms: bool, quick: bool, **options: Any) -> None:
    """The arithmetic roof of this machine, and how much of it the engine reaches."""
    from widegram_bench import reached

    _check(options, None)
    if forms:
        _roof_forms(quick, options)
        return
    sizes = reached.QUICK if quick else reached.RoofSizes()
    found = reached.measure(options["seconds"], sizes, options["threads"], say)
    finish(about("roof", seconds=options["seconds"]) | found, options, lambda: _roof_table(found))


def _roof_forms(quick: bool, options: dict[str, Any]) -> None:
    """Every form on one thread."""
    from widegram_bench import roof_forms

    if options["threads"] not in (None, 1):
        raise click.UsageError("--forms measures on one thread: leave out --threads")
    sizes = roof_forms.QUICK if quick else roof_forms.FormSizes()
    rows = roof_forms.measure(options["seconds"], sizes, say)
    found = about("roof", seconds=options["seconds"]) | {"forms": rows}
    finish(found, options, lambda: _forms_table(rows))


@command.command("scaling")
@_quick_option
@_plot_option
@_common(180.0, "--plot")
def scaling(quick: bool, plot: str | None, **options: Any) -> None:
    """Cost against pairs, depth and pixels, with fitted exponents; speed against threads."""
    from widegram_bench import plots
    from widegram_bench import scaling as curves

    _check(options, plot)
    sizes = curves.QUICK if quick else curves.ScalingSizes()
    found = curves.measure(options["seconds"], sizes, options["threads"], say=say)
    results = about("scaling", seconds=options["seconds"]) | found
    if plot:
        plots.scaling(found, Path(plot), title(results))
    finish(results, options, lambda: _scaling_table(found))


@command.command("workers")
@_quick_option
@_common(600.0)
def workers(quick: bool, **options: Any) -> None:
    """Workers of a Dask scheduler: the overhead of a tile, a crowd of them, two beside one."""
    from widegram_bench.workers import run

    _check(options, None)
    found = run("quick" if quick else "full")
    finish(
        about("workers", seconds=options["seconds"]) | found, options, lambda: _workers_table(found)
    )


def _check(options: dict[str, Any], plot: str | None) -> None:
    """What would fail after the measurements fails before them."""
    from widegram.durable.outputs import check_target
    from widegram.durable.pictures import require_matplotlib

    for path in (options["out"], plot):
        if path:
            check_target(Path(path), options["overwrite"])
    if plot:
        require_matplotlib()


def _kernel_table(rows: Sequence[dict[str, Any]], cold: float) -> None:
    own = [
        [
            row["label"],
            dtype,
            f"{own['ms_entry']:.4g}",
            f"{own['ms_entry_symmetric']:.4g}",
            f"{own['first_call_s'] + own['import_s']:.2f} s",
            f"{own['peak_memory'] / 1e6:.0f} MB",
        ]
        for row in rows
        for dtype, own in row["own"].items()
    ]
    header = ["widegram", "precision", "ms/entry", "symmetric", "start", "memory"]
    print_table(header, own)
    click.echo(f"first call on a machine that never ran it: {human_time(cold)}")
    beside = [row for row in rows if "peer" in row]
    if not beside:
        return
    click.echo("")
    header = ["neural-tangents", "precision", "batch", "ms/entry", "start", "memory"]
    print_table(
        header,
        [
            [
                row["label"],
                dtype,
                str(peer["best_batch"]),
                f"{peer['ms_entry']:.4g}",
                f"{peer['first_call_s'] + peer['import_s']:.2f} s",
                f"{peer['peak_memory'] / 1e6:.0f} MB",
            ]
            for row in beside
            for dtype, peer in row["peer"].items()
        ],
    )
    click.echo("")
    click.echo("times faster (float32 against its fastest setting, unless named):")
    header = ["", "entry", "symmetric", "float32", "float64", "start", "difference 32", "64"]
    print_table(
        header,
        [
            [
                row["label"],
                *(f"{row['ratios'][name]:.3g}x" for name in header[1:6]),
                *(f"{max(row['difference'][d].values()):.1e}" for d in DTYPES),
            ]
            for row in beside
        ],
    )


def _roof_table(found: dict[str, Any]) -> None:
    rows = [
        [f"{r['activation']} {r['dtype']}", f"{r['one']:.3g}", f"{r['every']:.3g}"]
        for r in found["roof"]
    ]
    print_table(["roof, element-layers/s", "one thread", f"{found['threads']} threads"], rows)
    click.echo("")
    rows = [
        [
            f"{r['size']} x {r['size']} {r['activation']} {r['dtype']}",
            f"{r['ms_entry']:.4g}",
            f"{r['rate']:.3g}",
            f"{r['fraction']:.1%}",
        ]
        for r in found["pooled"]
    ]
    print_table(["global pooling", "ms/entry", "element-layers/s", "of the roof"], rows)
    click.echo("")
    limited = [(f"Flatten, {r['size']} x {r['size']}", r) for r in found["flat"]]
    limited += [(f"fully connected, depth {r['depth']}", r) for r in found["dense"]]
    rows = [
        [f"{what} {r['dtype']}", f"{r['ms_entry']:.4g}", f"{r['fraction']:.1%}", r["bound"]]
        for what, r in limited
    ]
    print_table(["no pooling", "ms/entry", "of the limit", "which is"], rows)
    if found["networks"]:
        click.echo("")
        rows = [
            [f"{r['network']} {r['dtype']}", f"{r['ms_entry']:.4g}", f"{r['over']:.2f}x"]
            for r in found["networks"]
        ]
        print_table(["network", "ms/entry", "over the plain cost"], rows)
    click.echo(f"compiling took {found['prepared_seconds']:.0f} s more")
    if found["left_out"]:
        names = ", ".join(row["row"] for row in found["left_out"])
        click.echo(f"left out, for one turn takes longer than their part of --seconds: {names}")


def _forms_table(rows: Sequence[dict[str, Any]]) -> None:
    groups: dict[str, list[list[str]]] = {}
    for r in rows:
        name = " ".join(r[key] for key in ("activation", "dtype", "kind", "off")).strip()
        marks = ["*" * r["best"], "*" * r["chosen"]]
        groups.setdefault(name, []).append([r["form"], f"{r['rate']:.3g}", *marks])
    for name, group in groups.items():
        print_table([name, "element-layers/s", "fastest", "in use"], group)
        click.echo("")


def _scaling_table(found: dict[str, Any]) -> None:
    rows = [[name, f"{found[name]['exponent']:.3f}"] for name in ("pairs", "depth", "pixels")]
    print_table(["cost against (pixels: squared)", "exponent"], rows)
    click.echo("")
    threads = found["threads"]
    rows = [[str(r["threads"]), f"{r['engine']:.3g}", f"{r['roof']:.3g}"] for r in threads["rows"]]
    print_table(["threads", "engine", "roof"], rows)
    click.echo(f"all threads scale {threads['efficiency']:.1%} as well as the roof")


def _workers_table(found: dict[str, Any]) -> None:
    for row in found["overhead"]:
        click.echo(f"an empty tile of {row['bytes']:,} bytes: {row['ms']:.2f} ms")
    crowd = found["many"]
    click.echo(
        f"{crowd['workers']} workers that sleep {crowd['seconds_per_tile']:g} s a tile: "
        f"{crowd['tiles_per_second']:.0f} tiles/s of {crowd['wanted_per_second']:.0f}"
    )
    rows = [
        [case["network"], str(case["n"]), f"{case['one']:.3g}", f"{case['two']:.3g}",
         f"{case['ratio']:.1%}", f"{busy['by_scheduler']:.0f}", f"{busy['by_writer']:.0f}"]
        for case, busy in zip(found["side_by_side"].values(), found["busy"], strict=True)
    ]  # fmt: skip
    header = ["network", "n", "2 threads", "local:2", "ratio", "busy: scheduler", "writer"]
    print_table(header, rows)
