"""What a dtype can hold: activations whose values rounding would spoil at a data set's variances.

A smooth phi changes on a scale 1/b, so that Kdot, and K of an oscillating phi, change with the
distance b^2 (q + q' - 2k) of two inputs. A covariance of variance q carries a rounding of eps q:
eps b^2 q is what a value near c = 1 is off by, relative to its size; the root of that where phi
grows like |x| and Kdot stays of order 1 (:meth:`Formula.spoilt`).
"""

from __future__ import annotations

import math

import numpy as np

from widegram.activations import Formula
from widegram.activations.approximate import Approximate
from widegram.errors import WidegramError

# Rounding errors near c = 1 that each dtype may have. Promised are 1e-4 there, 1e-5 elsewhere; an
# inner product of many features carries several roundings.
LIMITS = {"float32": 1e-5, "float64": 1e-6}
# What a series may leave out of E[phi^2] or E[phi'^2] unless more is accepted.
SERIES_ACCEPTED = 1e-3
# What all that is known before a run may add up to, of values' own size, unless more is accepted.
ANNOUNCED_ACCEPTED = 0.1


class DoubleNeeded(WidegramError):
    """The run must be computed in float64; ``args[0]`` says why, in one line."""


def check(where: str, formula: Formula, top: float, dtype: str, accept: float) -> None:
    """Refuse the formula of the layer ``where``, if it cannot be computed at variances up to
    ``top``.

    ``accept``: the relative error of a series that is accepted. Raises :class:`DoubleNeeded` where
    float32 cannot hold what float64 can, :class:`WidegramError` where nothing can.
    """
    error = formula.spoilt(float(np.finfo(dtype).eps), top)
    if error > LIMITS[dtype]:
        if dtype == "float32":
            raise DoubleNeeded(
                f"{where}: variances up to {top:.3g} are too large for float32 (rounding changes "
                f"values between similar inputs by {error:.0e}); use float64 or smaller inputs"
            )
        factor = _shrink(formula, top, LIMITS[dtype] / float(np.finfo(dtype).eps))
        reason = (
            f"float64's rounding changes values between similar inputs by {error:.0e}"
            if math.isfinite(error)
            else "its values are beyond the range of float64"
        )
        raise WidegramError(
            f"{where}: variances up to {top:.3g} are too large ({reason}); divide the inputs by "
            f"{rounded_up(factor)} or more"
        )
    if isinstance(formula, Approximate) and not formula.tail <= max(accept, SERIES_ACCEPTED):
        raise WidegramError(
            f"{where}: its {formula.size} leaves out {formula.tail:.2g} "
            f"of the values at variances up to {top:.3g}; use smaller inputs or W_std, or accept "
            f"that: --accept-series-error {rounded_up(formula.tail)} (accept_series_error=)"
        )


def _shrink(formula: Formula, top: float, most: float) -> float:
    """The number by which inputs must be divided for ``spoilt`` to be at most ``most``
    roundings."""
    factor = 1.0
    while formula.spoilt(1.0, top / factor**2) > most:
        factor *= 1.25
    return factor


def rounded_up(value: float) -> str:
    """With one significant digit, not below ``value``."""
    unit = 10.0 ** math.floor(math.log10(value))
    return f"{math.ceil(value / unit - 1e-9) * unit:g}"
