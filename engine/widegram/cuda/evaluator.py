"""Tiles of kernel matrices on GPUs."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from queue import SimpleQueue

import numpy as np
from numpy.typing import NDArray

from widegram.backends.close_pairs import close_pairs
from widegram.backends.equal import equal_pairs
from widegram.backends.evaluator import Advance, Cost, Tile
from widegram.backends.job import Job
from widegram.backends.planned import Numbers, PlannedEvaluator, RawTile
from widegram.backends.self_runs import SelfRuns
from widegram.closing import ClosedOnFailure
from widegram.cpu.pairs import PairRunner
from widegram.cpu.self_kernels import SelfKernelPool, is_pointwise
from widegram.cuda.block_elements import MOST_THREADS
from widegram.cuda.device import Device
from widegram.cuda.images import HostImages, image_bytes
from widegram.cuda.pairs import TilePairs
from widegram.cuda.source import source_of
from widegram.cuda.stream import DeviceStream
from widegram.data.scaled_rows import input_variances, scaled_rows
from widegram.machine.cores import usable_cores
from widegram.machine.log import announced
from widegram.plan.graph import build_graph, is_vector
from widegram.plan.scales import degrees
from widegram.tiling import mirror_lower

_STREAMS = 2
_PINNED_SHARE = 16
# Making a block costs at least as much as copying it to a device so many times: 0.4 ms and 10 us
# an image, 21 layers of 32 x 32, one core.
_COPIES = 16


class CudaEvaluator(PlannedEvaluator):
    """The CUDA backend. ``devices``: the GPUs that share the tiles, each of which may take as much
    memory as the job gives the host; ``block_threads``, ``forms``: ``threads`` and ``forms`` of
    :func:`~widegram.cuda.source.generate`.

    Factors of images, the diagonal and, in float32, pairs of nearly parallel inputs come from the
    CPU in float64. :meth:`tile` may be called from ``workers`` threads at once.

    Raises WidegramError where a device's memory does not hold what one pair needs.
    """

    def __init__(
        self,
        job: Job,
        devices: Sequence[Device],
        block_threads: int = MOST_THREADS,
        forms: Sequence[str] = (),
    ) -> None:
        self._cores = job.threads or usable_cores()
        self._pool = ThreadPoolExecutor(self._cores)
        with ClosedOnFailure(self):
            self._plan(job, devices, block_threads, forms)
            self._make_images(job)
            self._make_streams(devices, job.memory)

    def _plan(
        self, job: Job, devices: Sequence[Device], block_threads: int, forms: Sequence[str]
    ) -> None:
        """The kernels, and what every backend needs."""
        own = max(degrees(build_graph(job.network, job.depths or None)) or (0,))
        inputs = scaled_rows(job.x1, job.x2, own)
        found = input_variances(inputs, is_vector(job.network))
        shared = min(device.shared_memory() for device in devices)
        self.source = source_of(
            job.network, job.kernels, job.depths, job.dtype, found.largest, shared, forms,
            block_threads, job.accept, found.zeros,
        )  # fmt: skip
        plan, self.layout = self.source.context.plan, self.source.layout
        if plan.input_exponent:
            inputs = scaled_rows(job.x1, job.x2, 0, plan.input_exponent)
        pairs = PairRunner(job, found, plan)
        super().__init__(job, plan, self.layout.formulas, found.largest, inputs, pairs)
        self.device_name = ", ".join(device.name for device in devices)

    def _make_images(self, job: Job) -> None:
        """What holds the images of the host and makes their factors."""
        gather, vector = self.source.context.layout.gather, self.plan.vector
        bytes_ = partial(image_bytes, job.x1.shape, vector, len(gather), self.dtype)
        self._column_bytes = bytes_(copies=1)
        # Tiles are sized by their cost on one CPU thread; a GPU takes some hundred times as many.
        self.cost = Cost(float(self.plan.element_layers) / 256, bytes_())
        self._self_memory = job.memory // 16
        self._whole: SelfKernelPool | None = None
        symmetric = job.x2 is None
        runners = self._factor_runners(symmetric)

        def images(second: bool, memory: int) -> HostImages:
            check = partial(self.check, second=second)
            return HostImages(
                self.inputs[second], runners, gather, vector, self.dtype, memory, check
            )

        # Rows pass by columns that stay: few of them are worth their memory.
        self.images1 = images(False, job.memory // 4 if symmetric else job.memory // 8)
        self.images2 = self.images1 if symmetric else images(True, job.memory // 4)

    def _make_streams(self, devices: Sequence[Device], memory: int) -> None:
        self.workers = _STREAMS * len(devices)
        self._every_stream: list[DeviceStream] = []
        self._streams: SimpleQueue[DeviceStream] = SimpleQueue()
        with announced("compiling kernels for the GPU (once for a network)"):
            for device in devices:
                budget = min(memory, device.free_memory() // 2) // _STREAMS
                for _ in range(_STREAMS):
                    pinned = memory // (_PINNED_SHARE * self.workers)
                    self._every_stream.append(
                        DeviceStream(device, self.source, self.dtype, budget, pinned)
                    )
                    self._streams.put(self._every_stream[-1])

    def prepare(self, rows: range, cols: range) -> None:
        self.images1.block(rows.start, rows.stop)
        self.images2.block(cols.start, cols.stop)

    def columns_kept(self, tile: int, rows: int) -> int:
        """What the host keeps, or each device where that is less and saves more copies to it than
        it costs blocks made again."""
        passing = 2 * rows + 1
        first, second = (
            images.memory // (tile * self.cost.image_bytes)
            for images in (self.images1, self.images2)
        )
        symmetric = self.images2 is self.images1
        kept = second - passing if symmetric else second * (first > rows)
        streams = (stream.blocks_kept(tile, self._column_bytes) for stream in self._every_stream)
        fewer = min(streams) - passing
        making = 0 if kept * tile >= self.images2.source.shape[0] else _COPIES
        if 0 < fewer < kept and (making + 1) / fewer < making / kept + 1:
            return fewer
        return kept

    def tile(
        self, rows: range, cols: range, symmetric: bool, progress: Advance | None = None
    ) -> Tile:
        first = self.images1.block(rows.start, rows.stop)
        second = self.images2.block(cols.start, cols.stop)
        mirrored = symmetric and rows == cols
        pairs = TilePairs(len(rows), len(cols), mirrored)
        shape = len(self.plan.outputs), 1 + self.plan.ntk, len(rows), len(cols)
        values = np.empty(shape, self.dtype)
        stream = self._streams.get()
        try:
            stream.run(first, second, pairs, values, progress)
        finally:
            self._streams.put(stream)
        if mirrored:
            for value in values.reshape(-1, len(rows), len(rows)):
                mirror_lower(value)
        equal = close = np.empty((0, 2), dtype=np.int64)
        if self.exact:
            equal = equal_pairs(first.digests, second.digests)
        if self.dtype == "float32":
            close = close_pairs(first.sketch, second.sketch, self.angle)
        raw = RawTile(values[:, 0], values[:, -1], equal, close)
        return self.finished(raw, rows, cols, mirrored)

    def self_kernels(self, numbers: Numbers, second: bool) -> SelfRuns:
        images = self.images2 if second else self.images1
        self._whole = self._whole or self._runners(True)
        if isinstance(numbers, range):
            return self._whole.run(images.read(numbers.start, numbers.stop))
        return self._whole.run(images.some(numbers.tolist()))

    def some(self, numbers: list[int], second: bool) -> NDArray[np.float64]:
        return (self.images2 if second else self.images1).some(numbers)

    def close(self) -> None:
        self._pool.shutdown()

    def _factor_runners(self, symmetric: bool) -> SelfKernelPool:
        """What makes the factors of images; where that takes no planes, the kernels too."""
        if is_pointwise(self.plan, self.plan.itself(True)):
            self._whole = self._runners(True)
            return self._whole
        self._whole = self._runners(True) if symmetric else None
        return self._runners(False)

    def _runners(self, outputs: bool) -> SelfKernelPool:
        return SelfKernelPool(
            self.plan, self.layout, outputs, self.dtype, self._pool, self._cores,
            self._self_memory,
        )  # fmt: skip
