"""What there is to know about a spectrum, each number with the range that holds it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from widegram.linalg.density import Density
from widegram.linalg.eigen import Eigenpairs

Array = NDArray[Any]
_CONVERGED = 0.1  # a larger relative error of lambda_min leaves only a bound from above
_FINE_DECADES = 3  # at the top of the spectrum, where ranges are narrow


@dataclass(frozen=True)
class Range:
    """A value that is known to lie between ``low`` and ``high``, which may be infinite."""

    value: float
    low: float
    high: float

    @property
    def error(self) -> float:
        """The larger distance of the two ends."""
        return max(self.high - self.value, self.value - self.low)

    def times(self, unit: float) -> Range:
        """The range in other units."""
        return Range(self.value * unit, self.low * unit, self.high * unit)


@dataclass(frozen=True)
class Bins:
    """Numbers of eigenvalues in (edges[i], edges[i + 1]]: an estimate, and the range that holds.

    ``edges`` (bins + 1,), the first one minus infinity; the others (bins,).
    """

    edges: Array
    count: Array
    least: Array
    most: Array

    @property
    def error(self) -> Array:
        """How far the number may lie from ``count``."""
        return np.maximum(self.most - self.count, self.count - self.least)

    def rows(self) -> list[tuple[float, float, int, int]]:
        """(from, to, least, most) of the bins that may hold something."""
        columns = zip(self.edges[:-1], self.edges[1:], self.least, self.most, strict=True)
        return [(float(a), float(b), int(c), int(d)) for a, b, c, d in columns if d > 0]

    def as_dict(self) -> dict[str, list[float]]:
        """Lists by name."""
        names = ("edges", "count", "least", "most", "error")
        return {name: getattr(self, name).tolist() for name in names}


@dataclass(frozen=True, kw_only=True)
class Spectrum:
    """Summary of a symmetric matrix. Ranges hold for it and for what it is the rounded copy of.

    * ``n``: rows
    * ``top``, ``bottom``, ``median``: its largest, smallest and median eigenvalue; ``bottom`` has
      no lower end where no factorisation bounds it
    * ``total``: the trace
    * ``effective_rank``: trace^2 / |K|_F^2
    * ``resolution``: what rounding in the file's dtype does to an eigenvalue
      (:func:`resolution`); below it an eigenvalue means nothing
    * ``known``: the eigenvalues that were computed; ``unresolved``: how many of them mean nothing
    * ``lambda_min_residual``: |K v - lambda_min v|, None after LAPACK
    * ``pairs``: what was asked for (``requested``), or else what the summary needed
    * ``density``: None where it was not computed
    * ``method``, ``why``: what was used, and the reason for it
    * ``seconds``: that it took
    * ``dtype``: the file's
    """

    n: int
    top: Range
    bottom: Range
    median: Range
    total: Range
    effective_rank: float
    resolution: float
    unresolved: int
    lambda_min_residual: float | None
    pairs: Eigenpairs
    density: Density | None
    method: str
    why: str
    seconds: float
    dtype: str
    requested: bool
    known: Array

    @property
    def lambda_max(self) -> float:
        """The largest eigenvalue."""
        return self.top.value

    @property
    def lambda_max_error(self) -> float:
        """How far the largest eigenvalue may lie from that."""
        return self.top.error

    @property
    def lambda_min(self) -> float:
        """The smallest eigenvalue, or a bound from above where it is not resolved."""
        return self.bottom.value

    @property
    def lambda_min_error(self) -> float:
        """How far the smallest eigenvalue may lie from that; infinite where nothing bounds it."""
        return self.bottom.error

    @property
    def lambda_min_resolved(self) -> bool:
        """Whether lambda_min lies above the resolution and its error, rounding aside, far below."""
        converged = self.lambda_min_error - self.resolution <= _CONVERGED * self.lambda_min
        return bool(converged and self.lambda_min > self.resolution)

    @property
    def indefinite(self) -> bool:
        """Whether lambda_min is negative by more than rounding, which no kernel's is."""
        return self.lambda_min < -self.resolution

    @property
    def bulk(self) -> float:
        """The median eigenvalue."""
        return self.median.value

    @property
    def bulk_error(self) -> float:
        """How far the median eigenvalue may lie from that."""
        return self.median.error

    @property
    def bulk_resolved(self) -> bool:
        """Whether the median lies above the resolution and its own error."""
        return self.bulk > max(self.resolution, self.bulk_error)

    @property
    def trace(self) -> float:
        """The sum of the diagonal."""
        return self.total.value

    @property
    def condition(self) -> Range:
        """lambda_max / lambda_min; the value is a bound from below where that is not resolved."""
        most = self.top.high / self.bottom.low if self.bottom.low > 0 else math.inf
        if self.bottom.high <= 0 or self.top.high <= 0:
            return Range(1.0, 1.0, math.inf)
        least = max(self.top.low / self.bottom.high, 1.0)
        value = self.lambda_max / self.lambda_min if self.lambda_min_resolved else least
        return Range(value, least, most)

    @property
    def kappa(self) -> float:
        """Condition number; a lower bound where lambda_min is not resolved."""
        return self.condition.value

    @property
    def floor(self) -> float:
        """The resolution, positive also for the zero matrix."""
        return max(self.resolution, float(np.finfo(float).tiny))

    @property
    def computed(self) -> int:
        """Number of eigenvalues computed."""
        return int(self.known.size)

    def edges(self) -> Array:
        """From minus infinity over the resolution and the powers of ten to above lambda_max.

        The upper decades are divided at 2 and 5. Shape (bins + 1,); (2,) for the zero matrix.
        """
        last = self.top.high * (1 + 1e-9)
        if last <= self.floor:
            return np.array([-np.inf, max(last, self.floor)])
        low, high = math.floor(math.log10(self.floor)), math.ceil(math.log10(last))
        steps = [
            step * 10.0**power
            for power in range(low, high + 1)
            for step in ((1, 2, 5) if power >= high - _FINE_DECADES else (1,))
        ]
        inner = [edge for edge in steps if self.floor < edge < last]
        return np.array([-np.inf, self.floor, *inner, last])

    @cached_property
    def bins(self) -> Bins:
        """Numbers of eigenvalues, sharpened by what else is known.

        No eigenvalue lies outside the ranges of the ends; those above x are at most as many as
        the trace has room for.
        """
        assert self.density is not None
        edges = self.edges()
        count, least, most = self.density.counts(edges, self.resolution)
        outside = (edges[1:] < self.bottom.low) | (edges[:-1] > self.top.high)
        by_trace = np.full(edges.size - 1, float(self.n))
        if np.isfinite(self.bottom.low):
            room = self.total.high + self.n * max(0.0, -self.bottom.low)
            by_trace[1:] = np.floor(room / edges[1:-1] * (1 + 1e-9))  # of the first edge, nothing
        most = np.minimum(np.where(outside, 0.0, most), by_trace)
        least = np.minimum(least, most)
        least = np.maximum(least, self.n - (most.sum() - most))  # all of them are n
        return Bins(edges, count, least, most)

    def times(self, unit: float) -> Spectrum:
        """The spectrum of the matrix times ``unit``."""
        if unit == 1.0:
            return self
        pairs = self.pairs
        residuals = None if pairs.residuals is None else pairs.residuals * unit
        residual = self.lambda_min_residual
        return replace(
            self,
            top=self.top.times(unit),
            bottom=self.bottom.times(unit),
            median=self.median.times(unit),
            total=self.total.times(unit),
            resolution=self.resolution * unit,
            lambda_min_residual=None if residual is None else residual * unit,
            pairs=replace(
                pairs,
                values=pairs.values * unit,
                residuals=residuals,
                errors=pairs.errors * unit,
            ),
            density=None if self.density is None else self.density.times(unit),
            known=self.known * unit,
        )

    def as_dict(self) -> dict[str, Any]:
        """For --json: the summary, and the eigenvalues that were asked for with residuals."""
        names = ("n", "lambda_max", "lambda_max_error", "lambda_min", "lambda_min_resolved")
        more = ("lambda_min_error", "lambda_min_residual", "bulk", "bulk_error", "bulk_resolved")
        rest = ("kappa", "trace", "effective_rank", "resolution", "unresolved", "computed")
        last = ("dtype", "method", "why", "seconds", "indefinite")
        found = {name: getattr(self, name) for name in (*names, *more, *rest, *last)}
        found["kappa_is_lower_bound"] = not self.lambda_min_resolved
        for name, bar in (
            ("lambda_max", self.top),
            ("lambda_min", self.bottom),
            ("bulk", self.median),
            ("kappa", self.condition),
            ("trace", self.total),
        ):
            found[f"{name}_range"] = [bar.low, bar.high]
        if self.requested and self.pairs.residuals is not None:
            found["eigenvalues"] = self.pairs.values.tolist()
            found["residuals"] = self.pairs.residuals.tolist()
            found["converged"] = self.pairs.converged
        if self.density is not None:
            found["density"] = self.bins.as_dict()
        return found


def resolution(n: int, top: float, entry: float, dtype: DTypeLike) -> float:
    """What rounding does to an eigenvalue: 2 sqrt(n) eps max|K|, or 10 eps64 lambda_max if larger.

    The first is the norm of a symmetric matrix of independent errors up to eps max|K| in a file
    of ``dtype`` (``entry`` is max|K|, on the diagonal of a semidefinite matrix); the second is
    what the eigenvalue solvers add, which are backward stable in float64.
    """
    stored = 2.0 * np.sqrt(n) * np.finfo(dtype).eps * abs(entry)
    return float(max(stored, 10.0 * np.finfo(np.float64).eps * abs(top)))
