"""How much of its limit the engine reaches: every row with the roof of the same run."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from widegram.cpu.kernels.variants import LANES
from widegram.machine.cores import usable_cores
from widegram.network import Network
from widegram_bench import ceilings, engine, roof
from widegram_bench.networks import cnn, dense, preset
from widegram_bench.timing import Share, Turns
from widegram_bench.work import least_work

Say = Callable[[str], None]
ACTIVATIONS = ("Relu", "Erf")
DTYPES = ("float32", "float64")
_PIECE = 0.06  # of a row's time: what one tile takes, so that many turns are taken


@dataclass(frozen=True)
class RoofSizes:
    """What is measured: image ``sides`` with ``depth`` layers, ``dense_depths``, ``presets``."""

    sides: tuple[int, ...] = (8, 16, 28, 32, 64)
    depth: int = 10
    flat_sides: tuple[int, ...] = (32,)
    dense_depths: tuple[int, ...] = (1, 10, 100)
    inputs: int = 3072
    presets: tuple[str, ...] = ("myrtle5", "myrtle7", "myrtle10", "wide-resnet")


QUICK = RoofSizes((4, 6), 2, (5,), (1, 2), 12, ())


def measure(
    seconds: float,
    sizes: RoofSizes | None = None,
    threads: int | None = None,
    say: Say = lambda line: None,
) -> dict[str, Any]:
    """All tables within about ``seconds``.

    * ``roof``: element-layers a second by activation and dtype
    * ``pooled``: the engine on images with global pooling, and its ``fraction`` of the roof
    * ``flat`` and ``dense``: without pooling and fully connected, and the ``fraction`` of the limit
      that ``bound`` names
    * ``networks``: cost per entry over what their element-layers cost in the ``plain`` network on
      the same images (``over``)
    * ``machine_limits``: bandwidth of memory in bytes a second

    Whatever is compared is measured in turns.
    """
    sizes = sizes or RoofSizes()
    threads = threads or usable_cores()
    parts = len(ACTIVATIONS) * len(DTYPES) * (1 + len(sizes.sides)) + len(DTYPES) * (
        len(sizes.flat_sides) + len(sizes.dense_depths) + len(sizes.presets)
    )
    clock = Share(seconds, parts)
    found: dict[str, Any] = {"threads": threads, "roof": [], "pooled": [], "work": []}
    for activation in ACTIVATIONS:
        for dtype in DTYPES:
            top = roof.measure(activation, dtype, clock.next() / 2, threads=threads)
            found["roof"].append(top.as_dict())
            say(_roof_line(top))
            work = least_work(cnn(2, 8, activation), dtype)
            found["work"].append({"activation": activation, "dtype": dtype, **work})
            for side in sizes.sides:
                network = cnn(sizes.depth, side, activation)
                row = _pooled(network, activation, dtype, clock.next(), threads)
                found["pooled"].append(row)
                say(_line(f"{side} x {side} {activation} {dtype}", row))
    found["machine_limits"] = {"bandwidth": ceilings.bandwidth(0.5, threads)}
    for name in ("flat", "dense", "networks"):
        found[name] = []
    for dtype in DTYPES:
        cases = [
            *(("flat", cnn(sizes.depth, s, pooled=False), s) for s in sizes.flat_sides),
            *(("dense", dense(d, (sizes.inputs,)), d) for d in sizes.dense_depths),
        ]
        for table, network, size in cases:
            row = _limited(network, dtype, clock.next(), threads)
            row |= {"size" if table == "flat" else "depth": size}
            found[table].append(row)
            say(_line(f"{table} {size} {dtype}", row))
        for name in sizes.presets:
            row = _beside_plain(name, dtype, clock.next(), threads, sizes.depth)
            found["networks"].append(row)
            over = f"{row['over']:.2f}x the plain cost"
            say(f"{name} {dtype}: {row['ms_entry']:.4g} ms per entry, {over}")
    return found


def _pooled(
    network: Network, activation: str, dtype: str, seconds: float, threads: int
) -> dict[str, Any]:
    spinner = roof.Spinner(activation, dtype, threads=threads)
    with engine.Tile(network, dtype, seconds * _PIECE, threads=threads) as tile:
        spent, spin = Turns(tile.run, spinner.every).take(seconds)
    speed, top = tile.speed(spent), threads * spinner.work / spin
    size = network.input_shape[0]
    row = {"activation": activation, "size": size, **speed.as_dict()}
    return row | {"roof": top, "fraction": speed.rate / top}


def _limited(network: Network, dtype: str, seconds: float, threads: int) -> dict[str, Any]:
    """A network without pooling beside its limits; a block of x' is read from where it fits."""
    vector = len(network.input_shape) == 1
    kind = "tap" if vector else "box3"
    spinner = roof.Spinner("Relu", dtype, kind=kind, threads=threads)
    block = ceilings.bytes_moved(network, dtype) * LANES[dtype]
    stream = ceilings.MemoryReads(threads) if vector else ceilings.MemoryReads(threads, block)
    products: list[ceilings.Gemm | ceilings.Inner] = []
    if vector:
        products = [ceilings.Gemm(dtype), ceilings.Inner(dtype, threads)]
    runs: list[Callable[[], object]] = [spinner.every, stream.run, *(p.run for p in products)]
    with engine.Tile(network, dtype, seconds * _PIECE, threads=threads) as tile:
        spent, spin, read, *multiply = Turns(tile.run, *runs).take(seconds)
    product = max((p.work / s for p, s in zip(products, multiply, strict=True)), default=1.0)
    layers, speed = threads * spinner.work / spin, tile.speed(spent)
    limit = ceilings.least_ms(network, dtype, layers, stream.work / read, product)
    rates = {"roof": layers, "bandwidth": stream.work / read, "product": product}
    return speed.as_dict() | limit | rates | {"fraction": limit["limit"] / speed.ms_entry}


def _beside_plain(
    name: str, dtype: str, seconds: float, threads: int, depth: int
) -> dict[str, Any]:
    """A preset beside the plain network of its images."""
    network = preset(name)
    side = network.input_shape[0]
    with ExitStack() as held:
        tiles = [
            held.enter_context(engine.Tile(n, dtype, seconds * _PIECE / 2, threads=threads))
            for n in (network, cnn(depth, side))
        ]
        times = Turns(*(tile.run for tile in tiles)).take(seconds)
    speed, plain = (tile.speed(t) for tile, t in zip(tiles, times, strict=True))
    over = plain.rate / speed.rate
    return {"network": name, **speed.as_dict(), "plain": plain.rate, "over": over}


def _roof_line(top: roof.Roof) -> str:
    return (
        f"roof {top.activation} {top.dtype}: {top.one:.3g} element-layers/s on one thread, "
        f"{top.every:.3g} on {top.threads}"
    )


def _line(what: str, row: dict[str, Any]) -> str:
    bound = f" ({row['bound']})" if "bound" in row else ""
    return f"{what}: {row['ms_entry']:.4g} ms per entry, {row['fraction']:.1%} of the limit{bound}"
