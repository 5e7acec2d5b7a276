"""What the backends that run a plan share: from the numbers of its programs to kernels."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from widegram.activations import Formula
from widegram.backends.close_pairs import nearest_computed
from widegram.backends.equal import Pairs, is_exact, without
from widegram.backends.evaluator import Evaluator, Tile
from widegram.backends.job import Job
from widegram.backends.readout import Readout
from widegram.backends.self_runs import KeptRuns, SelfRuns
from widegram.data.scaled_rows import ScaledRows
from widegram.plan.angles import NEAREST
from widegram.plan.announced import announce
from widegram.plan.formulas import series_error
from widegram.plan.plan import Plan
from widegram.validation.choices import KERNELS

Array = NDArray[np.float64]
Numbers = range | NDArray[np.int64]
# K and T, (outputs, n), of n pairs of images (n, h, w, C).
PairValues = Callable[[Array, Array], tuple[Array, Array]]
_READ = 256


class RawTile(NamedTuple):
    """What a backend computes of a tile.

    * ``k``, ``t``: (outputs, rows, columns and perhaps some more), times powers of two; ``t`` is
      ``k`` where no NTK is wanted. A mirrored tile is symmetric but for its diagonal.
    * ``equal``, ``close``: (pairs, 2), places in the tile of inputs that are equal, and of nearly
      parallel ones.
    * ``bounds``: lower and upper ones, (2, 2, outputs), of all entries of K and of T but those on
      the diagonal of a mirrored tile, where they are known; NaN where an entry is.
    """

    k: NDArray[Any]
    t: NDArray[Any]
    equal: Pairs
    close: Pairs
    bounds: Array | None = None


class PlannedEvaluator(Evaluator):
    """The base of the backends that run a :class:`~widegram.plan.plan.Plan`.

    Pairs of equal inputs get the kernel of one with itself, in float32 those of nearly parallel
    inputs that in float64 (``pair_values``), and what the dtype cannot hold is refused. ``angle``:
    inputs less than about twice that far apart are nearly parallel.
    """

    def __init__(
        self,
        job: Job,
        plan: Plan,
        formulas: dict[int, Formula],
        largest: float,
        inputs: tuple[ScaledRows, ScaledRows],
        pair_values: PairValues,
    ) -> None:
        self.dtype, self.plan, self.inputs = job.dtype, plan, inputs
        self.keys = tuple(key for key, _, _ in plan.keys)
        self.angle = NEAREST
        if job.dtype == "float32":
            self.angle = nearest_computed(plan, formulas, largest, *inputs)
        self.exact = is_exact(plan)
        self.series_error = series_error(formulas)
        announce(plan, formulas, largest, job.dtype, job.accept)
        self.readout = Readout(plan, job.dtype, inputs, self.self_kernels)
        self._pair_values, self._kept = pair_values, KeptRuns()

    @abstractmethod
    def self_kernels(self, numbers: Numbers, second: bool) -> SelfRuns:
        """Runs of inputs of x1, or of x2, with themselves."""

    @abstractmethod
    def some(self, numbers: list[int], second: bool) -> Array:
        """Inputs of x1, or of x2, (n, h, w, C); vectors (n, 1, 1, D)."""

    def diagonal(self, rows: range, second: bool = False) -> dict[str, Array]:
        own = self.own_kernels(rows, second)
        return {key: own[kernel][n] for key, n, kernel in self.plan.keys}

    def own_kernels(self, rows: range, second: bool = False) -> dict[str, Array]:
        """Kernels (outputs, n) of inputs of x1, or of x2, with themselves, by name."""
        own = self._kept.find(rows, second)
        if own is None:
            own = self.self_kernels(rows, second)
            self._kept.keep(rows, second, own)
        self.readout.check_inputs(own, rows, second)
        return self.readout.own(own.kernels, rows, second)

    def round_to(self, dtype: str) -> None:
        self.readout.round_to(dtype)

    def check(self, own: SelfRuns, rows: range, second: bool) -> None:
        """Refuse images of which something that matters is outside the range on the way: ``own``,
        made for their factors, says of each whether anything is."""
        if own.whole:
            self._kept.keep(rows, second, own)
        if own.lost.any():
            # See what is left of it in the end.
            whole = own if own.whole else self.self_kernels(rows, second)
            self.readout.check_inputs(whole, rows, second)

    def finished(self, raw: RawTile, rows: range, cols: range, mirrored: bool) -> Tile:
        """The kernels of a tile, by key; ``raw`` is changed."""
        close, equal = without(raw.close, raw.equal, len(cols)), raw.equal
        if mirrored:
            close, equal = (found[found[:, 0] < found[:, 1]] for found in (close, equal))
        self._double(close, rows, cols, raw, mirrored)
        self._repeat(equal, rows, raw, mirrored)
        own = self.own_kernels(rows) if mirrored else None
        whole = {"nngp": raw.k[:, :, : len(cols)], "ntk": raw.t[:, :, : len(cols)]}
        bounds = None
        if raw.bounds is not None and not len(close) and not len(equal):
            bounds = {kernel: raw.bounds[:, n] for n, kernel in enumerate(KERNELS)}
        found = self.readout.kernels(whole, rows, cols, own, bounds)
        # One tile's arrays may be handed on as they are, but not a part of a wider one.
        return {key: np.ascontiguousarray(value) for key, value in found.items()}

    def _double(
        self, pairs: Pairs, rows: range, cols: range, raw: RawTile, mirrored: bool
    ) -> None:
        """Replace pairs of nearly parallel inputs by their values in float64."""
        for lo in range(0, len(pairs), _READ):
            i, j = pairs[lo : lo + _READ].T
            x = self.some([rows[a] for a in i], False)
            y = self.some([cols[b] for b in j], True)
            self._put(raw, (i, j), self._pair_values(x, y), mirrored)

    def _repeat(self, equal: Pairs, rows: range, raw: RawTile, mirrored: bool) -> None:
        """Give pairs of equal inputs the kernel of one with itself."""
        if not len(equal):
            return
        i, j = equal.T
        which, at = np.unique(i, return_inverse=True)
        own = self.self_kernels(rows.start + which, False)
        self._put(raw, (i, j), (own.nngp[:, at], own.ntk[:, at]), mirrored)

    def _put(
        self, raw: RawTile, at: tuple[Any, Any], values: tuple[Array, Array], mirrored: bool
    ) -> None:
        """Values (outputs, pairs) of K and T at some pairs, and at their mirror images."""
        i, j = at
        for value, to in zip(values, (raw.k, raw.t)[: 1 + self.plan.ntk], strict=False):
            to[:, i, j] = value
            if mirrored:
                to[:, j, i] = value
