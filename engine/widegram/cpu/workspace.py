"""The buffers of one thread, and calls into the compiled driver."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from widegram.cpu.driver.context import CONTEXT, At
from widegram.cpu.driver.entries import address, entry
from widegram.cpu.driver.fields import Ints, Kind, ProgramField, StepField
from widegram.cpu.kernels.fields import Geometry
from widegram.cpu.kernels.variants import LANES
from widegram.machine import interrupts
from widegram.machine.dtypes import ITEMSIZE

if TYPE_CHECKING:
    from widegram.cpu.tables import Tables

ALIGNMENT = 64
_KEPT = (Kind.COPY, Kind.POOL, Kind.REDUCE, Kind.COUNT)


def aligned(shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """An uninitialised array whose first element stands on a cache line."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
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
        self.context = np.zeros(CONTEXT, dtype=np.int64)
        self.at = self.context.ctypes.data
        ctx = self.context
        ctx[At.SCRATCH] = self.scratch.ctypes.data
        ctx[At.SUMS] = self.sums.ctypes.data
        ctx[At.GEOMETRY] = self.geometry.ctypes.data
        ctx[At.BUFFER] = self.buffer.ctypes.data
        ctx[At.ITEMSIZE] = ITEMSIZE[dtype]
        ctx[At.LANES] = LANES[dtype]
        ctx[At.HALT] = interrupts.halt_address()
        self._linked: Tables | None = None
        self._enter(tables, paired)

    def use(self, tables: Tables, paired: bool) -> None:
        """Run what ``tables`` say from now on, which need no more room than those that it was made
        for. ``paired``: x differs per lane."""
        if tables is not self.tables:
            self._enter(tables, paired)

    def _enter(self, tables: Tables, paired: bool) -> None:
        """Enter addresses of tables into the context."""
        self.tables, ctx = tables, self.context
        ctx[At.PAIRED] = paired
        ctx[At.N_SUMS] = tables.sums
        ctx[At.PARAMS] = tables.params.ctypes.data
        ctx[At.PROGRAMS], ctx[At.N_PROGRAMS] = tables.programs.ctypes.data, len(tables.programs)
        ctx[At.STEPS], ctx[At.N_STEPS] = tables.steps.ctypes.data, len(tables.steps)
        ctx[At.DISPLACEMENTS] = tables.displacements.ctypes.data
        ctx[At.ACTIVE] = tables.active.ctypes.data
        ctx[At.SLOTS], ctx[At.STORES] = tables.slots.ctypes.data, tables.stores.ctypes.data
        ctx[At.INDEX], ctx[At.MOVES] = tables.index.ctypes.data, tables.moves.ctypes.data
        ctx[At.CLEAR_BEGIN], ctx[At.CLEAR_END] = tables.clear
        ctx[At.CELLS], ctx[At.CELL_ACTIVE] = (
            tables.cells.ctypes.data, tables.cell_active.ctypes.data,
        )  # fmt: skip
        ctx[At.PACKED] = tables.packed.ctypes.data
        ctx[At.MAPS] = tables.maps.rows.ctypes.data

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
        ctx = self.context
        ctx[At.X], ctx[At.X_FACTORS] = x.ctypes.data, x_factors.ctypes.data
        ctx[At.Y], ctx[At.Y_FACTORS] = y.ctypes.data, y_factors.ctypes.data
        ctx[At.OUT_K], ctx[At.OUT_T] = out_k.ctypes.data, out_t.ctypes.data
        ctx[At.OUT_STRIDE] = out_k.strides[0] // out_k.itemsize
        ctx[At.ITSELF] = 0
        self._link()
        entry("run_bundles")(
            self.at, which.ctypes.data, len(which), x.strides[0], x_factors.strides[0],
            out_k.strides[1],
        )  # fmt: skip
        interrupts.check()

    def run_pairs(
        self, x: NDArray[Any], x_factors: NDArray[Any], y: NDArray[Any], y_factors: NDArray[Any],
        out: NDArray[Any],
    ) -> None:  # fmt: skip
        """All programs for as many pairs as there are lanes, where x differs per lane.

        ``x``, ``y`` (..., lanes), ``x_factors``, ``y_factors`` (F, lanes); ``out`` (2, outputs, 1,
        lanes): K, and T where that is carried.
        """
        first = np.zeros(1, dtype=np.int64)
        self.run_bundles(x[None], x_factors[None], y, y_factors, out[0], out[1], first)

    def _link(self) -> None:
        """Enter the addresses of the parts of the driver that the tables need: others are neither
        compiled nor loaded."""
        if self._linked is self.tables:
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
        self._linked = self.tables

    def run_map(self, node: int, factors: NDArray[Any]) -> None:
        """The map that makes a node's value of stored ones, of images with themselves."""
        ctx = self.context
        ctx[At.X_FACTORS] = ctx[At.Y_FACTORS] = factors.ctypes.data
        entry("run_maps")(self.tables.maps.number[node], 1, self.at)

    def clear(self) -> None:
        """Zero the stores that accumulate."""
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
        self._link()
        entry("run_program")(n, self.at)
        interrupts.check()
