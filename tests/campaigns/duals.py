"""Dual activations from the papers' formulas, in any arithmetic: many digits, or extended floats.

For (u, v) ~ N(0, [[q, k], [k, q2]]): K = E[phi(u) phi(v)] and Kdot = E[phi'(u) phi'(v)]. Nothing
here is the engine's but the activations without a closed form, which go through its float64 sums.
Sources: Cho and Saul 2009 (ReLU and Sign), Williams 1997 (erf), Tsuchida et al. 2020 (GELU).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol

import mpmath as mp
import numpy as np

from widegram import activations

Values = Any  # an array of the arithmetic's numbers
Pair = tuple[Values, Values]
Params = dict[str, Any]


class Arithmetic(Protocol):
    """Numbers of one kind: arrays of them, constants, and the functions that NumPy lacks.
    ``at_zero``: what c = 0 / 0 is."""

    pi: Any
    at_zero: int

    def array(self, x: Any) -> Values: ...
    def number(self, x: Any) -> Any: ...
    def sqrt(self, x: Values) -> Values: ...
    def asin(self, x: Values) -> Values: ...
    def exp(self, x: Values) -> Values: ...
    def cos(self, x: Any) -> Any: ...


class Digits:
    """mpmath's numbers in object arrays."""

    def __init__(self, digits: int) -> None:
        mp.mp.dps = digits
        self.at_zero = 0
        self.pi = +mp.pi
        functions = (mp.mpf, mp.sqrt, mp.asin, mp.exp)
        self.array, self.sqrt, self.asin, self.exp = (np.frompyfunc(f, 1, 1) for f in functions)
        self.number, self.cos = mp.mpf, mp.cos


class Extended:
    """Floats of at least 64 bits of mantissa where the machine has them."""

    at_zero = 0
    pi = np.longdouble("3.14159265358979323846264338327950288")
    number, sqrt, asin, exp, cos = np.longdouble, np.sqrt, np.arcsin, np.exp, np.cos

    def array(self, x: Any) -> Values:
        return np.asarray(x, dtype=np.longdouble)


def moments(a: Arithmetic, name: str, params: Params, q: Values, k: Values, q2: Values) -> Pair:
    """(K, Kdot) of the activation ``name`` of broadcastable variances and covariances."""
    if name in _PIECEWISE:
        return _piecewise(a, *map(a.number, _PIECEWISE[name](params)), q, k, q2)
    if name in _CLOSED:
        most = a.sqrt(q * q2)  # a random rounding of k may pass it
        return _CLOSED[name](a, params, q, np.clip(k, -most, most), q2)
    doubles = (np.asarray(x, dtype=np.float64) for x in (q, k, q2))
    value, slope = activations.get(name, params).moments(*doubles)
    return a.array(value), a.array(slope)


def closed(name: str) -> bool:
    """Whether an activation has a formula here."""
    return name in _PIECEWISE or name in _CLOSED


_PIECEWISE: dict[str, Callable[[Params], tuple[float, float]]] = {
    "Relu": lambda p: (0.0, 1.0),
    "LeakyRelu": lambda p: (p["alpha"], 1.0),
    "ABRelu": lambda p: (p["a"], p["b"]),
    "Abs": lambda p: (-1.0, 1.0),
}


def _cosine(a: Arithmetic, q: Values, k: Values, q2: Values) -> tuple[Values, Values, Values]:
    """sqrt(q q2), c and acos(c); c = ``at_zero`` where a variance is 0."""
    scale = a.sqrt(q * q2)
    none = scale == 0
    c = np.clip(np.where(none, a.number(a.at_zero), k / np.where(none, a.number(1), scale)), -1, 1)
    half = a.asin(a.sqrt((1 - abs(c)) / 2))
    return scale, c, np.where(c >= 0, 2 * half, a.pi - 2 * half)


def _piecewise(a: Arithmetic, left: Any, right: Any, q: Values, k: Values, q2: Values) -> Pair:
    """left min(x, 0) + right max(x, 0), as left x + (right - left) ReLU(x)."""
    scale, c, angle = _cosine(a, q, k, q2)
    kink = (right - left) ** 2 / (2 * a.pi)
    sine = a.sqrt((1 - c) * (1 + c))
    value = left * right * k + kink * scale * (sine + (a.pi - angle) * c)
    return value, left * right + kink * (a.pi - angle)


