"""Rows of a trainability map in deviations: fully connected networks."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from widegram.meanfield.experiments.grid import Grid, Work
from widegram.meanfield.experiments.problem import Problem
from widegram.meanfield.recursion.elementwise import LayerTables, layer_tables
from widegram.meanfield.recursion.one_norm import input_deviations
from widegram.meanfield.theory.one_layer import Array, LayerMaps

# Test images whose deviations at all depths are in memory at once, per thread.
_CHUNK = 64


class FcnKernels:
    """The products of inputs that every row shares: delta of the training set with itself (m, m),
    whose diagonal is exactly 0, and of the test set with it (n, m)."""

    def __init__(self, problem: Problem, grid: Grid, threads: int) -> None:
        self._maps = LayerMaps.of(grid.act)
        self._maps.require_slope()
        self._grid, self._threads = grid, threads
        flat, flat_test = (x.reshape(len(x), -1) for x in (problem.x, problem.x_test))
        start = input_deviations(flat, flat)
        self._q, self._train = start.q, start.delta.value
        self._test = input_deviations(flat_test, flat).delta.value

    def row(self, w: float) -> FcnRow:
        """The kernels at one weight variance."""
        reach = float(max(self._train.max(), self._test.max()))
        depths = self._grid.depths
        tables = layer_tables(self._maps, w, self._grid.b_var, self._q, reach, max(depths))
        return FcnRow(self._train, self._test, tables, depths, self._threads)


@dataclass(frozen=True)
class FcnRow:
    """One w_var: ``delta_train`` (m, m) and ``delta_test`` (n, m) of the inputs, and the tables of
    its layers."""

    delta_train: Array
    delta_test: Array
    tables: LayerTables
    depths: tuple[int, ...]
    threads: int

    def train(self) -> tuple[Array, Array]:
        drops = self._run(self.delta_train)
        # Symmetric to the last bit, whatever the rounding of the products.
        drops = (drops + drops.transpose(0, 2, 1)) / 2
        return self.tables.levels[list(self.depths)], drops

    def test(self, work: Work) -> Iterator[Array]:
        n = len(self.delta_test)
        blocks = [slice(lo, min(lo + _CHUNK, n)) for lo in range(0, n, _CHUNK)]
        with ThreadPoolExecutor(self.threads) as pool:
            # In order: sums do not depend on the number of threads.
            yield from pool.map(lambda rows: work(rows, self._run(self.delta_test[rows])), blocks)

    def _run(self, delta: Array) -> Array:
        out = np.empty((len(self.depths), delta.size))
        self.tables.run(delta.reshape(-1), self.depths, out)
        return out.reshape(len(self.depths), *delta.shape)
