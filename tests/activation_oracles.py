"""Every activation as a function with its derivative, and E[phi(u) phi(v)] by quadrature.

Written from the definitions, with nothing of the package: the oracle of the dual activations.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Any

import numpy as np
from scipy.special import erf, expit

Function = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Oracle:
    """phi and phi' (0 where phi jumps)."""

    name: str
    phi: Function
    slope: Function
    params: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return "-".join([self.name, *(f"{k}={v}" for k, v in self.params.items())])


def _linear(name: str, a: float, b: float, /, **params: float) -> Oracle:
    return Oracle(
        name, lambda x: np.where(x > 0, b, a) * x, lambda x: np.where(x > 0, b, a) + 0.0, params
    )


def _erf(name: str, a: float, b: float, c: float, /, **params: float) -> Oracle:
    return Oracle(
        name,
        lambda x: a * erf(b * x) + c,
        lambda x: a * b * 2 / np.sqrt(np.pi) * np.exp(-((b * x) ** 2)),
        params,
    )


def _wave(name: str, a: float, b: float, c: float, turn: float = 0.0) -> Oracle:
    return Oracle(
        name,
        lambda x: a * np.sin(b * x + c + turn),
        lambda x: a * b * np.cos(b * x + c + turn),
        {"a": a, "b": b, "c": c},
    )


def _rbf(gamma: float) -> Oracle:
    b = np.sqrt(2 * gamma)
    return Oracle(
        "Rbf",
        lambda x: np.sqrt(2) * np.sin(b * x + np.pi / 4),
        lambda x: np.sqrt(2) * b * np.cos(b * x + np.pi / 4),
        {"gamma": gamma},
    )


def _elu(alpha: float) -> Oracle:
    return Oracle(
        "Elu",
        lambda x: np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0))),
        lambda x: np.where(x > 0, 1.0, alpha * np.exp(np.minimum(x, 0))),
        {"alpha": alpha},
    )


def _exp(a: float, b: float, /, **params: float) -> Oracle:
    return Oracle("Exp", lambda x: a * np.exp(b * x), lambda x: a * b * np.exp(b * x), params)


def _bell(a: float, b: float) -> Oracle:
    def phi(x: np.ndarray) -> np.ndarray:
        return a * np.exp(b * x * x)

    return Oracle("Gaussian", phi, lambda x: 2 * b * x * phi(x), {"a": a, "b": b})


def _power(degree: int) -> Oracle:
    return Oracle(
        "Monomial",
        lambda x: x**degree + 0.0,
        lambda x: degree * x ** max(degree - 1, 0) + 0.0,
        {"degree": degree},
    )


def _rectified(degree: int) -> Oracle:
    return Oracle(
        "RectifiedMonomial",
        lambda x: (x >= 0) * x**degree,
        lambda x: (x >= 0) * float(degree) * x ** max(degree - 1, 0),
        {"degree": degree},
    )


def _polynomial(*coef: float) -> Oracle:
    made = np.polynomial.Polynomial(coef)
    slope = made.deriv()  # no value to hash, as its calls are
    return Oracle("Polynomial", lambda x: made(x), lambda x: slope(x), {"coef": coef})


