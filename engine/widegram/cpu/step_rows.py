"""Steps of programs as rows of integers, with numbers of their kernels, and constants."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from widegram.cpu.charts import has_chart
from widegram.cpu.counts import counts
from widegram.cpu.driver.fields import REGION, Ints, Kind, Move, StepField
from widegram.cpu.kernel_numbers import KernelNumbers
from widegram.cpu.kernels.forms import WIDE
from widegram.cpu.kernels.variants import N_PARAMS, Variant, kind_of_window
from widegram.plan.operations import Input, Windowed
from widegram.plan.plan import Plan
from widegram.plan.steps import (
    Counting,
    Load,
    MakeInput,
    Point,
    Pooling,
    Product,
    Reducing,
    Result,
    Step,
    Storing,
    Sum,
    Value,
    Window,
)
from widegram.plan.stores import Store, Stores


class StepRows:
    """The table of steps of all programs of a schedule, as it grows.

    ``kernels``: numbers those that rows name. ``rows``: one of StepField's columns for each step.
    ``params``: the constants of all kernels, which a row points to.
    """

    def __init__(
        self, plan: Plan, dtype: str, paired: bool, fields: int, of: dict[int, Store],
        kernels: KernelNumbers,
    ) -> None:  # fmt: skip
        self.plan, self.dtype, self.paired, self.fields = plan, dtype, paired, fields
        self.kernels = kernels
        self.number = {node: n for n, node in enumerate(of)}
        self.rows: list[list[int]] = []
        self.params: list[float] = []

    def number_of(
        self, kind: str, code: str, packed: int = 0, width: int = WIDE, small: bool = False,
        **flags: bool,
    ) -> int:  # fmt: skip
        """The number of a kernel for rows of ``width`` pixels, of ``small`` planes where they have
        charts; ``flags``: the last fields of its :class:`Variant`."""
        variant = Variant(kind, code, self.plan.ntk, self.paired, self.dtype, packed, **flags)
        return self.kernels.number(variant, width, small)

    def moves(self, stores: Stores, twins: bool, hands: bool) -> Ints:
        """Numbers of the kernels that move planes, 0 of those that no step of this schedule
        needs. ``twins``: whether cells make what others sum up; ``hands``: whether rows go to pools
        some at a time."""
        kinds = {Kind(row[StepField.KIND]) for row in self.rows}
        reduces = any(store.reduced for store in stores.of.values())
        needed = {
            Move.COPY: True,
            Move.FILL: self.paired or not self.plan.vector,
            Move.GATHER: Kind.POOL in kinds,
            Move.REDUCE: reduces,
            Move.CAST: reduces,
            Move.COUNT: Kind.COUNT in kinds,
            Move.ROW_SUMS: twins,
            Move.POOL: hands,
        }
        found = np.zeros(len(Move), dtype=np.int64)
        for move in Move:
            if needed[move]:
                found[move] = self._move(move.name.lower())
        return found

    def _move(self, kind: str) -> int:
        """The number of a kernel that moves planes: the same whether x differs per lane or not."""
        return self.kernels.number(Variant(kind, "none", self.plan.ntk, False, self.dtype))

    @np.errstate(over="ignore")  # Constants are out of range where variances are: refused as such.
    def constants(self) -> NDArray[Any]:
        return np.array([*self.params, 0.0], dtype=self.dtype)

    def add(self, step: Step, first_slot: int, packed: int) -> None:
        """Append a step of a program whose slots begin at ``first_slot``; ``packed``: the mode of
        its planes, 0 of those that are not packed."""
        row = dict.fromkeys(StepField, 0)
        row[StepField.KIND] = Kind[step.kind.upper()]
        if step.out is not None:
            row[StepField.OUT] = first_slot + step.out.slot
        for field, value in zip((StepField.IN0, StepField.IN1), step.inputs, strict=False):
            row[field] = first_slot + value.slot
        sources = self.plan.nodes[step.node].inputs
        row[StepField.NODE] = sources[0] if sources else step.node
        row[StepField.PARAMS] = len(self.params)
        gain, bias, formula = 1.0, 0.0, None
        more: list[float] = []
        match step:
            case MakeInput():
                row[StepField.N_FACTORS], row[StepField.FACTOR] = self.input(step)
                if self.plan.vector and not self.paired:
                    gain = 1.0 / self.plan.channels
            case Window(affine=affine):
                gain, bias, formula = affine.gain, affine.bias, step.formula
                more = list(affine.contribution or ())
                if formula is not None:
                    gain, bias = gain * formula.prescale, bias * formula.prescale
                    more = [number * formula.prescale for number in more]
                self._window(row, affine)
            case Point():
                formula = step.formula
            case Load() | Storing():
                row[StepField.STORE] = self.number[step.node]
            case Result():
                row[StepField.STORE] = step.at // self.fields
        match step:
            case Pooling(pool=pool):
                gain = pool.scale
                self._window(row, pool)
            case Reducing(scale=scale) | Load(scale=scale):
                gain = scale
        if isinstance(step, Counting):
            row[StepField.ROWS], row[StepField.COLS] = step.inputs[0].shape
            more = counts(step.counted, step.inputs[0].shape)
        if isinstance(step, Window | Point):
            row[StepField.FACTOR], row[StepField.N_FACTORS] = step.at, step.n_factors
        row[StepField.KERNEL] = self._kernel(step, formula.code if formula else "none", packed)
        values = [gain, bias, *(formula.constants if formula else ())]
        self.params += values + [0.0] * (N_PARAMS - len(values)) + more
        self.rows.append([row[field] for field in StepField])

    def input(self, step: MakeInput) -> tuple[int, int]:
        """Numbers summed by one inner product, and where those of an input of a list begin."""
        operation = self.plan.nodes[step.node].operation
        if not self.plan.parts or not isinstance(operation, Input):
            return self.plan.channels, 0
        part = self.plan.parts[operation.part]
        return part.shape[-1], part.begin

    @staticmethod
    def _window(row: dict[StepField, int], windowed: Windowed) -> None:
        row[StepField.ROWS], row[StepField.COLS] = windowed.window
        row[StepField.STRIDE_ROWS], row[StepField.STRIDE_COLS] = windowed.strides
        row[StepField.LO_ROWS], row[StepField.LO_COLS] = windowed.lo
        row[StepField.CIRCULAR] = int(windowed.circular)

    def _is_input(self, value: Value) -> bool:
        return isinstance(self.plan.nodes[value.node].operation, Input)

    def _kernel(self, step: Step, code: str, packed: int) -> int:
        match step:
            case MakeInput() if self.plan.vector and not self.paired:
                return self.number_of("inner", code)
            case Sum() | Product():
                return self._move(step.kind)
            case MakeInput():
                return self.number_of(step.kind, code, packed)
            case Point(hides=hides):
                return self.number_of(step.kind, code, packed, hides=hides)
            case Window(affine=affine, hides=hides):
                kind, ntk = (
                    kind_of_window(affine.window, affine.strides, len(step.inputs)),
                    self.plan.ntk,
                )
                contribution = bool(ntk and affine.contribution)
                fresh = bool(ntk and step.inputs and self._is_input(step.inputs[0]))
                return self.number_of(
                    kind, code, packed, self._across(step), bool(packed and has_chart(step)),
                    contribution=contribution, hides=hides, fresh=fresh,
                )  # fmt: skip
        return 0

    def _across(self, step: Window) -> int:
        """The pixels of a row of a step's plane."""
        return REGION[1] if self.plan.vector and not self.paired else step.out.shape[1]
