"""Chebyshev series of functions on an interval."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import numpy as np
from numpy.polynomial.chebyshev import chebder, chebinterpolate, chebpts1, chebvander

from widegram.meanfield.theory.one_layer import Array


def series_on(function: Callable[[Array], Array], degree: int, lo: float, hi: float) -> Array:
    """Coefficients (degree + 1, ...), lowest first, in y with x = lo + (hi - lo) (1 + y) / 2.

    ``function`` maps the nodes x (degree + 1,) to values whose first axis runs over them. The
    values are met to rounding, by interpolating what the first series leaves: a derivative at the
    end counts the noise of coefficient k k^2 times, which costs two digits without.
    """
    nodes = chebpts1(degree + 1)
    values = function(lo + (hi - lo) * (nodes + 1) / 2)

    def interpolated(at_nodes: Array) -> Array:
        return cast(Array, chebinterpolate(lambda _: at_nodes, degree))

    series = interpolated(values)
    return series + interpolated(values - chebvander(nodes, degree) @ series)


def derivative_on(series: Array, lo: float, hi: float) -> Array:
    """Coefficients of the derivative by x of a ``series`` on [lo, hi]."""
    return np.asarray(chebder(series) * 2 / (hi - lo), np.float64)
