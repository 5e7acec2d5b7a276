"""What the parameters of activations may be: checks that return the value or raise a ValueError,
which says what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral, Real
from typing import Any, cast

import numpy as np

from widegram.errors import shown
from widegram.validation import bounds

Check = Callable[[Any], Any]
MOST_TERMS = 65
"""Coefficients of a polynomial."""


def number(value: Any) -> float:
    """A number of reasonable size."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, Real):
        raise ValueError(f"must be a number, found {shown(value)}")
    if not abs(cast(Any, value)) <= bounds.MAGNITUDE:  # NaN too
        raise ValueError(f"must be at most {bounds.MAGNITUDE:g} in size, found {shown(value)}")
    return float(value)


def whole(most: int) -> Check:
    """An integer from 0 to ``most``; 3.0 is one."""

    def check(value: Any) -> int:
        found = not isinstance(value, (bool, np.bool_)) and (
            isinstance(value, Integral) or (isinstance(value, Real) and float(value).is_integer())
        )
        if not found or not 0 <= value <= most:
            raise ValueError(f"must be an integer from 0 to {most}, found {shown(value)}")
        return int(value)

    return check


def flag(value: Any) -> bool:
    """True or False."""
    if isinstance(value, (bool, np.bool_)) or (isinstance(value, int) and value in (0, 1)):
        return bool(value)
    raise ValueError(f"must be true or false, found {shown(value)}")


def coefficients(value: Any) -> tuple[float, ...]:
    """Numbers in a sequence."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if not isinstance(value, (list, tuple)) or not 1 <= len(value) <= MOST_TERMS:
        raise ValueError(f"must be a list of 1 to {MOST_TERMS} numbers, found {shown(value)}")
    return tuple(number(one) for one in value)
