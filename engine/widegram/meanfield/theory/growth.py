"""How Theta grows where no fixed point bounds it: criticality, and q without bound.

Theta's diagonal obeys T' = q' + w E[phi'^2] T and T off it T' = k' + w Kdot T. Three cases; n is
the diagonal over the off-diagonal, theta the angle of a pair, w Kdot = chi_1 (1 - x / l):

* critical, q -> q*: T = l q*. Smooth phi: 1 - c falls as 1/l and x = 2, so that n = 3
  (arXiv:1912.13053, section 3). With a kink theta falls as 1/l and x = 3, so that n = 4.
* critical, scale-free phi (w V(q) = q) with bias b: q = b l without end, T = b l^2 / 2. The bias
  halves the angle, x = 3/2: from T = alpha b l^2, 2 alpha = 1 - (3/2) alpha, n = 7/4. What is
  left of the inputs falls as 1/sqrt(l), not 1/l.
* q grows without bound, by chi > 1 in every layer once it is large: phi acts as x -> a+ x or
  a- x there, whatever it is near 0. T / q gains 1 in every layer, T = l q_l, and the angle again
  has x = 3: n = 4. No isolated c* below 1: what the sign of chi_1 - 1 calls chaotic is, in the
  correlations, critical.

Source: the first for smooth phi as cited; the others derived here, with
phi = x (a+ or a-): c' = c + (2 sqrt(2) s / (3 pi)) (1 - c)^(3/2), s = (a+ - a-)^2 / (a+^2 + a-^2).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from widegram.meanfield.theory.fixedpoint import CRITICAL, ORDERED
from widegram.meanfield.theory.one_layer import Array, LayerMaps

# How measured constants reach their limits: corrections of exp(-l / xi), of log(l)/l and 1/l, or
# of 1/sqrt(l) and 1/l.
EXPONENTIAL, LOG, ROOT = "exponential", "log", "root"
# A variance at which every smooth function with two different slopes at infinity looks kinked.
LARGE = 1e10


@dataclass(frozen=True)
class Growth:
    """Theta's diagonal: ``law`` (l,) -> its natural logarithm, ``text`` its formula.

    ``n``: the diagonal over the off-diagonal. ``predictor``: the power of l of P(Theta) Y.
    ``approach``: one of LOG, ROOT.
    """

    text: str
    law: Callable[[Array], Array]
    n: Fraction
    predictor: float = -1.0
    approach: str = LOG


def growth_of(
    maps: LayerMaps, w: float, b: float, q_input: float, point: dict[str, Any]
) -> Growth | None:
    """The growth at (w, b) for inputs of mean square ``q_input``; None where Theta converges, in
    the chaotic phase with a fixed point, and where there is no universal law (linear phi).
    """
    homogeneous = maps.homogeneity() is not None
    if homogeneous and not maps.is_kinked():
        return None
    if point["phase"] == CRITICAL:
        if homogeneous:
            return with_bias(b) if b > 0 else linear(w * q_input, True)
        return linear(point["q_star"], maps.is_kinked()) if point["q_star"] else None
    if point["q_star"] is None and point["phase"] != ORDERED and maps.is_kinked(LARGE):
        return without_bound(maps, w, b, q_input)
    return None


def linear(q: float, kinked: bool) -> Growth:
    """l q, at a conserved or a critical q."""
    return Growth("l q*", lambda l: np.log(q * l), Fraction(4 if kinked else 3))


def with_bias(b: float) -> Growth:
    """b l^2 / 2: a critical scale-free phi with bias."""
    return Growth("b l^2/2", lambda l: np.log(b / 2 * l**2), Fraction(7, 4), -0.5, ROOT)


def without_bound(maps: LayerMaps, w: float, b: float, q_input: float) -> Growth:
    """l q_l with the variances q_l of the network's own recursion."""

    def law(l: Array) -> Array:
        q = maps.variances(w, b, q_input, int(np.max(l)))
        return np.asarray(np.log(l * q[np.asarray(l, np.int64) - 1]))

    return Growth("l q_l", law, Fraction(4))


def in_range(depths: Sequence[int], growth: float, decades: float = 90) -> tuple[int, ...]:
    """``depths`` shrunk by one factor, if need be, so that growth^depth < 10^``decades``.

    The default keeps products of three variances within float64.
    """
    share = min(1.0, decades / math.log10(growth) / max(depths)) if growth > 1 else 1.0
    return tuple(sorted({max(1, int(depth * share)) for depth in depths}))


__all__ = [
    "EXPONENTIAL",
    "LARGE",
    "LOG",
    "ROOT",
    "Growth",
    "growth_of",
    "in_range",
    "linear",
    "with_bias",
]
