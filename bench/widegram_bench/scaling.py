"""How the cost grows with pairs, depth, pixels and threads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np

from widegram.machine.cores import usable_cores
from widegram_bench import engine, roof
from widegram_bench.networks import cnn
from widegram_bench.timing import TimeBudget, Turns

Say = Callable[[str], None]


@dataclass(frozen=True)
class ScalingSizes:
    """The values along each axis: ``pairs`` as (n1, n2), ``depths``, image ``sides``."""

    pairs: tuple[tuple[int, int], ...] = ((16, 32), (32, 64), (64, 64), (64, 128), (128, 128))
    pair_side: int = 16
    depths: tuple[int, ...] = (2, 4, 8, 16, 32)
    depth_side: int = 16
    sides: tuple[int, ...] = (8, 12, 16, 24, 32, 48)
    side_depth: int = 5
    tile: tuple[int, int] = (16, 32)
    thread_side: int = 32


QUICK = ScalingSizes(((2, 16), (4, 16)), 4, (1, 2), 4, (4, 6), 1, (2, 16), 4)


def measure(
    seconds: float,
    sizes: ScalingSizes | None = None,
    threads: int | None = None,
    dtype: str = "float32",
    say: Say = lambda line: None,
) -> dict[str, Any]:
    """Curves within about ``seconds``, NNGP and NTK, ReLU, global pooling.

    ``pairs``, ``depth``, ``pixels``: points ``x`` (pairs; layers; pixels squared), ``seconds``
    of a tile, and the fitted ``exponent`` of seconds ~ x^exponent, which is 1 where the cost is
    linear. ``threads``: rate of the engine and of the roof on 1, 2, ... threads, and
    ``efficiency``: the engine's speed-up over the roof's, on all.
    """
    sizes = sizes or ScalingSizes()
    threads = threads or usable_cores()
    counts = sorted({*(2**k for k in range(threads.bit_length())), threads})
    parts = len(sizes.pairs) + len(sizes.depths) + len(sizes.sides) + 2 * len(counts)
    clock = TimeBudget(seconds, parts)

    def tile(network: Any, entries: tuple[int, int], n: int = threads) -> engine.Speed:
        return engine.measure(network, dtype, clock.next(), threads=n, entries=entries)

    found: dict[str, Any] = {"dtype": dtype}
    network = cnn(5, sizes.pair_side)
    found["pairs"] = _curve(
        [a * b for a, b in sizes.pairs], [tile(network, pair).seconds for pair in sizes.pairs]
    )
    found["depth"] = _curve(
        sizes.depths, [tile(cnn(d, sizes.depth_side), sizes.tile).seconds for d in sizes.depths]
    )
    found["pixels"] = _curve(
        [side**4 for side in sizes.sides],
        [tile(cnn(sizes.side_depth, side), sizes.tile).seconds for side in sizes.sides],
    )
    for name in ("pairs", "depth", "pixels"):
        say(f"cost against {name}: exponent {found[name]['exponent']:.3f}")
    found["threads"] = by_threads = _by_threads(sizes, dtype, counts, clock)
    speed_up = by_threads["speed_up"]
    say(
        f"{threads} threads: engine {speed_up['engine']:.2f}x, roof {speed_up['roof']:.2f}x, "
        f"{by_threads['efficiency']:.1%} as well"
    )
    return found


def _by_threads(
    sizes: ScalingSizes, dtype: str, counts: Sequence[int], clock: TimeBudget
) -> dict[str, Any]:
    """The engine and the roof on each number of threads, all in turns."""
    network = cnn(10, sizes.thread_side)
    spinners = [roof.Spinner("Relu", dtype, threads=n) for n in counts]
    with ExitStack() as held:
        tiles = [
            held.enter_context(engine.Tile(network, dtype, 0.0, threads=n, entries=sizes.tile))
            for n in counts
        ]
        runs = [tile.run for tile in tiles] + [spinner.every for spinner in spinners]
        times = Turns(*runs).take(2 * len(counts) * clock.next())
    rows = [
        {"threads": n, "engine": tile.speed(spent).rate, "roof": n * spinner.work / spin}
        for n, tile, spinner, spent, spin in zip(
            counts, tiles, spinners, times, times[len(counts) :], strict=False
        )
    ]
    speed_up = {name: rows[-1][name] / rows[0][name] for name in ("engine", "roof")}
    efficiency = speed_up["engine"] / speed_up["roof"]
    return {"rows": rows, "speed_up": speed_up, "efficiency": efficiency}


def exponent(x: Sequence[float], y: Sequence[float]) -> float:
    """The slope of log y against log x, by least squares."""
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def _curve(x: Sequence[int], seconds: Sequence[float]) -> dict[str, Any]:
    return {"x": list(x), "seconds": list(seconds), "exponent": exponent(x, seconds)}
