"""What all heads of a network cost beside the most expensive one, and local average pooling beside
global pooling: ``python -m widegram_bench.heads``.

Runs are timed in turns in one process, the best of each, so that their quotients mean something on
a machine that does other things too.
"""

from __future__ import annotations

import argparse
import json
from contextlib import ExitStack
from typing import Any

from widegram.network import Network, load_network
from widegram.validation.choices import DTYPES
from widegram_bench.engine import Tile
from widegram_bench.timing import Turns

# Runs of one pair of images against a vector of others.
_ENTRIES = {"float32": (1, 16), "float64": (1, 8)}
DEPTHS = (5, 8, 11, 14)
REACHES = (0, 4, 8, 12)


def with_heads(side: int, depth: int, reaches: tuple[int, ...]) -> Network:
    """``depth`` convolutions and ReLU on (side, side, 3), read out by local average pooling of each
    of ``reaches`` and by global pooling."""
    end: list[dict[str, Any]] = [{"layer": "Dense"}]
    heads = {"gap": [{"layer": "GlobalAvgPool"}, *end]}
    for c in reaches:
        pool = {"layer": "AvgPool", "window_shape": [2 * c + 1] * 2, "padding": "SAME"}
        heads[f"c{c}"] = [*([pool] if c else []), {"layer": "Flatten"}, *end]
    conv = {"layer": "Conv", "filter_shape": [3, 3], "padding": "SAME", "W_std": 2**0.5}
    block = {"layer": "Repeat", "times": depth, "body": [conv, {"layer": "Relu"}]}
    layers = [block, {"layer": "Readouts", "heads": heads}]
    return load_network({"input_shape": [side, side, 3], "layers": layers})


def measure(
    side: int, depths: tuple[int, ...], reaches: tuple[int, ...], dtype: str, seconds: float,
    threads: int = 1,
) -> dict[str, Any]:  # fmt: skip
    """Seconds an entry, and quotients.

    * ``heads``: every head at every depth, over global pooling at every depth, and over global
      pooling at the last depth alone
    * ``alone``: global pooling over local average pooling of each reach, at the last depth;
      ``elements``: the same of element-layers, which is the most that can be had
    """
    network = with_heads(side, max(depths), reaches)
    gap = network.at_head("gap")
    cases: dict[str, tuple[Network, tuple[int, ...]]] = {
        "all": (network, depths), "gap at all depths": (gap, depths), "gap": (gap, ()),
        **{f"c{c}": (network.at_head(f"c{c}"), ()) for c in reaches},
    }  # fmt: skip
    with ExitStack() as held:
        tiles = {
            name: held.enter_context(
                Tile(net, dtype, 1.0, threads=threads, entries=_ENTRIES[dtype], depths=at)
            )
            for name, (net, at) in cases.items()
        }
        for tile in tiles.values():
            tile.run()
        times = Turns(*(tile.run for tile in tiles.values())).take(seconds)
        costs = {name: tile.evaluator.cost.entry for name, tile in tiles.items()}
    count = _ENTRIES[dtype][0] * _ENTRIES[dtype][1]
    spent = {name: time / count for name, time in zip(tiles, times, strict=True)}
    over = {name: spent["all"] / spent[name] for name in ("gap at all depths", "gap")}
    return {
        "side": side, "depths": list(depths), "reaches": list(reaches), "dtype": dtype,
        "seconds_entry": spent, "heads": over,
        "alone": {f"c{c}": spent["gap"] / spent[f"c{c}"] for c in reaches},
        "elements": {f"c{c}": costs["gap"] / costs[f"c{c}"] for c in reaches},
    }  # fmt: skip


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def main() -> None:
    """Measure and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=32)
    parser.add_argument("--depths", type=_numbers, default=DEPTHS)
    parser.add_argument("--reaches", type=_numbers, default=REACHES)
    parser.add_argument("--dtype", choices=DTYPES, default="float32")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--threads", type=int, default=1)
    print(json.dumps(measure(**vars(parser.parse_args())), indent=1))


if __name__ == "__main__":
    main()
