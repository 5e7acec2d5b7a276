"""Tiles of networks that see vectors: regions of pairs, shared by all threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from queue import SimpleQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray

from widegram.cpu import planes
from widegram.cpu.context import At
from widegram.cpu.entries import entries
from widegram.cpu.itself import ItselfRunner
from widegram.cpu.plane_base import Variant
from widegram.cpu.tables import REGION
from widegram.cpu.vector_ops import LANES
from widegram.cpu.vectors import Packed, VectorInputs
from widegram.cpu.workspace import Workspace, aligned
from widegram.plan.plan import Plan

Region = tuple[int, int, int, int]
Pairs = NDArray[np.int64]


class VectorTiles:
    """Computes tiles of two data sets with the workspaces of ``free``, one to a thread."""

    def __init__(
        self, plan: Plan, dtype: str, inputs: tuple[VectorInputs, VectorInputs],
        runner: ItselfRunner, free: SimpleQueue[Workspace], pool: ThreadPoolExecutor,
    ) -> None:  # fmt: skip
        self.plan, self.dtype, self.inputs, self.runner = plan, dtype, inputs, runner
        self.free, self.pool = free, pool
        self.lanes = LANES[dtype]
        self.close = 0
        if dtype == "float32":
            self.close = planes.address(Variant("close", "none", plan.ntk, False, dtype))

    def tile(
        self, rows: range, cols: range, mirrored: bool, progress: Callable[[int], None] | None
    ) -> tuple[NDArray[Any], NDArray[Any], Pairs]:
        """K and T, (outputs, rows, cols rounded up to whole blocks), T that of K without NTK; and
        (row, column) of nearly parallel pairs.

        ``mirrored``: rows and columns are the same inputs; one half is computed and mirrored.
        """
        x = self.inputs[0].block(rows.start, rows.stop, self.runner)
        y = self.inputs[1].block(cols.start, cols.stop, self.runner)
        shape = len(self.plan.outputs), len(rows), len(y.lanes) * self.lanes
        k = aligned(shape, self.dtype)
        t = aligned(shape, self.dtype) if self.plan.ntk else k

        def region(at: Region) -> tuple[int, Pairs]:
            r0, r1, c0, c1 = at
            pairs = self._region(x, y, at, k, t)
            if mirrored:
                mirror_right_of_diagonal(k, at)
                if t is not k:
                    mirror_right_of_diagonal(t, at)
            return (r1 - r0) * (min(c1, len(cols)) - c0), pairs

        found = [np.empty((0, 2), dtype=np.int64)]
        jobs = [self.pool.submit(region, at) for at in self._regions(*shape[1:], mirrored)]
        for job in as_completed(jobs):
            done, pairs = job.result()
            found.append(pairs)
            if progress is not None:
                progress(done)
        pairs = np.concatenate(found)
        pairs = pairs[pairs[:, 1] < len(cols)]
        return k, t, pairs[np.lexsort(pairs.T[::-1])]

    def _regions(self, rows: int, cols: int, mirrored: bool) -> Iterator[Region]:
        """(first row, end, first column, end) of each; of a mirrored tile those that reach the
        diagonal or lie above."""
        high, wide = REGION[0], REGION[1] * self.lanes
        for c0 in range(0, cols, wide):
            for r0 in range(0, rows, high):
                first = max(c0, r0) if mirrored else c0
                if first < c0 + wide:
                    yield r0, min(r0 + high, rows), first, min(c0 + wide, cols)

    def _region(self, x: Packed, y: Packed, at: Region, k: NDArray[Any], t: NDArray[Any]) -> Pairs:
        """Fill one region; its nearly parallel pairs."""
        r0, r1, c0, c1 = at
        first, end = c0 // self.lanes, c1 // self.lanes
        found = np.zeros(1 + 3 * (r1 - r0) * (end - first) * bool(self.close), dtype=np.int64)
        work = self.free.get()
        try:
            ctx = work.context
            ctx[At.X] = x.lanes[r0 // self.lanes :].ctypes.data
            ctx[At.Y] = y.lanes[first:].ctypes.data
            ctx[At.X_FACTORS], ctx[At.Y_FACTORS] = x.x[r0:].ctypes.data, y.y[first:].ctypes.data
            ctx[At.OUT_K] = k[:, r0:, c0:].ctypes.data
            ctx[At.OUT_T] = t[:, r0:, c0:].ctypes.data
            ctx[At.OUT_STRIDE] = k.strides[0] // k.itemsize
            entries().run_vectors(
                work.at, r1 - r0, end - first, x.x.shape[1], y.y.shape[1] * self.lanes,
                k.shape[2], self.close, x.x.shape[1] - 1, found.ctypes.data,
            )  # fmt: skip
        finally:
            self.free.put(work)
        return self._decoded(found, r0, c0)

    def _decoded(self, found: Pairs, r0: int, c0: int) -> Pairs:
        """(row, column) in the tile of what the kernel 'close' wrote."""
        entry = found[1 : 1 + 3 * found[0]].reshape(-1, 3)
        n, lane = np.nonzero(entry[:, 2, None] >> np.arange(self.lanes) & 1)
        return np.stack([r0 + entry[n, 0], c0 + entry[n, 1] * self.lanes + lane], axis=1)


def mirror_right_of_diagonal(value: NDArray[Any], at: Region) -> None:
    """Copy what a region has beyond its own rows' columns to the other half."""
    r0, r1, c0, c1 = at
    first, end = max(c0, r1), min(c1, value.shape[1])
    if first < end:
        value[:, first:end, r0:r1] = value[:, r0:r1, first:end].transpose(0, 2, 1)
