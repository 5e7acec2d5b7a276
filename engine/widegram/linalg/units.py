"""Right-hand sides in units in which nothing overflows."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from widegram.errors import WidegramError

Array = NDArray[Any]
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def checked_later(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """For arithmetic whose result is checked to be finite: the check speaks, not NumPy."""

    @wraps(function)
    def quiet(*arguments: Arguments.args, **named: Arguments.kwargs) -> Result:
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            return function(*arguments, **named)

    return quiet


class NotFinite(WidegramError):
    """A solution that float64 cannot hold, or that was never one."""


def unit_columns(b: Array) -> tuple[Array, Array]:
    """(b with each column's largest entry between 1/2 and 1, the exponents of two taken, (k,)).

    Powers of two lose no digit; a column of zeros stays as it is.
    """
    _, exponents = np.frexp(np.max(np.abs(b), axis=0, initial=0.0))
    return np.ldexp(b, -exponents), exponents


@checked_later
def in_original_units(x: Array, exponents: Array) -> Array:
    """x times two to the ``exponents``; :class:`NotFinite` where float64 does not hold it."""
    scaled = np.ldexp(x, exponents)
    if not np.isfinite(scaled).all():
        raise NotFinite(
            "the solution is beyond float64: the targets are too large beside the matrix; divide "
            "the targets by a number, or take a larger regulariser"
        )
    return np.asarray(scaled)
