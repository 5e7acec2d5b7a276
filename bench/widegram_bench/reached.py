"""How much of its limit the engine reaches: every row with the roof of the same run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from widegram.cpu.kernels.variants import LANES
from widegram.machine.cores import usable_cores
from widegram.network import Network
from widegram.validation.choices import DTYPES
from widegram_bench import ceilings, engine, roof
from widegram_bench.networks import cnn, dense, preset
from widegram_bench.timing import TimeBudget, Turns
from widegram_bench.work import least_work

Say = Callable[[str], None]
ACTIVATIONS = ("Relu", "Erf")
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
    """All tables within about ``seconds``, beside ``prepared_seconds`` for compiling.

    * ``roof``: element-layers a second by activation and dtype
    * ``pooled``: the engine on images with global pooling, and its ``fraction`` of the roof
    * ``flat`` and ``dense``: without pooling and fully connected, and the ``fraction`` of the limit
      that ``bound`` names
    * ``networks``: cost per entry over what their element-layers cost in the ``plain`` network on
      the same images (``over``)
    * ``machine_limits``: bandwidth of memory in bytes a second
    * ``left_out``: rows one turn of which takes longer than their part of the time, and how long

    Whatever is compared is measured in turns.
    """
    sizes = sizes or RoofSizes()
    parts = len(ACTIVATIONS) * len(DTYPES) * (1 + len(sizes.sides)) + len(DTYPES) * (
        len(sizes.flat_sides) + len(sizes.dense_depths) + len(sizes.presets)
    )
    run = _Measuring(sizes, threads or usable_cores(), TimeBudget(seconds, parts + 1), say)
    found: dict[str, Any] = {"threads": run.threads, "roof": [], "pooled": [], "work": []}
    for activation in ACTIVATIONS:
        for dtype in DTYPES:
            top = run.roof(activation, dtype)
            found["roof"].append(top.as_dict())
            work = least_work(cnn(2, 8, activation), dtype)
            found["work"].append({"activation": activation, "dtype": dtype, **work})
            for side in sizes.sides:
                found["pooled"] += run.pooled(activation, dtype, side)
    bandwidth = ceilings.bandwidth(min(0.5, run.clock.next()), run.threads)
    found["machine_limits"] = {"bandwidth": bandwidth}
    found |= {"flat": [], "dense": [], "networks": []}
    for dtype in DTYPES:
        for side in sizes.flat_sides:
            network = cnn(sizes.depth, side, pooled=False)
            found["flat"].append(run.limited(f"flat {side} {dtype}", network, dtype, size=side))
        for depth in sizes.dense_depths:
            network = dense(depth, (sizes.inputs,))
            row = run.limited(f"dense {depth} {dtype}", network, dtype, depth=depth)
            found["dense"].append(row)
        for name in sizes.presets:
            found["networks"] += run.beside_plain(name, dtype)
    left_out = [{"row": what, "turn_seconds": turn} for what, turn in run.left_out]
    return found | {"prepared_seconds": run.clock.prepared, "left_out": left_out}


class _Measuring:
    """Rows of one measurement; ``rates``: element-layers a second of all threads, by activation and
    dtype."""

    def __init__(self, sizes: RoofSizes, threads: int, clock: TimeBudget, say: Say) -> None:
        self.sizes, self.threads, self.clock, self.say = sizes, threads, clock, say
        self.rates: dict[tuple[str, str], float] = {}
        self.left_out: list[tuple[str, float]] = []

    def roof(self, activation: str, dtype: str) -> roof.Roof:
        """The roof of one activation."""
        with self.clock.apart():
            spinner = roof.Spinner(activation, dtype, threads=self.threads)
        top = roof.timed(spinner, self.clock.next() / 2)
        self.rates[activation, dtype] = top.every
        self.say(_roof_line(top))
        return top

    def pooled(self, activation: str, dtype: str, side: int) -> list[dict[str, Any]]:
        """Images with global pooling; nothing where a turn does not fit into the time."""
        what, seconds = f"{side} x {side} {activation} {dtype}", self.clock.next()
        network = cnn(self.sizes.depth, side, activation)
        rate = self.rates[activation, dtype]
        if not self._fits(what, [network], dtype, rate, seconds):
            return []
        with ExitStack() as held:
            with self.clock.apart():
                spinner = roof.Spinner(activation, dtype, threads=self.threads)
                tile = held.enter_context(self._tile(network, dtype, seconds * _PIECE, rate))
            spent, spin = Turns(tile.run, spinner.every).take(seconds, 1)
        speed, top = tile.speed(spent), self.threads * spinner.work / spin
        row = {"activation": activation, "size": side, **speed.as_dict()}
        row |= {"roof": top, "fraction": speed.rate / top}
        self.say(_line(what, row))
        return [row]

    def limited(self, what: str, network: Network, dtype: str, **size: int) -> dict[str, Any]:
        """A network without pooling beside its limits; a block of x' is read from where it fits."""
        vector, threads = len(network.input_shape) == 1, self.threads
        seconds, kind = self.clock.next(), "tap" if vector else "box3"
        block = ceilings.bytes_moved(network, dtype) * LANES[dtype]
        with ExitStack() as held:
            with self.clock.apart():
                spinner = roof.Spinner("Relu", dtype, kind=kind, threads=threads)
                with self._tile(network, dtype, 0.0, self.rates["Relu", dtype]):
                    pass  # compiled from here on
            stream = ceilings.MemoryReads(threads, *([] if vector else [block]))
            products: list[ceilings.Gemm | ceilings.Inner] = []
            if vector:
                products = [ceilings.Gemm(dtype), ceilings.Inner(dtype, threads)]
            runs: list[Callable[[], object]] = [stream.run, *(p.run for p in products)]
            piece = engine.Tile(network, dtype, seconds * _PIECE, threads=threads)
            tile = held.enter_context(piece)
            times = Turns(tile.run, spinner.every, *runs).take(seconds, 1)
        spent, spin, read, *multiply = times
        product = max((p.work / s for p, s in zip(products, multiply, strict=True)), default=1.0)
        layers, speed = threads * spinner.work / spin, tile.speed(spent)
        limit = ceilings.least_ms(network, dtype, layers, stream.work / read, product)
        rates = {"roof": layers, "bandwidth": stream.work / read, "product": product}
        row = speed.as_dict() | limit | rates | {"fraction": limit["limit"] / speed.ms_entry}
        self.say(_line(what, row))
        return row | size

    def beside_plain(self, name: str, dtype: str) -> list[dict[str, Any]]:
        """A preset beside the plain network of its images; nothing where that does not fit."""
        network, seconds = preset(name), self.clock.next()
        networks = [network, cnn(self.sizes.depth, network.input_shape[0])]
        rate = self.rates["Relu", dtype]
        if not self._fits(f"{name} {dtype}", networks, dtype, rate, seconds):
            return []
        with ExitStack() as held:
            with self.clock.apart():
                tiles = [
                    held.enter_context(self._tile(n, dtype, seconds * _PIECE / 2, rate))
                    for n in networks
                ]
            times = Turns(*(tile.run for tile in tiles)).take(seconds, 1)
        speed, plain = (tile.speed(t) for tile, t in zip(tiles, times, strict=True))
        over = plain.rate / speed.rate
        self.say(
            f"{name} {dtype}: {speed.ms_entry:.4g} ms per entry, {over:.2f}x the plain cost"
        )
        return [{"network": name, **speed.as_dict(), "plain": plain.rate, "over": over}]

    def _tile(self, network: Network, dtype: str, seconds: float, rate: float) -> engine.Tile:
        """A tile that takes about ``seconds`` at that rate, compiled."""
        tile = engine.Tile(network, dtype, seconds, threads=self.threads, rate=rate)
        tile.compile()
        return tile

    def _fits(
        self, what: str, networks: Sequence[Network], dtype: str, rate: float, seconds: float
    ) -> bool:
        """Whether the smallest tiles of full lanes on all threads take at most ``seconds``."""
        layers = sum(least_work(network, dtype)["element_layers"] for network in networks)
        turn = float(self.threads * LANES[dtype] * layers / rate)
        if turn > seconds:
            self.left_out.append((what, turn))
            self.say(f"{what}: left out, a turn takes {turn:.1f} s, its part is {seconds:.1f} s")
        return turn <= seconds


def _roof_line(top: roof.Roof) -> str:
    return (
        f"roof {top.activation} {top.dtype}: {top.one:.3g} element-layers/s on one thread, "
        f"{top.every:.3g} on {top.threads}"
    )


def _line(what: str, row: dict[str, Any]) -> str:
    bound = f" ({row['bound']})" if "bound" in row else ""
    return f"{what}: {row['ms_entry']:.4g} ms per entry, {row['fraction']:.1%} of the limit{bound}"
