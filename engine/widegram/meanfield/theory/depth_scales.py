"""Limits of Theta and depth scales at a fixed point, the same text for float64 and for decimals.

    p*        q* / (1 - chi_1): Theta's limit on and off its diagonal, where chi_1 < 1
    p*_ab     q* c* / (1 - chi_c): its limit off the diagonal
    xi_1      -1 / log chi_1 (ordered), xi_c = -1 / log chi_c, xi_* = -1 / log(chi_c / chi_1)

Source: arXiv:1912.13053, sections 3 and 4.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Number = Any  # a Decimal, or an array of float64


def limit(q: Number, chi: Number) -> Number:
    """What Theta tends to where K tends to ``q`` and every layer shrinks deviations by ``chi``."""
    return q / (1 - chi)


def depth_scale(chi: Number, log: Callable[[Number], Number]) -> Number:
    """Layers in which ``chi`` to their number falls to 1/e."""
    return -1 / log(chi)
