"""Rectified monomials phi(x) = (x >= 0) x^n: arc-cosine kernels of any degree.

Cho and Saul, "Kernel methods for deep learning" (NeurIPS 2009), eq. 3 and 4. With c = cos(theta),
K = (q q')^(n/2) J_n / (2 pi), Kdot = n^2 (q q')^((n-1)/2) J_(n-1) / (2 pi) and

    J_n = A_n(c) sin(theta) + B_n(c) (pi - theta)

B_n(c) = E[u^n v^n] at variance 1. As dJ_n/dc = n^2 J_(n-1), A_n follows from

    B_n - c A_n = (1 - c^2) E_n,        E_n = n^2 A_(n-1) - A_n'

With angle = acos|c| / pi and area = (sin - |c| acos|c|) / pi, J_n / pi is B_n - R for c >= 0 and
(-1)^n R below, R = (1 - c^2) E_n angle - A_n area at |c|.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np

from widegram.activations.base import Array, Formula, std
from widegram.activations.rectified import Relu, Sign
from widegram.machine.dtypes import FLOOR

LARGEST = 16
"""The largest degree."""

Coefficients = tuple[int, ...]


@lru_cache(maxsize=LARGEST + 2)
def polynomials(n: int) -> tuple[Coefficients, Coefficients, Coefficients]:
    """The coefficients of A_n, B_n, E_n, from the constant term up; integers."""
    if n == 0:
        return (), (1,), ()
    b = [0] * (n + 1)
    for j in range(n // 2 + 1):
        size = math.factorial(n) ** 2
        b[n - 2 * j] = size // ((2**j * math.factorial(j)) ** 2 * math.factorial(n - 2 * j))
    below = [*(n * n * v for v in polynomials(n - 1)[0]), 0, 0, 0]
    # The coefficients of c^j: j a[j - 1] - (j + 1) a[j + 1] = b[j] - below[j] + below[j - 2].
    a = [0] * (n + 2)
    for j in range(n, 0, -1):
        before = below[j - 2] if j >= 2 else 0
        here = below[j] if j < len(below) else 0
        a[j - 1] = (b[j] - here + before + (j + 1) * a[j + 1]) // j
    e = [below[j] - (j + 1) * a[j + 1] for j in range(n - 1)]
    return tuple(a[:n]), tuple(b), tuple(e)


class _Powers(Formula):
    """The rectified monomial of one degree >= 2: backends compile each of them for itself."""

    degree: ClassVar[int]
    n_factors = 3

    @property
    def homogeneity(self) -> int:  # type: ignore[override]  # a constant of most formulas
        return self.degree

    def near_one(self, error: float) -> tuple[float, float]:
        return self.degree * error, self.degree * error

    def factors(self, q: Array, floor: float = FLOOR["float64"]) -> Array:
        """s, and the roots of what multiplies J_n / pi and J_(n-1) / pi."""
        s, n = std(q, floor), self.degree
        half = np.sqrt(0.5)
        powers = [half * s**n, n * half * s ** (n - 1)]
        return np.stack([s, *(np.where(q > 0, power, 0.0) for power in powers)])

    @classmethod
    def dual(cls, ops: Any, k: Any, fx: Any, fy: Any, const: Any) -> tuple[Any, Any]:
        c = ops.div(k, ops.mul(fx[0], fy[0]))
        x = ops.abs_(c)
        square = ops.mul(x, x)
        angle, area = ops.angle_and_area(x)
        bent = ops.mul(ops.sub(ops.const(1.0), square), angle)
        found = []
        for n, at in ((cls.degree, 1), (cls.degree - 1, 2)):
            a, b, e = (_polynomial(ops, x, square, part) for part in polynomials(n))
            below = ops.mul(a, area)
            rest = ops.sub(ops.mul(e, bent), below) if e is not None else _negative(ops, below)
            other = rest if n % 2 == 0 else _negative(ops, rest)
            value = ops.where_nonnegative(c, ops.sub(b, rest), other)
            found.append(ops.mul(ops.mul(fx[at], fy[at]), value))
        return found[0], found[1]

    def variance(self, q: Array) -> tuple[Array, Array]:
        n = self.degree
        top, below = (math.prod(range(1, 2 * m, 2)) / 2 for m in (n, n - 1))
        with np.errstate(over="ignore", under="ignore"):
            return top * q**n, n * n * below * q ** (n - 1)

    def nonnegative(self, k_nonnegative: bool) -> bool:
        return True


def _negative(ops: Any, value: Any) -> Any:
    return ops.sub(ops.const(0.0), value)


def _polynomial(ops: Any, x: Any, square: Any, coefficients: Coefficients) -> Any:
    """An even or odd polynomial at x, ``square`` being x^2; None without coefficients."""
    if not coefficients:
        return None
    odd = (len(coefficients) - 1) % 2
    value = ops.const(float(coefficients[-1]))
    for coefficient in coefficients[-3::-2]:
        value = ops.fma(value, square, ops.const(float(coefficient)))
    return ops.mul(value, x) if odd else value


# One class a degree, as backends know a formula by its code.
_BY_DEGREE: dict[int, type[_Powers]] = {
    n: type(f"RectifiedPower{n}", (_Powers,), {"degree": n, "code": f"rectified_power_{n}"})
    for n in range(2, LARGEST + 1)
}


@dataclass(frozen=True)
class Heaviside(Sign):
    """phi(x) = 1 for x >= 0, else 0: a quarter of Sign's K, and the product of the means, 1/2 each,
    or 1 of an input of variance 0. No NTK from below."""

    code = "heaviside"
    homogeneity = 0
    n_factors = 2

    def factors(self, q: Array, floor: float = FLOOR["float64"]) -> Array:
        return np.concatenate([super().factors(q, floor), np.where(q > 0, 0.5, 1.0)[None]])

    @staticmethod
    def dual(ops: Any, k: Any, fx: Any, fy: Any, const: Any) -> tuple[Any, Any]:
        value, _ = Sign.dual(ops, k, fx, fy, const)
        return ops.fma(ops.const(0.25), value, ops.mul(fx[1], fy[1])), None

    def or_zero(self) -> Formula:
        return self

    def variance(self, q: Array) -> tuple[Array, Array]:
        return np.where(q > 0, 0.5, 1.0), np.zeros_like(q)

    def nonnegative(self, k_nonnegative: bool) -> bool:
        return True


def rectified_monomial(degree: int) -> Formula:
    """(x >= 0) x^degree."""
    if degree == 0:
        return Heaviside()
    return Relu() if degree == 1 else _BY_DEGREE[degree]()
