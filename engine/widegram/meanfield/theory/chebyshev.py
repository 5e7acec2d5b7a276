"""Chebyshev series of functions on an interval."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from numpy.polynomial.chebyshev import chebinterpolate

from widegram.meanfield.theory.maps import Array


def series_on(function: Callable[[Array], Array], degree: int, lo: float, hi: float) -> Array:
    """Coefficients (degree + 1, ...), lowest first, in y with x = lo + (hi - lo) (1 + y) / 2.

    ``function`` maps the nodes x (degree + 1,) to values whose first axis runs over them.
    """

    def at(y: Array) -> Array:
        return function(lo + (hi - lo) * (y + 1) / 2)

    return cast(Array, chebinterpolate(at, degree))
