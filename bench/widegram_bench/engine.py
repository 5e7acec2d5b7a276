"""How fast the engine fills tiles of random images."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from widegram.backends.job import Job
from widegram.closing import Closing
from widegram.cpu import CpuEvaluator
from widegram.cpu.kernels.variants import LANES
from widegram.data import open_source
from widegram.machine.cores import usable_cores
from widegram.network import Network
from widegram.validation.choices import KERNELS
from widegram_bench.timing import best, once

_LARGEST = 512
_MEMORY = 4 * 2**30


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


class Tile(Closing):
    """A tile of random images to be timed: x1 against other x2, on ``threads`` threads.

    ``entries`` (n1, n2) fixes its size; otherwise it takes about ``seconds``, which trials show,
    or the element-layers a second that are expected, ``rate``.
    """

    def __init__(
        self,
        network: Network,
        dtype: str,
        seconds: float,
        *,
        threads: int | None = None,
        entries: tuple[int, int] | None = None,
        get: tuple[str, ...] = KERNELS,
        depths: tuple[int, ...] = (),
        rate: float | None = None,
    ) -> None:
        threads = threads or usable_cores()
        n1, n2 = entries or (_LARGEST, _LARGEST)
        rng = np.random.default_rng(0)
        x = rng.standard_normal((n1 + n2, *network.input_shape)).astype(dtype)
        self.evaluator = CpuEvaluator(
            Job(
                network=network,
                x1=open_source(x[:n1]),
                x2=open_source(x[n1:]),
                kernels=get,
                depths=depths,
                dtype=dtype,
                threads=threads,
                memory=_MEMORY,
            )
        )
        if entries is None and rate is not None:
            wanted = seconds * rate / int(self.evaluator.cost.entry)
            n1, n2 = _sides(wanted, threads, LANES[dtype])
        elif entries is None:
            n1, n2 = _size(self.evaluator, threads, LANES[dtype], seconds)
        self.rows, self.cols, self.dtype = range(n1), range(n2), dtype

    def close(self) -> None:
        self.evaluator.close()

    def compile(self) -> None:
        """Fill one entry of it, so that all is ready."""
        self.evaluator.tile(self.rows[:1], self.cols[:1], False)

    def run(self) -> None:
        """Fill it once."""
        self.evaluator.tile(self.rows, self.cols, False)

    def speed(self, seconds: float) -> Speed:
        """What ``seconds`` for it mean."""
        evaluator, entries = self.evaluator, len(self.rows) * len(self.cols)
        cost = int(evaluator.cost.entry)
        return Speed(entries, seconds, cost, self.dtype, evaluator.threads)


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
    with Tile(network, dtype, seconds / 4, threads=threads, entries=entries, get=get) as tile:
        spent = once(tile.run)
        return tile.speed(best(tile.run, max(0.0, seconds - spent)))


def _size(evaluator: CpuEvaluator, threads: int, lanes: int, seconds: float) -> tuple[int, int]:
    """Rows and columns of a tile that takes about ``seconds``."""
    n1, n2 = threads, lanes
    while True:
        evaluator.tile(range(n1), range(n2), False)
        spent = once(lambda: evaluator.tile(range(n1), range(n2), False))  # noqa: B023 - called at once
        wanted = n1 * n2 * seconds / spent
        if spent > seconds / 10 or (n1 >= _LARGEST and n2 >= _LARGEST):
            break
        side = math.sqrt(min(wanted, 16 * n1 * n2))
        n1 = min(_LARGEST, max(n1, threads * round(side / threads)))
        n2 = min(_LARGEST, max(n2, lanes * round(side / lanes)))
    return _sides(wanted, threads, lanes)


def _sides(wanted: float, threads: int, lanes: int) -> tuple[int, int]:
    """Rows and columns of about so many entries, full lanes on all threads."""
    n2 = min(_LARGEST, max(lanes, lanes * round(math.sqrt(wanted) / lanes)))
    return min(_LARGEST, max(threads, threads * round(wanted / n2 / threads))), n2