def _sign(a: Arithmetic, params: Params, q: Values, k: Values, q2: Values) -> Pair:
    scale, _, angle = _cosine(a, q, k, q2)
    return np.where(scale == 0, a.number(0), 1 - 2 * angle / a.pi), 0 * scale


def _identity(a: Arithmetic, params: Params, q: Values, k: Values, q2: Values) -> Pair:
    return k + 0 * (q * q2), 0 * (q * q2) + a.number(1)


def _erf(a: Arithmetic, params: Params, q: Values, k: Values, q2: Values) -> Pair:
    """size erf(x rate) + shift."""
    size, rate, shift = (a.number(params.get(*p)) for p in (("a", 1), ("b", 1), ("c", 0)))
    square = 2 * rate * rate
    whole = (1 + square * q) * (1 + square * q2)
    z = np.clip(square * k / a.sqrt(whole), -1, 1)
    rest = whole - (square * k) ** 2
    scale = 2 * size * size / a.pi
    return scale * a.asin(z) + shift * shift, scale * square / a.sqrt(rest)


def _sigmoid_like(a: Arithmetic, params: Params, q: Values, k: Values, q2: Values) -> Pair:
    return _erf(a, {"a": 0.5, "b": 1 / 2.4020563531719796, "c": 0.5}, q, k, q2)


def _gelu(a: Arithmetic, params: Params, q: Values, k: Values, q2: Values) -> Pair:
    whole = (1 + q) * (1 + q2)
    z = np.clip(k / a.sqrt(whole), -1, 1)
    rest = (whole - k * k) / whole
    quarter = a.number(1) / 4 + a.asin(z) / (2 * a.pi)
    outer = 1 / (2 * a.pi * a.sqrt(rest))
    value = k * quarter + outer * (q * q2 * rest + z * z) / a.sqrt(whole)
    return value, quarter + outer * z * (1 + (1 / rest + 1 - q * q2) / whole)


def _gaussian(a: Arithmetic, params: Params, q: Values, k: Values, q2: Values) -> Pair:
    """size exp(rate x^2), the rate at most 0."""
    size, rate = (a.number(params.get(*p)) for p in (("a", 1), ("b", -1)))
    value = 1 / a.sqrt((1 - 2 * rate * q) * (1 - 2 * rate * q2) - (2 * rate * k) ** 2)
    return size * size * value, (2 * rate * size) ** 2 * k * value**3


def _gabor(a: Arithmetic, params: Params, q: Values, k: Values, q2: Values) -> Pair:
    """exp(-x^2) sin(x): the sine of Gaussians that the bells have narrowed."""
    whole = (1 + 2 * q) * (1 + 2 * q2) - 4 * k * k
    mean, near = (q + q2 + 4 * (q * q2 - k * k)) / (2 * whole), k / whole
    outer = a.exp(-mean) / (2 * a.sqrt(whole))
    up, down = a.exp(near), a.exp(-near)
    value = outer * (up - down)
    # by k: the determinant, the mean, the covariance
    steeper = 4 * k / whole + 4 * k / whole - 8 * k * mean / whole
    return value, value * steeper + outer * (up + down) * (1 + 8 * k * near) / whole


def _exp(a: Arithmetic, params: Params, q: Values, k: Values, q2: Values) -> Pair:
    size, rate = (a.number(params.get(*p)) for p in (("a", 1), ("b", 1)))
    value = size * size * a.exp(rate * rate * ((q + q2) / 2 + k))
    return value, rate * rate * value


def _exp_normalized(a: Arithmetic, params: Params, q: Values, k: Values, q2: Values) -> Pair:
    gamma, shift = (a.number(params.get(*p)) for p in (("gamma", 1), ("shift", -1)))
    scale, c, _ = _cosine(a, q, k, q2)
    part = a.exp(gamma * (c + shift))
    return scale * part, gamma * part


def _product(a: Arithmetic, m: int, n: int, q: Values, k: Values, q2: Values) -> Values:
    """E[u^m v^n], by pairings (Isserlis): j of u's with v's, the others among themselves."""
    total: Any = 0 * (q * k * q2)
    for j in range(m % 2, min(m, n) + 1, 2) if (m - n) % 2 == 0 else ():
        mine, theirs = (m - j) // 2, (n - j) // 2
        ways = math.factorial(m) * math.factorial(n) // (
            math.factorial(j) * math.factorial(mine) * math.factorial(theirs) * 2 ** (mine + theirs)
        )
        total = total + a.number(ways) * k**j * q**mine * q2**theirs
    return total


