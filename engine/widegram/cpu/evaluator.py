"""Tiles of kernel matrices on all cores."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from queue import SimpleQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray

from widegram.backends.close_pairs import close_pairs, nearest_computed
from widegram.backends.equal import equal_pairs, is_exact, without
from widegram.backends.own import Own
from widegram.backends.readout import Readout
from widegram.cpu.images import ImageBlocks
from widegram.cpu.kernels.vector_ops import LANES
from widegram.cpu.pairs import PairRunner
from widegram.cpu.self_kernels import ItselfRunner
from widegram.cpu.self_kernels_pool import ItselfPool
from widegram.cpu.tables import encode
from widegram.cpu.together import results
from widegram.cpu.vector_tiles import VectorTiles
from widegram.cpu.vectors import VectorInputs
from widegram.cpu.workspace import Workspace, aligned
from widegram.data.scaled_rows import Rows, Spread, scaled_rows, spread
from widegram.errors import WidegramError
from widegram.machine.cores import usable_cores
from widegram.machine.dtypes import ITEMSIZE
from widegram.machine.log import logger
from widegram.machine.memory import PROGRAM, format_size
from widegram.network.model import Network
from widegram.plan.closeness import NEAREST
from widegram.plan.formulas import choose_formulas, factor_layout, series_error
from widegram.plan.graph import build_graph, is_vector
from widegram.plan.plan import Plan, build
from widegram.plan.precision import SERIES_ACCEPTED
from widegram.plan.scales import degrees
from widegram.tiling import mirror_lower

Progress = Callable[[int], None]
_READ = 256
# Relative errors beyond which values of activations without a closed form are announced.
_PROMISED = {"float32": 1e-5, "float64": 1e-9}
# Squares of float32 numbers are exact enough within this.
_GOOD = 1e20


class CpuEvaluator:
    """The CPU backend: planned planes, every tile shared by ``threads`` threads.

    ``x1``, ``x2``: inputs by row (``x2`` None: the symmetric matrix of x1). ``get``: 'nngp' and/or
    'ntk'; ``depths`` of a sweep, () without one; ``dtype`` 'float32' or 'float64'; ``threads``
    None for all cores that may be used; ``memory`` bytes for working memory and blocks of images;
    ``accept``: the relative error of a Hermite series that is accepted.

    ``entry_cost``: element-layers of one entry; ``image_bytes``: memory that one image of a tile
    takes. ``series_error``: the relative error of activations by Hermite series (see
    :func:`~widegram.plan.formulas.series_error`), None without them.

    Results are the same bits for any thread count and any tile. A stop ends a tile early
    (``stoppable``), with :class:`widegram.machine.interrupts.Stopped`.

    Raises:
        WidegramError: the budget does not hold one thread's planes, or an activation cannot be
            computed at the inputs' variances.
        DoubleNeeded: it can be in float64.
    """

    stoppable = True

    def __init__(
        self,
        network: Network,
        x1: Rows,
        x2: Rows | None,
        get: Sequence[str],
        depths: Sequence[int],
        dtype: str,
        threads: int | None = None,
        memory: int = 2**32,
        accept: float = SERIES_ACCEPTED,
    ) -> None:
        self.dtype, self.symmetric = dtype, x2 is None
        self._pool = ThreadPoolExecutor(threads or usable_cores())
        arguments = network, tuple(get), tuple(depths) or None
        own = degrees(build_graph(network, arguments[2])) is not None
        self._inputs = scaled_rows(x1, x2, own)
        vectors = self._packed(memory // 4) if is_vector(network) else None
        found = self._spread(vectors)
        self.plan: Plan = build(*arguments, dtype, largest=found.largest)
        if self.plan.input_exponent:
            self._inputs = scaled_rows(x1, x2, False, self.plan.input_exponent)
            vectors = vectors and self._packed(memory // 4)
        self.keys = tuple(key for key, _, _ in self.plan.keys)
        self.entry_cost = float(self.plan.element_layers)
        self._pair_runner: PairRunner | None = None
        self._pair_arguments = (*arguments, found.largest, found.zeros, self.plan)
        formulas = choose_formulas(self.plan, found.largest, dtype, accept, found.zeros)
        self.angle = NEAREST
        if dtype == "float32":
            self.angle = nearest_computed(self.plan, formulas, found.largest, *self._inputs)
        self._exact = is_exact(self.plan)
        self.series_error = series_error(formulas)
        warn_of_series(self.series_error, dtype)
        self.layout = factor_layout(self.plan, formulas)
        self.image_bytes = (self.layout.total + math.prod(x1.shape[1:])) * ITEMSIZE[dtype]
        self.tables = encode(self.plan, self.plan.cross, self.layout, dtype, paired=False)
        self._workspaces: SimpleQueue[Workspace] = SimpleQueue()
        self.threads = self._make_workspaces(threads or usable_cores(), memory // 4)
        self._vectors: VectorTiles | None = None
        self._diagonal: ItselfPool | None = None
        self._itself_memory = memory // 16
        self.readout = Readout(self.plan, dtype, self._inputs, self._itself_of)
        if vectors is not None:
            for store, second in zip(vectors, (False, True), strict=True):
                store.check = partial(self.readout.check_inputs, second=second)
            # Factors and diagonals of vectors take numbers, not planes: one runner makes both.
            self._itself = ItselfRunner(self.plan, self.layout, True, dtype)
            self._vectors = VectorTiles(
                self.plan, dtype, vectors, self._itself, self._workspaces, self._pool, self.angle
            )
            return
        runners = self._runners(False)
        self.blocks1 = self.blocks2 = self._blocks(False, runners, memory // 4)
        if x2 is not None:
            self.blocks2 = self._blocks(True, runners, memory // 4)

    def tile(
        self, rows: range, cols: range, symmetric: bool, progress: Progress | None = None
    ) -> dict[str, NDArray[Any]]:
        """Arrays (len(rows), len(cols)) for every key; see
        :class:`widegram.backends.choosing.Evaluator`."""
        mirrored = symmetric and rows == cols
        if self._vectors is not None:
            k, t, pairs = self._vectors.tile(rows, cols, mirrored, progress)
        else:
            k, t, pairs = self._image_tile(rows, cols, mirrored, progress)
        equal = self._equal_pairs(rows, cols)
        pairs = without(pairs, equal, len(cols))
        if mirrored:
            pairs, equal = (found[found[:, 0] < found[:, 1]] for found in (pairs, equal))
        if len(pairs):
            self._double(pairs, rows, cols, k, t, mirrored)
        if len(equal):
            self._repeat(equal, rows, k, t, mirrored)
        own = self.own_kernels(rows) if mirrored else {}
        whole = {"nngp": k[:, :, : len(cols)], "ntk": t[:, :, : len(cols)]}
        found = self.readout.kernels(whole, rows, cols)
        for key, n, kernel in self.plan.keys:
            if mirrored:
                np.fill_diagonal(found[key], own[kernel][n])
            # One tile's arrays may be handed on as they are, but not a part of a wider one.
            found[key] = np.ascontiguousarray(found[key])
        return found

    def columns_kept(self, tile: int, rows: int) -> int:
        """See :class:`widegram.backends.choosing.Evaluator`."""
        stores = self._vectors.inputs if self._vectors else (self.blocks1, self.blocks2)
        first, second = (store.kept(tile, self.layout.total) for store in stores)
        if stores[0] is stores[1]:
            return second - 2 * rows - 1
        return second if first > rows else 0

    def _image_tile(
        self, rows: range, cols: range, mirrored: bool, progress: Progress | None
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.int64]]:
        """K, T (outputs, rows, columns and some more) and nearly parallel pairs of images."""
        row_block = self.blocks1.rows(rows.start, rows.stop)
        lane_block = self.blocks2.lanes(cols.start, cols.stop)
        lanes = LANES[self.dtype]
        kinds, width = len(self.plan.outputs), len(lane_block.y) * lanes
        k = aligned((kinds, len(rows), width), self.dtype)
        t = aligned((kinds, len(rows), width), self.dtype) if self.plan.ntk else k

        def strip(block: int, which: NDArray[np.int64]) -> int:
            work = self._workspaces.get()
            try:
                out = slice(block * lanes, (block + 1) * lanes)
                work.run_strips(
                    row_block.x, row_block.factors, lane_block.y[block],
                    lane_block.factors[block], k[:, :, out], t[:, :, out], which, which,
                )  # fmt: skip
            finally:
                self._workspaces.put(work)
            return len(which) * min(lanes, len(cols) - block * lanes)

        jobs = [
            self._pool.submit(strip, b, w)
            for b, w in _jobs(len(rows), len(lane_block.y), lanes, mirrored, self.threads)
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

    def own_kernels(self, rows: range) -> dict[str, NDArray[np.float64]]:
        """Kernels of the images ``rows`` of x1 with themselves, (outputs, n), in float64."""
        own = self._itself_of(rows, False)
        self.readout.check_inputs(own, rows, False)
        return self.readout.own(own.kernels, rows)

    def _itself_of(self, rows: range | NDArray[np.int64], second: bool) -> Own:
        """Runs of images of x1, or of x2, with themselves."""
        if self._vectors is not None:
            inputs = self._vectors.inputs[second]
            return self._itself.of_squares(inputs.exact_squares(rows))
        self._diagonal = self._diagonal or self._runners(True)
        blocks = self.blocks2 if second else self.blocks1
        if isinstance(rows, range):
            return self._diagonal.run(blocks.read(rows.start, rows.stop))
        return self._diagonal.run(np.concatenate([blocks.read(n, n + 1) for n in rows]))

    def _blocks(self, second: bool, runners: ItselfPool, memory: int) -> ImageBlocks:
        def check(own: Own, rows: range) -> None:
            if own.lost.any():
                # Something is outside the range on the way: see what is left of it in the end.
                self.readout.check_inputs(self._itself_of(rows, second), rows, second)

        return ImageBlocks(self._inputs[second], runners, self.dtype, memory, check)

    def _equal_pairs(self, rows: range, cols: range) -> NDArray[np.int64]:
        """(row, column) in the tile of inputs that are equal, where that decides their kernel."""
        if not self._exact:
            return np.empty((0, 2), dtype=np.int64)
        if self._vectors is not None:
            first, second = self._vectors.inputs
            return equal_pairs(
                first.digests[rows.start : rows.stop], second.digests[cols.start : cols.stop]
            )
        row_block = self.blocks1.rows(rows.start, rows.stop)
        return equal_pairs(row_block.digests, self.blocks2.lanes(cols.start, cols.stop).digests)

    def _repeat(
        self, equal: NDArray[np.int64], rows: range, k: NDArray[Any], t: NDArray[Any],
        mirrored: bool,
    ) -> None:  # fmt: skip
        """Give pairs of equal inputs the kernel of one with itself."""
        i, j = equal.T
        which, at = np.unique(i, return_inverse=True)
        own = self._itself_of(rows.start + which, False).kernels
        for kernel, to in (("nngp", k), ("ntk", t))[: 1 + self.plan.ntk]:
            to[:, i, j] = own[kernel][:, at]
            if mirrored:
                to[:, j, i] = own[kernel][:, at]

    def _runners(self, outputs: bool) -> ItselfPool:
        return ItselfPool(
            self.plan, self.layout, outputs, self.dtype, self._pool, self.threads,
            self._itself_memory,
        )  # fmt: skip

    def _packed(self, memory: int) -> tuple[VectorInputs, VectorInputs]:
        """Vectors, packed for inner products."""
        x1, x2 = self._inputs
        first = second = VectorInputs(x1, self.dtype, memory, self._pool)
        if x2 is not x1:
            second = VectorInputs(x2, self.dtype, memory, self._pool)
        return first, second

    def _spread(self, vectors: tuple[VectorInputs, VectorInputs] | None) -> Spread:
        """That of all inputs; of vectors from the squares that packing has made, where those of
        the dtype are good."""
        if vectors is not None:
            found = Spread.of(np.concatenate([v.squares for v in vectors]))
            if 1 / _GOOD < found.largest < _GOOD:
                return found
        return spread(self._inputs, vectors is not None)

    def _double(
        self, pairs: NDArray[np.int64], rows: range, cols: range, k: NDArray[Any],
        t: NDArray[Any], mirrored: bool,
    ) -> None:  # fmt: skip
        """Replace pairs of nearly parallel inputs by their values in float64."""
        x1, x2 = self._inputs
        if self._pair_runner is None:
            self._pair_runner = PairRunner(*self._pair_arguments)
        for lo in range(0, len(pairs), _READ):
            i, j = pairs[lo : lo + _READ].T
            x = np.concatenate([self._image(x1, rows[a]) for a in i])
            y = np.concatenate([self._image(x2, cols[b]) for b in j])
            found = self._pair_runner.run(x, y)
            for value, to in zip(found, (k, t) if self.plan.ntk else (k,), strict=False):
                to[:, i, j] = value
                if mirrored:
                    to[:, j, i] = value

    def _image(self, source: Rows, n: int) -> NDArray[np.float64]:
        """One input (1, h, w, C); vectors (1, 1, 1, D)."""
        x = source.read(n, n + 1).astype(np.float64)
        return x.reshape(1, 1, 1, -1) if self.plan.vector else x

    def _make_workspaces(self, threads: int, memory: int) -> int:
        size = Workspace.bytes(self.tables, self.dtype)
        if size > memory:
            raise WidegramError(
                f"memory: the planes of {LANES[self.dtype]} pairs of this network take "
                f"{format_size(size)}, a quarter of what is left for arrays is "
                f"{format_size(memory)}; give at least --memory {format_size(PROGRAM + 4.1 * size)}"
            )
        threads = min(threads, memory // max(size, 1))
        for _ in range(threads):
            self._workspaces.put(Workspace(self.tables, self.dtype))
        return threads


def warn_of_series(error: float | None, dtype: str) -> None:
    """A message where activations without a closed form miss what ``dtype`` promises."""
    if error is not None and error > _PROMISED[dtype]:
        logger.warning(
            "an activation without a closed form has a relative error of up to %.1e", error
        )


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
