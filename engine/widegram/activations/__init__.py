"""Dual activations: E[phi(u) phi(v)] and E[phi'(u) phi'(v)] for jointly Gaussian u and v.

Each activation's mathematics is written once (:mod:`~widegram.activations.base`) and used by every
backend; :mod:`~widegram.activations.table` lists them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from widegram.activations.base import Array, Formula
from widegram.activations.error_function import Erf, Gaussian, Gelu
from widegram.activations.hermite import Series
from widegram.activations.mixture import Mixture
from widegram.activations.rectified import (
    ABRelu,
    ABReluOrZero,
    Relu,
    ReluNonnegative,
    ReluNonnegativeOrZero,
    ReluOrZero,
    Sign,
    SignOrZero,
)
from widegram.activations.scale import Scale
from widegram.activations.table import REQUIRED, TABLE, Definition
from widegram.activations.trigonometric import Rbf, Sin
from widegram.errors import WidegramError, shown
from widegram.machine.dtypes import FLOOR
from widegram.validation import bounds

__all__ = ["DEFAULTS", "FORMULAS", "REQUIRED", "TABLE", "Definition", "Formula", "Identity", "get"]


class Identity(Formula):
    """phi(x) = x."""

    code = "identity"
    homogeneity = 1
    n_factors = 0

    @property
    def constants(self) -> tuple[float, ...]:
        return ()

    def factors(self, q: Array, floor: float = FLOOR["float64"]) -> Array:
        return np.empty((0, *np.shape(q)))

    @staticmethod
    def dual(ops: object, k: Array, fx: object, fy: object, const: object) -> tuple[Array, Array]:
        return k, np.ones_like(k)

    def variance(self, q: Array) -> tuple[Array, Array]:
        return q + 0.0, np.ones_like(q)

    def nonnegative(self, k_nonnegative: bool) -> bool:
        return k_nonnegative


TABLE["Identity"] = Definition({}, Identity)
DEFAULTS: dict[str, Mapping[str, object]] = {name: row.params for name, row in TABLE.items()}

# Formula classes by code, for backends that compile `dual`.
FORMULAS: dict[str, type[Formula]] = {
    kind.code: kind
    for kind in (
        Relu,
        ReluNonnegative,
        ABRelu,
        Sign,
        Erf,
        Gelu,
        Gaussian,
        Sin,
        Rbf,
        Series,
        Mixture,
        Scale,
        ReluOrZero,
        ReluNonnegativeOrZero,
        ABReluOrZero,
        SignOrZero,
    )
}


def get(name: str, params: Mapping[str, float] | None = None) -> Formula:
    """The dual activation ``name`` with its parameters (missing ones take their defaults).

    Raises:
        WidegramError: unknown name or parameter, a required parameter that is missing, a value
            that is no number or out of range.
    """
    if name not in TABLE:
        raise WidegramError(f"unknown activation {name!r}; known: {', '.join(sorted(TABLE))}")
    row = TABLE[name]
    given = dict(params or {})
    unknown = sorted(set(given) - set(row.params))
    if unknown:
        known = ", ".join(row.params) or "none"
        raise WidegramError(f"{name}: unknown parameter {unknown[0]!r}; it takes: {known}")
    values = {key: given.get(key, default) for key, default in row.params.items()}
    missing = [key for key, value in values.items() if value is REQUIRED]
    if missing:
        raise WidegramError(f"{name}: parameter {missing[0]!r} is required")
    for key, number in values.items():
        _check(name, key, number, row.least.get(key))
    return row.build(**values)


def _check(name: str, key: str, value: Any, least: float | None) -> None:
    """Refuse what is no number of reasonable size, or below the least value of the parameter."""
    numbers = (int, float, np.integer, np.floating)
    if isinstance(value, bool) or not issubclass(type(value), numbers):
        raise WidegramError(f"{name}: {key} must be a number, found {shown(value)}")
    if not abs(value) <= bounds.MAGNITUDE:  # NaN too
        raise WidegramError(
            f"{name}: {key} must be at most {bounds.MAGNITUDE:g} in size, found {shown(value)}"
        )
    if least is not None and value < least:
        raise WidegramError(f"{name}: {key} must be >= {least:g}, found {shown(value)}")
