"""A run in float32 that must be computed in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from widegram.backends.choosing import Evaluator


class Rounded:
    """An evaluator in float64 whose tiles are rounded to ``dtype``; all else is that evaluator's.

    ``itemsize``: bytes of a number while a tile is computed.
    """

    itemsize = 8

    def __init__(self, inner: Evaluator, dtype: str) -> None:
        self._inner, self._dtype = inner, dtype
        if readout := getattr(inner, "readout", None):
            readout.round_to(dtype)

    @property
    def keys(self) -> tuple[str, ...]:
        """See :class:`widegram.backends.choosing.Evaluator`."""
        return self._inner.keys

    def tile(
        self,
        rows: range,
        cols: range,
        symmetric: bool,
        progress: Callable[[int], None] | None = None,
    ) -> dict[str, np.ndarray]:
        """See :class:`widegram.backends.choosing.Evaluator`."""
        found = self._inner.tile(rows, cols, symmetric, progress)
        with np.errstate(over="ignore"):
            return {key: value.astype(self._dtype) for key, value in found.items()}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)
