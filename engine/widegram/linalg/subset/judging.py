"""What a pass says of solutions: true residuals, how far they are off, leave-one-out errors.

Leaving out row i of ridge regression changes its residual r_i to r_i / (1 - h_i), with the leverage
h_i = z_i (values + shift)^-1 z_i^T of the row's coordinates z_i (Allen, Technometrics 16, 1974).
The residuals of the rows, and not those of the normal equations as they were added up, give the
gradient Phi^T (Y - Phi w) - shift w: one more step with it brings back the digits that squaring has
lost (corrected seminormal equations: Bjorck, Linear Algebra Appl. 88, 1987), and its length says
how many there were.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from widegram.linalg.subset.normal import NormalSpectrum
from widegram.linalg.targets import agreeing

Array = NDArray[Any]
_TINY = float(np.finfo(np.float64).tiny)


@dataclass(frozen=True)
class Draft:
    """A solution that a pass is to judge: coordinates c (M, k), with ``shift`` on the diagonal."""

    shift: float
    coordinates: Array


@dataclass(frozen=True)
class Judgement:
    """What a pass has found of a draft.

    * ``correction``: the step that its gradient asks for, (M, k)
    * ``residual``: the largest |gradient| / |Phi^T Y| of a column
    * ``error``: how far predictions of the rows are off: the largest |Phi U correction| /
      |Phi U c| of a column
    * ``squares``: y^T (Q + shift I)^-1 y of each column, (k,)
    * ``mse``: leave-one-out, infinite where leverages are too near 1 to tell; None unless asked for
    * ``hits``: rows that are classified rightly when they are left out
    """

    correction: Array
    residual: float
    error: float
    squares: Array
    mse: float | None
    hits: int


class Judging:
    """A pass that judges ``drafts``; a :class:`widegram.linalg.subset.streaming.PassSums`.

    ``loo`` asks for leave-one-out errors, whose leverages take 2 n M^2 operations; without them
    rows are multiplied by the solutions alone. ``fitted`` (n, k), of a single draft, takes the
    predictions of the rows.
    """

    def __init__(
        self,
        spectrum: NormalSpectrum,
        targets: Array,
        drafts: Sequence[Draft],
        *,
        loo: bool,
        fitted: Array | None = None,
    ) -> None:
        self.what = "leave-one-out errors" if loo else "residuals"
        self._spectrum, self._targets = spectrum, targets
        self._drafts, self._loo, self._fitted = drafts, loo, fitted
        stacked = np.hstack([draft.coordinates for draft in drafts])
        self._columns = stacked if loo else spectrum.basis @ stacked
        shifts = np.array([draft.shift for draft in drafts])
        self._weights = 1.0 / (spectrum.values[:, None] + shifts)
        count = len(drafts)
        self._gradient = np.zeros(stacked.shape)
        self._squares = np.zeros(stacked.shape[1])
        self._errors, self._hits, self._slack = np.zeros(count), np.zeros(count), np.ones(count)

    def add(self, rows: slice, block: Array) -> None:
        """See :meth:`PassSums.add`."""
        y = self._targets[rows]
        own = block @ self._spectrum.basis if self._loo else block
        predicted = own @ self._columns
        if self._fitted is not None:
            self._fitted[rows] = predicted
        left = np.tile(y, len(self._drafts)) - predicted
        self._gradient += own.T @ left
        self._squares += np.einsum("ij,ij->j", left, left)
        if not self._loo:
            return
        slack = 1.0 - np.square(own, out=own) @ self._weights
        self._slack = np.minimum(self._slack, slack.min(axis=0))
        with np.errstate(divide="ignore", invalid="ignore"):
            errors = left.reshape(len(y), len(self._drafts), -1) / slack[:, :, None]
        self._errors += np.einsum("ipk,ipk->p", errors, errors)
        self._hits += [agreeing(y - errors[:, p], y).sum() for p in range(errors.shape[1])]

    def arrays(self) -> Mapping[str, Array]:
        """See :meth:`PassSums.arrays`."""
        return {
            "gradient": self._gradient,
            "squares": self._squares,
            "errors": self._errors,
            "hits": self._hits,
            "slack": self._slack,
        }

    def restore(self, arrays: Mapping[str, Array]) -> None:
        """See :meth:`PassSums.restore`."""
        for name, array in self.arrays().items():
            array[...] = arrays[name]

    def judged(self) -> list[Judgement]:
        """What was found of each draft, once all rows are in."""
        outputs = self._targets.shape[1]
        gradient = self._gradient if self._loo else self._spectrum.basis.T @ self._gradient
        found = []
        for index, draft in enumerate(self._drafts):
            columns = slice(index * outputs, (index + 1) * outputs)
            own = gradient[:, columns] - draft.shift * draft.coordinates
            found.append(self._judgement(index, draft, own, self._squares[columns]))
        return found

    def _judgement(self, index: int, found: Draft, gradient: Array, left: Array) -> Judgement:
        values, moment = self._spectrum.values, self._spectrum.moment
        weights = self._weights[:, index, None]
        correction = gradient * weights
        size, step = (
            np.sqrt(np.sum(values[:, None] * vector**2, axis=0))
            for vector in (found.coordinates, correction)
        )
        norms = np.linalg.norm(gradient, axis=0), np.linalg.norm(moment, axis=0)
        own = np.einsum("ij,ij->j", found.coordinates, found.coordinates)
        squares = left / found.shift + own if found.shift > 0 else np.full(left.size, np.nan)
        mse = None
        if self._loo:
            rounding = np.finfo(np.float64).eps * (values[-1] + found.shift) * float(weights.max())
            told = self._slack[index] > 100.0 * rounding
            mse = float(self._errors[index] / self._targets.size) if told else np.inf
        return Judgement(
            correction=correction,
            residual=float(np.max(norms[0] / np.maximum(norms[1], _TINY))),
            error=float(np.max(step / np.maximum(size, _TINY))),
            squares=squares,
            mse=mse,
            hits=int(self._hits[index]),
        )
