"""From the engine's numbers, times powers of two, to kernels; what they cannot hold is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from widegram.backends.self_runs import SelfRuns
from widegram.data.scaled_rows import ScaledRows
from widegram.plan.plan import Plan
from widegram.validation.finite import check_finite, overflow, underflow

Array = NDArray[np.float64]
Ints = NDArray[np.int64]
# Parts of a result, as widegram.plan.outside counts them, that rounding hides.
HIDDEN = {"float32": 1e-7, "float64": 1e-15}


class Readout:
    """Reads kernels of a plan for two data sets; ``dtype``: of the results, at most that of the
    engine (see :meth:`round_to`).

    ``diagonal(rows, second)``: images of the first or second data set with themselves, as the
    engine computes them; needed where single entries are too small for the dtype.
    """

    def __init__(
        self, plan: Plan, dtype: str, inputs: tuple[ScaledRows, ScaledRows],
        diagonal: Callable[[range, bool], SelfRuns],
    ) -> None:  # fmt: skip
        self.plan, self.inputs, self.diagonal = plan, inputs, diagonal
        self.round_to(dtype)
        self.degrees = plan.degrees or (0,) * len(plan.outputs)

    def round_to(self, dtype: str) -> None:
        """Refuse what ``dtype`` cannot hold: results will be rounded to it."""
        self.dtype = dtype
        self.least, self.most = float(np.finfo(dtype).tiny), float(np.finfo(dtype).max)

    def kernels(
        self, values: dict[str, NDArray[Any]], rows: range, cols: range,
        own: dict[str, Array] | None = None, bounds: dict[str, Array] | None = None,
    ) -> dict[str, NDArray[Any]]:  # fmt: skip
        """Kernels (len(rows), len(cols)) by key, from values (outputs, rows, columns) by kernel;
        made in place. ``own``: the diagonals, kernels (outputs, n) by name, as :meth:`own` gives
        them, of a tile of inputs with themselves. ``bounds``: of all other values, lower and upper
        ones (2, outputs) by kernel, where they are known.

        Raises WidegramError for what is not finite or not 0 and yet below the smallest
        normal number, unless that is small beside sqrt(K(x, x) K(x', x')).
        """
        found = {}
        for key, n, kernel in self.plan.keys:
            value = values[kernel][n]
            raw = self._undo(value, n, rows, cols)
            if own is not None:
                np.fill_diagonal(value, own[kernel][n])
            if bounds is not None and raw is value and self._holds(bounds[kernel][:, n]):
                found[key] = value
                continue
            small = self._small(raw, value)
            check_finite(key, value, rows.start, cols.start, self.dtype)
            if small is not None:
                self._check_small(key, n, kernel, small, rows, cols)
            found[key] = value
        return found

    def own(self, own: dict[str, Array], rows: range, second: bool = False) -> dict[str, Array]:
        """Kernels (outputs, n) of inputs with themselves, float64, from :attr:`SelfRuns.kernels`;
        raises as :meth:`kernels`."""
        found = {name: value.copy() for name, value in own.items()}
        for key, n, kernel in self.plan.keys:
            value, raw = found[kernel][n], own[kernel][n]
            powers = 2 * self._powers(n, rows, second) - 2 * self.plan.exponents[n]
            with np.errstate(all="ignore"):
                value[:] = np.ldexp(raw, powers)
            for wrong, error in (
                (~(np.abs(value) <= self.most), overflow),
                ((raw != 0) & (np.abs(value) < self.least), underflow),
            ):
                if wrong.any():
                    row = rows.start + int(np.flatnonzero(wrong)[0])
                    raise error(key, f"row {row}, column {row}", self.dtype)
        return found

    def check_inputs(self, own: SelfRuns, rows: range, second: bool) -> None:
        """Raise WidegramError where an input's values are outside the range on their way
        to the result."""
        wrong = np.flatnonzero(own.lost > HIDDEN[self.dtype])
        if not wrong.size:
            return
        where = f"row {rows.start + int(wrong[0])} of {self.inputs[second].name}"
        error = overflow if np.isinf(own.lost[wrong[0]]) else underflow
        raise error("the variance behind some layer", where, self.dtype)

    def _powers(self, n: int, rows: range, second: bool) -> Ints:
        """Powers of two by which output n is larger on account of its inputs' own powers."""
        inputs = self.inputs[second]
        if not inputs.own:
            return np.zeros(len(rows), dtype=np.int64)
        return -self.degrees[n] * inputs.powers[rows.start : rows.stop]

    def _undo(self, value: NDArray[Any], n: int, rows: range, cols: range) -> NDArray[Any]:
        """Divide by the powers of two, in place; what it was before, if only whether it was 0."""
        first = self._powers(n, rows, False) - 2 * self.plan.exponents[n]
        second = self._powers(n, cols, True)
        if not first.any() and not second.any():
            return value
        raw = value.copy()
        with np.errstate(all="ignore"):
            np.ldexp(raw, (first[:, None] + second).astype(np.int32), out=value)
        return raw

    def _holds(self, bounds: Array) -> bool:
        """Whether the dtype holds all that is within (2,) bounds."""
        return bool(bounds[0] >= self.least and bounds[1] <= self.most)

    def _small(self, raw: NDArray[Any], value: NDArray[Any]) -> NDArray[np.bool_] | None:
        """Where entries became too small, or None."""
        if value.min() >= self.least:
            return None
        small = (raw != 0) & (np.abs(value) < self.least)
        return small if small.any() else None

    def _check_small(
        self, key: str, n: int, kernel: str, small: NDArray[np.bool_], rows: range, cols: range
    ) -> None:
        """Raise for entries that are small because both inputs' own values are."""
        i, j = np.nonzero(small)
        halves = []
        for which, span, second in ((i, rows, False), (j, cols, True)):
            raw = self.diagonal(span, second).kernels[kernel][n]
            with np.errstate(divide="ignore"):
                own = np.log2(raw) / 2 + self._powers(n, span, second) - self.plan.exponents[n]
            halves.append(own[which])
        wrong = np.flatnonzero(halves[0] + halves[1] < np.log2(self.least))
        if wrong.size:
            at = wrong[0]
            where = f"row {rows.start + i[at]}, column {cols.start + j[at]}"
            raise underflow(key, where, self.dtype)
