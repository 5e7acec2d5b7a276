"""What an Index takes of each axis: an integer, which removes the axis, or a slice.

Written as in NumPy: 3, ``"2:8"``, ``"::2"``, ``"..."`` for all axes that are not named.
"""

from __future__ import annotations

import re
from typing import Any

from widegram.errors import WidegramError, shown
from widegram.validation import bounds

# (start, stop, step) of a slice.
Slice = tuple[int | None, int | None, int]
Entry = int | Slice
REST = "..."
Idx = tuple[Entry | str, ...]
_MOST = 64
ALL: Slice = (None, None, 1)
_SLICE = re.compile(r"\s*(-?\d{1,18})?\s*:\s*(-?\d{1,18})?\s*(?::\s*(-?\d{1,18})?\s*)?")


def parse_idx(value: Any) -> Idx:
    """The entries of a list, each as in NumPy; slices may be ``slice`` objects.

    Raises ValueError where something is none.
    """
    entries = list(value) if isinstance(value, (list, tuple)) else [value]
    if not 0 < len(entries) <= _MOST:
        raise ValueError(f"must have 1 to {_MOST} entries, found {shown(value)}")
    found = tuple(_entry(entry) for entry in entries)
    if found.count(REST) > 1:
        raise ValueError(f"has '...' more than once, found {shown(value)}")
    return found


def _entry(value: Any) -> Entry | str:
    if value is Ellipsis or (isinstance(value, str) and value.strip() == REST):
        return REST
    if isinstance(value, str) and (match := _SLICE.fullmatch(value)):
        parts = [None if part is None else int(part) for part in match.groups()]
    elif isinstance(value, slice):
        parts = [value.start, value.stop, value.step]
    else:
        return _integer(value)
    start, stop, step = (None if part is None else _integer(part) for part in parts)
    step = 1 if step is None else step
    if step < 1:
        raise ValueError(f"must have steps >= 1, found {step}; flip the inputs instead")
    return start, stop, step


def _integer(value: Any) -> int:
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise ValueError(
            f'must be integers, slices such as "2:8" or ":", and "...", found {shown(value)}'
        )
    if abs(int(value)) > bounds.NUMBERS:
        raise ValueError(f"must be at most {bounds.NUMBERS:,} in size, found {shown(value)}")
    return int(value)


def written(idx: Idx) -> list[int | str]:
    """The entries ready for JSON."""
    return [entry if isinstance(entry, (int, str)) else _text(entry) for entry in idx]


def _text(entry: Slice) -> str:
    start, stop, step = entry
    ends = ":".join("" if end is None else str(end) for end in (start, stop))
    return ends if step == 1 else f"{ends}:{step}"


def expanded(idx: Idx, ndim: int, where: str) -> tuple[Entry, ...]:
    """An entry for each of ``ndim`` axes. Raises WidegramError where there are too many."""
    named = [entry for entry in idx if not isinstance(entry, str)]
    if len(named) > ndim:
        raise WidegramError(
            f"{where}: idx has {len(named)} entries, its input has {ndim} axes, the batch and "
            "channels among them"
        )
    at = idx.index(REST) if REST in idx else len(idx)
    before = named[:at]
    return (*before, *[ALL] * (ndim - len(named)), *named[at:])


def chosen(entry: Entry, size: int, where: str) -> range:
    """The positions that an entry takes of an axis.

    Raises WidegramError where there are none.
    """
    if isinstance(entry, int):
        if not -size <= entry < size:
            raise WidegramError(f"{where}: idx {entry} is outside of an axis of {size}")
        return range(entry % size, entry % size + 1)
    found = range(*slice(*entry).indices(size))
    if not found:
        raise WidegramError(f"{where}: idx {_text(entry)!r} takes nothing of an axis of {size}")
    return found
