"""Some rows of a data set, chosen by ranges, numbers or flags."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from widegram.data.formats import open_table, split_spec
from widegram.errors import WidegramError, shown
from widegram.validation.arrays import plain

Array = NDArray[Any]
Numbers = NDArray[np.int64]
# What chooses rows: '0:40,80:200', a file as for data, or an array.
RowsLike = str | Path | NDArray[Any]
_RANGES = re.compile(r"\s*\d*:\d*\s*(,\s*\d*:\d*\s*)*")
_DIGITS = 18


@dataclass(frozen=True)
class ChosenRows:
    """Rows ``numbers`` (m,) of ``of``, in the order in which they were given, each once."""

    numbers: Numbers
    of: int

    def __len__(self) -> int:
        return int(self.numbers.size)

    @cached_property
    def ascending(self) -> Numbers:
        """The numbers in ascending order, in which files are read."""
        return np.sort(self.numbers)

    def as_given(self, values: Array) -> Array:
        """``values`` (m, ...) of the rows in ascending order, in the order that was given."""
        found: Array = values[np.searchsorted(self.ascending, self.numbers)]
        return found

    def as_read(self, values: Array) -> Array:
        """The inverse of :meth:`as_given`."""
        found: Array = values[np.argsort(self.numbers)]
        return found

    @cached_property
    def fingerprint(self) -> str:
        """xxh3-64 (hex) of how many there are to choose from, and of those chosen in their
        order."""
        digest = xxhash.xxh3_64(str(self.of).encode())
        digest.update(self.numbers.astype("<i8").tobytes())
        return digest.hexdigest()


def open_rows(
    given: RowsLike | None, of: int, name: str, kind: str = "row"
) -> ChosenRows | None:
    """Read which of ``of`` rows are meant; None without ``given``.

    ``'a:b'`` are the rows from a to b, b not among them, either left out where it is an end;
    several with commas between them. ``file.npy``, ``file.npz:key``, ``file.h5:path`` and arrays
    hold the numbers (m,) in any order, or flags (``of``,). ``name`` is what has the rows, and
    ``kind`` what they are, for messages: 'row' or 'column'. Raises WidegramError for rows that
    there are not, one that is given twice, none at all, and what is neither numbers nor flags.
    """
    if given is None:
        return None
    if isinstance(given, str) and _RANGES.fullmatch(given):
        numbers, what = _ranges(given, of, name, kind), f"{kind}s {shown(given)}"
    else:
        numbers, what = _listed(given, of, name, kind)
    if not numbers.size:
        raise WidegramError(f"{what}: none is chosen; choose one or more")
    wrong = (numbers < 0) | (numbers >= of)
    if wrong.any():
        raise WidegramError(
            f"{what}: there is no {kind} {numbers[wrong][0]}; {name} has {of} {kind}s, from 0 to "
            f"{of - 1}"
        )
    values, counts = np.unique(numbers, return_counts=True)
    if values.size < numbers.size:
        raise WidegramError(
            f"{what}: {kind} {values[counts > 1][0]} is chosen more than once; choose each once"
        )
    return ChosenRows(numbers, of)


def _ranges(given: str, of: int, name: str, kind: str) -> Numbers:
    found = []
    for part in given.split(","):
        first, last = (text.strip() for text in part.split(":"))
        if max(len(first), len(last)) > _DIGITS:
            raise WidegramError(f"{kind}s {shown(given)}: {name} has {of} {kind}s")
        start, stop = int(first or 0), int(last or of)
        if start >= stop or stop > of:
            raise WidegramError(
                f"{kind}s {shown(given)}: {part.strip()} is no range of {kind}s; {name} has {of}, "
                f"and ranges go from 0 to {of}, as 0:{of}"
            )
        found.append(np.arange(start, stop, dtype=np.int64))
    return np.concatenate(found)


def _listed(given: RowsLike, of: int, name: str, kind: str) -> tuple[Numbers, str]:
    """The numbers in a file or array, and what to call them."""
    if isinstance(given, str | Path):
        if isinstance(given, str) and "." not in split_spec(given)[0].name:
            raise WidegramError(
                f"{kind}s {shown(given)}: give a range such as 0:100, ranges such as 0:40,80:200, "
                f"or a file of {kind} numbers or flags (file.npy, file.npz:key, file.h5:path)"
            )
        table = open_table(given)
        what = f"{kind}s {table.name}"
        if len(table.shape) != 1:
            raise _not_one_axis(what, table.shape, kind)
        values = np.asarray(table.rows(0, table.shape[0]))
    else:
        what, values = f"{kind}s", plain(given, f"{kind}s")
        if values.ndim != 1:
            raise _not_one_axis(what, values.shape, kind)
    if values.dtype.kind == "b":
        if values.size != of:
            raise WidegramError(f"{what}: holds {values.size} flags, {name} has {of} {kind}s")
        return np.flatnonzero(values).astype(np.int64), what
    if values.dtype.kind not in "iu":
        kinds = f"{kind} numbers are integers, flags bool"
        raise WidegramError(f"{what}: holds {values.dtype}; {kinds}")
    if values.size and values.max() > np.iinfo(np.int64).max:
        raise WidegramError(f"{what}: there is no {kind} {values.max()}; {name} has {of} {kind}s")
    return values.astype(np.int64), what


def _not_one_axis(what: str, shape: tuple[int, ...], kind: str) -> WidegramError:
    return WidegramError(f"{what}: has shape {shape}; {kind} numbers or flags are (m,)")
