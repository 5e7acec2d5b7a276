"""Vector inputs, packed for inner products, with their mean squares and factors."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from widegram.backends.equal import digests
from widegram.backends.self_runs import SelfRuns
from widegram.cpu.kernels import compiled
from widegram.cpu.kernels.fields import Geometry
from widegram.cpu.kernels.variants import LANES, Variant
from widegram.cpu.workspace import aligned
from widegram.data.masked import is_masked, kept
from widegram.data.scaled_rows import ScaledRows
from widegram.machine import interrupts
from widegram.machine.byte_cache import ByteCache

_READ = 256
_FAR = 1e18


@dataclass(frozen=True)
class Packed:
    """Inputs lo to hi: ``lanes`` (blocks, D, lanes) as in :mod:`~widegram.cpu.kernels.inner_ir`,
    and the factors of each: ``x`` (n, F + 1), and in blocks ``y`` (blocks, F + 1, lanes). Factor F
    is the root of a cosine times the mean square, so that products of two bound what is nearly
    parallel.
    """

    lanes: NDArray[Any]
    x: NDArray[Any]
    y: NDArray[Any]

    @property
    def nbytes(self) -> int:
        return int(self.lanes.nbytes + self.x.nbytes + self.y.nbytes)


class VectorInputs:
    """One data set. ``squares`` (n,): <x, x> / D of every input, float64, 1 / D as in ``dtype``,
    marked where all of an input is masked (:mod:`widegram.data.masked`);
    ``digests``: see :mod:`~widegram.backends.equal`.

    All inputs are read once when this is made, and stay packed if that takes at most half of
    ``memory`` bytes; blocks that are asked for are kept while they fit into the rest. ``check``
    sees what runs of a block's inputs with themselves gave, and may raise.
    """

    def __init__(
        self, source: ScaledRows, dtype: str, memory: int, pool: ThreadPoolExecutor
    ) -> None:
        self.check: Callable[[SelfRuns, range], None] = lambda own, rows: None
        self.source, self.dtype, self.memory, self.pool = source, dtype, memory, pool
        self.n, self.features = source.shape[0], int(np.prod(source.shape[1:]))
        self.lanes = LANES[dtype]
        self.squares = np.empty(self.n)
        self.digests = np.empty((self.n, 2), dtype=np.uint64)
        self._kept: ByteCache[tuple[int, int], Packed] = ByteCache(memory // 2)
        self._pack = _function(Variant("pack", "none", False, False, dtype))
        blocks = -(-self.n // self.lanes)
        whole = blocks * self.lanes * self.features * np.dtype(dtype).itemsize <= memory // 2
        self._all = self._packed(0, self.n, self.squares) if whole else None
        if not whole:
            for lo in range(0, self.n, _READ):
                hi = min(lo + _READ, self.n)
                self._packed(lo, hi, self.squares[lo:hi])

    def block(
        self, lo: int, hi: int, itself: Callable[[NDArray[np.float64]], SelfRuns], cosine: float
    ) -> Packed:
        """Inputs lo to hi - 1 with the factors that ``itself`` gives their mean squares; inputs of
        a larger ``cosine`` are nearly parallel."""
        found = self._kept.find((lo, hi))
        if found is not None:
            return found
        if self._all is not None and lo % self.lanes == 0:
            lanes = self._all[lo // self.lanes : -(-hi // self.lanes)]
        else:
            lanes = self._packed(lo, hi, np.empty(hi - lo))
        own = itself(self.squares[lo:hi])
        self.check(own, range(lo, hi))
        x = own.factors
        x[:, -1] = np.sqrt(cosine * self.squares[lo:hi])
        x[self.squares[lo:hi] == 0, -1] = _FAR
        index = np.minimum(np.arange(len(lanes) * self.lanes), hi - lo - 1)
        y = aligned((len(lanes), x.shape[1], self.lanes), self.dtype)
        y[...] = x[index].reshape(len(lanes), self.lanes, -1).transpose(0, 2, 1)
        return self._kept.keep((lo, hi), Packed(lanes, x, y))

    def kept(self, tile: int, factors: int) -> int:
        """How many blocks of ``tile`` inputs with so many factors are kept."""
        padded = -(-tile // self.lanes) * self.lanes
        numbers = padded * (self.features + factors + 1) + tile * (factors + 1)
        return self.memory // 2 // (numbers * np.dtype(self.dtype).itemsize)

    def exact_squares(self, rows: range | NDArray[np.int64]) -> NDArray[np.float64]:
        """<x, x> / D of some inputs with an exact 1 / D."""
        gain = float(np.dtype(self.dtype).type(1.0 / self.features))
        return self.squares[np.asarray(rows)] / (gain * self.features)

    def _packed(self, lo: int, hi: int, squares: NDArray[np.float64]) -> NDArray[Any]:
        """Inputs in blocks of lanes; their mean squares go to ``squares``."""
        lanes = aligned((-(-(hi - lo) // self.lanes), self.features, self.lanes), self.dtype)
        masked = np.zeros(hi - lo, dtype=np.bool_)
        jobs = []
        for begin in range(lo, hi, _READ):
            interrupts.check()
            end = min(begin + _READ, hi)
            x = self.source.read(begin, end).reshape(end - begin, -1)
            with np.errstate(over="ignore"):  # The squares show it.
                part = np.ascontiguousarray(x, dtype=self.dtype)
            if self.source.marked:
                masked[begin - lo : end - lo] = is_masked(x).all(axis=1)
                part = kept(part.copy(), x)
            to = slice((begin - lo) // self.lanes, -(-(end - lo) // self.lanes))
            squares_to = squares[begin - lo : end - lo]
            jobs.append(self.pool.submit(self._pack_rows, part, begin, lanes[to], squares_to))
        for job in jobs:
            job.result()
        squares[masked] = -0.0
        return lanes

    def _pack_rows(
        self, x: NDArray[Any], begin: int, lanes: NDArray[Any], squares: NDArray[np.float64]
    ) -> None:
        self.digests[begin : begin + len(x)] = digests(x, self.source.marked)
        geometry = np.zeros(len(Geometry), dtype=np.int64)
        geometry[Geometry.IN_ROW] = geometry[Geometry.COUNT] = self.features
        gain = np.array([1.0 / self.features, *[0.0] * 7], dtype=self.dtype)
        found = np.empty(self.lanes)
        for n, block in enumerate(lanes):
            rows = x[n * self.lanes : (n + 1) * self.lanes]
            geometry[Geometry.ROWS] = len(rows)
            self._pack(
                geometry.ctypes.data, gain.ctypes.data, rows.ctypes.data, 0,
                block.ctypes.data, found.ctypes.data, 0, 0,
            )  # fmt: skip
            squares[n * self.lanes : (n + 1) * self.lanes] = found[: len(rows)]


def _function(variant: Variant) -> Any:
    """A compiled kernel as a Python function, which lets other threads run."""
    return ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 8)(compiled.address(variant))
