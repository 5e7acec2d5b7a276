"""Tiles of networks that see images: rows against blocks of lanes, on all threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from widegram.backends.close_pairs import close_pairs
from widegram.backends.equal import Pairs, equal_pairs
from widegram.backends.evaluator import Advance
from widegram.backends.self_runs import Own
from widegram.cpu.images import ImageBlocks
from widegram.cpu.kernels.variants import LANES
from widegram.cpu.self_kernels import SelfKernelPool, is_pointwise
from widegram.cpu.team import Team
from widegram.cpu.together import results
from widegram.cpu.workspace import aligned
from widegram.data.scaled_rows import ScaledRows
from widegram.plan.formulas import FactorLayout
from widegram.plan.plan import Plan
from widegram.tiling import mirror_lower


class ImageTiles:
    """Computes tiles of two data sets, ``inputs``, with the workspaces of ``team``; in float32
    inputs less than twice ``angle`` apart, or opposite but for that, are nearly parallel.

    ``memory``: bytes for the images of each data set, a quarter more for their planes with
    themselves. ``check(own, rows, second)`` sees what runs of images with themselves gave, and may
    raise.
    """

    def __init__(
        self, plan: Plan, layout: FactorLayout, dtype: str, team: Team, angle: float, memory: int,
        inputs: tuple[ScaledRows, ScaledRows], check: Callable[[Own, range, bool], None],
    ) -> None:  # fmt: skip
        self.plan, self.layout, self.dtype, self.team = plan, layout, dtype, team
        self.angle, self._planes = angle, memory // 4
        # Where that takes no planes, what makes the factors makes the kernels too.
        whole = is_pointwise(plan, plan.itself(True))
        runners = self._runners(whole)
        self._whole = runners if whole else None

        def blocks(second: bool) -> ImageBlocks:
            def seen(own: Own, rows: range) -> None:
                check(own, rows, second)

            return ImageBlocks(inputs[second], plan, runners.run, dtype, memory, seen)

        first = blocks(False)
        self.stores = first, first if inputs[1] is inputs[0] else blocks(True)

    def tile(
        self, rows: range, cols: range, mirrored: bool, progress: Advance | None
    ) -> tuple[NDArray[Any], NDArray[Any], Pairs]:
        """K and T, (outputs, rows, cols rounded up to whole blocks), T that of K without NTK; and
        (row, column) of nearly parallel pairs.

        ``mirrored``: rows and columns are the same inputs; one half is computed and mirrored.
        """
        row_block = self.stores[0].rows(rows.start, rows.stop)
        lane_block = self.stores[1].lanes(cols.start, cols.stop)
        lanes = LANES[self.dtype]
        shape = len(self.plan.outputs), len(rows), len(lane_block.y) * lanes
        k = aligned(shape, self.dtype)
        t = aligned(shape, self.dtype) if self.plan.ntk else k

        def bundles(block: int, which: NDArray[np.int64]) -> int:
            out = slice(block * lanes, (block + 1) * lanes)
            with self.team.workspace() as work:
                work.run_bundles(
                    row_block.x, row_block.factors, lane_block.y[block],
                    lane_block.factors[block], k[:, :, out], t[:, :, out], which,
                )  # fmt: skip
            return len(which) * min(lanes, len(cols) - block * lanes)

        jobs = [
            self.team.pool.submit(bundles, block, which)
            for block, which in _jobs(
                len(rows), len(lane_block.y), lanes, mirrored, self.team.threads
            )
        ]
        for done in results(jobs):
            if progress is not None:
                progress(done)
        pairs = np.empty((0, 2), dtype=np.int64)
        if self.dtype == "float32":
            pairs = close_pairs(row_block.sketch, lane_block.sketch, self.angle)
        if mirrored:
            for value in (k,) if t is k else (k, t):
                for one in value:
                    mirror_lower(one[:, : len(cols)])
        return k, t, pairs

    def equal(self, rows: range, cols: range) -> Pairs:
        """(row, column) in the tile of equal inputs."""
        row_block = self.stores[0].rows(rows.start, rows.stop)
        return equal_pairs(row_block.digests, self.stores[1].lanes(cols.start, cols.stop).digests)

    def self_kernels(self, numbers: range | NDArray[np.int64], second: bool) -> Own:
        """Runs of images of x1, or of x2, with themselves."""
        self._whole = self._whole or self._runners(True)
        blocks = self.stores[second]
        if isinstance(numbers, range):
            return self._whole.run(blocks.read(numbers.start, numbers.stop))
        return self._whole.run(np.concatenate([blocks.read(n, n + 1) for n in numbers]))

    def _runners(self, outputs: bool) -> SelfKernelPool:
        return SelfKernelPool(
            self.plan, self.layout, outputs, self.dtype, self.team.pool, self.team.threads,
            self._planes,
        )  # fmt: skip


def _jobs(
    n_rows: int, blocks: int, lanes: int, mirrored: bool, threads: int
) -> list[tuple[int, NDArray[np.int64]]]:
    """(lane block, rows) of roughly equal cost, a few for every thread, the largest first.

    A mirrored tile needs the rows up to the last column of each block only.
    """
    parts = max(1, -(-4 * threads // blocks))
    jobs = []
    for block in range(blocks):
        count = min(n_rows, (block + 1) * lanes) if mirrored else n_rows
        for which in np.array_split(np.arange(count, dtype=np.int64), min(parts, count)):
            jobs.append((block, which))
    return sorted(jobs, key=lambda job: -len(job[1]))
