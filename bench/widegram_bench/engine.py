"""How fast the engine fills tiles of random images."""

from __future__ import annotations

import math
import os
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from widegram.cpu import CpuEvaluator
from widegram.cpu.vector_ops import LANES
from widegram.data import open_source
from widegram.network import Network
from widegram_bench.timing import best, once

_LARGEST = 512
_MEMORY = 4 * 2**30
KERNELS = ("nngp", "ntk")


@dataclass(frozen=True)
class Speed:
    """``seconds`` for ``entries`` of a tile, ``element_layers`` each, x1 against other x2."""

    entries: int
    seconds: float
    element_layers: int
    dtype: str
    threads: int

    @property
    def ms_entry(self) -> float:
        """Milliseconds per entry."""
        return 1e3 * self.seconds / self.entries

    @property
    def rate(self) -> float:
        """Element-layers a second."""
        return self.element_layers * self.entries / self.seconds

    def as_dict(self) -> dict[str, Any]:
        """All fields and the two quotients, JSON-ready."""
        return asdict(self) | {"ms_entry": self.ms_entry, "rate": self.rate}


def measure(
    network: Network,
    dtype: str,
    seconds: float,
    *,
    threads: int | None = None,
    entries: tuple[int, int] | None = None,
    get: tuple[str, ...] = KERNELS,
) -> Speed:
    """The best time of a tile within about ``seconds``; ``entries`` (n1, n2) fixes its size."""
    threads = threads or os.cpu_count() or 1
    lanes = LANES[dtype]
    n1, n2 = entries or (_LARGEST, _LARGEST)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n1 + n2, *network.input_shape)).astype(dtype)
    evaluator = CpuEvaluator(
        network, open_source(x[:n1]), open_source(x[n1:]), get, (), dtype, threads, _MEMORY
    )
    if entries is None:
        n1, n2 = _size(evaluator, threads, lanes, seconds)
    rows, cols = range(n1), range(n2)
    spent = once(lambda: evaluator.tile(rows, cols, False))
    shortest = best(lambda: evaluator.tile(rows, cols, False), max(0.0, seconds - spent))
    return Speed(n1 * n2, shortest, int(evaluator.entry_cost), dtype, evaluator.threads)


def _size(evaluator: CpuEvaluator, threads: int, lanes: int, seconds: float) -> tuple[int, int]:
    """Rows and columns of a tile that takes about a quarter of ``seconds``."""
    n1, n2 = threads, lanes
    while True:
        evaluator.tile(range(n1), range(n2), False)
        spent = once(lambda: evaluator.tile(range(n1), range(n2), False))  # noqa: B023
        wanted = n1 * n2 * seconds / 4 / spent
        if spent > seconds / 40 or (n1 >= _LARGEST and n2 >= _LARGEST):
            break
        side = math.sqrt(min(wanted, 16 * n1 * n2))
        n1 = min(_LARGEST, max(n1, threads * round(side / threads)))
        n2 = min(_LARGEST, max(n2, lanes * round(side / lanes)))
    n2 = min(_LARGEST, max(lanes, lanes * round(math.sqrt(wanted) / lanes)))
    return min(_LARGEST, max(threads, threads * round(wanted / n2 / threads))), n2
