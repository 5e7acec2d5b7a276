"""Tiles of kernel matrices on all cores."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
from numpy.typing import NDArray

from widegram.backends.evaluator import Advance, Cost, Tile
from widegram.backends.job import Job
from widegram.backends.planned import Numbers, PlannedEvaluator, RawTile
from widegram.backends.self_runs import SelfRuns
from widegram.closing import ClosedOnFailure
from widegram.cpu.image_tiles import ImageTiles
from widegram.cpu.kept_tables import tables_of
from widegram.cpu.pairs import PairRunner
from widegram.cpu.self_kernels import SelfKernelRunner
from widegram.cpu.team import Team
from widegram.cpu.vector_tiles import VectorTiles
from widegram.cpu.vectors import VectorInputs
from widegram.data.scaled_rows import InputVariances, ScaledRows, input_variances, scaled_rows
from widegram.machine.cores import usable_cores
from widegram.machine.dtypes import ITEMSIZE
from widegram.network.patterns import pattern_of
from widegram.plan.formulas import choose_formulas, factor_layout
from widegram.plan.graph import build_graph, is_vector
from widegram.plan.plan import build
from widegram.plan.scales import degrees

Packed = tuple[VectorInputs, VectorInputs]
# Squares of float32 numbers are exact enough within this.
_GOOD = 1e20
# Tiles of vectors take milliseconds: with two at once no thread waits for another's last band.
_VECTOR_TILES = 2


class CpuEvaluator(PlannedEvaluator):
    """The CPU backend: planned planes, every tile shared by the job's threads.

    A quarter of the job's memory is for working memory, a quarter for the images of each data set.
    Where there are several threads they share two tiles of vectors, else one tile. Results are the
    same bits for any thread count and any tile.

    Raises WidegramError where the budget does not hold one thread's planes, or an activation cannot
    be computed at the inputs' variances; :class:`DoubleNeeded` where it can be in float64.
    """

    stoppable = True

    def __init__(self, job: Job) -> None:
        threads = job.threads or usable_cores()
        self._pool = ThreadPoolExecutor(threads)
        with ClosedOnFailure(self):
            self._plan(job, threads)

    def _plan(self, job: Job, threads: int) -> None:
        """Everything but the threads."""
        arguments = job.network, job.kernels, job.depths or None
        own = max(degrees(build_graph(job.network, job.depths or None)) or (0,))
        pattern = pattern_of(job.network)
        inputs = scaled_rows(job.x1, job.x2, own, pattern=pattern)
        packed = self._packed(inputs, job) if is_vector(job.network) else None
        found = _variances_of(inputs, packed)
        plan = build(*arguments, job.dtype, largest=found.largest, received=found.received)
        if plan.input_exponent:
            inputs = scaled_rows(job.x1, job.x2, 0, plan.input_exponent, pattern)
            packed = packed and self._packed(inputs, job)
        formulas = choose_formulas(plan, found.largest, job.dtype, job.accept, found.zeros)
        super().__init__(job, plan, formulas, found.largest, inputs, PairRunner(job, found, plan))
        self.layout = factor_layout(plan, formulas)
        numbers = self.layout.total + math.prod(job.x1.shape[1:])
        self.cost = Cost(float(plan.element_layers), numbers * ITEMSIZE[job.dtype])
        self.tables = tables_of(plan, plan.cross, self.layout, job.dtype, paired=False)
        memory = job.memory // 4
        self._team = Team(self._pool, self.tables, job.dtype, threads, memory)
        self.workers = _VECTOR_TILES if packed and self.threads > 1 else 0
        self._tiles = self._vectors(packed) if packed else ImageTiles(
            plan, self.layout, job.dtype, self._team, self.angle, memory, inputs, self.check
        )  # fmt: skip

    @property
    def threads(self) -> int:
        """How many threads share a tile."""
        return self._team.threads

    def tile(
        self, rows: range, cols: range, symmetric: bool, progress: Advance | None = None
    ) -> Tile:
        mirrored = symmetric and rows == cols
        k, t, close, bounds = self._tiles.tile(rows, cols, mirrored, progress)
        equal = np.empty((0, 2), dtype=np.int64)
        if self.exact:
            equal = self._tiles.equal(rows, cols, mirrored)
        return self.finished(RawTile(k, t, equal, close, bounds), rows, cols, mirrored)

    def columns_kept(self, tile: int, rows: int) -> int:
        stores = self._tiles.stores
        first, second = (store.kept(tile, self.layout.total) for store in stores)
        if stores[0] is stores[1]:
            return second - 2 * rows - 1
        return second if first > rows else 0

    def self_kernels(self, numbers: Numbers, second: bool) -> SelfRuns:
        return self._tiles.self_kernels(numbers, second)

    def some(self, numbers: list[int], second: bool) -> NDArray[np.float64]:
        rows = [self.inputs[second].whole(n, n + 1).astype(np.float64) for n in numbers]
        x = np.concatenate(rows)
        return x.reshape(len(x), 1, 1, -1) if self.plan.vector else x

    def close(self) -> None:
        self._pool.shutdown()

    def _packed(self, inputs: tuple[ScaledRows, ScaledRows], job: Job) -> Packed:
        """Vectors, packed for inner products."""
        first = second = VectorInputs(inputs[0], job.dtype, job.memory // 4, self._pool)
        if inputs[1] is not inputs[0]:
            second = VectorInputs(inputs[1], job.dtype, job.memory // 4, self._pool)
        return first, second

    def _vectors(self, packed: Packed) -> VectorTiles:
        for store, second in zip(packed, (False, True), strict=True):
            store.check = partial(self.readout.check_inputs, second=second)
        # Factors and diagonals of vectors take numbers, not planes: one runner makes both.
        runner = SelfKernelRunner(self.plan, self.layout, True, self.dtype)
        return VectorTiles(self.plan, self.dtype, packed, runner, self._team, self.angle)


def _variances_of(inputs: tuple[ScaledRows, ScaledRows], packed: Packed | None) -> InputVariances:
    """The variances in all inputs; of vectors from the squares that packing has made, where those
    of the dtype are good."""
    if packed is not None:
        found = InputVariances.of(np.concatenate([v.squares for v in packed]))
        if 1 / _GOOD < found.largest < _GOOD:
            return found
    return input_variances(inputs, packed is not None)
