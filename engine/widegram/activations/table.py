"""Every activation: its name, parameters with defaults, and how to build its formula.

Adding one with a smooth phi is one row of ``SMOOTH`` (phi, phi'); one with a closed form is a
:class:`~widegram.activations.base.Formula` and a row of ``CLOSED``. Names, parameters and defaults
are neural-tangents'.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

from widegram.activations import densities, expressions, functions, splines
from widegram.activations.approximate import Function
from widegram.activations.base import Array, Formula
from widegram.activations.error_function import Erf, Gaussian, Gelu, ScaledGaussian
from widegram.activations.exponential import Exp, ExpNormalized, Gabor
from widegram.activations.hermite import Series
from widegram.activations.identity import Identity
from widegram.activations.parameters import MOST_TERMS, Check, coefficients, flag, whole
from widegram.activations.polynomial import hermite, monomial, polynomial
from widegram.activations.rectified import ABRelu, Relu, Sign
from widegram.activations.rectified_powers import LARGEST, rectified_monomial
from widegram.activations.trigonometric import Rbf, Sin
from widegram.errors import WidegramError


class _Required:
    """Marks a parameter that has no default."""

    def __repr__(self) -> str:
        return "required"


REQUIRED = _Required()


@dataclass(frozen=True)
class Definition:
    """One activation.

    * ``params``: its parameters and their defaults
    * ``build``: makes the formula, taking them by name
    * ``least``: least values
    * ``checks``: what parameters may be that are no plain numbers
    * ``unwritten``: whether a network is written without the parameters where all have their
      defaults: they came later, and networks keep their fingerprints
    """

    params: Mapping[str, Any]
    build: Callable[..., Formula]
    least: Mapping[str, float] = field(default_factory=dict)
    checks: Mapping[str, Check] = field(default_factory=dict)
    unwritten: bool = False


def _cos(a: float, b: float, c: float) -> Formula:
    return Sin(a, b, c + np.pi / 2)


def _gaussian(a: float, b: float) -> Formula:
    if b == 0:
        return polynomial((a,))
    return Gaussian() if (a, b) == (1, -1) else ScaledGaussian(a, b)


# exp of this is a number of any dtype.
_EXPONENT = 60.0


def _exp_normalized(gamma: float, shift: float, do_clip: bool) -> Formula:
    """``do_clip``: correlations are never beyond -1 and 1 here, whether clipped or not."""
    if gamma > _STEEP:
        raise WidegramError(f"ExpNormalized: gamma must be <= {_STEEP:g}, found {gamma:g}")
    if abs(gamma * (1 + shift)) > _EXPONENT:
        raise WidegramError(
            f"ExpNormalized: gamma (1 + shift) must be at most {_EXPONENT:g} in size, found "
            f"{gamma * (1 + shift):g}: variances are multiplied by its exponential"
        )
    return ExpNormalized(gamma, shift)


# Correlations carry roundings, which exp(gamma c) multiplies by this.
_STEEP = 1e6
_DEGREE = {"degree": REQUIRED}
_OF_POLYNOMIALS = {"degree": whole(MOST_TERMS - 1)}

CLOSED: dict[str, Definition] = {
    "Relu": Definition({}, Relu),
    "LeakyRelu": Definition({"alpha": REQUIRED}, lambda alpha: ABRelu(alpha, 1.0)),
    "ABRelu": Definition({"a": REQUIRED, "b": REQUIRED}, ABRelu),
    "Abs": Definition({}, lambda: ABRelu(-1.0, 1.0)),
    "Sign": Definition({}, Sign),
    "Erf": Definition({"a": 1.0, "b": 1.0, "c": 0.0}, Erf),
    "Gelu": Definition({}, Gelu),
    "Gaussian": Definition({"a": 1.0, "b": -1.0}, _gaussian, unwritten=True),
    "Sin": Definition({"a": 1.0, "b": 1.0, "c": 0.0}, Sin),
    "Cos": Definition({"a": 1.0, "b": 1.0, "c": 0.0}, _cos),
    # sqrt(2) sin(sqrt(2 gamma) x + pi / 4)
    "Rbf": Definition({"gamma": 1.0}, Rbf, least={"gamma": 0.0}),
    # 0.5 erf(x / 2.4020563531719796) + 0.5, neural-tangents' stand-in for the logistic function
    "Sigmoid_like": Definition({}, lambda: Erf(0.5, 1 / 2.4020563531719796, 0.5)),
    "Exp": Definition({"a": 1.0, "b": 1.0}, Exp),
    "ExpNormalized": Definition(
        {"gamma": 1.0, "shift": -1.0, "do_clip": False},
        _exp_normalized,
        least={"gamma": 0.0},
        checks={"do_clip": flag},
    ),
    "Gabor": Definition({}, Gabor),
    "Hermite": Definition(_DEGREE, hermite, checks=_OF_POLYNOMIALS),
    "Monomial": Definition(_DEGREE, monomial, checks=_OF_POLYNOMIALS),
    "RectifiedMonomial": Definition(
        _DEGREE, rectified_monomial, checks={"degree": whole(LARGEST)}
    ),
    "Polynomial": Definition({"coef": REQUIRED}, polynomial, checks={"coef": coefficients}),
}


def _sigmoid(x: Array) -> Array:
    return 0.5 * (1 + np.tanh(0.5 * x))


def _sigmoid_slope(x: Array) -> Array:
    return _sigmoid(x) * _sigmoid(-x)


def _softplus(x: Array) -> Array:
    return np.logaddexp(0.0, x)


def _swish_slope(x: Array) -> Array:
    return _sigmoid(x) + x * _sigmoid_slope(x)


def _mish(x: Array) -> Array:
    return x * np.tanh(_softplus(x))


def _mish_slope(x: Array) -> Array:
    t = np.tanh(_softplus(x))
    return t + x * (1 - t * t) * _sigmoid(x)


SMOOTH: dict[str, tuple[Function, Function]] = {
    "Tanh": (np.tanh, lambda x: 1 - np.tanh(x) ** 2),
    "Sigmoid": (_sigmoid, _sigmoid_slope),
    "Softplus": (_softplus, _sigmoid),
    "Swish": (lambda x: x * _sigmoid(x), _swish_slope),
    "Silu": (lambda x: x * _sigmoid(x), _swish_slope),
    "Mish": (_mish, _mish_slope),
    "Softsign": (lambda x: x / (1 + np.abs(x)), lambda x: 1 / (1 + np.abs(x)) ** 2),
    "Arctan": (np.arctan, lambda x: 1 / (1 + x * x)),
}


# The mixtures that take over at large variances.
DENSITIES: dict[str, densities.Densities] = {
    "Tanh": densities.tanh(),
    "Sigmoid": densities.tanh(0.5, 0.5, 0.5),
    "Softplus": densities.softplus(),
    "Swish": densities.swish(),
    "Silu": densities.swish(),
    "Softsign": densities.softsign(),
    "Arctan": densities.arctan(),
}


@lru_cache(maxsize=16)
def _elu(alpha: float) -> Formula:
    return Series(
        lambda x: np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0.0))),
        lambda x: np.where(x > 0, 1.0, alpha * np.exp(np.minimum(x, 0.0))),
        jump=1 - alpha,
        densities=densities.elu(alpha),
    )


def _smooth_row(name: str) -> Definition:
    return Definition({}, lambda: Series(*SMOOTH[name], densities=DENSITIES.get(name)))


_BY_SERIES = {name: _smooth_row(name) for name in SMOOTH} | {
    "Elu": Definition({"alpha": 1.0}, _elu)
}
SERIES = tuple(_BY_SERIES)
"""Activations without a closed form."""

def _own(fn: functions.Function) -> Formula:
    return Series(fn.phi, fn.slope, measured=True)


@lru_cache(maxsize=8)
def _custom(expression: str, table: splines.Rows) -> Formula:
    if bool(expression) == bool(table):
        raise WidegramError("Custom: takes either an expression or a table")
    if table:
        return Series(*splines.spline(table), measured=True)
    pair = expressions.parsed_function(expression)
    names = "expression", "the expression's derivative"
    return _own(functions.function(*pair, "Custom", names))


OWN: dict[str, Definition] = {
    "Custom": Definition(
        {"expression": "", "table": ()},
        _custom,
        checks={"expression": expressions.expression, "table": splines.table},
    ),
    "Elementwise": Definition({"fn": REQUIRED}, _own, checks={"fn": functions.known_function}),
}
"""Functions of the user's."""

TABLE: dict[str, Definition] = CLOSED | _BY_SERIES | OWN | {"Identity": Definition({}, Identity)}
