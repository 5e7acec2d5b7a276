"""Two single pixels at a range of angles: K and T once exactly, and once rounded in every layer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from widegram.activations import Formula, numpy_ops

Array = NDArray[np.float64]

# Angles that are tried: from where a rounding of c is an error of a part in a thousand.
NEAREST, FARTHEST = 1e-3, 0.5
ANGLES = np.geomspace(NEAREST, FARTHEST, 28)
# Roundings have either sign: what a third of one does, always of one sign, is a little more than
# what was measured (docs/accuracy.md) through 10 to 100 layers.
_ROUNDING = 2.0**-24 / 3


@dataclass(frozen=True)
class Angles:
    """A value, far from the edges of images, at every angle of ``ANGLES``.

    * ``q``, ``own``: K and T of an input with itself.
    * ``k``, ``t``: K and T of the two inputs, shape (2, angles), exact and rounded.
    """

    q: float
    own: float
    k: Array
    t: Array

    @classmethod
    def of_inputs(cls, square: float) -> Angles:
        """The kernel of two pixels whose mean squares are ``square``."""
        k = np.broadcast_to(square * np.cos(ANGLES), (2, len(ANGLES)))
        return cls(square, 0.0, rounded(k), np.zeros_like(k))

    def times(self, factor: float) -> Angles:
        """All of it times a factor."""
        return Angles(factor * self.q, factor * self.own, factor * self.k, factor * self.t)

    def shifted(self, power: int) -> Angles:
        """All of it times 2^``power``."""
        own = float(np.ldexp(self.q, power)), float(np.ldexp(self.own, power))
        return Angles(*own, np.ldexp(self.k, power), np.ldexp(self.t, power))

    def plus(self, other: Angles) -> Angles:
        """The sum of two values."""
        return Angles(self.q + other.q, self.own + other.own, self.k + other.k, self.t + other.t)

    def behind(self, formula: Formula) -> Angles:
        """The value behind an activation. An input with itself, c = 1, is the last of angles."""
        q = np.array(self.q)
        k = np.append(self.k, [[self.q], [self.q]], axis=1) * formula.prescale
        factors, constants = formula.factors(q), formula.constants
        made, slope = formula.dual(numpy_ops, k, factors, factors, constants)
        slope = formula.prescale * np.broadcast_to(0.0 if slope is None else slope, k.shape)
        own = float(slope[0, -1]) * self.own
        return Angles(float(made[0, -1]), own, rounded(made[:, :-1]), slope[:, :-1] * self.t)


def rounded(k: Array) -> Array:
    """The second row one rounding smaller."""
    return k * np.array([[1.0], [1.0 - _ROUNDING]])
