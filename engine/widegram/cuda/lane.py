"""One stream of work on one device: batches of a tile's pairs through all kernels."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from widegram.cpu.vector_ops import ITEMSIZE
from widegram.cuda.device import Device
from widegram.cuda.images import Block
from widegram.cuda.pairs import Pairs
from widegram.cuda.point import PRODUCT_TILE
from widegram.cuda.source import Source
from widegram.errors import WidegramError
from widegram.memory import format_size

LARGEST_BATCH = 1 << 18


def pair_bytes(source: Source, dtype: str) -> int:
    """Device memory that one pair of a batch takes."""
    plan = source.context.plan
    outputs = len(plan.outputs) * (1 + plan.ntk)
    numbers = source.stores.size + source.scratch + outputs
    return numbers * ITEMSIZE[dtype] + 8 * source.stores.sums + 8


def batch_size(source: Source, dtype: str, budget: int) -> int:
    """Pairs of one batch: what half of ``budget`` bytes holds, at most 262,144.

    Raises :class:`WidegramError` where that is none.
    """
    one = pair_bytes(source, dtype)
    if 2 * one > budget:
        raise WidegramError(
            f"device memory: one pair of this network takes {format_size(one)}, half of the "
            f"budget is {format_size(budget // 2)}; give more --memory or use --device cpu"
        )
    return min(LARGEST_BATCH, budget // (2 * one))


class Lane:
    """A stream with its buffers on ``device``, ``budget`` bytes of its memory."""

    def __init__(self, device: Device, source: Source, dtype: str, budget: int) -> None:
        self.device, self.source, self.dtype = device, source, dtype
        self.batch = batch_size(source, dtype, budget)
        self.image_budget = budget // 2
        self._blocks: OrderedDict[tuple[Any, ...], list[Any]] = OrderedDict()
        self._sizes: dict[tuple[Any, ...], int] = {}
        with device.entered():
            self.stream = device.stream()
            self.kernels = [device.compiled(k, dtype) for k in source.kernels]
            self.tables = [device.put(k.table, self.stream) for k in source.kernels]
            self.index = device.put(source.stores.index, self.stream)
            self.product = source.product and device.compiled(source.product, dtype)
        self._buffers: dict[str, Any] = {}
        self._pairs = 0
        self._products: Any = None
        self._products_size = 0

    def run(
        self, first: Block, second: Block, pairs: Pairs, values: NDArray[Any],
        progress: Callable[[int], None] | None,
    ) -> None:  # fmt: skip
        """Fill ``values`` (outputs, fields, rows, columns) at ``pairs`` of two blocks of images."""
        flat = values.reshape(values.shape[0] * values.shape[1], -1)
        columns = values.shape[3]
        with self.device.entered():
            self._allocate(min(self.batch, max(len(pairs), 1)))
            x, fx = self._images(first, True)
            y, fy = self._images(second, False)
            if self.product is not None:
                x = self._product(first, second, x, y)
            waiting: tuple[Any, NDArray[Any]] | None = None
            for n, lo in enumerate(range(0, len(pairs), self.batch)):
                hi = min(lo + self.batch, len(pairs))
                found = self._host[n % 2][: (hi - lo) * len(flat)]
                self._launch(hi - lo, columns, pairs.listed(lo, hi), x, y, fx, fy, n % 2)
                if waiting is not None:
                    _place(*waiting, flat, progress)
                self.device.get(self._buffers[f"out{n % 2}"], found, self.stream)
                self.device.wait(self.stream)
                waiting = (pairs.place(lo, hi), found)
            if waiting is not None:
                _place(*waiting, flat, progress)

    def _allocate(self, pairs: int) -> None:
        """Buffers for ``pairs`` pairs, kept until a larger batch comes."""
        if self._buffers and self._pairs >= pairs:
            return
        plan, source, empty = self.source.context.plan, self.source, self.device.empty
        outputs = len(plan.outputs) * (1 + plan.ntk) * pairs
        self._buffers = {}
        self._buffers = {
            "stores": empty(source.stores.size * pairs, self.dtype, self.stream),
            "sums": empty(source.stores.sums * pairs, np.float64, self.stream),
            "scratch": empty(source.scratch * pairs, self.dtype, self.stream),
            "out0": empty(outputs, self.dtype, self.stream),
            "out1": empty(outputs, self.dtype, self.stream),
        }
        self._host = [self.device.pinned(outputs, self.dtype) for _ in range(2)]
        self._pairs = pairs

    def _images(self, block: Block, scaled: bool) -> list[Any]:
        """Images and factors on the device; the most recently used stay there."""
        key = (*block.key, scaled)
        found = self._blocks.pop(key, None)
        if found is None:
            x = block.scaled if scaled else block.x
            found = [self.device.put(a, self.stream) for a in (x, block.factors)]
            self._sizes[key] = x.nbytes + block.factors.nbytes
        self._blocks[key] = found
        while len(self._blocks) > 2 and self._held() > self.image_budget:
            self._blocks.popitem(last=False)
        return found

    def _held(self) -> int:
        return sum(self._sizes[key] for key in self._blocks)

    def _product(self, first: Block, second: Block, x: Any, y: Any) -> Any:
        """All inner products of two blocks of vectors."""
        rows, columns = len(first.x), len(second.x)
        if rows * columns > self._products_size:
            self._products_size = rows * columns
            self._products = self.device.empty(rows * columns, self.dtype, self.stream)
        grid = (-(-columns // PRODUCT_TILE), -(-rows // PRODUCT_TILE))
        features = first.x.size // rows
        kernel = self.source.product
        assert kernel is not None
        self.device.launch(
            self.product, grid, kernel.threads, self.stream,
            (rows, columns, features, x, y, self._products),
        )  # fmt: skip
        return self._products

    def _launch(
        self, n: int, columns: int, pairs: NDArray[np.int32], x: Any, y: Any, fx: Any, fy: Any,
        half: int,
    ) -> None:  # fmt: skip
        buffers = self._buffers
        listed = self.device.put(pairs, self.stream)
        for kernel, compiled, table in zip(
            self.source.kernels, self.kernels, self.tables, strict=True
        ):
            args = (
                n, columns, listed, x, y, fx, fy, table, self.index, buffers["stores"],
                buffers["sums"], buffers["scratch"], buffers[f"out{half}"],
            )  # fmt: skip
            self.device.launch(compiled, (kernel.grid(n), 1), kernel.threads, self.stream, args)


def _place(
    where: slice | NDArray[np.int64], found: NDArray[Any], flat: NDArray[Any],
    progress: Callable[[int], None] | None,
) -> None:  # fmt: skip
    """Values (outputs x fields, pairs) to their places in the tile (outputs x fields, entries)."""
    for to, part in zip(flat, found.reshape(len(flat), -1), strict=True):
        to[where] = part
    if progress is not None:
        progress(found.size // len(flat))
