"""One stream of work on one device: batches of a tile's pairs through all kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from widegram.cuda.device import Device
from widegram.cuda.images import Block, DeviceImages
from widegram.cuda.pairs import TilePairs
from widegram.cuda.point import PRODUCT_TILE
from widegram.cuda.source import KernelTexts
from widegram.errors import WidegramError
from widegram.machine.budgets import format_size
from widegram.machine.dtypes import ITEMSIZE

LARGEST_BATCH = 1 << 18


def pair_bytes(source: KernelTexts, dtype: str) -> int:
    """Device memory that one pair of a batch takes."""
    numbers = source.stores.size + source.scratch
    sums, listed = 8 * source.sums, 8
    return numbers * ITEMSIZE[dtype] + sums + listed + result_bytes(source, dtype)


def result_bytes(source: KernelTexts, dtype: str) -> int:
    """What the results of a pair take, on the device and again on the host: one batch is computed
    while another is copied."""
    return 2 * _outputs(source) * ITEMSIZE[dtype]


def _outputs(source: KernelTexts) -> int:
    plan = source.context.plan
    return len(plan.outputs) * (1 + plan.ntk)


def batch_size(source: KernelTexts, dtype: str, budget: int, pinned: int) -> int:
    """Pairs of one batch: what half of ``budget`` bytes of the device and ``pinned`` bytes of the
    host hold, at most 262,144.

    Raises :class:`WidegramError` where that is none.
    """
    one = pair_bytes(source, dtype)
    if 2 * one > budget:
        raise WidegramError(
            f"device memory: one pair of this network takes {format_size(one)}, half of the "
            f"budget is {format_size(budget // 2)}; give more --memory or use --device cpu"
        )
    return min(LARGEST_BATCH, budget // (2 * one), max(1, pinned // result_bytes(source, dtype)))


class DeviceStream:
    """A stream with its buffers: ``budget`` bytes on ``device``, half for batches and half for
    images and their inner products, and ``pinned`` bytes on the host."""

    def __init__(
        self, device: Device, source: KernelTexts, dtype: str, budget: int, pinned: int
    ) -> None:
        self.device, self.source, self.dtype = device, source, dtype
        self.batch = batch_size(source, dtype, budget, pinned)
        with device.entered():
            self.stream = device.stream()
            self.kernels = [device.compiled(k, dtype) for k in source.kernels]
            self.tables = [device.put(k.table, self.stream) for k in source.kernels]
            self.index = device.put(source.stores.index.astype(np.int32), self.stream)
            self.product = source.product and device.compiled(source.product, dtype)
        self._images = DeviceImages(device, self.stream, budget // 2)
        self._buffers: dict[str, Any] = {}
        self._host: list[NDArray[Any]] = []
        self._pairs = 0
        self._products: Any = None
        self._products_size = 0

    def blocks_kept(self, tile: int, image_bytes: int) -> int:
        """Blocks of ``tile`` images, with ``image_bytes`` each, that stay on the device beside the
        inner products of a tile."""
        products = 0 if self.product is None else tile * tile * ITEMSIZE[self.dtype]
        return max(0, self._images.most_kept - products) // (tile * image_bytes)

    def run(
        self, first: Block, second: Block, pairs: TilePairs, values: NDArray[Any],
        progress: Callable[[int], None] | None,
    ) -> None:  # fmt: skip
        """Fill ``values`` (outputs, fields, rows, columns) at ``pairs`` of two blocks of images."""
        flat = values.reshape(values.shape[0] * values.shape[1], -1)
        columns = values.shape[3]
        with self.device.entered():
            self._allocate(min(self.batch, max(len(pairs), 1)))
            products = 0
            if self.product is not None:
                products = max(len(first.x) * len(second.x), self._products_size)
            reserved = products * ITEMSIZE[self.dtype]
            x, fx, y, fy = self._images.pair(first, second, reserved)
            if self.product is not None:
                self._allocate_products(products)
                x = self._product(first, second, x, y)
            waiting: tuple[Any, NDArray[Any]] | None = None
            for n, lo in enumerate(range(0, len(pairs), self.batch)):
                hi = min(lo + self.batch, len(pairs))
                found = self._host[n % 2][: (hi - lo) * len(flat)]
                listed = pairs.listed(lo, hi)
                self._launch(hi - lo, columns, listed, x, y, fx, fy, n % 2)
                if waiting is not None:
                    _place(*waiting, flat, progress)
                self.device.get(self._buffers[f"out{n % 2}"], found, self.stream)
                self.device.wait(self.stream)
                self._images.drop(listed.nbytes)
                waiting = (pairs.place(lo, hi), found)
            if waiting is not None:
                _place(*waiting, flat, progress)

    def _allocate(self, pairs: int) -> None:
        """Buffers for ``pairs`` pairs, kept until a larger batch comes."""
        if self._buffers and self._pairs >= pairs:
            return
        source, empty = self.source, self.device.empty
        outputs = _outputs(source) * pairs
        self._buffers, self._host = {}, []
        self._images.drop(self._pairs * pair_bytes(source, self.dtype))
        self._buffers = {
            "stores": empty(source.stores.size * pairs, self.dtype, self.stream),
            "sums": empty(source.sums * pairs, np.float64, self.stream),
            "scratch": empty(source.scratch * pairs, self.dtype, self.stream),
            "out0": empty(outputs, self.dtype, self.stream),
            "out1": empty(outputs, self.dtype, self.stream),
        }
        self._host = [self.device.pinned(outputs, self.dtype) for _ in range(2)]
        self._pairs = pairs

    def _allocate_products(self, size: int) -> None:
        """Room for ``size`` inner products, kept until a larger tile comes."""
        if size > self._products_size:
            dropped, self._products, self._products_size = self._products_size, None, 0
            self._images.drop(dropped * ITEMSIZE[self.dtype])
            self._products = self.device.empty(size, self.dtype, self.stream)
            self._products_size = size

    def _product(self, first: Block, second: Block, x: Any, y: Any) -> Any:
        """All inner products of two blocks of vectors."""
        rows, columns = len(first.x), len(second.x)
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