def _polynomial(a: Arithmetic, params: Params, q: Values, k: Values, q2: Values) -> Pair:
    """sum_n coef[n] x^n."""
    found = []
    coefficients = [a.number(value) for value in params["coef"]]
    slopes = [n * value for n, value in enumerate(coefficients)][1:]
    for of in (coefficients, slopes):
        parts = [b * c * _product(a, m, n, q, k, q2) for m, b in enumerate(of)
                 for n, c in enumerate(of)]  # fmt: skip
        found.append(sum(parts, 0 * (q * k * q2)))
    return found[0], found[1]


def _monomial(a: Arithmetic, params: Params, q: Values, k: Values, q2: Values) -> Pair:
    return _polynomial(a, {"coef": [0] * params["degree"] + [1]}, q, k, q2)


def _hermite(a: Arithmetic, params: Params, q: Values, k: Values, q2: Values) -> Pair:
    """As neural-tangents has it: K = k^degree."""
    degree, none = params["degree"], 0 * (q * q2)
    return k**degree + none, degree * k ** max(degree - 1, 0) + none


def _rectified_monomial(a: Arithmetic, params: Params, q: Values, k: Values, q2: Values) -> Pair:
    """x^degree where x is at least 0, else 0 (Cho and Saul 2009, J_0 to J_3)."""
    degree = params["degree"]
    scale, c, angle = _cosine(a, q, k, q2)
    sine, rest = a.sqrt((1 - c) * (1 + c)), a.pi - angle

    def part(n: int) -> Values:
        match n:
            case 0:
                size = rest
            case 1:
                size = sine + rest * c
            case 2:
                size = 3 * sine * c + rest * (1 + 2 * c * c)
            case 3:
                size = 15 * sine - 11 * sine**3 + rest * (9 * c + 6 * c**3)
            case _:
                raise AssertionError("no larger degree is drawn")
        return scale**n * size / (2 * a.pi)

    slope = degree * degree * part(degree - 1) if degree else 0 * scale
    value = part(degree)
    if degree == 0:  # a step, which is 1 at 0
        some = [np.where(v == 0, a.number(1), a.number(0)) + 0 * scale for v in (q, q2)]
        one, both = np.maximum(*some), np.minimum(*some)
        value = np.where(both == 1, a.number(1), np.where(one == 1, a.number(1) / 2, value))
    return value, slope


def _wave(turns: Any) -> Callable[[Arithmetic, Params, Values, Values, Values], Pair]:
    """size sin(rate x + phase + turns pi / 2)."""

    def dual(a: Arithmetic, params: Params, q: Values, k: Values, q2: Values) -> Pair:
        size, rate, phase = (a.number(params.get(*p)) for p in (("a", 1), ("b", 1), ("c", 0)))
        square, mean = rate * rate, (q + q2) / 2
        near, far = a.exp(square * (k - mean)), a.exp(-square * (k + mean))
        turned = a.cos(2 * phase + turns * a.pi)
        half = size * size / 2
        return half * (near - turned * far), half * square * (near + turned * far)

    return dual


def _rbf(a: Arithmetic, params: Params, q: Values, k: Values, q2: Values) -> Pair:
    gamma = a.number(params.get("gamma", 1))
    value = a.exp(-gamma * (q + q2 - 2 * k))
    return value, 2 * gamma * value


_CLOSED: dict[str, Callable[[Arithmetic, Params, Values, Values, Values], Pair]] = {
    "Sign": _sign,
    "Identity": _identity,
    "Erf": _erf,
    "Sigmoid_like": _sigmoid_like,
    "Gelu": _gelu,
    "Gaussian": _gaussian,
    "Gabor": _gabor,
    "Exp": _exp,
    "ExpNormalized": _exp_normalized,
    "Polynomial": _polynomial,
    "Monomial": _monomial,
    "Hermite": _hermite,
    "RectifiedMonomial": _rectified_monomial,
    "Sin": _wave(0),
    "Cos": _wave(1),
    "Rbf": _rbf,
}
