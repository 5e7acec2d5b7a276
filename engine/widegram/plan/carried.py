"""What is known of a value's errors before a run, as it is carried from operation to operation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from widegram.activations import Formula

# float64 computes what comes near c = 1, nearly parallel inputs of a float32 run too. Within four
# roundings c counts as 1 (``SNAP``); sums carry some more.
ROUNDINGS = 16 * 2.0**-52
# Bounds above this are looked at more closely, at so many variances, each a quarter of the last.
_ROUGH, _VARIANCES = 1e-3, 16


class Errors(NamedTuple):
    """A relative error of K, and one of T or Kdot."""

    k: float
    t: float


class Carried(NamedTuple):
    """Relative errors of one value.

    * ``top``: the largest variance that it has
    * ``left``: by what sums of activations without a closed form leave out
    * ``apart``: of roundings that layers drive apart near c = 1, at most 1
    * ``near``: of K near c = 1, in float64
    * ``made``: what an activation has just made of that, the larger one of K and Kdot; else 0
    """

    top: float
    left: Errors
    apart: Errors
    near: float
    made: float = 0.0

    @classmethod
    def of_inputs(cls, top: float, start: float) -> Carried:
        """Inputs whose K comes with the relative error ``start``."""
        return cls(top, Errors(0.0, 0.0), Errors(start, start), start)

    @classmethod
    def of_sum(cls, below: Sequence[Carried]) -> Carried:
        """What a sum carries: at most the largest error of its parts; of one value its own."""
        return cls._of_all(max, below)

    @classmethod
    def of_product(cls, below: Sequence[Carried]) -> Carried:
        """What a product carries: the errors of all its factors."""
        return cls._of_all(sum, below)

    @classmethod
    def _of_all(
        cls, together: Callable[[Iterable[float]], float], below: Sequence[Carried]
    ) -> Carried:
        return cls(
            below[0].top,
            Errors(together(b.left.k for b in below), together(b.left.t for b in below)),
            Errors(together(b.apart.k for b in below), together(b.apart.t for b in below)),
            together(b.near for b in below),
        )

    def beside(self, share: float) -> Carried:
        """With a constant added to K, of which K was at most that ``share`` then: near c = 1 its
        error is as much smaller."""
        return self._replace(apart=self.apart._replace(k=share * self.apart.k))

    def behind(self, formula: Formula) -> Carried:
        """What is carried behind an activation, at variances up to ``top``.

        * What its sum leaves out it adds to K and to Kdot. An error of K is one of c, with which
          Kdot changes (:func:`_turned`).
        * Nearly equal inputs it drives apart where q E[phi'^2] / E[phi^2] is above 1: a relative
          error of K is multiplied by that.
        * Near c = 1 it makes of K's error what :meth:`~widegram.activations.Formula.near_one`
          says, and never times what is carried: a chaotic layer is far from multiplying that by
          b^2 q.
        """
        k, t = self.left
        left = Errors(k + formula.tail, t + formula.tail + _turned(formula, self.top, k))
        near, made = formula.near_one(self.near + formula.spoilt(ROUNDINGS, self.top))
        return Carried(self.top, left, self._driven(formula), near, made)

    def _driven(self, formula: Formula) -> Errors:
        before, slope = self.apart
        error, _ = formula.near_one(before)
        if formula.homogeneity is None:
            slope += formula.tail + _turned(formula, self.top, before)
            made = error - before  # by the activation itself, which does not drive it apart
            error = min(1.0, before * _gain(formula, self.top) + made + ROUNDINGS)
        return Errors(error, slope)

    def bounded(self, top: float) -> Carried:
        """The same of a value with variances up to ``top``, and nothing off by more than all."""
        return self._replace(top=top, apart=Errors(*(min(1.0, error) for error in self.apart)))


def _turned(formula: Formula, top: float, error: float) -> float:
    """How far Kdot changes, relative to its size, with a relative ``error`` of k, at variances up
    to ``top``.

    b^2 q times that, b^2 the :attr:`~widegram.activations.Formula.sharpness`, bounds it; where that
    says much, so does Kdot itself: as a power series of c, no coefficient of which is negative, it
    changes most at c = 1.
    """
    rough = formula.sharpness * top * error
    if not _ROUGH < rough < np.inf:
        return rough
    q = np.float64(top) * 4.0 ** -np.arange(_VARIANCES, dtype=np.float64)
    with np.errstate(all="ignore"):
        at_one, near = formula.variance(q)[1], formula.moments(q, (1.0 - error) * q, q)[1]
        changes = np.abs(at_one - near) / np.abs(at_one)
    return min(rough, float(changes.max())) if np.isfinite(changes).all() else rough


def _gain(formula: Formula, top: float) -> float:
    """The largest q E[phi'^2] / E[phi^2] at variances up to ``top``, at least 1."""
    q = np.float64(top) * 4.0 ** -np.arange(_VARIANCES, dtype=np.float64)
    with np.errstate(all="ignore"):
        value, slope = formula.variance(q)
        gains = np.where(value > 0, q * slope / value, 1.0)
    return float(np.nanmax(np.append(gains[np.isfinite(gains)], 1.0)))