def _softplus(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def _swish_slope(x: np.ndarray) -> np.ndarray:
    return expit(x) * (1 + x * expit(-x))


def _mish_slope(x: np.ndarray) -> np.ndarray:
    return np.tanh(_softplus(x)) + x * expit(x) / np.cosh(_softplus(x)) ** 2


def _gelu_slope(x: np.ndarray) -> np.ndarray:
    density = np.exp(-x * x / 2) / np.sqrt(2 * np.pi)
    return 0.5 * (1 + erf(x / np.sqrt(2))) + x * density


CLOSED = [
    _linear("Relu", 0, 1),
    _linear("LeakyRelu", 0.2, 1, alpha=0.2),
    _linear("LeakyRelu", -0.5, 1, alpha=-0.5),
    _linear("ABRelu", -0.4, 1.3, a=-0.4, b=1.3),
    _linear("ABRelu", 0.7, 0.7, a=0.7, b=0.7),
    _linear("ABRelu", 1.5, 0.3, a=1.5, b=0.3),
    _linear("Abs", -1, 1),
    _linear("Identity", 1, 1),
    Oracle("Sign", np.sign, np.zeros_like),
    _erf("Erf", 1, 1, 0),
    _erf("Erf", -0.8, 1.7, 0.4, a=-0.8, b=1.7, c=0.4),
    _erf("Sigmoid_like", 0.5, 1 / 2.4020563531719796, 0.5),
    Oracle("Gelu", lambda x: x * 0.5 * (1 + erf(x / np.sqrt(2))), _gelu_slope),
    Oracle("Gaussian", lambda x: np.exp(-x * x), lambda x: -2 * x * np.exp(-x * x)),
    _wave("Sin", 1, 1, 0),
    _wave("Sin", 1.3, 0.6, -0.9),
    _wave("Cos", 1, 1, 0, np.pi / 2),
    _wave("Cos", -0.7, 1.4, 0.5, np.pi / 2),
    _rbf(1.0),
    _rbf(0.3),
    _exp(1, 0.3, a=1, b=0.3),
    _exp(-0.7, 0.6, a=-0.7, b=0.6),
    _bell(1.3, -0.4),
    _bell(0.7, 0.005),
    Oracle(
        "Gabor",
        lambda x: np.exp(-x * x) * np.sin(x),
        lambda x: np.exp(-x * x) * (np.cos(x) - 2 * x * np.sin(x)),
    ),
    *map(_power, (0, 1, 2, 3, 6)),
    *map(_rectified, (0, 1, 2, 3, 5)),
    _polynomial(0.3, -1.0, 0.5, 0.25),
    _polynomial(-0.8),
]
# Kernels that are E[phi phi] of no function, or of another one at every variance.
NO_FUNCTION = ("ExpNormalized", "Hermite")
# Functions of the user's (tests/test_own_functions.py).
OWN = ("Elementwise", "Custom")
SERIES = [
    Oracle("Tanh", np.tanh, lambda x: 4 * expit(2 * x) * expit(-2 * x)),
    Oracle("Sigmoid", expit, lambda x: expit(x) * expit(-x)),
    Oracle("Softplus", _softplus, expit),
    Oracle("Swish", lambda x: x * expit(x), _swish_slope),
    Oracle("Silu", lambda x: x * expit(x), _swish_slope),
    Oracle("Mish", lambda x: x * np.tanh(_softplus(x)), _mish_slope),
    Oracle("Softsign", lambda x: x / (1 + abs(x)), lambda x: (1 + abs(x)) ** -2.0),
    Oracle("Arctan", np.arctan, lambda x: 1 / (1 + x * x)),
    _elu(1.0),
    _elu(0.4),
]
ORACLES = CLOSED + SERIES


@cache
def _rule(order: int) -> tuple[np.ndarray, np.ndarray]:
    return np.polynomial.legendre.leggauss(order)


def _panels(edges: np.ndarray, order: int) -> tuple[np.ndarray, np.ndarray]:
    """Gauss-Legendre nodes and weights on consecutive panels."""
    x, w = _rule(order)
    lo, hi = np.asarray(edges[:-1])[:, None], np.asarray(edges[1:])[:, None]
    return (0.5 * (hi + lo + (hi - lo) * x)).ravel(), (0.5 * (hi - lo) * w).ravel()


# The widest panel of angles: 16 nodes leave 5e-13 of the oracles here (against 24 nodes).
_PANEL = np.pi / 8


@lru_cache(maxsize=1)
def _radii() -> tuple[np.ndarray, np.ndarray]:
    """Nodes of int_0^inf r exp(-r^2 / 2) f(r) dr; beyond r = 13 lies a mass of 1e-37."""
    r, w = _panels(np.concatenate([[0, 0.05, 0.2], np.arange(0.5, 13.1, 0.5)]), 10)
    return r, w * r * np.exp(-r * r / 2)


@cache  # several tests ask for the same
def mean_product(f: Function, q: float, c: float, q2: float) -> float:
    """E[f(u) f(v)] of variances q, q2 and correlation c.

    In polar coordinates u = sqrt(q) r cos t and v = sqrt(q2) r cos(t - acos c) vanish at fixed
    angles t: panels end there, so that kinks and jumps at 0 cost nothing.
    """
    lean = np.arccos(c)
    turn = 2 * np.pi
    ends = np.sort(np.mod([turn / 4, 3 * turn / 4, lean + turn / 4, lean - turn / 4], turn))
    arcs = itertools.pairwise([*ends, ends[0] + turn])
    edges = [np.linspace(a, b, 2 + int((b - a) / _PANEL)) for a, b in arcs]
    angles, weights = zip(*(_panels(e, 16) for e in edges if e[-1] - e[0] > 1e-14), strict=True)
    t, t_weight = np.concatenate(angles), np.concatenate(weights) / turn
    r, r_weight = _radii()
    u = np.sqrt(q) * np.outer(np.cos(t), r)
    v = np.sqrt(q2) * np.outer(np.cos(t - lean), r)
    return float(t_weight @ (f(u) * f(v)) @ r_weight)


@lru_cache(maxsize=1)
def _line() -> tuple[np.ndarray, np.ndarray]:
    """Nodes of int_0^inf f(z) dN(z), panels graded towards 0."""
    z, w = _panels(np.concatenate([[0, 0.02, 0.1, 0.25], np.arange(0.5, 13.1, 0.5)]), 20)
    return z, w * np.exp(-z * z / 2) / np.sqrt(2 * np.pi)


def mean_square(f: Function, q: float) -> float:
    """E[f(u)^2] in one dimension, panels graded towards 0 where f may have a kink."""
    z, density = _line()
    s = np.sqrt(q)
    return float(density @ (f(s * z) ** 2 + f(-s * z) ** 2))
