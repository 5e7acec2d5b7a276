"""A run in float32 that must be computed in float64."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from widegram.backends.evaluator import Advance, Evaluator, Tile


class Rounded(Evaluator):
    """An evaluator in float64 whose tiles are rounded to ``dtype``; all else is that evaluator's.
    It is closed with this one."""

    def __init__(self, inner: Evaluator, dtype: str) -> None:
        self._inner, self._rounded_to = inner, dtype
        inner.round_to(dtype)
        self.keys, self.dtype, self.cost = inner.keys, inner.dtype, inner.cost
        self.workers, self.stoppable = inner.workers, inner.stoppable
        self.series_error, self.device_name = inner.series_error, inner.device_name

    def tile(
        self, rows: range, cols: range, symmetric: bool, progress: Advance | None = None
    ) -> Tile:
        found = self._inner.tile(rows, cols, symmetric, progress)
        with np.errstate(over="ignore"):
            return {key: value.astype(self._rounded_to) for key, value in found.items()}

    def diagonal(self, rows: range, second: bool = False) -> dict[str, NDArray[np.float64]]:
        return self._inner.diagonal(rows, second)

    def columns_kept(self, tile: int, rows: int) -> int:
        return self._inner.columns_kept(tile, rows)

    def prepare(self, rows: range, cols: range) -> None:
        self._inner.prepare(rows, cols)

    def close(self) -> None:
        self._inner.close()
