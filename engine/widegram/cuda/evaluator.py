"""Tiles of kernel matrices on GPUs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from queue import SimpleQueue
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from widegram.backends.close_pairs import close_pairs, nearest_computed
from widegram.backends.equal import equal_pairs, is_exact, without
from widegram.backends.own import Own
from widegram.backends.readout import Readout
from widegram.cpu.evaluator import warn_of_series
from widegram.cpu.pairs import PairRunner
from widegram.cpu.self_kernels_pool import ItselfPool
from widegram.cuda.block_elements import MOST_THREADS
from widegram.cuda.device import Device
from widegram.cuda.images import Block, HostImages, image_bytes
from widegram.cuda.pairs import Pairs
from widegram.cuda.source import FORMS, source_of
from widegram.cuda.stream import Lane
from widegram.data.scaled_rows import Rows, scaled_rows, spread
from widegram.machine.cores import usable_cores
from widegram.machine.log import announced
from widegram.network.model import Network
from widegram.plan.closeness import NEAREST
from widegram.plan.formulas import FactorLayout, series_error
from widegram.plan.graph import build_graph, is_vector
from widegram.plan.precision import SERIES_ACCEPTED
from widegram.plan.scales import degrees
from widegram.tiling import mirror_lower

Progress = Callable[[int], None]
_LANES = 2
_READ = 256
_PINNED_SHARE = 16
# Making a block costs at least as much as copying it to a device so many times: 0.4 ms and 10 us
# an image, 21 layers of 32 x 32, one core.
_COPIES = 16


class CudaEvaluator:
    """The CUDA backend. Arguments as for :class:`widegram.cpu.CpuEvaluator`; ``devices``: the GPUs
    that share the tiles; ``block_threads``, ``forms`` as ``threads`` and ``forms`` of
    :func:`~widegram.cuda.source.generate`; ``memory``: of the host, and of each device.

    Factors of images, the diagonal and, in float32, pairs of nearly parallel inputs come from the
    CPU in float64. :meth:`tile` may be called from ``workers`` threads at once.

    Raises:
        WidegramError: a device's memory does not hold what one pair needs.
    """

    def __init__(
        self,
        network: Network,
        x1: Rows,
        x2: Rows | None,
        get: Sequence[str],
        depths: Sequence[int],
        dtype: str,
        memory: int,
        devices: Sequence[Device],
        block_threads: int = MOST_THREADS,
        forms: Sequence[str] = FORMS,
        threads: int | None = None,
        accept: float = SERIES_ACCEPTED,
    ) -> None:
        self.dtype, self.symmetric = dtype, x2 is None
        vector = is_vector(network)
        arguments = network, tuple(get), tuple(depths) or None
        inputs = scaled_rows(x1, x2, degrees(build_graph(network, arguments[2])) is not None)
        found = spread(inputs, vector)
        shared = min(device.shared_memory() for device in devices)
        self.source = source_of(
            network, get, depths, dtype, found.largest, shared, forms, block_threads, accept,
            found.zeros,
        )  # fmt: skip
        self.plan, layout = self.source.context.plan, self.source.layout
        if self.plan.input_exponent:
            inputs = scaled_rows(x1, x2, False, self.plan.input_exponent)
        self.angle = NEAREST
        if dtype == "float32":
            formulas = layout.formulas
            self.angle = nearest_computed(self.plan, formulas, found.largest, *inputs)
        self._exact = is_exact(self.plan)
        self.readout = Readout(self.plan, dtype, inputs, self._itself_of)
        self.series_error = series_error(layout.formulas)
        warn_of_series(self.series_error, dtype)
        self.keys = tuple(key for key, _, _ in self.plan.keys)
        # Tiles are sized by their cost on one CPU thread; a GPU takes some hundred times as many.
        self.entry_cost = float(self.plan.element_layers) / 256
        self.device_name = ", ".join(device.name for device in devices)
        self._pair_runner: PairRunner | None = None
        self._pair_lock = Lock()
        self._pair_arguments = (*arguments, found.largest, found.zeros, self.plan)
        runners = self._own_runners(layout, memory // 16, threads or usable_cores())
        gather = self.source.context.layout.gather
        self.image_bytes = image_bytes(x1.shape, vector, len(gather), dtype)
        self._column_bytes = image_bytes(x1.shape, vector, len(gather), dtype, copies=1)
        # Rows pass by columns that stay: few of them are worth their memory.
        most = memory // 4 if x2 is None else memory // 8

        def images(second: bool, memory: int) -> HostImages:
            check = partial(self._check, second=second)
            return HostImages(inputs[second], runners, gather, vector, dtype, memory, check)

        self.images1 = images(False, most)
        self.images2 = self.images1 if x2 is None else images(True, memory // 4)
        self.workers = _LANES * len(devices)
        self._every_lane: list[Lane] = []
        self._lanes: SimpleQueue[Lane] = SimpleQueue()
        with announced("compiling kernels for the GPU (once for a network)"):
            for device in devices:
                budget = min(memory, device.free_memory() // 2) // _LANES
                for _ in range(_LANES):
                    pinned = memory // (_PINNED_SHARE * self.workers)
                    self._every_lane.append(Lane(device, self.source, dtype, budget, pinned))
                    self._lanes.put(self._every_lane[-1])

    def prepare(self, rows: range, cols: range) -> None:
        """Make the images of a tile, while others keep the devices busy."""
        self.images1.block(rows.start, rows.stop)
        self.images2.block(cols.start, cols.stop)

    def columns_kept(self, tile: int, rows: int) -> int:
        """What the host keeps, or each device where that is less and saves more copies to it than
        it costs blocks made again; see :class:`~widegram.backends.choosing.Evaluator`."""
        passing = 2 * rows + 1
        first, second = (
            images.memory // (tile * self.image_bytes) for images in (self.images1, self.images2)
        )
        kept = second - passing if self.symmetric else second * (first > rows)
        lanes = (lane.blocks_kept(tile, self._column_bytes) for lane in self._every_lane)
        fewer = min(lanes) - passing
        making = 0 if kept * tile >= self.images2.source.shape[0] else _COPIES
        if 0 < fewer < kept and (making + 1) / fewer < making / kept + 1:
            return fewer
        return kept

    def tile(
        self, rows: range, cols: range, symmetric: bool, progress: Progress | None = None
    ) -> dict[str, NDArray[Any]]:
        """Arrays (len(rows), len(cols)) for every key, as every evaluator gives them."""
        first = self.images1.block(rows.start, rows.stop)
        second = self.images2.block(cols.start, cols.stop)
        mirrored = symmetric and rows == cols
        pairs = Pairs(len(rows), len(cols), mirrored)
        shape = len(self.plan.outputs), 1 + self.plan.ntk, len(rows), len(cols)
        values = np.empty(shape, self.dtype)
        lane = self._lanes.get()
        try:
            lane.run(first, second, pairs, values, progress)
        finally:
            self._lanes.put(lane)
        self._replace(rows, cols, (first, second), values, mirrored)
        own = self.readout.own(self._own_kernels(rows, first), rows) if mirrored else {}
        if mirrored:
            for value in values.reshape(-1, len(rows), len(rows)):
                mirror_lower(value)
        whole = {"nngp": values[:, 0], "ntk": values[:, -1]}
        found = self.readout.kernels(whole, rows, cols)
        for key, n, kernel in self.plan.keys if mirrored else ():
            np.fill_diagonal(found[key], own[kernel][n])
        return found

    def _check(self, own: Own, rows: range, second: bool) -> None:
        """Refuse images of which something that matters is outside the range on the way."""
        if own.lost.any():
            self.readout.check_inputs(self._itself_of(rows, second), rows, second)

    def _itself_of(self, rows: range, second: bool) -> Own:
        """Runs of images of x1, or of x2, with themselves."""
        images = self.images2 if second else self.images1
        return self._whole().run(images.read(rows.start, rows.stop))

    def _own_runners(self, layout: FactorLayout, memory: int, cores: int) -> ItselfPool:
        """What makes the factors of images; where that needs no planes it makes the diagonal, too,
        and otherwise ``_diagonal`` does."""
        pool = ThreadPoolExecutor(cores)

        def make(outputs: bool) -> ItselfPool:
            return ItselfPool(self.plan, layout, outputs, self.dtype, pool, cores, memory)

        self._diagonal: ItselfPool | None = None
        self._whole = cache(lambda: self._diagonal or make(True))
        if not self.symmetric:
            return make(False)
        whole = make(True)
        if whole.alone:
            return whole
        self._diagonal = whole
        return make(False)

    def _replace(
        self, rows: range, cols: range, blocks: tuple[Block, Block], values: NDArray[Any],
        mirrored: bool,
    ) -> None:  # fmt: skip
        """Compute pairs of equal and of nearly parallel inputs in float64; above the diagonal of
        what is mirrored later."""
        first, second = blocks
        equal = close = np.empty((0, 2), dtype=np.int64)
        if self._exact:
            equal = equal_pairs(first.digests, second.digests)
        if self.dtype == "float32":
            close = close_pairs(first.sketch, second.sketch, self.angle)
            close = without(close, equal, len(cols))
        if mirrored:
            close, equal = (pairs[pairs[:, 0] < pairs[:, 1]] for pairs in (close, equal))
        self._double(rows, cols, close, values)
        if len(equal):
            i, j = equal.T
            own = self._itself_of(rows, False).kernels
            for field, kernel in enumerate(("nngp", "ntk")[: 1 + self.plan.ntk]):
                values[:, field, i, j] = own[kernel][:, i]

    def _own_kernels(self, rows: range, block: Block) -> dict[str, NDArray[np.float64]]:
        """Kernels of images with themselves, (outputs, n), from double precision."""
        if self._diagonal is None:
            return block.own
        return self._diagonal.run(self.images1.read(rows.start, rows.stop)).kernels

    def _double(
        self, rows: range, cols: range, pairs: NDArray[np.int64], values: NDArray[Any]
    ) -> None:
        """Replace pairs of nearly parallel inputs by their values in float64."""
        for lo in range(0, len(pairs), _READ):
            i, j = pairs[lo : lo + _READ].T
            x, y = self.images1.some(rows[a] for a in i), self.images2.some(cols[b] for b in j)
            with self._pair_lock:
                if self._pair_runner is None:
                    self._pair_runner = PairRunner(*self._pair_arguments)
                found = self._pair_runner.run(x, y)
            for field, value in enumerate(found[: 1 + self.plan.ntk]):
                values[:, field, i, j] = value
