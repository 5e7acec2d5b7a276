"""The roof: the engine's own vector code on rows that never leave the L1 cache.

One row of 32 pixels (16 or 8 pairs each) is written over and over from three input rows that are
the same row: the arithmetic, loads and stores of a plane, without the plane. The form of packed
planes, the fastest one.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numba
import numpy as np

from widegram.activations import Formula
from widegram.cpu.driver import lowered  # noqa: F401 - the compiled form of call_plane
from widegram.cpu.driver.memory import call_plane
from widegram.cpu.kernels import compiled
from widegram.cpu.kernels.fields import Cell, PackedGeometry
from widegram.cpu.kernels.forms import Form
from widegram.cpu.kernels.processors import Processor
from widegram.cpu.kernels.variants import GAPS, LANES, N_PARAMS, Variant
from widegram.cpu.workspace import aligned
from widegram.machine.cores import usable_cores
from widegram.plan.formulas import choose_formulas
from widegram.plan.plan import build
from widegram.validation.choices import KERNELS
from widegram_bench.networks import cnn
from widegram_bench.timing import Turns, once, together

COLUMNS = 32
_ROWS = 64
_SAMPLE = 0.05


@dataclass(frozen=True)
class Roof:
    """Element-layers a second of one kernel, on ``one`` thread and on ``every`` one of ``threads``.

    ``kind``: 'box3' (3 x 3 window) or 'tap' (Dense); ``code``: the formula.
    """

    activation: str
    kind: str
    code: str
    dtype: str
    ntk: bool
    one: float
    every: float
    threads: int

    def as_dict(self) -> dict[str, Any]:
        """All fields, JSON-ready."""
        return asdict(self)


def formula(activation: str, dtype: str) -> Formula:
    """The formula that the engine applies to ``activation`` behind the first layer."""
    plan = build(cnn(2, 4, activation), KERNELS, None, dtype)
    return list(choose_formulas(plan, 1.0, dtype).values())[-1]


def measure(
    activation: str,
    dtype: str,
    seconds: float,
    *,
    kind: str = "box3",
    ntk: bool = True,
    threads: int | None = None,
) -> Roof:
    """Measure one kernel within about ``seconds``, once it is compiled."""
    spinner = Spinner(activation, dtype, kind=kind, ntk=ntk, threads=threads)
    return timed(spinner, seconds, 2)


def timed(spinner: Spinner, seconds: float, least: int = 1) -> Roof:
    """A kernel that is ready, in at least so many turns of one thread and of all."""
    activation, kind, dtype, ntk = spinner.what
    one, every = Turns(spinner.one, spinner.every).take(seconds, least)
    threads = len(spinner.rows)
    return Roof(
        activation, kind, spinner.code, dtype, ntk,
        spinner.work / one, threads * spinner.work / every, threads,
    )  # fmt: skip


class Spinner:
    """The rows of all threads, to be measured beside something else: ``work`` element-layers on
    each thread a turn."""

    def __init__(
        self,
        activation: str,
        dtype: str,
        *,
        kind: str = "box3",
        ntk: bool = True,
        threads: int | None = None,
    ) -> None:
        chosen = formula(activation, dtype)
        self.code, self.what = chosen.code, (activation, kind, dtype, ntk)
        self.rows = [RoofRows(chosen, kind, ntk, dtype) for _ in range(threads or usable_cores())]
        self.rows[0].spin(1)
        first = self.rows[0]
        self.repeats = max(1, int(_SAMPLE / max(once(lambda: first.spin(16)) / 16, 1e-9)))
        self.work = self.repeats * first.elements

    def one(self) -> None:
        """One thread's turn, alone."""
        self.rows[0].spin(self.repeats)

    def every(self) -> None:
        """A turn of all threads."""
        together([lambda row=row: row.spin(self.repeats) for row in self.rows])  # type: ignore[misc]  # a default of a lambda


class RoofRows:
    """Buffers of one thread, filled with correlations between 0 and 0.9; the kernel is in the form
    that the engine takes, unless one is given."""

    def __init__(
        self,
        formula: Formula,
        kind: str,
        ntk: bool,
        dtype: str,
        form: Form | None = None,
        processor: Processor | None = None,
    ) -> None:
        lanes = LANES[dtype]
        self.elements = _ROWS * COLUMNS * lanes
        variant = Variant(kind, formula.code, ntk, False, dtype, packed=GAPS)
        self.address = compiled.address(variant, form, processor)
        rng = np.random.default_rng(0)
        factors = formula.factors(np.ones(COLUMNS))
        count = len(factors)
        self.arrays = [aligned((COLUMNS + 2, lanes), dtype) for _ in range(2)]
        for array in self.arrays:
            array[...] = rng.uniform(0.0, 0.9, array.shape)
            array[0] = 0.0  # the halo
        self.arrays += [aligned((COLUMNS, lanes), dtype) for _ in range(2)]
        fx, fy = aligned((count, COLUMNS), dtype), aligned((count, COLUMNS, lanes), dtype)
        fx[...], fy[...] = factors, factors[..., None]
        self.arrays += [fx, fy]
        params = np.zeros(N_PARAMS)
        params[0] = formula.prescale * (1 / 9 if kind == "box3" else 1.0)
        params[2 : 2 + len(formula.constants)] = formula.constants
        self.params = params.astype(dtype)
        at = [array.ctypes.data for array in self.arrays]
        values = {
            "t_in": at[1] - at[0], "t_out": at[3] - at[2], "fx_col": 1,
            "fx_plane": COLUMNS, "fy_col": lanes, "fy_plane": COLUMNS * lanes, "count": count,
            "window_rows": 1, "window_cols": 1, "stride_rows": 1, "stride_cols": 1,
            "height": _ROWS, "width": COLUMNS,
        }  # fmt: skip
        self.geometry = np.zeros(len(PackedGeometry), dtype=np.int64)
        for name, value in values.items():
            self.geometry[PackedGeometry[name.upper()]] = value
        self.cell = np.zeros(len(Cell), dtype=np.int64)
        self.cell[Cell.FIRST_ROWS] = self.cell[Cell.ROWS] = _ROWS
        self.cell[Cell.FIRST_COLS] = COLUMNS

    def spin(self, repeats: int) -> None:
        """Run the kernel ``repeats`` times, without Python's lock."""
        k_in, _, k_out, _, fx, fy = (array.ctypes.data for array in self.arrays)
        at = (self.geometry, self.cell, self.params)
        _spin(self.address, *(a.ctypes.data for a in at), k_in, k_out, fx, fy, repeats)


@numba.njit(nogil=True)
def _spin(kernel, geometry, cell, params, k_in, k_out, fx, fy, repeats):  # type: ignore[no-untyped-def]  # Numba's
    for _ in range(repeats):
        call_plane(kernel, geometry, cell, params, k_in, k_out, fx, fy, 0)
