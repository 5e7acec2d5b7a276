"""Fixed points of erf in 50-digit decimals: every quantity to float64's rounding, near criticality.

1 - chi_1 is the difference of two numbers that float64 rounds, so that p* and xi_1 lose as many
digits as it is small. Newton's iteration from the float64 solution restores them. With
phi = a erf(b x) + c, r = 2 b^2 q and k = q - delta (arXiv:1912.13053, section 3; Williams 1997):

    K(k)    = (2 a^2 / pi) atan(s / sqrt((1 + r)^2 - s^2)) + c^2,       s = 2 b^2 k
    Kdot(k) = (4 a^2 b^2 / pi) / sqrt((1 + r)^2 - s^2)
    V(q)    = K(q),  V'(q) = (4 a^2 b^2 / pi) / ((1 + r) sqrt(1 + 2 r))

with (1 + r)^2 - s^2 = (1 + r - s) (1 + r + s), in which nothing cancels at large r.

A variance means the decimal number that it is written as: 0.18, not the binary number next to it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal, getcontext, localcontext

from widegram.activations.error_function import Erf
from widegram.meanfield.theory.depth_scales import depth_scale, limit

Function = Callable[[Decimal], Decimal]

_DIGITS = 50
_STEPS = 30


@dataclass(frozen=True)
class _Maps:
    """V, K, Kdot and V' of one erf; ``u`` is 2 b^2."""

    amplitude: Decimal
    offset: Decimal
    u: Decimal

    def kernel(self, q: Decimal, delta: Decimal) -> Decimal:
        return self.amplitude * _atan(self.u * (q - delta) / self._root(q, delta)) + self.offset

    def slope(self, q: Decimal, delta: Decimal) -> Decimal:
        return self.amplitude * self.u / self._root(q, delta)

    def _root(self, q: Decimal, delta: Decimal) -> Decimal:
        return ((1 + self.u * delta) * (1 + self.u * (2 * q - delta))).sqrt()

    def power_slope(self, q: Decimal) -> Decimal:
        r = self.u * q
        return self.amplitude * self.u / ((1 + r) * (1 + 2 * r).sqrt())


def refine(erf: Erf, w_var: float, b_var: float, q_star: float, gap: float) -> dict[str, float]:
    """q_star, c_star, gap, chi_1, chi_c, p_star, p_star_ab, xi_1, xi_c and xi_star where defined.

    ``q_star`` > 0 and ``gap`` = 1 - c* (0 where c* = 1) are float64 solutions.
    """
    with localcontext() as context:
        # Where b is small beside q* and phi is odd, c* is near b / q*: as many digits more for it.
        context.prec = _DIGITS + (max(0, -math.floor(math.log10(b_var / q_star))) if b_var else 0)
        # c' = (w K + b) / q vanishes at c = 0 where phi is odd and nothing is added.
        odd = b_var == 0 and erf.c == 0
        w, b, a, steep, c = (Decimal(repr(float(v))) for v in (w_var, b_var, erf.a, erf.b, erf.c))
        maps = _Maps(2 * a * a / _pi(), c * c, 2 * steep * steep)
        q = _newton(
            Decimal(q_star),
            lambda q: w * maps.kernel(q, Decimal(0)) + b - q,
            lambda q: w * maps.power_slope(q) - 1,
        )
        top = maps.kernel(q, Decimal(0))

        def excess(delta: Decimal) -> Decimal:
            return w * (top - maps.kernel(q, delta)) / delta - 1

        def excess_slope(delta: Decimal) -> Decimal:
            drop = maps.slope(q, delta) * delta - (top - maps.kernel(q, delta))
            return w * drop / delta**2

        delta = Decimal(0)
        if gap > 0:
            delta = q if odd else _newton(q * Decimal(gap), excess, excess_slope)
        return _derived(q, delta, w * maps.slope(q, Decimal(0)), w * maps.slope(q, delta))


def _derived(q: Decimal, delta: Decimal, chi_1: Decimal, chi_c: Decimal) -> dict[str, float]:
    found = {"q_star": q, "gap": delta / q, "c_star": 1 - delta / q, "chi_1": chi_1, "chi_c": chi_c}
    if chi_c < 1:
        found["p_star_ab"] = limit(q - delta, chi_c)
        found["xi_c"] = depth_scale(chi_c, Decimal.ln)
    if chi_1 < 1:
        found["p_star"] = limit(q, chi_1)
        found["xi_1"] = depth_scale(chi_1, Decimal.ln)
    else:
        found["xi_star"] = depth_scale(chi_c / chi_1, Decimal.ln)
    return {name: float(value) for name, value in found.items()}


def _newton(x: Decimal, value: Function, slope: Function) -> Decimal:
    for _ in range(_STEPS):
        step = value(x) / slope(x)
        x -= step
        # Convergence is quadratic: the next step is beyond all digits.
        if abs(step) <= _digits(0.6) * abs(x):
            break
    return x


def _digits(share: float) -> Decimal:
    """10 to minus this share of the digits that are carried."""
    return Decimal(10) ** -int(share * getcontext().prec)


def _pi() -> Decimal:
    return 4 * _atan(Decimal(1))


def _atan(x: Decimal) -> Decimal:
    """By halving the angle to below 2^-10, then the power series."""
    halvings = 0
    while abs(x) > Decimal("0.001"):
        x = x / (1 + (1 + x * x).sqrt())
        halvings += 1
    term, total, square, n = x, x, -x * x, 1
    while abs(term) > abs(total) * _digits(1):
        term *= square
        n += 2
        total += term / n
    return total * 2**halvings
