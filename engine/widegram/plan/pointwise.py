"""Operations at each pixel: activations, normalisation, factors and sums of branches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from widegram.activations import Formula
from widegram.activations.rectified import Relu, ReluNonnegative
from widegram.activations.scale import Rescale, Scale, Weight
from widegram.plan.angles import Angles
from widegram.plan.carried import Carried
from widegram.plan.masks import Pair
from widegram.plan.operation_base import Array, Centre, Exponents, Operation, Places
from widegram.plan.seen import Parts, Seen, highest, share, where

# What stands for variances out of range.
_MOST = 1e300


@dataclass(frozen=True)
class Act(Operation):
    """An activation, ``phi``; ``nonnegative`` says that its input is known to be >= 0, ``where``
    names its layer for messages."""

    phi: Formula
    nonnegative: bool
    where: str = field(default="", compare=False, repr=False)

    @property
    def formula(self) -> Formula:
        if self.nonnegative and type(self.phi) is Relu:
            return ReluNonnegative()
        return self.phi

    def even(self, axis: int, source: Pair, shape: Pair) -> bool:
        return True

    def zero_at_masked(self, below: bool) -> bool:
        return False

    def at_zero(self, sources: Sequence[Centre], shape: Pair, formula: Formula | None) -> Centre:
        assert formula is not None
        ((k, t),) = sources
        value, slope = formula.variance(k)
        return value, t * slope

    def bound(self, below: Sequence[float], source: Pair, formula: Formula | None) -> float:
        assert formula is not None
        most = np.max(formula.variance(np.linspace(0.0, below[0], 65))[0])
        return float(most) if most < _MOST else _MOST

    def may_vanish(self, below: Sequence[bool]) -> bool:
        at_zero, at_one = self.phi.variance(np.array([0.0, 1.0]))[0]
        return bool(at_one == 0 or (below[0] and at_zero == 0))

    def degree(self, below: int) -> int | None:
        if self.phi.homogeneity is not None:
            return below * self.phi.homogeneity
        return None if below else below

    @property
    def needs_truth(self) -> bool:
        return self.phi.homogeneity is None

    @property
    def power(self) -> int:
        return max(1, self.phi.homogeneity or 1)

    def profile(self, q: Array, shape: Pair) -> Array:
        if self.needs_truth:
            return np.asarray(self.phi.variance(q.max(keepdims=True))[0] + 0 * q)
        return self.phi.variance(q)[0]

    def rescaled(self, exponent: int) -> tuple[Operation, int]:
        return self, exponent * (self.phi.homogeneity or 0)

    def at_angles(self, below: Sequence[Angles], source: Pair, formula: Formula | None) -> Angles:
        assert formula is not None
        return below[0].behind(formula)

    def carries(self, below: Sequence[Carried], formula: Formula | None) -> Carried:
        assert formula is not None
        return below[0].behind(formula)

    def loses(self, seen: Seen) -> tuple[Any, Array]:
        if isinstance(self.phi, Rescale):
            exact = seen.limits.low <= np.ldexp(1.0, 2 * self.phi.exponent) <= 1 / seen.limits.low
            return where((seen.below > 0) & ((seen.top == 0) | (not exact))), seen.top
        if self.power > 1:
            return where((seen.below > 0) & (seen.top == 0)), seen.top
        return 0.0, seen.top

    def carries_lost(self, seen: Seen) -> Parts:
        ((k, t),) = seen.lost
        if self.phi.homogeneity is not None:
            k = np.minimum(k * self.power, np.maximum(k, 1.0))
            return k, np.minimum(t + k, 1.0)
        assert seen.formula is not None
        value, slope = seen.formula.variance(seen.below)
        return k * share(slope * seen.below, value), np.minimum(t + k, 1.0)

    def describe(self) -> str:
        return f" {self.phi.code}"


@dataclass(frozen=True)
class Norm(Operation):
    """LayerNorm; ``axes``: the image axes (0 rows, 1 columns) over which variances are averaged;
    ``eps`` is added to them; its input comes times 4^``exponent``."""

    axes: tuple[int, ...]
    eps: float
    exponent: int = 0

    @property
    def formula(self) -> Formula:
        return Scale(self.exponent, self.eps)

    def normalised(self, q: Array) -> Array:
        axes = tuple(a + 1 for a in self.axes)
        return np.broadcast_to(q.mean(axis=axes, keepdims=True), q.shape) if axes else q

    def even(self, axis: int, source: Pair, shape: Pair) -> bool:
        return True

    def at_zero(self, sources: Sequence[Centre], shape: Pair, formula: Formula | None) -> Centre:
        assert formula is not None
        ((k, t),) = sources
        factor = formula.factors(self.normalised(k))[0] ** 2
        return k * factor, t * factor

    def bound(self, below: Sequence[float], source: Pair, formula: Formula | None) -> float:
        # One pixel may hold all the variance that a normalisation over space averages.
        return float(source[0] * source[1]) if self.axes else 1.0

    def degree(self, below: int) -> int | None:
        return None if below else below

    def profile(self, q: Array, shape: Pair) -> Array:
        return np.asarray(q * self.formula.factors(self.normalised(q))[0] ** 2)

    def rescaled(self, exponent: int) -> tuple[Operation, int]:
        return replace(self, exponent=exponent), 0

    def at_angles(self, below: Sequence[Angles], source: Pair, formula: Formula | None) -> Angles:
        assert formula is not None
        return below[0].times(float(formula.factors(np.array(below[0].q))[0]) ** 2)

    def carries_lost(self, seen: Seen) -> Parts:
        ((k, t),) = seen.lost
        return k, np.minimum(t + k, 1.0)

    def describe(self) -> str:
        return " layernorm"


@dataclass(frozen=True)
class Weigh(Operation):
    """Every pixel times ``rows``[i] ``cols``[j]: from means over whole windows to means over what
    of them lies in the image."""

    rows: tuple[float, ...]
    cols: tuple[float, ...]

    @property
    def formula(self) -> Formula:
        return Weight(rows=self.rows, cols=self.cols)

    def even(self, axis: int, source: Pair, shape: Pair) -> bool:
        weights = (self.rows, self.cols)[axis]
        return weights == weights[::-1]

    def at_zero(self, sources: Sequence[Centre], shape: Pair, formula: Formula | None) -> Centre:
        ((k, t),) = sources
        value, slope = self.formula.variance(k)
        return value, t * slope

    def profile(self, q: Array, shape: Pair) -> Array:
        return self.formula.variance(q)[0]

    def at_angles(self, below: Sequence[Angles], source: Pair, formula: Formula | None) -> Angles:
        """Nothing is weighed far from edges."""
        return below[0]

    def describe(self) -> str:
        return " edges"


@dataclass(frozen=True)
class Keep(Operation):
    """Dropout: an image's own variances, and its NTK with itself, are divided by ``rate``; between
    different images nothing changes."""

    rate: float

    def even(self, axis: int, source: Pair, shape: Pair) -> bool:
        return True

    def at_zero(self, sources: Sequence[Centre], shape: Pair, formula: Formula | None) -> Centre:
        ((k, t),) = sources
        return k / self.rate, t / self.rate

    def bound(self, below: Sequence[float], source: Pair, formula: Formula | None) -> float:
        return below[0] / self.rate

    def profile(self, q: Array, shape: Pair) -> Array:
        return q / self.rate

    def at_angles(self, below: Sequence[Angles], source: Pair, formula: Formula | None) -> Angles:
        (value,) = below
        return Angles(value.q / self.rate, value.own / self.rate, value.k, value.t)


@dataclass(frozen=True)
class Join(Operation):
    """What two branches meet by, pixel by pixel."""

    def even(self, axis: int, source: Pair, shape: Pair) -> bool:
        return True

    def mixes(self, places: Sequence[Places]) -> bool:
        return len(set(places)) > 1

    def masked_places(self, places: Sequence[Places]) -> Places:
        return tuple(places) if self.mixes(places) else places[0]


@dataclass(frozen=True)
class Add(Join):
    """Sum of two branches."""

    def at_zero(self, sources: Sequence[Centre], shape: Pair, formula: Formula | None) -> Centre:
        (k, t), other = sources
        return k + other[0], t + other[1]

    def bound(self, below: Sequence[float], source: Pair, formula: Formula | None) -> float:
        return sum(below)

    def may_vanish(self, below: Sequence[bool]) -> bool:
        return all(below)

    def place(self, i: int, shape: Pair, sources: tuple[int, ...], graph: Exponents) -> int:
        """Its sources are taken to one exponent."""
        size = np.logaddexp2.reduce([graph.size(at) for at in sources])
        exponent = graph.chosen(i, float(size), *(graph.exponent[at] for at in sources))
        sources = tuple(graph.moved(at, exponent) for at in sources)
        profile = np.sum([graph.profile[at] for at in sources], axis=0)
        return graph.add(self, sources, shape, exponent, profile)

    def at_angles(self, below: Sequence[Angles], source: Pair, formula: Formula | None) -> Angles:
        return below[0].plus(below[1])

    def carries_lost(self, seen: Seen) -> Parts:
        found = []
        for kernel in (0, 1):
            whole = highest(seen.value[kernel])
            shares = (share(highest(value[kernel]), whole) for value in seen.sources)
            parts = [lost[kernel] * part for lost, part in zip(seen.lost, shares, strict=True)]
            found.append(parts[0] + parts[1])
        return found[0], found[1]
