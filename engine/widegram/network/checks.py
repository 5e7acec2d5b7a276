"""What single values of a specification may be: checks that return the value, or raise a
ValueError that says what is wrong."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from typing import Any, get_args

from widegram.errors import shown
from widegram.network.layers import Padding, Parameterization
from widegram.validation import bounds

_LARGEST_AXIS = 64


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ``", did you mean 'X'?"`` or, with nothing near, the list of known names."""
    import difflib

    table = {re.sub(r"[\s_-]", "", k).lower(): k for k in known}
    # Beyond a hundred characters nothing is near, and the search would take long.
    wanted = re.sub(r"[\s_-]", "", name[:100]).lower()
    close = difflib.get_close_matches(wanted, table, n=1, cutoff=0.6)
    if close:
        return f", did you mean {table[close[0]]!r}?"
    return "; known: " + (", ".join(sorted(table.values())) or "none")


def is_int(value: Any) -> bool:
    """Whether it is an integer; true and false are none."""
    return isinstance(value, int) and not isinstance(value, bool)


def number(value: Any) -> float:
    """A finite number of reasonable size, as a float."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"must be a number, found {shown(value)}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"must be finite, found {shown(value)}")
    if abs(value) > bounds.MAGNITUDE:
        raise ValueError(f"must be at most {bounds.MAGNITUDE:g} in size, found {shown(value)}")
    return float(value) + 0.0


def std(value: Any) -> float:
    """A standard deviation."""
    if number(value) < 0:
        raise ValueError(f"is a standard deviation and must be >= 0, found {shown(value)}")
    return number(value)


def positive(value: Any) -> float:
    """A number above 0."""
    if not number(value) > 0:
        raise ValueError(f"must be > 0, found {shown(value)}")
    return number(value)


def at_least_0(value: Any) -> float:
    """A number not below 0."""
    if number(value) < 0:
        raise ValueError(f"must be >= 0, found {shown(value)}")
    return number(value)


def optional(check: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A check that lets None pass."""
    return lambda value: None if value is None else check(value)


def rate(value: Any) -> float:
    """The probability to keep a unit."""
    if not 0 < number(value) <= 1:
        raise ValueError(f"is the probability to keep a unit, in (0, 1], found {shown(value)}")
    return number(value)


def window(value: Any) -> tuple[int, ...]:
    """The numbers of a window: of images two, of sequences one."""
    if (
        not isinstance(value, (list, tuple))
        or len(value) not in (1, 2)
        or not all(is_int(v) and v >= 1 for v in value)
    ):
        raise ValueError(
            "must be two integers >= 1 (height, width), or one for sequences, found "
            f"{shown(value)}"
        )
    if max(value) > bounds.NUMBERS:
        raise ValueError(f"must be at most {bounds.NUMBERS:,}, found {shown(value)}")
    return tuple(value)


def strides(value: Any) -> tuple[int, ...] | None:
    """The strides of a window, or None."""
    return None if value is None else window(value)


def stride_of_each_axis(given: dict[str, Any]) -> None:
    """Strides of 1 where none are given, else as many as the window has numbers."""
    window = given.get("filter_shape") or given["window_shape"]
    given["strides"] = given["strides"] or (1,) * len(window)
    if len(given["strides"]) != len(window):
        raise ValueError(
            f"strides {shown(given['strides'])} and window {shown(window)} must have as many "
            "numbers"
        )


def width(value: Any) -> int:
    """A number of channels."""
    if not is_int(value) or not 1 <= value <= bounds.NUMBERS:
        raise ValueError(f"must be an integer from 1 to {bounds.NUMBERS:,}, found {shown(value)}")
    return int(value)


def scales(value: Any) -> tuple[int, int]:
    """The number s of channels before and behind a layer."""
    try:
        before, behind = map(width, value)
    except (TypeError, ValueError):
        raise ValueError(
            f"must be two integers >= 1 (before, behind), found {shown(value)}"
        ) from None
    return (before, behind)


def parameterization(value: Any) -> str:
    """The name of a parameterization, in lower case."""
    known = get_args(Parameterization)
    if not isinstance(value, str) or value.lower() not in known:
        hint = nearest(value, known) if isinstance(value, str) else ""
        raise ValueError(f"must be {' or '.join(known)}, found {shown(value)}{hint}")
    return value.lower()


def padding(value: Any) -> str:
    """The name of a padding."""
    if not isinstance(value, str) or value not in get_args(Padding):
        hint = nearest(value, get_args(Padding)) if isinstance(value, str) else ""
        raise ValueError(f"must be SAME, VALID or CIRCULAR, found {shown(value)}{hint}")
    return str(value)


def axes(value: Any) -> tuple[int, ...]:
    """Different axes, sorted."""
    found = [value] if is_int(value) else value
    if not isinstance(found, (list, tuple)) or not found or not all(is_int(v) for v in found):
        raise ValueError(f"must be an integer or a list of integers, found {shown(value)}")
    if any(abs(v) > _LARGEST_AXIS for v in found):
        raise ValueError(f"names axes that no input has, found {shown(value)}")
    return tuple(sorted(set(found)))


def axis(value: Any) -> int:
    """One axis."""
    if not is_int(value):
        raise ValueError(f"must be an integer, found {shown(value)}")
    (found,) = axes(value)
    return found


def flag(value: Any) -> bool:
    """True or False."""
    if not isinstance(value, bool):
        raise ValueError(f"must be true or false, found {shown(value)}")
    return value


def times(value: Any) -> int:
    """A count of repeats."""
    if not is_int(value) or value < 1:
        raise ValueError(f"must be an integer >= 1, found {shown(value)}")
    return int(value)


def one_of(*names: str) -> Callable[[Any], str]:
    """A check of one of some names, in upper case."""

    def check(value: Any) -> str:
        if not isinstance(value, str) or value.upper() not in names:
            raise ValueError(f"must be one of {', '.join(names)}, found {shown(value)}")
        return value.upper()

    return check


def attention(given: dict[str, Any]) -> None:
    """Refuse an attention without a known kernel; embeddings that are not there have no parameters.
    """
    mechanism = given["attention_mechanism"]
    if not given["linear_scaling"] and mechanism != "IDENTITY":
        raise ValueError(
            f"linear_scaling=false has no known kernel with attention_mechanism {mechanism}: "
            "weights are then random; use linear_scaling=true, or IDENTITY"
        )
    if given["pos_emb_type"] == "NONE":
        given |= {
            "pos_emb_p_norm": 2.0, "pos_emb_decay_fn": None, "W_pos_emb_std": 1.0,
            "val_pos_emb": False, "n_chan_pos_emb": None,
        }  # fmt: skip
