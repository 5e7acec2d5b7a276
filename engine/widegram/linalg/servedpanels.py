"""The worker's side of products: some rows of a training matrix, kept from product to product."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from widegram.data.formats import Table
from widegram.errors import WidegramError
from widegram.linalg.budget import array_budget
from widegram.linalg.gramsource import GramKernel, open_train
from widegram.linalg.operator import GramOperator, read_into
from widegram.tiling import End
from widegram.workers.serving import ServedInRounds, Unshared
from widegram.workers.session import Request

Array = NDArray[Any]
_STREAM = 8  # share of the budget for blocks of panels that are multiplied
_BLOCKS = 3  # arrays of the size of x at once: as it came, the next one, results


class Rows:
    """The rows ``low`` to ``high`` of a matrix, sliced like it."""

    def __init__(self, matrix: Any, low: int, high: int) -> None:
        self._matrix, self._low = matrix, low
        self.shape, self.dtype = (high - low, int(matrix.shape[1])), matrix.dtype

    def read_direct(self, into: Array, place: tuple[slice, slice]) -> None:
        """The block at ``place`` into an array of its shape."""
        rows, cols = place
        moved = slice(rows.start + self._low, rows.stop + self._low)
        read_into(self._matrix, into, moved, cols)


class ServedPanels(ServedInRounds):
    """Panels of a matrix that :mod:`widegram.linalg.panels` asks for. An item is (round, first row,
    last row + 1), its result those rows of the product with what is shared in that round."""

    def __init__(self, train: GramKernel, memory: int) -> None:
        self._train, self._stream = train, max(memory // _STREAM, 1 << 20)
        self._most = memory - self._stream
        self._kept: dict[int, Array] = {}
        self._used: dict[int, int] = {}
        self._number, self._x = 0, np.empty((0, 0))

    @classmethod
    def facts(cls, request: Request) -> tuple[str, str]:
        return "cpu", "a solution is the same to its tolerance"

    @classmethod
    def open(cls, request: Request, parcels: Mapping[str, list[Table]]) -> ServedPanels:
        path, memory = Path(request["path"]), array_budget(request["memory"])
        if not path.exists():
            raise WidegramError(
                f"{path}: is not to be seen from here; put the matrix where all workers see it"
            )
        rows = request["rows"]
        train = open_train(
            path, request["kernel"], End(*request["end"]), memory=memory // _STREAM,
            unit=request["unit"], rows=None if rows is None else np.array(rows, np.int64),
        )  # fmt: skip
        if train.key() != request["key"]:
            train.close()
            raise WidegramError(f"{path}: is not the matrix that the client has under this name")
        return cls(train, memory)

    def described(self) -> dict[str, Any]:
        return {}

    def share(self, number: int, block: np.ndarray) -> None:
        self._number, self._x = number, block

    def work(self, items: list[Any]) -> list[Any]:
        if any(number != self._number for number, _, _ in items):
            raise Unshared
        return [self._rows(low, high) for _, low, high in items]

    def close(self) -> None:
        self._kept.clear()
        self._train.close()

    def _rows(self, low: int, high: int) -> Array:
        panel = self._panel(low, high)
        self._used[low] = self._number
        operator = GramOperator(panel, symmetric=False, memory=self._stream)
        return operator.matmat(self._x)

    def _panel(self, low: int, high: int) -> Any:
        """From memory, read into it where there is room, else as a view of the file."""
        if low in self._kept:
            return self._kept[low]
        source = self._train.operator.source
        size = (high - low) * source.shape[1] * source.dtype.itemsize
        room = self._most - _BLOCKS * self._x.nbytes
        self._forget(room - size)
        if self._size() + size > room:
            return Rows(source, low, high)
        panel = np.empty((high - low, source.shape[1]), source.dtype)
        read_into(source, panel, slice(low, high), slice(0, source.shape[1]))
        self._kept[low] = panel
        return panel

    def _forget(self, most: int) -> None:
        """Give up panels that others have by now, until ``most`` bytes are kept."""
        for low in sorted(self._kept, key=self._used.__getitem__):
            if self._size() <= most or self._used[low] >= self._number - 1:
                return
            del self._kept[low]

    def _size(self) -> int:
        return sum(panel.nbytes for panel in self._kept.values())
