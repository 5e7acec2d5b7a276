"""The contract between those who want kernels and the backends that compute them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from widegram.closing import Closing

Advance = Callable[[int], None]
Tile = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Cost:
    """What the default size of a tile follows from; 0 where it is not known.

    * ``entry``: element-layers of one entry, weighted so that a backend that is faster than a
      thread of a CPU counts fewer.
    * ``image_bytes``: memory that one image of a tile takes.
    """

    entry: float = 0.0
    image_bytes: int = 0


class Evaluator(Closing, ABC):
    """Computes tiles of the kernel matrices of one job. A block that uses one closes it.

    * ``keys``: dataset paths, as :meth:`~widegram.tiling.End.path` gives them.
    * ``dtype``: of the numbers while a tile is computed; results may be rounded to fewer digits.
    * ``cost``: see :class:`Cost`.
    * ``workers``: tiles that it computes at once, each in a thread of the caller's; with 0 it
      wants one at a time, and shares that among its own threads.
    * ``stoppable``: whether a stop ends a tile early, with
      :class:`widegram.machine.interrupts.Stopped`.
    * ``series_error``: the relative error of activations by Hermite series, None without them.
    * ``device_name``: what computes, where the name of its kind does not say it all.
    """

    keys: tuple[str, ...]
    dtype: str
    cost: Cost = Cost()
    workers: int = 0
    stoppable: bool = False
    series_error: float | None = None
    device_name: str = ""

    @abstractmethod
    def tile(
        self, rows: range, cols: range, symmetric: bool, progress: Advance | None = None
    ) -> Tile:
        """Arrays (len(rows), len(cols)) of the job's dtype, one for each key.

        ``symmetric``: columns index x1 too; then a tile with ``rows == cols`` is exactly
        symmetric. ``progress`` is called with the number of entries finished since its last call.
        """

    @abstractmethod
    def diagonal(self, rows: range, second: bool = False) -> dict[str, NDArray[np.float64]]:
        """K(x, x) of inputs of x1, or of x2, (len(rows),) float64, for each key: one number an
        input, as the diagonal of a tile has it before it is rounded to the job's dtype."""

    def columns_kept(self, tile: int, rows: int) -> int:
        """How many tile columns of images stay in memory while tile rows pass in groups of
        ``rows``, ``tile`` images each: the order of the tiles follows from that. 0: unknown."""
        return 0

    def prepare(self, rows: range, cols: range) -> None:
        """Make what a tile will need of its images, beside others that are computed."""

    def round_to(self, dtype: str) -> None:
        """Refuse what ``dtype`` cannot hold: results will be rounded to it."""
