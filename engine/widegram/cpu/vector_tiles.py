"""Tiles of networks that see vectors: bands of rows, shared by all threads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from widegram.backends.close_pairs import least_cosine
from widegram.backends.equal import Pairs, equal_pairs
from widegram.backends.evaluator import Advance
from widegram.backends.self_runs import SelfRuns
from widegram.cpu.driver.context import At
from widegram.cpu.driver.entries import entry
from widegram.cpu.driver.fields import REGION, VectorField
from widegram.cpu.kernels import compiled
from widegram.cpu.kernels.variants import LANES, Variant
from widegram.cpu.self_kernels import SelfKernelRunner
from widegram.cpu.team import Team
from widegram.cpu.together import results
from widegram.cpu.vectors import Packed, VectorInputs
from widegram.cpu.workspace import aligned
from widegram.machine import interrupts
from widegram.plan.plan import Plan
from widegram.tiling import mirror_lower

Band = tuple[int, int, int]  # rows from, to; first column
Bounds = NDArray[np.float64]
_BANDS = 8


class VectorTiles:
    """Computes tiles of two data sets, ``stores``, with the workspaces of ``team``; in float32
    inputs less than twice ``angle`` apart, or opposite but for that, are nearly parallel."""

    def __init__(
        self, plan: Plan, dtype: str, stores: tuple[VectorInputs, VectorInputs],
        runner: SelfKernelRunner, team: Team, angle: float,
    ) -> None:  # fmt: skip
        self.plan, self.dtype, self.stores, self.runner = plan, dtype, stores, runner
        self.team, self.cosine = team, least_cosine(angle)
        self.lanes = LANES[dtype]
        self.turn = compiled.address(Variant("turn", "none", plan.ntk, False, dtype))
        self.close = 0
        if dtype == "float32":
            self.close = compiled.address(Variant("close", "none", plan.ntk, False, dtype))

    def tile(
        self, rows: range, cols: range, mirrored: bool, progress: Advance | None
    ) -> tuple[NDArray[Any], NDArray[Any], Pairs, Bounds]:
        """K and T, (outputs, rows, cols rounded up to whole blocks), T that of K without NTK;
        (row, column) of nearly parallel pairs; and the bounds of
        :class:`~widegram.backends.planned.RawTile`.

        ``mirrored``: rows and columns are the same inputs; one half is computed and mirrored.
        """
        itself = self.runner.of_squares
        x = self.stores[0].block(rows.start, rows.stop, itself, self.cosine)
        y = self.stores[1].block(cols.start, cols.stop, itself, self.cosine)
        shape = len(self.plan.outputs), len(rows), len(y.lanes) * self.lanes
        k = aligned(shape, self.dtype)
        t = aligned(shape, self.dtype) if self.plan.ntk else k

        def band(at: Band) -> tuple[int, Pairs, Bounds]:
            r0, r1, first = at
            pairs = self._band(x, y, at, k, t, mirrored)
            made = [value[:, r0:r1, first : len(cols)] for value in (k, t)]
            return (r1 - r0) * (len(cols) - first), pairs, _bounds(made)

        found, bounds = [np.empty((0, 2), dtype=np.int64)], []
        bands = self._bands(len(rows), mirrored)
        for done, pairs, ends in results(self.team.pool, band, bands):
            found.append(pairs)
            bounds.append(ends)
            if progress is not None:
                progress(done)
        pairs = np.concatenate(found)
        pairs = pairs[pairs[:, 1] < len(cols)]
        ends = np.stack([np.min(bounds, axis=0)[0], np.max(bounds, axis=0)[1]])
        return k, t, pairs[np.lexsort(pairs.T[::-1])], ends

    def equal(self, rows: range, cols: range, mirrored: bool) -> Pairs:
        """(row, column) in the tile of equal inputs, of a mirrored one above its diagonal."""
        first, second = self.stores
        return equal_pairs(
            first.digests[rows.start : rows.stop], second.digests[cols.start : cols.stop], mirrored
        )

    def self_kernels(self, numbers: range | NDArray[np.int64], second: bool) -> SelfRuns:
        """Runs of vectors of x1, or of x2, with themselves."""
        return self.runner.of_squares(self.stores[second].exact_squares(numbers))

    def _bands(self, rows: int, mirrored: bool) -> Iterator[Band]:
        """Bands of a tile, the largest first; those of a mirrored one begin at the diagonal."""
        high = REGION[0]
        # Few rows: lower bands, so that every thread has some.
        while high > self.lanes and rows < _BANDS * high:
            high //= 2
        for r0 in range(0, rows, high):
            yield r0, min(r0 + high, rows), r0 if mirrored else 0

    def _band(
        self, x: Packed, y: Packed, at: Band, k: NDArray[Any], t: NDArray[Any], mirrored: bool
    ) -> Pairs:
        """Fill one band, and, of a mirrored tile, its transpose; its nearly parallel pairs."""
        r0, r1, c0 = at
        first = c0 // self.lanes
        blocks = len(y.lanes) - first
        found = np.zeros(1 + 3 * (r1 - r0) * blocks * bool(self.close), dtype=np.int64)
        whole = mirrored and (r1 - r0) % self.lanes == 0 and k.shape[1] == k.shape[2]
        turned = [v[:, c0:, r0:].ctypes.data if whole else 0 for v in (k, t)]
        with self.team.workspace() as work:
            work.link()
            ctx = work.context
            ctx[At.X] = x.lanes[r0 // self.lanes :].ctypes.data
            ctx[At.Y] = y.lanes[first:].ctypes.data
            ctx[At.X_FACTORS], ctx[At.Y_FACTORS] = x.x[r0:].ctypes.data, y.y[first:].ctypes.data
            ctx[At.OUT_K] = k[:, r0:, c0:].ctypes.data
            ctx[At.OUT_T] = t[:, r0:, c0:].ctypes.data
            ctx[At.OUT_STRIDE] = k.strides[0] // k.itemsize
            run = np.zeros(len(VectorField), dtype=np.int64)
            run[VectorField.ROWS], run[VectorField.BLOCKS] = r1 - r0, blocks
            run[VectorField.X_STEP] = x.x.shape[1]
            run[VectorField.Y_STEP] = y.y.shape[1] * self.lanes
            run[VectorField.OUT_ROW], run[VectorField.OUTPUTS] = k.shape[2], len(k)
            run[VectorField.CLOSE], run[VectorField.FOUND] = self.close, found.ctypes.data
            run[VectorField.FACTOR] = x.x.shape[1] - 1
            run[VectorField.TURN] = self.turn if whole else 0
            run[VectorField.TURNED_K], run[VectorField.TURNED_T] = turned
            entry("run_vectors")(work.at, run.ctypes.data)
        interrupts.check()
        for value in ((k,) if t is k else (k, t)) if mirrored else ():
            # A program may not be symmetric in its two inputs to the last bit.
            for square in value[:, r0:r1, r0:r1]:
                mirror_lower(square)
                np.fill_diagonal(square, 1.0)  # which is within all bounds
            if not whole:
                end = value.shape[1]
                value[:, r1:end, r0:r1] = value[:, r0:r1, r1:end].transpose(0, 2, 1)
        return self._decoded(found, r0, c0)

    def _decoded(self, found: Pairs, r0: int, c0: int) -> Pairs:
        """(row, column) in the tile of what the kernel 'close' wrote."""
        entry = found[1 : 1 + 3 * found[0]].reshape(-1, 3)
        n, lane = np.nonzero(entry[:, 2, None] >> np.arange(self.lanes) & 1)
        return np.stack([r0 + entry[n, 0], c0 + entry[n, 1] * self.lanes + lane], axis=1)


def _bounds(made: list[NDArray[Any]]) -> Bounds:
    """The smallest and the largest number (2, n, outputs) of n arrays (outputs, rows, columns)."""
    ends = [[find(value, axis=(1, 2)) for value in made] for find in (np.min, np.max)]
    return np.array(ends, dtype=np.float64)
