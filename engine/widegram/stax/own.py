"""Functions of the user's as layers."""

from __future__ import annotations

from typing import Any

import numpy as np

from widegram import activations
from widegram.activations.functions import Function, function
from widegram.errors import WidegramError, of_the_user, shown
from widegram.stax.kernel_fn import Triple
from widegram.stax.making import integer, make

# (cov12, var1, var2) at which a kernel of the user's is compared with that of its function.
_POINTS = ((0.3, 0.7, 1.1), (-0.5, 0.9, 0.6), (0.0, 1.3, 0.2))
# What a kernel by another quadrature, or of float32, may differ by.
_ALIKE = 1e-4


def whole(name: str, key: str, value: Any) -> None:
    """Refuse what is no integer of at least 1."""
    number = integer(value)
    if isinstance(value, bool) or not isinstance(number, int) or number < 1:
        raise WidegramError(f"stax.{name}: {key} must be an integer >= 1, found {shown(value)}")


def elementwise(
    name: str, fn: Any, df: Any = None, nngp_fn: Any = None, d_nngp_fn: Any = None
) -> Triple:
    """The layer of ``fn``; refuses kernels that are not those of it."""
    if fn is None:
        raise WidegramError(
            f"stax.{name}: needs the function fn; kernels are made of it, not of nngp_fn (that of "
            "the normalized exponential is stax.ExpNormalized)"
        )
    try:
        made = function(fn, df)
    except WidegramError as error:
        raise WidegramError(f"stax.{name}: {error}") from None
    for given, at in ((nngp_fn, 0), (d_nngp_fn, 1)):
        if given is not None:
            _compare(name, made, given, at)
    return make("Elementwise", fn=made)


def _compare(name: str, made: Function, given: Any, at: int) -> None:
    formula = activations.get("Elementwise", {"fn": made})
    key = ("nngp_fn", "d_nngp_fn")[at]
    for k, q, q2 in _POINTS:
        wanted = float(formula.moments(*(np.array(v) for v in (q, k, q2)))[at])
        with of_the_user(f"stax.{name}: {key} fails"):
            found = float(given(k, q, q2))
        if not abs(found - wanted) <= _ALIKE * (1 + abs(wanted)):
            raise WidegramError(
                f"stax.{name}: {key}({k}, {q}, {q2}) is {found:.6g}, but that of fn is "
                f"{wanted:.6g}; leave {key} out"
            )
