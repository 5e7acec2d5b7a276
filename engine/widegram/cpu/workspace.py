"""The buffers of one thread, and calls into the compiled driver."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from widegram.cpu.driver.context import CONTEXT, At
from widegram.cpu.driver.entries import address, entry
from widegram.cpu.driver.fields import Ints, Kind, ProgramField, StepField
from widegram.cpu.kernels.fields import POOL_FEEDS, Cell, Geometry, PoolFeed
from widegram.cpu.kernels.variants import LANES
from widegram.machine import interrupts
from widegram.machine.dtypes import ITEMSIZE

if TYPE_CHECKING:
    from widegram.cpu.tables import Linked, Tables

ALIGNMENT = 64
Arrays = tuple[NDArray[Any], NDArray[Any]]
_KEPT = (Kind.COPY, Kind.POOL, Kind.REDUCE, Kind.COUNT)


def aligned(shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """An uninitialised array whose first element stands on a cache line."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    raw = np.empty(size + ALIGNMENT, dtype=np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + size].view(dtype).reshape(shape)


class Workspace:
    """Scratch planes, stores and the context for one thread; not to be shared by threads."""

    def __init__(self, tables: Tables, dtype: str, paired: bool = False) -> None:
        self.scratch = aligned((max(tables.scratch, 1),), dtype)
        self.buffer = aligned((max(tables.buffer, 1),), dtype)
        self.sums = aligned((max(tables.sums + tables.kept // 8, 8),), np.float64)
        self.geometry = np.zeros(len(Geometry), dtype=np.int64)
        self.some = np.zeros(len(Cell), dtype=np.int64)
        self.feeds = np.zeros((POOL_FEEDS, len(PoolFeed)), dtype=np.int64)
        self.context = np.zeros(CONTEXT, dtype=np.int64)
        self.at = self.context.ctypes.data
        ctx = self.context
        ctx[At.SCRATCH] = self.scratch.ctypes.data
        ctx[At.SUMS] = self.sums.ctypes.data
        ctx[At.POOL_FEEDS] = self.feeds.ctypes.data
        ctx[At.SOME] = self.some.ctypes.data
        ctx[At.GEOMETRY] = self.geometry.ctypes.data
        ctx[At.BUFFER] = self.buffer.ctypes.data
        ctx[At.ITEMSIZE] = ITEMSIZE[dtype]
        ctx[At.LANES] = LANES[dtype]
        ctx[At.HALT] = interrupts.halt_address()
        self._linked: Linked | None = None
        self._parted: Tables | None = None
        self._enter(tables, paired)

    def use(self, tables: Tables, paired: bool) -> None:
        """Run what ``tables`` say from now on, which need no more room than those that it was made
        for. ``paired``: x differs per lane."""
        if tables is not self.tables:
            self._enter(tables, paired)

    def _enter(self, tables: Tables, paired: bool) -> None:
        """Enter addresses of tables into the context, but of those that name kernels."""
        self.tables, ctx = tables, self.context
        ctx[At.PAIRED] = paired
        ctx[At.N_SUMS] = tables.sums
        ctx[At.PARAMS] = tables.params.ctypes.data
        ctx[At.N_PROGRAMS], ctx[At.N_STEPS] = len(tables.programs), len(tables.steps)
        ctx[At.DISPLACEMENTS] = tables.displacements.ctypes.data
        ctx[At.ACTIVE] = tables.active.ctypes.data
        ctx[At.SLOTS], ctx[At.STORES] = tables.slots.ctypes.data, tables.stores.ctypes.data
        ctx[At.INDEX] = tables.index.ctypes.data
        ctx[At.CLEAR_BEGIN], ctx[At.CLEAR_END] = tables.clear
        ctx[At.CELLS], ctx[At.CELL_ACTIVE] = (
            tables.cells.ctypes.data, tables.cell_active.ctypes.data,
        )  # fmt: skip
        ctx[At.PACKED] = tables.packed.ctypes.data

    @staticmethod
    def bytes(tables: Tables, dtype: str) -> int:
        """Memory of one workspace."""
        return (tables.scratch + tables.buffer) * ITEMSIZE[dtype] + 8 * tables.sums + tables.kept

    def run_bundles(
        self, x: NDArray[Any], x_factors: NDArray[Any], y: NDArray[Any], y_factors: NDArray[Any],
        out_k: NDArray[Any], out_t: NDArray[Any], which: Ints,
    ) -> None:  # fmt: skip
        """All programs for images ``which`` of ``x`` against one block of lanes.

        ``x`` (n, ...), ``x_factors`` (n, F); ``y`` (..., lanes), ``y_factors`` (F, lanes);
        ``out_k``, ``out_t`` (outputs, n, columns), written at rows ``which`` and the first
        ``lanes`` columns. Raises :class:`widegram.machine.interrupts.Stopped` where a stop cut it
        short.
        """
        self._run((x, x_factors), (y, y_factors), (0, 0), (out_k, out_t), which)

    def run_pairs(
        self, x: NDArray[Any], x_factors: NDArray[Any], y: NDArray[Any], y_factors: NDArray[Any],
        out: NDArray[Any],
    ) -> None:  # fmt: skip
        """All programs for n times as many pairs as there are lanes, where x differs per lane.

        ``x``, ``y`` (n, ..., lanes), ``x_factors``, ``y_factors`` (n, F, lanes); ``out`` (2,
        outputs, n, lanes): K, and T where that is carried. Raises as :meth:`run_bundles`.
        """
        steps, which = (y.strides[0], y_factors.strides[0]), np.arange(len(x), dtype=np.int64)
        self._run((x, x_factors), (y, y_factors), steps, (out[0], out[1]), which)

    def _run(
        self, x: Arrays, y: Arrays, y_steps: tuple[int, int], out: Arrays, which: Ints
    ) -> None:
        """All programs for some x, and those x' that stand so many bytes apart."""
        ctx = self.context
        ctx[At.X], ctx[At.X_FACTORS] = (array.ctypes.data for array in x)
        ctx[At.Y], ctx[At.Y_FACTORS] = (array.ctypes.data for array in y)
        ctx[At.OUT_K], ctx[At.OUT_T] = (array.ctypes.data for array in out)
        ctx[At.OUT_STRIDE] = out[0].strides[0] // out[0].itemsize
        ctx[At.ITSELF] = 0
        self._link_all()
        x_steps = (array.strides[0] for array in x)
        entry("run_bundles")(
            self.at, which.ctypes.data, len(which), *x_steps, *y_steps, out[0].strides[1]
        )
        interrupts.check()

    def link(self) -> None:
        """Enter the addresses of kernels: of tables that do not run none is compiled."""
        linked, ctx = self.tables.linked, self.context
        if self._linked is not linked:
            ctx[At.PROGRAMS], ctx[At.STEPS] = linked.programs.ctypes.data, linked.steps.ctypes.data
            ctx[At.MOVES], ctx[At.MAPS] = linked.moves.ctypes.data, linked.maps.ctypes.data
            self._linked = linked

    def _link_all(self) -> None:
        """Enter the addresses of kernels and of the parts of the driver that the tables need:
        others are neither compiled nor loaded."""
        self.link()
        if self._parted is self.tables:
            return
        kinds = self.tables.steps[:, StepField.KIND]
        packed = self.tables.programs[:, ProgramField.N_CELLS] > 0
        parts = {
            (At.RUN_PLAIN, "run_plain"): not packed.all(),
            (At.RUN_PACKED, "run_packed"): packed.any(),
            (At.LOAD, "load"): Kind.LOAD in kinds,
            (At.KEEP, "keep"): np.isin(kinds, _KEPT).any(),
            (At.POOL, "pool"): Kind.POOL in kinds,
            (At.RUN_MAPS, "run_maps"): len(self.tables.maps.rows) > 0,
        }
        for (at, part), needed in parts.items():
            if needed:
                self.context[at] = address(part)
        self._parted = self.tables

    def run_map(self, node: int, factors: NDArray[Any]) -> None:
        """The map that makes a node's value of stored ones, of images with themselves."""
        self.link()
        ctx = self.context
        ctx[At.X_FACTORS] = ctx[At.Y_FACTORS] = factors.ctypes.data
        entry("run_maps")(self.tables.maps.number[node], 1, self.at)

    def clear(self) -> None:
        """Zero the stores that accumulate."""
        self.link()
        entry("clear")(self.at)

    def run_itself(
        self, n: int, x: NDArray[Any], factors: NDArray[Any], own_k: NDArray[Any],
        own_t: NDArray[Any], own: Ints,
    ) -> None:  # fmt: skip
        """Program n on images against themselves: ``x`` (..., lanes), ``factors`` (F, lanes).

        At d = 0 the values ``own_k``, ``own_t`` (pixels, lanes) are used, those of node i from
        pixel ``own[i]`` on.
        """
        ctx = self.context
        ctx[At.X] = ctx[At.Y] = x.ctypes.data
        ctx[At.X_FACTORS] = ctx[At.Y_FACTORS] = factors.ctypes.data
        ctx[At.OWN_K], ctx[At.OWN_T] = own_k.ctypes.data, own_t.ctypes.data
        ctx[At.OWN], ctx[At.ITSELF] = own.ctypes.data, 1
        self._link_all()
        entry("run_program")(n, self.at)
        interrupts.check()
