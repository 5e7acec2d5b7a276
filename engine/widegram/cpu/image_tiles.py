"""Tiles of networks that see images: rows against blocks of lanes, on all threads."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from widegram.backends.close_pairs import close_pairs
from widegram.backends.equal import Pairs, equal_pairs
from widegram.backends.evaluator import Advance
from widegram.backends.self_runs import SelfRuns
from widegram.cpu.images import ImageBlocks, LaneBlock, RowBlock
from widegram.cpu.kept_tables import tables_of
from widegram.cpu.kernels.variants import LANES
from widegram.cpu.self_kernels import SelfKernelPool, is_pointwise
from widegram.cpu.side_by_side import Division, PairBundles, Share, whole_blocks, with_pairs
from widegram.cpu.team import Team
from widegram.cpu.together import LITTLE, is_little, results
from widegram.cpu.workspace import Workspace, aligned
from widegram.data.scaled_rows import ScaledRows
from widegram.machine.dtypes import ITEMSIZE
from widegram.plan.formulas import FactorLayout
from widegram.plan.plan import Plan
from widegram.tiling import mirror_lower

# Element-layers that pairs side by side must save before their tables are made.
_WORTH = 1e6


class ImageTiles:
    """Computes tiles of two data sets, ``inputs``, with the workspaces of ``team``; in float32
    inputs less than twice ``angle`` apart, or opposite but for that, are nearly parallel.

    ``memory``: bytes for the images of each data set, a quarter more for their planes with
    themselves. ``check(own, rows, second)`` sees what runs of images with themselves gave, and may
    raise.
    """

    def __init__(
        self, plan: Plan, layout: FactorLayout, dtype: str, team: Team, angle: float, memory: int,
        inputs: tuple[ScaledRows, ScaledRows], check: Callable[[SelfRuns, range, bool], None],
    ) -> None:  # fmt: skip
        self.plan, self.layout, self.dtype, self.team = plan, layout, dtype, team
        self.angle, self._planes = angle, memory // 4
        self._pairs: PairBundles | None = None
        numbers = layout.total + math.prod(inputs[0].shape[1:])
        images = 2 * LANES[dtype] * (numbers + 1) * ITEMSIZE[dtype]
        self._room = team.threads * images <= memory // 4
        # Where that takes no planes, what makes the factors makes the kernels too.
        whole = is_pointwise(plan, plan.itself(True))
        runners = self._runners(whole)
        self._whole = runners if whole else None
        self._pointwise = runners.first.pointwise

        def blocks(second: bool) -> ImageBlocks:
            def seen(own: SelfRuns, rows: range) -> None:
                check(own, rows, second)

            return ImageBlocks(inputs[second], plan, runners.run, dtype, memory, seen)

        first = blocks(False)
        self.stores = first, first if inputs[1] is inputs[0] else blocks(True)

    def tile(
        self, rows: range, cols: range, mirrored: bool, progress: Advance | None
    ) -> tuple[NDArray[Any], NDArray[Any], Pairs, None]:
        """K and T, (outputs, rows, cols rounded up to whole blocks), T that of K without NTK; and
        (row, column) of nearly parallel pairs. Bounds of the values are not known.

        ``mirrored``: rows and columns are the same inputs; one half is computed and mirrored.
        """
        # Factors that need no planes come with the kernels, which a mirrored tile needs too.
        itself = self._runs_whole().run if mirrored and self._pointwise else None
        row_block = self.stores[0].rows(rows.start, rows.stop, itself)
        lane_block = self.stores[1].lanes(cols.start, cols.stop)
        lanes = LANES[self.dtype]
        shape = len(self.plan.outputs), len(rows), len(lane_block.y) * lanes
        k = aligned(shape, self.dtype)
        t = aligned(shape, self.dtype) if self.plan.ntk else k
        filled = _Filled(row_block, lane_block, k, t)

        def run(share: Share) -> int:
            with self.team.workspace() as work:
                if share.block is None:
                    assert self._pairs is not None
                    return filled.pairs(work, self._pairs, share.which)
                work.use(self.team.tables, False)
                full = min(lanes, len(cols) - share.block * lanes)
                return full * filled.rows(work, share.block, share.which)

        division = self._division(len(rows), len(cols), mirrored)
        work = division.bundles(lanes) * lanes * self.plan.element_layers
        # A few for every thread, fewer of what takes no time.
        shares = division.shares(lanes, min(4 * self.team.threads, 1 + int(work / LITTLE)))
        here = is_little(work, self.team.threads)
        for done in results(self.team.pool, run, shares, here):
            if progress is not None:
                progress(done)
        pairs = np.empty((0, 2), dtype=np.int64)
        if self.dtype == "float32":
            pairs = close_pairs(row_block.sketch, lane_block.sketch, self.angle)
        if mirrored:
            for value in (k,) if t is k else (k, t):
                for one in value:
                    mirror_lower(one[:, : len(cols)])
        return k, t, pairs, None

    def _division(self, rows: int, cols: int, mirrored: bool) -> Division:
        """Which entries of a tile are computed how."""
        lanes = LANES[self.dtype]
        whole = whole_blocks(rows, cols, lanes, mirrored)
        if not self._room:
            return whole
        parted = with_pairs(rows, cols, lanes, mirrored)
        saved = whole.bundles(lanes) - parted.bundles(lanes)
        if self._pairs is None and saved * lanes * self.plan.element_layers > _WORTH:
            tables = tables_of(self.plan, self.plan.cross, self.layout, self.dtype, paired=True)
            self._pairs = PairBundles(tables, len(self.plan.outputs), self.dtype)
        return parted if self._pairs is not None and saved > 0 else whole

    def equal(self, rows: range, cols: range, mirrored: bool) -> Pairs:
        """(row, column) in the tile of equal inputs, of a mirrored one above its diagonal."""
        row_block = self.stores[0].rows(rows.start, rows.stop)
        lane_block = self.stores[1].lanes(cols.start, cols.stop)
        return equal_pairs(row_block.digests, lane_block.digests, mirrored)

    def self_kernels(self, numbers: range | NDArray[np.int64], second: bool) -> SelfRuns:
        """Runs of images of x1, or of x2, with themselves."""
        whole, blocks = self._runs_whole(), self.stores[second]
        if isinstance(numbers, range):
            return whole.run(blocks.read(numbers.start, numbers.stop))
        return whole.run(np.concatenate([blocks.read(n, n + 1) for n in numbers]))

    def _runs_whole(self) -> SelfKernelPool:
        """What makes the kernels of images with themselves."""
        self._whole = self._whole or self._runners(True)
        return self._whole

    def _runners(self, outputs: bool) -> SelfKernelPool:
        return SelfKernelPool(
            self.plan, self.layout, outputs, self.dtype, self.team.pool, self.team.threads,
            self._planes,
        )  # fmt: skip


@dataclass(frozen=True)
class _Filled:
    """A tile under way: its images, K and T (outputs, rows, columns), T that of K without NTK."""

    x: RowBlock
    y: LaneBlock
    k: NDArray[Any]
    t: NDArray[Any]

    def rows(self, work: Workspace, block: int, which: NDArray[np.int64]) -> int:
        """Fill some rows of a block of lanes; their number."""
        lanes = self.y.y.shape[-1]
        out = slice(block * lanes, (block + 1) * lanes)
        work.run_bundles(
            self.x.x, self.x.factors, self.y.y[block], self.y.factors[block],
            self.k[:, :, out], self.t[:, :, out], which,
        )  # fmt: skip
        return len(which)

    def pairs(self, work: Workspace, bundles: PairBundles, some: Pairs) -> int:
        """Fill some entries; their number."""
        k, t = bundles.run(work, self.x, self.y, some)
        i, j = some.T
        self.k[:, i, j] = k
        if self.t is not self.k:
            self.t[:, i, j] = t
        return len(some)
