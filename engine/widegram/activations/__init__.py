"""Dual activations: E[phi(u) phi(v)] and E[phi'(u) phi'(v)] for jointly Gaussian u and v.

Each activation's mathematics is written once (:mod:`~widegram.activations.base`) and used by every
backend; :mod:`~widegram.activations.table` lists them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Mixtures and the scales of layers are formulas too, which no row of the table names.
from widegram.activations import mixture, scale  # noqa: F401 - they enter FORMULAS
from widegram.activations.base import FORMULAS, Formula
from widegram.activations.parameters import Check, number
from widegram.activations.table import REQUIRED, TABLE, Definition
from widegram.errors import WidegramError, shown

__all__ = ["DEFAULTS", "FORMULAS", "REQUIRED", "TABLE", "Definition", "Formula", "get"]


DEFAULTS: dict[str, Mapping[str, object]] = {name: row.params for name, row in TABLE.items()}


def get(name: str, params: Mapping[str, Any] | None = None) -> Formula:
    """The dual activation ``name`` with its parameters (missing ones take their defaults).

    Raises WidegramError for an unknown name or parameter, a required parameter that is missing, and
    a value that is no number or out of range.
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
    checked = {key: _checked(name, key, value, row) for key, value in values.items()}
    return row.build(**checked)


def _checked(name: str, key: str, value: Any, row: Definition) -> Any:
    """The value of a parameter; refuse what it may not be, or what is below its least value."""
    try:
        check: Check = row.checks.get(key, number)
        value = check(value)
    except ValueError as error:
        raise WidegramError(f"{name}: {key} {error}") from None
    least = row.least.get(key)
    if least is not None and value < least:
        raise WidegramError(f"{name}: {key} must be >= {least:g}, found {shown(value)}")
    return value
